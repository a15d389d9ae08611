"""What a plan says first, and what it folds away."""

from __future__ import annotations

from datetime import UTC, datetime
from io import StringIO

import msgspec
from rich.console import Console

from ringfence.cli.fleet_words import modes_words, plan_words
from ringfence.core.identity.workload import Mode
from ringfence.wire import api

NOW = datetime(2026, 3, 3, 12, tzinfo=UTC)


def broken(source: str, *, about: bool = True, is_new: bool = True) -> api.Broken:
    ends = (source, "app=shop,role=db", "tcp/5432")
    return api.Broken(*ends, 7, NOW, None, "web-1 -> db-1", "allow it", about, is_new)


def said(impact: api.Impact, *, is_all: bool = False) -> list[str]:
    out = StringIO()
    console = Console(file=out, width=200)
    for line in plan_words(api.Planned(1, api.DiffView(0, 0), impact=impact, hosts=3, digest="d1"), is_all=is_all):
        console.print(line)
    return [" ".join(line.split()) for line in out.getvalue().splitlines()]


NEW = "app=shop,role=web -> app=shop,role=db tcp/5432 7 2026-03-03 12:00 allow it"


def test_what_breaks_by_the_change_is_listed_and_the_rest_is_counted() -> None:
    """What would break without it as well is one line, not ninety rows around ours; --all lists it behind ours."""
    anyway = (*(broken(f"app=shop-{n}", is_new=False) for n in range(3)),
              *(broken(f"app=other-{n}", about=False, is_new=False) for n in range(27)))  # fmt: skip
    impact = api.Impact(7, 1234, (broken("app=shop,role=web"), *anyway), 65, elsewhere=89, anyway=92)
    short, long = said(impact), said(impact, is_all=True)

    assert [line for line in short if "tcp/5432" in line] == [NEW]
    assert "and 3 kinds more" in short
    folded = (
        "92 kinds of traffic would break once their hosts enforce, with this and without it, 3 of them of what this"
    )
    assert f"{folded} is about (`ringfence plan --all` lists them)" in short
    listed = [line for line in long if "tcp/5432" in line]
    assert (listed[0], len(listed)) == (NEW, 31)
    assert "and 62 kinds more" in long
    assert f"{folded} is about" in long


def test_a_change_that_breaks_nothing_of_its_own_says_so() -> None:
    """And still counts what would break without it."""
    lines = said(api.Impact(1, 1, (broken("app=other", about=False, is_new=False),), elsewhere=1, anyway=1))

    assert "1 connection of the last day" in lines
    assert "nothing breaks by this" in lines
    folded = "1 kind of traffic would break once their hosts enforce, with this and without it"
    assert f"{folded} (`ringfence plan --all` lists them)" in lines
    assert not [line for line in lines if "tcp/5432" in line]
    assert "1,234 connections of the last 7 days: nothing breaks" in said(api.Impact(7, 1234))


def test_an_impact_that_tells_nothing_apart_breaks_by_the_change() -> None:
    """A controller from before it did: every kind counts, so that no gate opens for want of a field."""
    old = b'{"days":7,"connections":9,"broken":[],"more":4}'
    assert msgspec.json.decode(old, type=api.Impact).breaks == 4


def test_a_mode_names_who_turns_and_counts_the_rest() -> None:
    """Twenty hosts by name, with both directions as they are and become."""
    turn = Mode("enforce", "observe")
    hosts = tuple(api.Turn(f"web-{n:02}", Mode(), turn) for n in range(25))
    out = StringIO()
    console = Console(file=out, width=200)
    for line in modes_words(api.ModesPlanned(1025, None, None, hosts, (), "d1")):
        console.print(line)
    lines = [" ".join(line.split()) for line in out.getvalue().splitlines()]

    assert lines[1] == "web-00 observe -> enforce observe"
    assert [line for line in lines if line.startswith("web-")] == [
        f"web-{n:02} observe -> enforce observe" for n in range(20)
    ]
    assert "and 1,005 more hosts" in lines
    assert lines[-1] == "1,025 hosts in another mode than now; plan d1"
