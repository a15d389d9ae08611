"""Times: normalised to UTC where they enter, refused where no calendar holds them, and foretold where they flip."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import pytest

from ringfence.core.engine.moments import holds_at, moments, say_held, say_not_held
from ringfence.core.engine.rules import next_change
from ringfence.core.errors import Finding, FindingsError, InputError, TimeError
from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import utc
from ringfence.core.policy.model import Conditions, Within
from ringfence.core.policy.parse import parse_policies
from ringfence.core.world import Endpoint, Flow, World
from ringfence.inventory.files import load_workloads

EAST, WEST = timezone(timedelta(hours=14)), timezone(timedelta(hours=-12))
FIRST, LAST = datetime.min.replace(tzinfo=EAST), datetime.max.replace(tzinfo=WEST)


def window(start: str, end: str, zone: str = "Europe/Berlin", days: tuple[int, ...] = tuple(range(7))) -> Conditions:
    minutes = [int(text[:2]) * 60 + int(text[3:]) for text in (start, end)]
    return Conditions(within=Within(days, minutes[0], minutes[1], zone, f"{start}-{end} {zone}"))


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


# ---- off the calendar ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beyond", [FIRST, LAST])
def test_a_time_beyond_the_calendar_is_bad_time(beyond: datetime) -> None:
    """Year 1 east of UTC and year 9999 west of it are refused with a code and a next step, as a ValueError."""
    with pytest.raises(ValueError, match="outside the years 1 to 9999") as caught:
        utc(beyond)
    assert isinstance(caught.value, InputError)
    assert (caught.value.code, bool(caught.value.help)) == ("bad-time", True)
    for make in (lambda: Flow(Endpoint(), Endpoint(), 0, at=beyond), lambda: World(Inventory(()), at=beyond)):
        with pytest.raises(TimeError):
            make()


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"])
def test_such_a_time_in_a_file_is_a_finding_with_its_line(text: str) -> None:
    """An inventory's `from` and a test's `at` beyond the calendar are reported where they stand, not raised."""
    row = f'- {{name: a, labels: {{x: y}}, addresses: [{{address: 10.0.0.1, from: "{text}"}}]}}\n'
    assert [(f.code, f.where.line) for f in load_workloads(row, "w.yaml").findings] == [("bad-time", 1)]
    policy = f'policy: p\ntests:\n  - {{from: a=b, to: a=c, expect: blocked, at: "{text}"}}\n'
    assert [(f.code, f.where.line) for f in parse_policies({"p.yaml": policy}).findings] == [("bad-time", 3)]


@pytest.mark.parametrize("moment", [datetime.min, datetime.max, datetime.max - timedelta(days=8)])
@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Etc/GMT+12", "UTC"])
def test_a_window_is_asked_at_the_ends_of_the_calendar(moment: datetime, zone: str) -> None:
    """Whether hours hold, and when that changes, has an answer on the first and last days there are."""
    spans = [window("08:00", "18:00", zone), Conditions(until=date.max), Conditions(until=date.min)]
    now = moment.replace(tzinfo=UTC)
    for span in spans:
        following = next_change(span, now)
        assert following is None or following > now
        assert now in moments(spans, now)
    assert holds_at(window("00:00", "24:00", zone), now)


def test_a_naive_time_is_utc_from_the_start() -> None:
    """A flow's and a world's time without an offset is UTC, with another offset the same moment in UTC."""
    naive, local = datetime(2026, 3, 2, 12), datetime(2026, 3, 2, 14, tzinfo=timezone(timedelta(hours=2)))
    for given in (naive, local):
        flow, world = Flow(Endpoint(), Endpoint(), 0, at=given), World(Inventory(()), at=given)
        for normal in (flow.at, world.at):
            assert normal is not None
            assert (normal, normal.tzinfo) == (datetime(2026, 3, 2, 12, tzinfo=UTC), UTC)


# ---- findings --------------------------------------------------------------------------------------------------------


def test_findings_without_an_error_can_be_raised() -> None:
    """Warnings alone are called by their first, and no finding at all is no error."""
    warned = FindingsError([Finding("b", "second", "warning"), Finding("a", "first", "warning", help="do it")])
    assert (warned.code, warned.message, warned.help) == ("a", "2 finding(s)", "do it")
    mixed = FindingsError([Finding("a", "first", "warning"), Finding("z", "bad")])
    assert (mixed.code, mixed.message) == ("z", "1 error(s)")
    with pytest.raises(ValueError, match="needs a finding"):
        FindingsError([])


# ---- when it flips ---------------------------------------------------------------------------------------------------

REPEATED = [
    ("2026-10-24T23:00:00+00:00", "2026-10-25T00:00:00+00:00"),
    ("2026-10-25T00:00:00+00:00", "2026-10-25T00:30:00+00:00"),
    ("2026-10-25T00:30:00+00:00", "2026-10-25T01:00:00+00:00"),
    ("2026-10-25T01:00:00+00:00", "2026-10-25T01:30:00+00:00"),
]


@pytest.mark.parametrize(("now", "then"), REPEATED)
def test_next_change_stops_at_every_edge_of_the_repeated_hour(now: str, then: str) -> None:
    """02:00-02:30 opens and shuts twice in the night the clocks go back, and every edge is foretold."""
    assert next_change(window("02:00", "02:30"), at(now)) == at(then)


@pytest.mark.parametrize("span", [window("02:15", "02:45"), window("22:00", "02:30"), window("03:00", "02:00")])
@pytest.mark.parametrize("night", ["2026-10-24T12:00:00+00:00", "2026-03-28T12:00:00+00:00"])
def test_nothing_flips_before_it_is_foretold(span: Conditions, night: str) -> None:
    """Minute by minute through two days around changing clocks the answer is constant up to the next change."""
    now, flips = at(night), 0
    end = now + timedelta(days=2)
    while now < end:
        following = next_change(span, now)
        assert following is not None
        steps = range(int(min(following - now, end - now) / timedelta(minutes=1)))
        assert len({holds_at(span, now + timedelta(minutes=step)) for step in steps}) == 1
        flips += holds_at(span, now) != holds_at(span, following)
        now = following
    assert flips >= 2


@pytest.mark.parametrize("offset", [-12, -5, 0, 5.5, 14])
def test_the_day_after_until_begins_in_utc(offset: float) -> None:
    """`until` lasts through its day in UTC wherever the question is asked from, and the change is foretold so."""
    span, zone = Conditions(until=date(2026, 3, 1)), timezone(timedelta(hours=offset))
    midnight = datetime(2026, 3, 2, tzinfo=UTC)
    before = (midnight - timedelta(seconds=1)).astimezone(zone)
    assert holds_at(span, before)
    assert not holds_at(span, midnight.astimezone(zone))
    assert next_change(span, before) == midnight
    assert next_change(span, midnight.astimezone(zone)) is None


def test_until_the_end_of_the_calendar_never_changes() -> None:
    """9999-12-31 has no day after it: the rule holds for good."""
    span = Conditions(until=date.max)
    assert next_change(span, at("2026-01-01T00:00:00+00:00")) is None
    assert holds_at(span, datetime.max.replace(tzinfo=UTC))


# ---- moments ---------------------------------------------------------------------------------------------------------

NOW = at("2026-03-02T12:00:00+00:00")
SPANS = [
    window("08:00", "18:00", "Europe/Berlin", (0, 1, 2, 3, 4)),
    window("09:00", "17:00", "America/New_York", (0, 1, 2, 3, 4)),
    window("12:00", "13:00", "UTC"),
    Conditions(until=date(2026, 3, 20)),
    Conditions(until=date(2026, 6, 1), within=window("22:00", "04:00", "UTC").within),
    Conditions(until=date(2026, 3, 1)),
]


def held(moment: datetime) -> frozenset[Conditions]:
    return frozenset(span for span in SPANS if holds_at(span, moment))


def test_every_combination_to_come_has_a_moment_with_no_more_held() -> None:
    """Whatever span holds at some quarter hour of 200 days holds at a kept moment with none but spans of then."""
    kept = [held(moment) for moment in moments(SPANS, NOW)]
    for step in range(200 * 96):
        now = held(NOW + timedelta(minutes=15 * step))
        assert all(any(span in few and few <= now for few in kept) for span in now), now
        assert any(few <= now for few in kept)


def test_keeping_all_keeps_every_combination() -> None:
    """For rules that do not merely add, each combination seen in 200 days is among the moments."""
    kept = {held(moment) for moment in moments(SPANS, NOW, keep_all=True)}
    assert {held(NOW + timedelta(minutes=15 * step)) for step in range(200 * 96)} <= kept


def test_without_spans_there_is_only_now() -> None:
    """A policy without dates and hours is asked once."""
    assert moments([], NOW) == [NOW]


def test_a_span_is_said_in_the_words_of_the_language() -> None:
    """Both parts where there are both; the reason why it does not hold otherwise."""
    both = SPANS[4]
    assert say_held(both) == "within 22:00-04:00 UTC and until 2026-06-01"
    assert say_not_held(both, NOW) == "outside 22:00-04:00 UTC"
    assert say_not_held(both, at("2026-06-02T00:00:00+00:00")) == "after 2026-06-01"
