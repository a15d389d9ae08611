"""The pages as they are built, a browser, and one small estate for all tests that look."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "api"))

from pages import CHROMIUM, launch
from playwright.sync_api import Browser, sync_playwright
from populated import Shop, shop

from ringfence.api.web import FOLDER


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Playwright holds the thread's event loop while it is open: no other file's test may find it so."""
    if not (FOLDER / "index.html").exists():
        pytest.skip("the web UI is not built: make web")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = launch(playwright)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def estate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Tests put back what they change."""
    with shop(tmp_path_factory.mktemp("estate")) as made:
        yield made


@pytest.fixture(scope="session")
def shots() -> Path | None:
    """Where pictures of pages go: the folder that RINGFENCE_SHOTS names; None: none are taken."""
    named = os.environ.get("RINGFENCE_SHOTS")
    if not named:
        return None
    folder = Path(named)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
