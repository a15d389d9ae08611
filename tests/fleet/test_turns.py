"""Dates and windows on a host that is cut off: foretold, turned by its own clock, never back."""

from __future__ import annotations

import sys
from datetime import date, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from strategies import NOW

sys.path.insert(0, str(Path(__file__).parents[1] / "core" / "engine"))
from worlds import host

from ringfence.agent.held.held import Held
from ringfence.controller.desired.compiled import HORIZON
from ringfence.controller.desired.desired import Desired
from ringfence.controller.desired.inputs import Inputs, Version
from ringfence.core.identity.inventory import Inventory
from ringfence.core.policy.parse import parse_policies

WEB, DB = host("web-1", "role=web", "10.0.0.1"), host("db-1", "role=db", "10.0.1.1")


def told(conditions: str) -> tuple[Desired, Held]:
    """A controller, and an agent on the database that heard everything."""
    text = f"policy: p\nrules:\n  - allow: {{from: role=web, to: role=db, service: tcp/5432}}\n{conditions}"
    policies = parse_policies({"p.yaml": text}).raise_if_errors()
    desired = Desired(Inputs(Inventory([WEB, DB]), Version(1, policies), NOW))
    held = Held(DB.uuid)
    hear(desired, held)
    return desired, held


def hear(desired: Desired, held: Held) -> None:
    held.take(desired.assignments[DB.uuid])
    while (wants := held.wants) is not None and (wants.bodies or wants.groups):
        held.take(desired.answer(DB.uuid, msgspec.structs.replace(wants, isolations=False)))


def is_open(held: Held, at: datetime) -> bool:
    intent = held.intent(at)
    assert intent is not None
    return any(cell.action == "allow" for part in intent.parts for cell in part.cells)


def test_an_allow_ends_with_its_last_day_on_a_host_nobody_speaks_to() -> None:
    """`until` is kept by the host's own clock."""
    _, held = told(f"    until: {NOW.date() + timedelta(days=1)}\n")
    last_moment = datetime.combine(NOW.date() + timedelta(days=2), datetime.min.time(), NOW.tzinfo)
    assert is_open(held, last_moment - timedelta(seconds=1))
    assert held.turns_at(NOW) == last_moment
    assert not is_open(held, last_moment)


def test_a_window_opens_and_shuts_on_a_host_nobody_speaks_to() -> None:
    """`within` is foretold turn by turn."""
    _, held = told("    within: daily 14:00-15:00 UTC\n")
    noon = NOW
    hours = [is_open(held, noon + timedelta(hours=h, minutes=1)) for h in (0, 1, 2, 3, 25, 26, 27)]
    assert hours == [False, False, True, False, False, True, False]


def test_a_clock_that_steps_back_reopens_nothing() -> None:
    """What was shut by the time stays shut, also after a restart of the agent."""
    _, held = told("    within: daily 11:00-13:00 UTC\n")
    assert is_open(held, NOW)
    assert not is_open(held, NOW + timedelta(hours=2))
    assert not is_open(held, NOW)
    assert not is_open(Held.restore(DB.uuid, held.snapshot()), NOW)


def test_what_the_controller_says_now_is_newer_than_any_clock() -> None:
    """A clock that ran ahead and came back does not shut a host for ever: the next assignment begins anew."""
    desired, held = told("    within: daily 11:00-13:00 UTC\n")
    assert not is_open(held, NOW + timedelta(days=400))
    moved = msgspec.structs.replace(DB, mode=msgspec.structs.replace(DB.mode, outbound="selective"))
    desired.put_workload(moved)
    hear(desired, held)
    assert is_open(held, NOW)


def test_beyond_what_was_foretold_what_was_timed_is_closed() -> None:
    """A host that hears nothing for longer than the horizon keeps no allow that could have ended meanwhile."""
    _, held = told(f"    until: {date(NOW.year + 1, 1, 1)}\n")
    assert is_open(held, NOW + HORIZON - timedelta(seconds=1))
    assert not is_open(held, NOW + HORIZON)


def test_a_controller_that_runs_foretells_again_in_time() -> None:
    """What was foretold is renewed at half the horizon, so a host that is spoken to never meets its end."""
    desired, held = told(f"    until: {date(NOW.year + 1, 1, 1)}\n")
    assert desired.turns_at == NOW + HORIZON / 2
    later = NOW + HORIZON / 2
    desired.follow(msgspec.structs.replace(desired.inputs, at=later))
    hear(desired, held)
    assert is_open(held, NOW + HORIZON + timedelta(days=1))


@pytest.mark.parametrize("conditions", ["", "    because: it must\n"])
def test_policies_without_time_foretell_nothing(conditions: str) -> None:
    """Only what depends on the time is foretold."""
    desired, held = told(conditions)
    assert desired.assignments[DB.uuid].schedule == ()
    assert desired.turns_at is None
    assert is_open(held, NOW + timedelta(days=4000))
