"""How far a quarantine is in force, in words."""

from __future__ import annotations

from datetime import UTC, datetime
from io import StringIO
from typing import Literal

import pytest
from rich.console import Console

from ringfence.cli.fleet_words import contained_words, forwarding_words, hit_words, workload_words
from ringfence.core.identity.workload import Mode
from ringfence.wire.api import ContainedView, ContainPlanned, Hit, HostCheckView, WorkloadView

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


@pytest.mark.parametrize("forwards", [True, False])
def test_what_a_host_passes_on_is_told_before_it_ends_and_after(forwards: bool) -> None:
    """Of a host that forwards: by the workload, by the plan of its quarantine, and by the quarantine; of others not."""
    own = HostCheckView("u-bad", "bad", "verified")
    told = ("id", "u-bad", "bad", "isolate", "worm", "ann", NOW, None, (), own, 2, 2, True, "verified")
    workload = WorkloadView("u-bad", "bad", {}, "host", "agent", Mode(), forwards=forwards)
    plan = ContainPlanned((Hit("bad", has_agent=True, forwards=forwards), Hit("db", has_agent=True)), 2, 2)
    words = (
        [*forwarding_words([ContainedView(*told, forwards=forwards)])],
        hit_words(plan),
        workload_words(workload),
    )
    for some in words:
        out = StringIO()
        Console(file=out, width=200).print(*some)
        assert ("for others (containers?)" in out.getvalue()) == forwards
        assert ("dropped" in out.getvalue()) == forwards
