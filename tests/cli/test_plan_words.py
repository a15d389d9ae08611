"""What a plan says first, and what it folds away."""

from __future__ import annotations

from datetime import UTC, datetime
from io import StringIO

from rich.console import Console

from ringfence.cli.fleet_words import modes_words, plan_words
from ringfence.core.identity.workload import Mode
from ringfence.wire import api

NOW = datetime(2026, 3, 3, 12, tzinfo=UTC)


def broken(source: str, *, about: bool) -> api.Broken:
    return api.Broken(source, "app=shop,role=db", "tcp/5432", 7, NOW, None, "web-1 -> db-1", "allow it", about)


def said(*, rows: tuple[api.Broken, ...], more: int = 0, elsewhere: int = 0) -> list[str]:
    impact = api.Impact(7, 1234, rows, more, elsewhere)
    out = StringIO()
    console = Console(file=out, width=200)
    for line in plan_words(api.Planned(1, api.DiffView(0, 0), impact=impact, hosts=3, digest="d1")):
        console.print(line)
    return [" ".join(line.split()) for line in out.getvalue().splitlines()]


def test_what_the_change_is_about_is_listed_and_the_rest_is_counted() -> None:
    """Traffic of other applications that their own modes will stop is one line, not twenty rows before ours."""
    rows = (broken("app=shop,role=web", about=True), *(broken(f"app=other-{n}", about=False) for n in range(30)))
    lines = said(rows=rows, more=5, elsewhere=33)

    told = [line for line in lines if "tcp/5432" in line]
    assert told == ["app=shop,role=web -> app=shop,role=db tcp/5432 7 2026-03-03 12:00 allow it"]
    assert "and 2 kinds more" in lines
    assert "33 other kinds of traffic elsewhere would break once their hosts enforce, with this and without it" in lines


def test_a_change_that_breaks_nothing_of_its_own_says_so() -> None:
    """And still counts what breaks elsewhere."""
    lines = said(rows=(broken("app=other", about=False),), elsewhere=1)

    assert "nothing of what this is about breaks" in lines
    assert "1 other kind of traffic elsewhere would break once their hosts enforce, with this and without it" in lines
    assert not [line for line in lines if "tcp/5432" in line]
    assert "1,234 connections of the last 7 days: nothing breaks" in said(rows=())


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
