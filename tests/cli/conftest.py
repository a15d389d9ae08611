"""The estates the command line is tried on."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_estate import ShopEstate


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ShopEstate:
    """The shop's estate, which is also the current directory."""
    monkeypatch.chdir(tmp_path)
    return ShopEstate(tmp_path)


@pytest.fixture
def busy_shop(shop: ShopEstate) -> ShopEstate:
    """The shop with a day of traffic."""
    return shop.with_traffic()
