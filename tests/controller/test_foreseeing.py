"""What a change would do to traffic: what breaks, what is cut now, whose it is, and which plan it was."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import numpy as np
import pytest

from ringfence.controller.publishing.foreseeing import (
    ENFORCED,
    IN_USE_S,
    Foreseen,
    digest_of,
    failsafe_views,
    foresee,
    same_plan,
)
from ringfence.controller.publishing.relabelling import relabelled, world_after, world_in_modes
from ringfence.core.errors import InputError
from ringfence.core.flow.conversations import REPORTED, Conversations
from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import Lease, Mode, Workload
from ringfence.core.net.address import parse_address
from ringfence.core.net.service import parse_service
from ringfence.core.policy.parse import parse_policies
from ringfence.core.world import Endpoint, World
from ringfence.ports.flow_store import Most
from ringfence.settings import failsafe_of, parse_settings
from ringfence.stores.duckdb import DuckFlowStore
from ringfence.wire.api import LiveSessions

NOW = datetime(2026, 3, 3, 12, 30, tzinfo=UTC)
BOTH = """\
policy: shop
owner: team-shop
scope: app=shop
rules:
  - name: queries
    allow: {from: role=web, to: role=db, service: tcp/5432}
  - name: shell
    allow: {from: role=web, to: role=db, service: tcp/22}
"""
QUERIES = BOTH[: BOTH.index("  - name: shell")]
NOTHING = "policy: shop\nowner: team-shop\nscope: app=shop\nrules: []\n"


def host(name: str, address: str, mode: str = "enforce", **labels: str) -> Workload:
    of = Mode.both(mode)  # type: ignore[arg-type]
    return Workload(name=name, uuid=f"u-{name}", labels=labels, addresses=(Lease(parse_address(address)),), mode=of)


WEB, DB = host("web", "10.0.0.1", app="shop", role="web"), host("db", "10.0.0.2", app="shop", role="db")
HUB = host("hub", "10.0.0.3", role="hub", team="platform")


def world(text: str, *workloads: Workload) -> World:
    policies = parse_policies({"shop.yaml": text}).raise_if_errors()
    return World(Inventory(workloads or (WEB, DB, HUB)), policies, at=NOW)


Row = tuple[Workload, Workload, str, int, int]
"""Source, destination, service, connections, seconds since it was seen last."""


def traffic(folder: Path, *rows: Row, reported: str = "allowed") -> DuckFlowStore:
    ends = tuple(Endpoint(w, w.addresses[0].address) for row in rows for w in row[:2])
    ago = np.array([row[4] for row in rows], np.int64)
    last = int(NOW.timestamp()) - ago
    count = len(rows)
    store = DuckFlowStore(folder / "flows.duckdb")
    store.append(
        Conversations(
            ends,
            np.arange(0, 2 * count, 2, dtype=np.int32),
            np.arange(1, 2 * count, 2, dtype=np.int32),
            np.array([parse_service(row[2]).ranges[0][0] for row in rows], np.int32),
            np.full(count, REPORTED.index(reported), np.uint8),
            last // 3600 * 3600,
            np.array([row[3] for row in rows], np.int64),
            np.full(count, 40, np.int64),
            np.full(count, 4000, np.int64),
            last - 60,
            last,
            np.full(count, 3, np.uint8),
        )
    )
    return store


def told(store: DuckFlowStore, before: World, after: World, days: int = 7) -> Foreseen:
    with store:
        return foresee(store, before, after, days=days, now=NOW)


def live(found: Foreseen) -> LiveSessions:
    assert found.sessions is not None
    return found.sessions


def cut(sessions: LiveSessions) -> list[tuple[str, str, str, str]]:
    return [(s.source, s.destination, s.service, s.owner) for s in sessions.cut]


def test_what_passes_today_and_would_not_is_broken(tmp_path: Path) -> None:
    """With how often it was seen; what stays allowed is not."""
    store = traffic(tmp_path, (WEB, DB, "tcp/22", 7, 9000), (WEB, DB, "tcp/5432", 9, 9000))
    seen = told(store, world(BOTH), world(QUERIES)).impact

    assert seen is not None
    assert [(b.service, b.connections) for b in seen.broken] == [("ssh", 7)]
    assert (seen.connections, seen.blocked) == (16, 0)


def test_no_plan_is_refused_for_the_traffic_there_is(tmp_path: Path) -> None:
    """Hours count together; of what is too much still the latest days are judged, and told as so many; where not even
    a day fits, or not what is in use, that is not known: nobody who goes back or lets traffic pass is held up by it."""
    days = [(WEB, DB, f"tcp/{1000 + day}", 1, 86_400 * day + 3600) for day in range(6)]
    hours = [(WEB, DB, "tcp/1000", 1, 3600 * (hour + 2)) for hour in range(8)]
    store = traffic(tmp_path, *days, *hours)
    judged: list[tuple[int, int] | None] = []
    with store:
        for rows in (6, 5, 1, 0):
            store.most = Most(rows, 100)
            found = foresee(store, world(BOTH), world(NOTHING), days=7, now=NOW)
            judged.append((found.impact.days, found.impact.connections) if found.impact is not None else None)
    with traffic(tmp_path / "busy", (WEB, DB, "tcp/22", 1, 60)) as busy:
        busy.most = Most(0, 100)
        assert foresee(busy, world(BOTH), world(NOTHING), days=7, now=NOW) == Foreseen(None, None)
    assert judged == [(7, 14), (3, 11), (1, 9), None]


def test_what_a_change_is_about_comes_first_and_the_rest_is_counted(tmp_path: Path) -> None:
    """Whatever carries less: an end in the scope of a policy that changes, or a workload that becomes another; without
    a scope, and with other settings, it is about everybody."""
    other = host("other", "10.0.0.4", "observe", app="pay")
    watched = (msgspec.structs.replace(WEB, mode=Mode()), msgspec.structs.replace(DB, mode=Mode()), other)
    web, db, _ = watched
    hub = msgspec.structs.replace(HUB, mode=Mode())
    rows: tuple[Row, ...] = ((web, db, "tcp/22", 7, 9000), (hub, other, "tcp/443", 90, 9000))
    everybody = (*watched, hub)

    def seen(folder: str, before: World, after: World) -> tuple[list[tuple[str, bool]], int]:
        impact = told(traffic(tmp_path / folder, *rows), before, after).impact
        assert impact is not None
        return [(b.service, b.about) for b in impact.broken], impact.elsewhere

    before = world(BOTH, *everybody)
    assert seen("scoped", before, world(QUERIES, *everybody)) == ([("ssh", True), ("https", False)], 1)
    assert seen("same", world(QUERIES, *everybody), world(QUERIES, *everybody))[1] == 2
    wide = world(QUERIES.replace("scope: app=shop\n", "").replace("policy: shop", "policy: wide"), *everybody)
    assert seen("wide", before, wide) == ([("ssh", True), ("https", True)], 0)
    moved = world_after(before, {other.uuid: {"app": "till"}})
    assert seen("moved", before, moved) == ([("https", True)], 0)
    settings = msgspec.structs.replace(world(QUERIES, *everybody), names={"a.example": ()})
    assert seen("settings", before, settings)[1] == 0


def news(store: DuckFlowStore, before: World, after: World, as_mode: Mode | None = ENFORCED) -> list[tuple[str, bool]]:
    """The services that break, and whether by the change; what it counts apart agrees."""
    with store:
        found = foresee(store, before, after, days=7, now=NOW, as_mode=as_mode).impact
    assert found is not None
    assert found.breaks == sum(b.is_new for b in found.broken) == len(found.broken) - found.anyway
    return [(b.service, b.is_new) for b in found.broken]


WIDE = "policy: wide\nrules:\n  - allow: {from: role=web, to: role=db, service: [tcp/5432, tcp/22]}\n"
NARROW = WIDE.replace("[tcp/5432, tcp/22]", "tcp/5432")


def test_what_breaks_by_a_change_is_told_apart_from_what_would_break_anyway(tmp_path: Path) -> None:
    """The one new break of a policy without a scope comes before all that the policy in force would break as well,
    however much more that carries; what another change mends is not named, and nothing new is nothing."""
    pair = [msgspec.structs.replace(w, mode=Mode()) for w in (WEB, DB)]
    others = [host(f"other-{n}", f"10.0.1.{n}", "observe", app=f"a{n}") for n in range(1, 6)]
    rows: list[Row] = [(pair[0], pair[1], "tcp/22", 1, 9000)]
    rows += [(other, pair[1], "tcp/443", 900, 9000) for other in others]
    everybody = (*pair, *others)

    def found(folder: str, before: str, after: str) -> list[tuple[str, bool]]:
        return news(traffic(tmp_path / folder, *rows), world(before, *everybody), world(after, *everybody))

    assert found("narrower", WIDE, NARROW) == [("ssh", True), *[("https", False)] * 5]
    assert found("wider", NARROW, WIDE) == [("https", False)] * 5


def test_where_nothing_was_in_force_all_that_a_first_version_is_about_breaks_by_it(tmp_path: Path) -> None:
    """So it is where a workload comes into a scope and was in none: its traffic is judged for the first time."""
    pair = [msgspec.structs.replace(w, mode=Mode()) for w in (WEB, DB)]
    other = host("other", "10.0.0.4", "observe", app="pay")
    far = host("far", "10.0.0.5", "observe", app="far")
    rows: tuple[Row, ...] = ((pair[0], pair[1], "tcp/22", 7, 9000), (far, other, "tcp/443", 90, 9000))
    everybody = (*pair, other)

    def found(folder: str, before: World, after: str) -> list[tuple[str, bool]]:
        return news(traffic(tmp_path / folder, *rows), before, world(after, *everybody))

    nothing = msgspec.structs.replace(world(QUERIES, *everybody), policies=())
    assert found("first", nothing, NARROW) == [("https", True), ("ssh", True)]
    assert found("first-scoped", nothing, QUERIES) == [("ssh", True), ("https", False)]
    assert found("taken in", world(NARROW, *everybody), QUERIES) == [("ssh", True), ("https", False)]
    assert found("was in", world(NOTHING, *everybody), QUERIES) == [("ssh", False), ("https", False)]


def test_what_a_host_stops_by_a_change_is_new_whatever_its_default_would_have_stopped(tmp_path: Path) -> None:
    """A deny bites where a host is selective: enforcing it would have blocked as much, and does not yet."""
    pair = [msgspec.structs.replace(w, mode=Mode.both("selective")) for w in (WEB, DB)]
    deny = QUERIES + "  - deny: {from: role=web, to: role=db, service: tcp/22}\n"
    for folder, text, is_new in (("deny", deny, True), ("same", QUERIES + "\n", False)):
        store = traffic(tmp_path / folder, (pair[0], pair[1], "tcp/22", 7, 9000))
        assert news(store, world(QUERIES, *pair), world(text, *pair)) == [("ssh", is_new)]


def test_all_that_other_modes_stop_is_new(tmp_path: Path) -> None:
    """It passes now, in the modes there are, and would not."""
    watched = [msgspec.structs.replace(w, mode=Mode()) for w in (WEB, DB)]
    before = world(QUERIES, *watched)
    after = world_in_modes(before, {DB.uuid: Mode("enforce", "observe")})
    store = traffic(tmp_path, (watched[0], watched[1], "tcp/22", 7, 60))
    assert news(store, before, after, None) == [("ssh", True)]


def test_what_is_blocked_already_is_broken_by_no_change(tmp_path: Path) -> None:
    """It passed when it was seen, and the policy in force blocks it by now; only in the modes in force."""
    store = traffic(tmp_path, (WEB, DB, "tcp/22", 7, 9000))
    seen = told(store, world(QUERIES), world(NOTHING)).impact
    assert seen is not None
    assert (seen.broken, seen.connections, seen.blocked) == ((), 7, 7)

    watched = [msgspec.structs.replace(w, mode=Mode.both("observe")) for w in (WEB, DB)]
    store = traffic(tmp_path / "observed", (watched[0], watched[1], "tcp/22", 7, 9000))
    seen = told(store, world(QUERIES, *watched), world(NOTHING, *watched)).impact
    assert seen is not None
    assert ([b.connections for b in seen.broken], seen.blocked) == ([7], 0)


def test_in_other_modes_stops_what_no_rule_allows_at_those_hosts_alone(tmp_path: Path) -> None:
    """Each host in its own mode: what an observing end would block passes, and what nobody stops is not named."""
    watched = [msgspec.structs.replace(w, mode=Mode.both("observe")) for w in (WEB, DB)]
    rows = ((watched[0], watched[1], "tcp/22", 7, 60), (watched[0], watched[1], "tcp/5432", 9, 60))
    store = traffic(tmp_path, *rows)
    before = world(QUERIES, *watched)
    modes = ({}, {DB.uuid: Mode("enforce", "observe")}, {DB.uuid: Mode("observe", "enforce")})
    with store:
        found = [foresee(store, before, world_in_modes(before, some), days=7, now=NOW, as_mode=None) for some in modes]
    broken = [[b.service for b in one.impact.broken] for one in found if one.impact is not None]
    assert broken == [[], ["ssh"], []]
    assert [len(cut(live(one))) for one in found] == [0, 1, 0]


def test_the_mode_that_counts_is_today_s(tmp_path: Path) -> None:
    """A host that observed when the traffic was seen, and enforces now, blocks it already."""
    then = msgspec.structs.replace(DB, mode=Mode.both("observe"))
    store = traffic(tmp_path, (WEB, then, "tcp/22", 7, 9000))
    seen = told(store, world(QUERIES), world(NOTHING)).impact
    assert seen is not None
    assert (seen.broken, seen.blocked) == ((), 7)


def test_live_sessions_that_would_be_cut_are_named_with_their_owner(tmp_path: Path) -> None:
    """Those in use that pass now and would be blocked; not what is over, nor what goes on."""
    rows: tuple[Row, ...] = (
        (WEB, DB, "tcp/22", 1, 60), (WEB, DB, "tcp/5432", 9, 60), (HUB, DB, "tcp/22", 1, 60),
        (WEB, DB, "tcp/22", 1, IN_USE_S + 4000),
    )  # fmt: skip
    sessions = live(told(traffic(tmp_path, *rows), world(BOTH), world(QUERIES), days=0))

    assert cut(sessions) == [("web", "db", "tcp/22", "team-shop")]
    assert (sessions.in_use, sessions.seconds, sessions.more) == (2, IN_USE_S, 0)
    assert sessions.cut[0].last == NOW - timedelta(seconds=60)
    assert (sessions.cut[0].reason, sessions.cut[0].source_owner) == ("default", "team-shop")


def test_a_host_that_only_observes_cuts_nobody(tmp_path: Path) -> None:
    """Sessions are judged in the modes in force: what would break is not what would be cut."""
    pair = [msgspec.structs.replace(w, mode=Mode.both("observe")) for w in (WEB, DB)]
    found = told(traffic(tmp_path, (pair[0], pair[1], "tcp/22", 1, 60)), world(BOTH, *pair), world(QUERIES, *pair))
    assert (live(found).cut, live(found).in_use) == ((), 1)
    assert found.impact is not None
    assert len(found.impact.broken) == 1


def test_what_was_refused_is_no_session(tmp_path: Path) -> None:
    """A blocked attempt of a moment ago has nothing to cut."""
    store = traffic(tmp_path, (WEB, DB, "tcp/22", 1, 60), reported="blocked")
    assert live(told(store, world(BOTH), world(QUERIES))).in_use == 0


@pytest.mark.parametrize(("labels", "owner"), [({"owner": "ann"}, "ann"), ({"team": "ops"}, "ops"), ({}, "")])
def test_without_a_policy_over_it_a_label_says_whose_it_is(tmp_path: Path, labels: dict[str, str], owner: str) -> None:
    """`owner`, else `team`; else it is nobody's."""
    box = host("box", "10.0.0.9", **labels)
    allow = "policy: any\nrules:\n  - allow: {from: role=web, to: 10.0.0.9, service: tcp/22}\n"
    store = traffic(tmp_path, (WEB, box, "tcp/22", 1, 60))
    sessions = live(told(store, world(allow, WEB, box), world(NOTHING, WEB, box)))
    assert cut(sessions) == [("web", "box", "tcp/22", owner)]


def test_new_labels_are_judged_as_they_become(tmp_path: Path) -> None:
    """Stored traffic carries the labels of its time; a change of labels is judged with those it puts."""
    before = world(BOTH)
    after = world_after(before, {"u-web": {"app": "shop", "role": "cache"}})
    found = told(traffic(tmp_path, (WEB, DB, "tcp/22", 3, 60)), before, after)
    assert found.impact is not None
    assert [(b.service, b.connections) for b in found.impact.broken] == [("ssh", 3)]
    assert cut(live(found)) == [("web", "db", "tcp/22", "team-shop")]


def test_a_plan_goes_by_what_it_opens_and_closes() -> None:
    """The same question in the same world has the same digest; another answer another, and the old one is refused."""
    change = {"u-web": {"app": "shop", "role": "cache"}}
    one, same = (digest_of(relabelled(world(BOTH), change)) for _ in range(2))
    other = digest_of(relabelled(world(QUERIES), change))
    assert one == same != other
    same_plan(one, same)
    same_plan("", other)
    with pytest.raises(InputError) as caught:
        same_plan(one, other)
    assert caught.value.code == "plan-changed"


def test_the_failsafe_list_is_told_in_words() -> None:
    """Direction, addresses and services, as anybody would write them."""
    text = '[[failsafe]]\ndirection = "in"\ncidr = "192.0.2.0/28"\nservice = "ssh"\n'
    settings = parse_settings(text, Path("ringfence.toml"))
    (view,) = failsafe_views(msgspec.structs.replace(world(BOTH), failsafe=failsafe_of(settings)))
    assert (view.direction, view.addresses, view.services) == ("in", ("192.0.2.0/28",), ("tcp/22",))
