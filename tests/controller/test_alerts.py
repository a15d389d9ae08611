"""Alerts: alike occurrences are one, storms are bounded, nothing is lost from the counts, and each says what to do."""

from __future__ import annotations

import json
import shlex
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ringfence.controller.alerts import occurrences as seen
from ringfence.controller.alerts.alerts import Alerts, Limits
from ringfence.controller.alerts.breadth import Breadth
from ringfence.controller.alerts.occurrences import Ground, Occurrence
from ringfence.core.errors import InputError
from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import Lease, Workload
from ringfence.core.labels.selector import parse_selector
from ringfence.core.net.address import parse_address
from ringfence.core.policy.model import Workloads
from ringfence.ports.notifier import Notice
from ringfence.ports.state import Alert, Certificate, PolicyVersion, QuarantineRecord, StateError
from ringfence.wire.messages import Event, Heartbeat, Realised, Violation

NOW = datetime(2026, 3, 3, 12, tzinfo=UTC)
NO_DELAY = Limits(settle_s=0.0, same_s=0.0, most=10_000, most_of_kind=10_000)


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def host(name: str, number: int, **labels: str) -> Workload:
    return Workload(name, f"u-{name}", labels, (Lease(parse_address(f"10.0.{number >> 8}.{number & 255}")),))


FLEET = [host(f"web-{n}", n, app="shop", role="web") for n in range(1, 200)] + [
    host("db-1", 1000, app="shop", role="db"), host("dev-1", 1001, env="dev"), host("bare", 1002),
]  # fmt: skip
JEWELS = (Workloads((parse_selector("role=db"),), "db"),)
GROUND = Ground(Inventory(FLEET), JEWELS)
ADDRESS = {w.name: w.addresses[0].address for w in FLEET}


def tried(source: str, destination: str, port: int = 22, *, after: float = 0.0, **how: Any) -> Occurrence:
    """An attempt between workloads or addresses."""
    ends = [ADDRESS.get(end) or parse_address(end) for end in (source, destination)]
    how = {"verdict": "blocked", "step": "deny", "rule": "shop/no-ssh"} | how
    told = Violation(
        at=at(after).timestamp(),
        direction="in",
        protocol=6,
        source=ends[0],
        destination=ends[1],
        source_port=40000,
        port=port,
        **how,
    )
    return seen.violation(told, destination, GROUND)


def told(alerts: Alerts, after: float) -> list[tuple[str, str]]:
    return [(notice.news, notice.kind) for notice in alerts.due(at(after))]


def silent(*hosts: str, after: float) -> tuple[Occurrence, ...]:
    """`hosts` have not been heard since noon."""
    return seen.offline(dict.fromkeys(hosts, NOW), at(after), GROUND, listening_since=NOW)


# ---- grouping and counting ------------------------------------------------------------------------------------------


def test_alike_attempts_are_one_alert_with_a_count() -> None:
    """Rule, both identities and service make attempts alike, whichever of the workloads they were."""
    alerts = Alerts(NO_DELAY)
    ids = {alerts.note(tried(f"web-{n}", "dev-1", after=n, count=3), at(n)) for n in range(1, 6)}
    other = alerts.note(tried("web-1", "dev-1", 23), at(9))

    (record,) = [alert for alert in alerts if alert.id in ids]
    assert len(ids) == 1
    assert (record.count, record.first, record.last) == (15, at(1), at(5))
    assert other not in ids


def test_a_notice_says_all_that_is_needed() -> None:
    """What, where, by which rule, since when, how often, and commands that can be run as they stand."""
    alerts = Alerts(NO_DELAY)
    alerts.note(tried("web-1", "dev-1", count=7), NOW)
    (notice,) = alerts.due(NOW)

    assert notice.message == "web-1 to dev-1 tcp/22 was blocked by `shop/no-ssh`"
    assert (notice.where, notice.rule, notice.service, notice.count) == ("dev-1", "shop/no-ssh", "tcp/22", 7)
    assert (notice.source_identity, notice.source_address) == ("app=shop,role=web", "10.0.0.1")
    assert (notice.first, notice.last) == (NOW, NOW)
    assert notice.commands == (
        "ringfence explain web-1 dev-1 tcp/22 --fleet --at 2026-03-03T12:00:00Z",
        "ringfence quarantine web-1",
    )


def test_a_process_is_told_with_the_end_it_is_at() -> None:
    """A host knows its own processes: of what comes in the one that listens, of what goes out the one that called."""
    ends = ADDRESS["web-1"], ADDRESS["dev-1"]
    said = []
    for direction, host_ in (("in", "dev-1"), ("out", "web-1")):
        one = Violation(NOW.timestamp(), direction, 6, *ends, 40000, 22, "blocked", "deny", "a/b", process="python3")  # type: ignore[arg-type]
        said.append(seen.violation(one, host_, GROUND).message)

    assert said == [
        "web-1 to dev-1 tcp/22 was blocked by `a/b` (to process python3 on dev-1)",
        "web-1 to dev-1 tcp/22 was blocked by `a/b` (from process python3 on web-1)",
    ]


def test_strangers_are_grouped_by_what_they_are() -> None:
    """A thousand internet addresses at one door are one alert with the first few as examples."""
    alerts = Alerts(NO_DELAY)
    for n in range(1000):
        alerts.note(tried(f"203.0.{n >> 8}.{n & 255}", "dev-1"), NOW)
    (record,) = alerts
    (notice,) = alerts.due(NOW)

    assert record.count == 1000
    assert notice.source_identity == "internet"
    assert notice.message.startswith("internet to env=dev tcp/22 were blocked by `shop/no-ssh`: 203.0.0.0 ")
    assert 1 < len(notice.examples) <= 5
    assert notice.commands == ("ringfence explain 203.0.0.0 dev-1 tcp/22 --fleet --at 2026-03-03T12:00:00Z",)


@pytest.mark.parametrize(
    ("occurrence", "severity"),
    [
        (tried("web-1", "dev-1"), "warning"),
        (tried("web-1", "db-1"), "error"),
        (tried("web-1", "dev-1", verdict="would-block"), "info"),
        (tried("web-1", "db-1", verdict="would-block"), "warning"),
        (seen.event(Event(NOW.timestamp(), "tampering", "a chain is gone"), "web-1", GROUND), "error"),
        (seen.event(Event(NOW.timestamp(), "tampering", "a chain is gone"), "db-1", GROUND), "critical"),
        (seen.clone("web-1", NOW, ("a", "b"), GROUND), "error"),
    ],
)
def test_severity_comes_from_the_kind_and_is_raised_for_crown_jewels(occurrence: Occurrence, severity: str) -> None:
    """The same thing is one step worse at a crown jewel, whichever end it is."""
    alerts = Alerts(NO_DELAY)
    alerts.note(occurrence, NOW)

    assert [notice.severity for notice in alerts.due(NOW)] == [severity]


# ---- breadth --------------------------------------------------------------------------------------------------------


def test_a_scan_is_one_alert() -> None:
    """One host that tries two hundred others and ports makes one alert, more severe, that counts everything."""
    alerts = Alerts()
    for n in range(2, 200):
        for port in (22, 445, 3389):
            alerts.note(tried("dev-1", f"web-{n}", port, after=n / 1000), at(n / 1000))
    notices = alerts.due(at(3))
    opened = [alert for alert in alerts if alert.state != "closed"]

    assert [(n.news, n.severity, n.count) for n in notices] == [("opened", "error", 198 * 3)]
    assert notices[0].commands[0] == "ringfence quarantine dev-1"
    assert "as in a scan" in notices[0].message
    assert [alert.count for alert in opened] == [198 * 3]
    assert sum(alert.count for alert in alerts) == 198 * 3


def test_a_scan_that_touches_a_jewel_is_critical() -> None:
    """Breadth and a crown jewel raise severity one step each."""
    alerts = Alerts()
    for n in range(2, 60):
        alerts.note(tried("dev-1", f"web-{n}"), NOW)
    alerts.note(tried("dev-1", "db-1"), NOW)

    assert [notice.severity for notice in alerts.due(at(3))] == ["critical"]


def test_ports_of_one_host_are_a_scan_too() -> None:
    """Many services at one destination are broad; many attempts at one service are not."""
    alerts = Alerts(NO_DELAY)
    for port in range(100):
        alerts.note(tried("web-1", "dev-1", 1000 + port), NOW)
        alerts.note(tried("web-2", "dev-1", 22), NOW)

    assert sorted((a.count, a.subject) for a in alerts if a.state != "closed") == [(100, "web-1"), (100, "web-2")]


def test_what_others_do_too_stays_its_own_alert() -> None:
    """A scan takes in only what its source alone has caused."""
    alerts = Alerts(NO_DELAY)
    alerts.note(tried("web-1", "dev-1", 9), NOW)
    shared = alerts.note(tried("web-2", "dev-1", 9), NOW)
    for port in range(100, 140):
        alerts.note(tried("web-1", "dev-1", port), NOW)

    assert next(alert for alert in alerts if alert.id == shared).state == "open"
    assert sum(alert.count for alert in alerts) == 42


def test_a_slow_visitor_is_no_scan() -> None:
    """Breadth is judged in a window: twenty destinations in a day are not a scan."""
    alerts = Alerts(NO_DELAY)
    for n in range(2, 60):
        alerts.note(tried("dev-1", f"web-{n}", after=n * 1000), at(n * 1000))

    assert [alert.count for alert in alerts] == [58]


def scan(alerts: Alerts, start: float, source: str = "dev-1") -> None:
    for n in range(2, 40):
        alerts.note(tried(source, f"web-{n}", 1000 + n, after=start), at(start))


def opened_of(alerts: Alerts) -> list[str]:
    return [alert.id for alert in alerts if alert.state != "closed"]


def test_a_scan_that_goes_on_stays_one_alert() -> None:
    """However slowly it goes on, as long as it does not pause for a whole window."""
    alerts = Alerts()
    scan(alerts, 0)
    (id,) = opened_of(alerts)
    for minute in range(1, 60, 5):
        assert alerts.note(tried("dev-1", "web-1", after=minute * 60), at(minute * 60)) == id
        alerts.due(at(minute * 60))
        assert opened_of(alerts) == [id]


def test_a_scan_is_told_as_it_is_by_now() -> None:
    """Hosts that observed, and enforce now, block it; where some do and some do not yet, it says that; one that
    observes again says so. The record and the notice say the same."""
    alerts = Alerts()

    def said(start: float, *verdicts: str) -> tuple[str, str]:
        for n, verdict in enumerate(verdicts * 20, start=2):
            alerts.note(tried("dev-1", f"web-{n}", 1000 + n, after=start, verdict=verdict), at(start))
        (alert,) = (alert for alert in alerts if alert.state != "closed")
        return alert.message.partition("(")[2].partition(")")[0], json.loads(alert.details)["verdict"]

    assert said(0, "would-block") == ("would-block", "would-block")
    assert said(30, "blocked", "would-block") == ("blocked by some hosts, would-block on others", "blocked")
    assert said(300, "blocked") == ("blocked", "blocked")
    assert said(500, "would-block") == ("would-block", "would-block")
    again = Alerts()
    again.restore(list(alerts))
    assert [one.message for one in again] == [one.message for one in alerts]


def test_the_next_scan_takes_in_its_parts_too() -> None:
    """A second scan, days later, is the same alert again and nothing beside it."""
    alerts = Alerts()
    scan(alerts, 0)
    (id,) = opened_of(alerts)
    alerts.due(at(3))
    alerts.due(at(100_000))
    assert opened_of(alerts) == []
    scan(alerts, 200_000)

    assert opened_of(alerts) == [id]


def test_what_a_scan_took_in_is_told_when_somebody_else_does_it() -> None:
    """The part was told, and taken in; from another source it is news."""
    alerts = Alerts(NO_DELAY)
    default: dict[str, Any] = {"step": "default", "rule": ""}
    part = alerts.note(tried("web-1", "dev-1", 1002, **default), NOW)
    alerts.due(NOW)
    for port in range(1002, 1040):
        alerts.note(tried("web-1", "dev-1", port, after=60, **default), at(60))
    alerts.due(at(70))
    assert alerts.note(tried("web-2", "dev-1", 1002, after=80, **default), at(80)) == part

    assert [(n.alert, n.news) for n in alerts.due(at(200))] == [(part, "opened")]


def test_a_scan_is_only_what_was_scanned() -> None:
    """Its first, last and count are of the scan: what the same source did before, and goes on doing, stays in alerts of
    its own, as does what a rule made and people were told of."""
    alerts = Alerts()
    observed: dict[str, Any] = {"verdict": "would-block", "step": "default", "rule": ""}
    usual = {alerts.note(tried("dev-1", f"web-{n}", 5432, after=n, count=40, **observed), at(n)) for n in range(2, 9)}
    alerts.due(at(100))
    ruled = alerts.note(tried("dev-1", "bare", 22, after=690), at(690))
    alerts.due(at(695))
    for n in range(200):
        alerts.note(tried("dev-1", "bare", 1000 + n, after=700 + n / 100, **observed), at(700 + n / 100))
        alerts.note(tried("dev-1", "web-2", 5432, after=700 + n / 100, **observed), at(700 + n / 100))
    alerts.note(tried("dev-1", "bare", 22, after=702), at(702))
    known = {alert.id: alert for alert in alerts if alert.state != "closed"}
    (broad,) = known.keys() - usual - {ruled}

    assert (known[broad].count, known[broad].first, known[broad].last) == (200, at(700), at(701.99))
    assert "as in a scan" in known[broad].message
    assert sum(known[id].count for id in usual) == 7 * 40 + 200
    assert (known[ruled].count, known[ruled].first, known[ruled].last) == (2, at(690), at(702))
    assert sum(alert.count for alert in alerts) == 7 * 40 + 200 + 200 + 2


def test_what_was_counted_before_a_part_came_again_is_not_the_scans() -> None:
    """A closed alert that a scan opens again keeps the figures it had."""
    alerts = Alerts(NO_DELAY)
    default: dict[str, Any] = {"step": "default", "rule": ""}
    part = alerts.note(tried("dev-1", "bare", 1000, count=30, **default), NOW)
    alerts.resolve(part, "ann", at(10))
    for n in range(100):
        alerts.note(tried("dev-1", "bare", 1000 + n, after=5000 + n, **default), at(5000 + n))
    by_id = {alert.id: alert for alert in alerts}
    (broad,) = opened_of(alerts)

    assert (by_id[part].count, by_id[part].first) == (30, NOW)
    assert (by_id[broad].count, by_id[broad].first) == (100, at(5000))


@pytest.mark.parametrize(("step_s", "pause_s"), [(0, 400), (1, 100), (29, 61)])
def test_a_scan_begins_after_the_last_pause(step_s: float, pause_s: float) -> None:
    """However slow it is, what was reached for a while before it began is not part of it."""
    breadth = Breadth()
    for n in range(3):
        assert breadth.note(tried("dev-1", f"web-{n + 100}"), at(n)) is None
    found = [breadth.note(tried("dev-1", "bare", 1000 + n), at(2 + pause_s + n * step_s)) for n in range(21)]
    scans = [scan for scan in found if scan is not None]

    assert scans
    assert {scan.since for scan in scans} == {at(2 + pause_s)}
    assert [scan.is_new for scan in scans] == [True] + [False] * (len(scans) - 1)


def test_breadth_watches_a_bounded_number_of_sources() -> None:
    """Who was heard least recently is forgotten first."""
    breadth = Breadth(destinations=3, sources=1)
    alternating = [breadth.note(tried(f"web-{n % 2 + 1}", f"web-{n + 10}"), NOW) for n in range(20)]
    alone = [breadth.note(tried("web-5", f"web-{n + 10}"), NOW) is not None for n in range(4)]

    assert not any(alternating)
    assert alone == [False, False, True, True]


# ---- storms ---------------------------------------------------------------------------------------------------------


def storm(alerts: Alerts, minutes: int) -> list[Notice]:
    """Every second ten new kinds of violation, from hosts that are not broad."""
    out: list[Notice] = []
    for second in range(60 * minutes):
        for n in range(10):
            number = second * 10 + n
            one = tried(f"web-{number % 190 + 1}", f"198.51.100.{number % 250}", number, rule=f"p/{number}")
            alerts.note(one, at(second))
        out += alerts.due(at(second))
    return out


def test_a_storm_is_told_in_a_bounded_number_of_notices() -> None:
    """Ten a minute and one number for all the rest; every occurrence stays in a count."""
    alerts = Alerts()
    notices = storm(alerts, 5)

    assert len([n for n in notices if n.news == "summary"]) == 4
    assert len(notices) <= 5 * (Limits().most_of_kind + Limits().reserve + 1)
    assert sum(alert.count for alert in alerts) == 3000
    notices += [notice for second in (300, 400) for notice in alerts.due(at(second))]
    assert sum(n.more if n.news == "summary" else 1 for n in notices) == len(list(alerts)) == 3000


def test_a_storm_of_one_kind_leaves_room_for_another() -> None:
    """Tampering is told at once in the middle of a storm of violations."""
    alerts = Alerts(Limits(settle_s=0.0))
    for n in range(500):
        alerts.note(tried("web-1", "198.51.100.7", 22, rule=f"p/{n}"), NOW)
    assert len(alerts.due(NOW)) == Limits().most_of_kind
    alerts.note(seen.event(Event(NOW.timestamp(), "tampering", "a chain is gone"), "web-9", GROUND), at(1))

    assert told(alerts, 1) == [("opened", "tampering")]


def test_what_is_critical_is_told_when_its_kind_is_spent() -> None:
    """The reserve is for what is critical alone."""
    alerts = Alerts(Limits(settle_s=0.0))
    names = [f"web-{n}" for n in range(1, 40)]
    for name in names:
        alerts.note(seen.event(Event(NOW.timestamp(), "tampering", "gone"), name, GROUND), NOW)
    assert len(alerts.due(NOW)) == 10
    alerts.note(seen.event(Event(NOW.timestamp(), "tampering", "gone"), "db-1", GROUND), at(1))

    assert [(n.severity, n.subject) for n in alerts.due(at(1))] == [("critical", "db-1")]


def test_all_kinds_together_are_bounded_too() -> None:
    """Thirty notices a minute, the most severe first, whatever kinds they are of."""
    alerts = Alerts(Limits(settle_s=0.0))
    for kind in ("violation-like", "clone", "tampering", "trial-reverted", "sun-spots"):
        for n in range(1, 12):
            alerts.note(seen.event(Event(NOW.timestamp(), kind, "x"), f"web-{n}", GROUND), NOW)
    severities = [notice.severity for notice in alerts.due(NOW)]

    assert severities == ["error"] * 30
    assert [n.more for n in alerts.due(at(60))] == [55 - 30]


def test_kinds_without_end_are_counted_in_one_alert() -> None:
    """The number of open alerts is bounded; beyond it occurrences are counted, not dropped."""
    alerts = Alerts(Limits(open_most=50))
    for n in range(500):
        alerts.note(tried("web-1", "198.51.100.7", 22, rule=f"p/{n}"), NOW)
    records = list(alerts)

    assert len(records) == 51
    assert sum(alert.count for alert in records) == 500
    assert next(a for a in records if a.subject == "others").count == 450


def test_a_continuing_alert_is_reminded_of_ever_less_often() -> None:
    """After an hour, then two, then four; with how many came meanwhile."""
    alerts = Alerts()
    reminders = []
    for minute in range(0, 60 * 24, 5):
        alerts.note(tried("web-1", "dev-1"), at(minute * 60))
        reminders += [(minute // 60, n.news, n.more) for n in alerts.due(at(minute * 60 + 3))]

    assert [(hour, news) for hour, news, _ in reminders] == [
        (0, "opened"), (1, "again"), (3, "again"), (7, "again"), (15, "again"),
    ]  # fmt: skip
    assert [more for *_, more in reminders][:2] == [1, 12]


# ---- people ---------------------------------------------------------------------------------------------------------


def test_an_acknowledged_alert_is_silent() -> None:
    """Somebody looks after it: however long it goes on, there are no reminders."""
    alerts = Alerts()
    id = alerts.note(tried("web-1", "dev-1", verdict="blocked"), NOW)
    assert told(alerts, 3) == [("opened", "violation")]
    alerts.acknowledge(id, "ann", at(4), why="known")
    for hour in range(1, 20):
        alerts.note(tried("web-2", "dev-1", after=hour * 3600), at(hour * 3600))
        assert told(alerts, hour * 3600 + 10) == []


def test_what_gets_worse_needs_to_be_looked_at_again() -> None:
    """An acknowledged condition whose severity rises is open again."""
    alerts = Alerts()
    beat = heartbeat(conntrack_used=85, conntrack_max=100)
    alerts.present("conntrack-headroom", seen.beat(beat, "web-1", NOW, GROUND), NOW, subject="web-1")
    (notice,) = alerts.due(NOW)
    alerts.acknowledge(notice.alert, "ann", at(1))
    worse = heartbeat(conntrack_used=97, conntrack_max=100)
    alerts.present("conntrack-headroom", seen.beat(worse, "web-1", at(2), GROUND), at(2), subject="web-1")
    (raised,) = alerts.due(at(2))

    assert (raised.news, raised.severity, raised.state) == ("raised", "error", "open")
    assert "97%" in raised.message


def test_a_resolved_alert_opens_again_when_it_comes_back() -> None:
    """It is the same alert: same id, count going on."""
    alerts = Alerts()
    id = alerts.note(tried("web-1", "dev-1"), NOW)
    alerts.due(at(3))
    alerts.resolve(id, "ann", at(60))
    assert told(alerts, 70) == [("resolved", "violation")]
    assert alerts.note(tried("web-1", "dev-1", after=100), at(100)) == id
    (record,) = alerts

    assert (record.state, record.count) == ("open", 2)
    assert told(alerts, 200) == [("reopened", "violation")]


def test_an_alert_that_opens_again_is_as_severe_as_what_comes_back() -> None:
    """Severity rises while an alert is open, and is judged anew when it opens again."""
    alerts = Alerts(NO_DELAY)
    for used, after in ((97, 0), (85, 20)):
        beat = seen.beat(heartbeat(conntrack_used=used, conntrack_max=100), "web-1", at(after), GROUND)
        alerts.present("conntrack-headroom", beat, at(after))
        alerts.present("conntrack-headroom", (), at(after + 10))

    assert [(a.severity, a.count) for a in alerts] == [("warning", 2)]


def test_only_alerts_that_are_there_can_be_handled() -> None:
    """Unknown and closed alerts are refused with a code."""
    alerts = Alerts()
    id = alerts.note(tried("web-1", "dev-1"), NOW)
    alerts.resolve(id, "ann", NOW)
    with pytest.raises(InputError) as closed:
        alerts.acknowledge(id, "ann", NOW)
    with pytest.raises(InputError) as unknown:
        alerts.resolve("no", "ann", NOW)

    assert (closed.value.code, unknown.value.code) == ("alert-closed", "unknown-alert")


def test_silence_closes_a_violation_and_the_old_is_forgotten() -> None:
    """A day without attempts closes it; a week later it is no longer held in memory."""
    alerts = Alerts()
    alerts.note(tried("web-1", "dev-1"), NOW)
    alerts.due(at(3))
    alerts.due(at(86_500))
    assert [a.state for a in alerts] == ["closed"]
    alerts.changed()
    alerts.due(at(86_600))
    alerts.due(at(9 * 86400))

    assert list(alerts) == []


# ---- conditions -----------------------------------------------------------------------------------------------------


def test_offline_is_a_function_of_time() -> None:
    """Three heartbeats missed, not two; and nobody is missed before this controller could have heard them."""
    assert silent("web-1", after=34) == ()
    assert [one.subject for one in silent("web-1", after=36)] == ["web-1"]
    just_started = seen.offline({"web-1": NOW}, at(3600), GROUND, listening_since=at(3590))
    assert just_started == ()


def test_a_condition_ends_by_itself() -> None:
    """Offline is told once, stays one alert however often it is asked, and is resolved when the host is back."""
    alerts = Alerts()
    for second in range(40, 100, 10):
        alerts.present("offline", silent("web-1", "web-2", after=second), at(second))
    assert sorted(n.subject for n in alerts.due(at(100))) == ["web-1", "web-2"]
    assert [a.count for a in alerts] == [1, 1]
    alerts.present("offline", silent("web-2", after=200), at(200))

    assert [(n.news, n.subject) for n in alerts.due(at(200))] == [("resolved", "web-1")]


def test_one_host_s_report_says_nothing_about_another() -> None:
    """What is present of one subject leaves the conditions of others as they are."""
    alerts = Alerts(NO_DELAY)
    beat = heartbeat(disabled_until=at(600).timestamp())
    for name in ("web-1", "web-2"):
        alerts.present("disabled", seen.beat(beat, name, NOW, GROUND), NOW, subject=name)
    alerts.present("disabled", (), at(1), subject="web-1")

    assert {a.subject: a.state for a in alerts} == {"web-1": "closed", "web-2": "open"}


def test_a_person_closes_a_condition_until_it_went_and_came_back() -> None:
    """Closed by hand it stays closed while it lasts, and opens when it comes anew."""
    alerts = Alerts(NO_DELAY)
    alerts.present("offline", silent("web-1", after=40), at(40))
    alerts.resolve(next(iter(alerts)).id, "ann", at(41))
    alerts.present("offline", silent("web-1", after=50), at(50))
    assert [a.state for a in alerts] == ["closed"]
    alerts.present("offline", (), at(60))
    alerts.present("offline", silent("web-1", after=70), at(70))

    assert [(a.state, a.count) for a in alerts] == [("open", 2)]


def test_flapping_is_told_once_and_ends_when_it_is_steady() -> None:
    """A host that comes and goes makes a few notices an hour, and one more when it has settled."""
    alerts = Alerts()
    news: list[str] = []
    for minute in range(40, 100):
        now = minute * 60
        alerts.present("offline", silent("web-1", after=now) if minute % 2 else (), at(now))
        news += [kind for kind, _ in told(alerts, now)]
    assert news.count("flapping") == 1
    assert len(news) <= 7
    assert [a.state for a in alerts] == ["open"]
    alerts.present("offline", (), at(100 * 60))
    later = [kind for second in range(0, 1800, 10) for kind, _ in told(alerts, 6000 + second)]

    assert later == ["resolved"]
    assert [a.state for a in alerts] == ["closed"]


def test_what_settles_while_it_is_there_is_told() -> None:
    """When flapping ends and the condition stays, people hear that it is there."""
    alerts = Alerts()
    for minute in range(40, 61):
        now = minute * 60
        alerts.present("offline", silent("web-1", after=now) if minute % 2 == 0 else (), at(now))
        told(alerts, now)
    later = [n for second in range(0, 1800, 10) for n in alerts.due(at(3600 + second))]

    assert [(n.news, n.state) for n in later][:1] == [("again", "open")]


def heartbeat(state: str = "realised", **how: Any) -> Heartbeat:
    realised = Realised(state, problems=how.pop("problems", ()), is_reverted=how.pop("is_reverted", False))  # type: ignore[arg-type]
    return Heartbeat(NOW.timestamp(), "i", "m", "1", 1, "s", realised, **how)


@pytest.mark.parametrize(
    ("beat", "found"),
    [
        (heartbeat(), []),
        (heartbeat("pending"), []),
        (heartbeat("drifted", problems=("chain input is gone",)), ["drift"]),
        (heartbeat("refused"), ["drift"]),
        (heartbeat(is_reverted=True), ["trial-reverted"]),
        (heartbeat(disabled_until=at(60).timestamp()), ["disabled"]),
        (heartbeat(disabled_until=at(-60).timestamp()), []),
        (heartbeat(conntrack_used=79, conntrack_max=100), []),
        (heartbeat(conntrack_used=80, conntrack_max=100), ["conntrack-headroom"]),
        (heartbeat(conntrack_used=9, conntrack_max=0), []),
    ],
)
def test_a_heartbeat_tells_conditions(beat: Heartbeat, found: list[str]) -> None:
    """Each thing wrong on a host is its own condition; a healthy one has none."""
    assert [one.kind for one in seen.beat(beat, "web-1", NOW, GROUND)] == found


def test_a_certificate_that_is_not_renewed_is_told_before_it_expires() -> None:
    """A quarter of its life left warns, a tenth is an error; renewal is due at half."""
    one = Certificate("1", "u-web-1", "f", NOW, at(1000))
    levels = [[o.severity for o in seen.certificates({"web-1": one}, at(s), GROUND)] for s in (500, 760, 950, 1100)]

    assert levels == [[], ["warning"], ["error"], ["error"]]


def test_quarantines_in_force_are_conditions() -> None:
    """Released and ended ones are over."""
    force = QuarantineRecord("q1", "u-web-1", "full", "ransom note", "ann", NOW, until=at(100))
    released = QuarantineRecord("q2", "u-web-2", "full", "", "ann", NOW, released_at=at(1))
    found = seen.quarantines([force, released], at(2), GROUND)

    assert [(o.subject, o.commands[0]) for o in found] == [("web-1", "ringfence release web-1")]
    assert seen.quarantines([force], at(101), GROUND) == ()


def test_a_publication_says_how_to_take_it_back() -> None:
    """A policy change names who and which version, and the version before to return to."""
    version = PolicyVersion(8, NOW, "ann", "open the shop", {}, "", "d", parent=7)

    assert seen.policy_change(version).commands[0] == "ringfence rollback 7"


# ---- hostile words --------------------------------------------------------------------------------------------------


def test_an_event_of_an_unknown_kind_is_told_all_the_same() -> None:
    """A newer agent's event is not dropped by an older controller."""
    one = seen.event(Event(NOW.timestamp(), "sun-spots", "bits flip", ("twice",)), "web-1", GROUND)

    assert (one.kind, one.message) == ("agent", "web-1: sun-spots: bits flip: twice")


def test_hostile_names_cannot_forge_lines_or_commands() -> None:
    """Control characters become blanks, and what goes into a command is quoted for the shell."""
    evil = Workload("a;rm -rf /\n", "u-evil", {}, (Lease(parse_address("10.9.9.9")),))
    ground = Ground(Inventory([*FLEET, evil]))
    attack = Violation(NOW.timestamp(), "in", 6, parse_address("10.9.9.9"), ADDRESS["dev-1"], 1, 22, "blocked", "deny",
                       process="x\r\n<0>fake \x1b[2J")  # fmt: skip
    alerts = Alerts(NO_DELAY)
    alerts.note(seen.violation(attack, "dev-1", ground), NOW)
    (notice,) = alerts.due(NOW)

    assert notice.message.isprintable()
    assert all(line.isprintable() for line in (*notice.examples, *notice.commands))
    assert shlex.split(notice.commands[1]) == ["ringfence", "quarantine", "a;rm -rf / "]


@pytest.mark.parametrize("moment", [-1e18, 1e18, float("nan"), float("inf")])
def test_a_broken_clock_breaks_nothing(moment: float) -> None:
    """A time no calendar holds, or one in the future, is kept within what can be."""
    alerts = Alerts(NO_DELAY)
    alerts.note(seen.event(Event(moment, "tampering", "gone"), "web-1", GROUND), NOW)
    (record,) = alerts

    assert NOW - timedelta(days=31) < record.first <= record.last <= NOW


def test_a_shared_address_names_no_single_culprit() -> None:
    """Where two hold the address, the alert names both identities and offers no quarantine."""
    twins = [Workload(n, f"u-{n}", {"app": n}, (Lease(parse_address("10.7.7.7")),)) for n in ("one", "two")]
    ground = Ground(Inventory([*FLEET, *twins]))
    told_ = Violation(NOW.timestamp(), "in", 6, parse_address("10.7.7.7"), ADDRESS["dev-1"], 1, 22, "blocked", "deny")
    one = seen.violation(told_, "dev-1", ground)

    assert one.source is not None
    assert (one.source.identity, one.source.is_workload) == ("app=one or app=two", False)


# ---- storing --------------------------------------------------------------------------------------------------------


def test_a_restarted_controller_goes_on_where_it_was() -> None:
    """Counts, what was told and who acknowledged survive; nothing is told twice."""
    before = Alerts()
    id = before.note(tried("web-1", "dev-1", count=5), NOW)
    before.present("offline", silent("web-2", after=40), at(40))
    assert len(before.due(at(40))) == 2
    before.acknowledge(id, "ann", at(41))
    after = Alerts()
    after.restore(before.changed())

    assert after.due(at(50)) == ()
    assert list(after) == list(before)
    after.present("offline", (), at(200))
    assert [(n.news, n.id.rsplit("-", 1)[1]) for n in after.due(at(200))] == [("resolved", "2")]


def test_what_was_not_yet_told_is_told_after_a_restart() -> None:
    """Nothing falls between noting and telling."""
    before = Alerts()
    before.note(tried("web-1", "dev-1"), NOW)
    after = Alerts()
    after.restore(before.changed())

    assert told(after, 5) == [("opened", "violation")]


def test_changed_tells_each_change_once_and_a_damaged_record_is_refused() -> None:
    """What was handed out is not handed out again; details that cannot be read are named."""
    alerts = Alerts()
    alerts.note(tried("web-1", "dev-1"), NOW)
    (record,) = alerts.changed()
    assert alerts.changed() == ()

    with pytest.raises(StateError) as refused:
        Alerts().restore([type(record)(**{f: getattr(record, f) for f in record.__struct_fields__} | {"details": "{"})])
    assert refused.value.code == "state-damaged"


# ---- every history --------------------------------------------------------------------------------------------------

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["note", "offline", "back", "ack", "resolve", "due", "restart"]),
        st.integers(1, 3),
        st.sampled_from([0.5, 3.0, 70.0, 4000.0, 90_000.0]),
        st.integers(1, 40),
    ),
    max_size=60,
)


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_in_every_history_nothing_is_lost_and_no_key_is_open_twice(steps: list[tuple[str, int, float, int]]) -> None:
    """Whatever happens in whatever order: each occurrence is counted once, a (kind, key) is open at most once in the
    records, ids of notices never repeat, and what is stored equals what is held.
    """
    alerts, now, noted = Alerts(), 0.0, 0
    stored: dict[str, Alert] = {}
    ids: list[str] = []
    for what, n, pause, size in steps:
        now += pause
        if what == "note":
            for port in range(size):
                alerts.note(tried(f"web-{n}", "db-1", port, after=now), at(now))
            noted += size
        elif what in ("offline", "back"):
            alerts.present("offline", silent(f"web-{n}", after=now) if what == "offline" else (), at(now))
        elif what in ("ack", "resolve"):
            for alert in list(alerts)[:n]:
                if what == "resolve":
                    alerts.resolve(alert.id, "ann", at(now))
                elif alert.state != "closed":
                    alerts.acknowledge(alert.id, "ann", at(now))
        elif what == "due":
            ids += [notice.id for notice in alerts.due(at(now))]
        stored |= {alert.id: alert for alert in alerts.changed()}
        if what == "restart":
            alerts = Alerts()
            alerts.restore(stored.values())
        opened = [(a.kind, a.key) for a in stored.values() if a.state != "closed"]
        assert len(opened) == len(set(opened))
        assert all(stored[a.id] == a for a in alerts)
    assert sum(a.count for a in stored.values() if a.kind == "violation") == noted
    assert len(ids) == len(set(ids))
