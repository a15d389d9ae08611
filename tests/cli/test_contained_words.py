"""How far a quarantine is in force, in words."""

from __future__ import annotations

from datetime import UTC, datetime
from io import StringIO
from typing import Literal

import pytest
from rich.console import Console

from ringfence.cli.fleet_words import contained_words
from ringfence.wire.api import ContainedView, HostCheckView

NOW = datetime(2026, 3, 3, tzinfo=UTC)
Force = Literal["verified", "partly", "pending"]


@pytest.mark.parametrize(
    ("state", "checks", "words"),
    [
        ("verified", [], "verified"),
        ("partly", [HostCheckView("u-db", "db", "unreachable")], "partly: 1 unreachable: db"),
        (
            "pending",
            [HostCheckView("u-web", "web", "pending"), HostCheckView("u-db", "db", "unreachable")],
            "pending: web",
        ),
        ("pending", [HostCheckView("u-db", "db", "unreachable")], "pending: nobody is heard"),
    ],
)
def test_who_is_waited_for_is_named(state: Force, checks: list[HostCheckView], words: str) -> None:
    """Verified means everybody; else those that have yet to read it back are named, or those nobody hears."""
    unreachable = sum(check.state == "unreachable" for check in checks)
    own = HostCheckView("u-bad", "bad", "verified") if state == "verified" else None
    told = ("id", "u-bad", "bad", "isolate", "worm", "ann", NOW, None, (), own)
    view = ContainedView(*told, 0, 2, state == "verified", state, unreachable, tuple(checks))
    out = StringIO()
    Console(file=out, width=200).print(contained_words([view]))
    assert f"{words}  " in out.getvalue()
