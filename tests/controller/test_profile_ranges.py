"""Where a profile's hosts may have addresses: said at its making, shown, and private where nothing is said."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ringfence.controller.access.access import Principal
from ringfence.controller.access.granting import Granting
from ringfence.core.errors import InputError
from ringfence.stores.sql import SqlState
from ringfence.wire.api import NewProfile

ROOT = Principal("root", ("administrator",))
NOW = datetime(2026, 3, 2, tzinfo=UTC)


def made(folder: Path, *ranges: str) -> tuple[str, ...]:
    async def work() -> tuple[str, ...]:
        state = SqlState(folder / "state.sqlite")
        try:
            granting = Granting(state, "https://c:8443", lambda: "0" * 64, lambda: NOW)
            return (await granting.make_profile(NewProfile("web", {"role": "web"}, ranges=ranges), by=ROOT)).ranges
        finally:
            await state.close()

    return asyncio.run(work())


def test_the_ranges_that_were_said_are_kept(tmp_path: Path) -> None:
    """IPv4 and IPv6, as CIDRs."""
    assert made(tmp_path, "203.0.113.0/24", "2001:db8:1::/48") == ("203.0.113.0/24", "2001:db8:1::/48")


def test_private_ranges_where_nothing_is_said(tmp_path: Path) -> None:
    """A public address is nobody's by default."""
    assert "10.0.0.0/8" in made(tmp_path)


def test_what_is_no_range_is_refused(tmp_path: Path) -> None:
    """With what to write instead."""
    with pytest.raises(InputError, match="bad-grant"):
        made(tmp_path, "everywhere")
