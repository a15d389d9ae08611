"""One controller for the tests that leave it as it was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from explored import Explored, explored
from serving import Serving, serving


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A controller with nothing in it but one profile."""
    with serving(tmp_path_factory.mktemp("controller") / "c") as made:
        yield made


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Serving]:
    """A controller for one test."""
    with serving(tmp_path / "fresh") as made:
        yield made


@pytest.fixture(scope="module")
def estate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Explored]:
    """A controller with an estate, its traffic and policies."""
    with explored(tmp_path_factory.mktemp("explored") / "c") as made:
        yield made
