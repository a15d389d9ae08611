"""What agents report becomes conversations: labelled as of then, each connection once."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from ringfence.core.flow.conversations import REPORTED, Conversations
from ringfence.core.flow.leases import LeaseTable
from ringfence.core.flow.programs import DESTINATION, SOURCE, Programs
from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import Lease, Workload, derived_uuid
from ringfence.core.net.address import parse_address
from ringfence.core.net.service import TCP, point
from ringfence.flows.agent import Report, merge
from ringfence.stores.duckdb import DuckFlowStore
from ringfence.wire.columns import ADDRESS_COLUMNS, DIRECTIONS, NUMBER_COLUMNS, VERDICTS, FlowRows, decode, encode

AT = datetime(2026, 3, 3, 2, 10, tzinfo=UTC)
AT_MS = int(AT.timestamp() * 1000)
WEB, DB, ELSE = map(parse_address, ("10.0.0.1", "fd00::2", "203.0.113.9"))
_LOW = (1 << 64) - 1


def a_row(source: int, destination: int, direction: str, **words: object) -> dict[str, int]:
    """From WEB's view or DB's: 1 connection to tcp/5432, 10 packets and 1,000 bytes each way."""
    row = {"source": source, "destination": destination, "point": point(TCP, 5432), "connections": 1, "packets": 10,
           "bytes": 1000, "reply_packets": 10, "reply_bytes": 1000, "first": AT_MS, "last": AT_MS + 5000}  # fmt: skip
    row |= {"direction": DIRECTIONS.index(direction), "verdict": VERDICTS.index(str(words.pop("verdict", "allowed")))}
    return row | words  # type: ignore[operator, return-value, unused-ignore]


def a_report(*table: dict[str, int], network: str = "main", texts: tuple[str, ...] = ("",)) -> Report:
    columns = {name: np.array([row.get(name, 0) for row in table], np.int64) for name in NUMBER_COLUMNS}
    ends = {}
    for name in ADDRESS_COLUMNS:
        end, _, part = name.partition("_")
        ends[name] = np.array([row[end] >> 64 if part == "hi" else row[end] & _LOW for row in table], np.uint64)
    rows = FlowRows(AT_MS, AT_MS + 60_000, 0, texts, **ends, **columns)
    return Report(decode(encode(rows)), network)


def workload(name: str, *leases: Lease) -> Workload:
    return Workload(name, derived_uuid(name), {"app": name}, leases)


LEASES = LeaseTable.of(
    Inventory(
        (
            workload("web", Lease(WEB)),
            workload("old", Lease(DB, end=AT)),
            workload("db", Lease(DB, start=AT)),
            workload("far", Lease(WEB, "other")),
        )
    )
)


def conversations(reports: Iterable[Report], leases: LeaseTable) -> Conversations:
    return merge(reports, leases)[0]


def told(found: Conversations) -> dict[tuple[str, str, str], tuple[int, int, int]]:
    """(source, destination, reported) -> (connections, packets, bytes)."""

    def name(index: int) -> str:
        end = found.endpoints[index]
        return end.workload.name if end.workload else "-"

    return {
        (name(found.source[i]), name(found.destination[i]), REPORTED[found.reported[i]]): (
            int(found.connections[i]), int(found.packets[i]), int(found.bytes[i]))
        for i in range(len(found))
    }  # fmt: skip


def test_both_ends_reports_count_once() -> None:
    """The same connections told by client and server are one conversation, at the larger count."""
    client = a_report(a_row(WEB, DB, "out", connections=5), a_row(WEB, DB, "out", connections=2, unit=0))
    server = a_report(a_row(WEB, DB, "in", connections=6, bytes=9000))
    for reports in ((client, server), (server, client)):
        assert told(conversations(reports, LEASES)) == {("web", "db", "allowed"): (7, 40, 10_000)}


def test_an_end_that_reports_alone_is_believed() -> None:
    """Traffic with an outside that reports nothing counts as the one end tells it."""
    found = conversations([a_report(a_row(WEB, ELSE, "out", connections=3))], LEASES)
    assert told(found) == {("web", "-", "allowed"): (3, 20, 2000)}


@pytest.mark.parametrize(("shift_ms", "holder"), [(-1, "old"), (0, "db"), (10**9, "db"), (-(10**10), "old")])
def test_an_end_is_who_held_its_address_then(shift_ms: int, holder: str) -> None:
    """To the millisecond at which the address changes hands."""
    row = a_row(WEB, DB, "in") | {"first": AT_MS + shift_ms, "last": AT_MS + shift_ms}
    assert set(told(conversations([a_report(row)], LEASES))) == {("web", holder, "allowed")}


def test_an_address_belongs_to_the_network_it_was_seen_in() -> None:
    """The same address of another network is another workload; one of no known network is nobody's."""
    row = a_row(WEB, ELSE, "out")
    reports = [a_report(row, network=network) for network in ("main", "other", "nowhere")]
    found = conversations(reports, LEASES)
    assert {source for source, _, _ in told(found)} == {"web", "far", "-"}
    assert {end.network for end in found.endpoints} == {"main", "other", "nowhere"}


def test_what_the_destination_refused_is_blocked_though_the_source_saw_it_leave() -> None:
    """10 attempts left, 4 arrived, the log tells of 2 refusals: 4 passed, 6 were blocked."""
    client = a_report(a_row(WEB, DB, "out", connections=10))
    server = a_report(a_row(WEB, DB, "in", connections=4), a_row(WEB, DB, "in", connections=2, verdict="blocked"))
    counts = {key[2]: value[0] for key, value in told(conversations((client, server), LEASES)).items()}
    assert counts == {"allowed": 4, "blocked": 6}


def test_what_the_source_refused_adds_to_what_passed() -> None:
    """Attempts that never left are blocked, beside the connections that were."""
    client = a_report(a_row(WEB, DB, "out", connections=3), a_row(WEB, DB, "out", connections=2, verdict="blocked"))
    server = a_report(a_row(WEB, DB, "in", connections=3))
    counts = {key[2]: value[0] for key, value in told(conversations((client, server), LEASES)).items()}
    assert counts == {"allowed": 3, "blocked": 2}


def test_what_would_be_blocked_at_one_end_is_so_for_the_connection() -> None:
    """The source allows, the destination would block: would-block, once."""
    client = a_report(a_row(WEB, DB, "out", connections=3))
    server = a_report(a_row(WEB, DB, "in", connections=3, verdict="would-block"))
    found = told(conversations((client, server), LEASES))
    assert {key[2]: value[0] for key, value in found.items()} == {"would-block": 3}


def test_a_forwarder_is_heard_only_where_no_end_reports() -> None:
    """What passed through a host counts if nobody else tells of it."""
    router = a_report(a_row(WEB, DB, "through", connections=9), a_row(ELSE, ELSE + 1, "through", connections=2))
    server = a_report(a_row(WEB, DB, "in", connections=3))
    found = told(conversations((router, server), LEASES))
    assert {key[:2]: value[0] for key, value in found.items()} == {("web", "db"): 3, ("-", "-"): 2}


def test_no_reports_are_no_conversations() -> None:
    """Nothing in, nothing out."""
    assert len(conversations([], LEASES)) == 0


def test_conversations_of_agents_go_into_the_store(tmp_path: Path) -> None:
    """The flow store takes them and gives them back."""
    hours = [a_report(a_row(WEB, DB, "in") | {"first": AT_MS + h * 3_600_000, "last": AT_MS + h * 3_600_000})
             for h in range(3)]  # fmt: skip
    found = conversations(hours, LEASES)
    with DuckFlowStore(tmp_path / "flows.db") as store:
        store.append(found)
        again = store.read(int(AT.timestamp()), int((AT + timedelta(hours=1)).timestamp()))
    assert told(found) == {("web", "db", "allowed"): (1, 20, 2000)}
    assert len(found) == 3
    assert len(again) == 2
    assert int(again.connections.sum()) == 2


def programs(found: Programs) -> dict[tuple[str, str, int, str], int]:
    """(source, destination, side, unit) -> connections."""
    ends = [end.workload.name if end.workload else "-" for end in found.endpoints]
    rows = zip(found.source, found.destination, found.side, found.name, found.connections, strict=True)
    return {(ends[s], ends[d], int(side), found.names[name]): int(count) for s, d, side, name, count in rows}


CLIENT = a_report(
    a_row(WEB, DB, "out", connections=5, unit=1),
    a_row(WEB, DB, "out", connections=2, unit=2),
    a_row(WEB, DB, "out", connections=1),
    a_row(WEB, ELSE, "out", connections=3, unit=2),
    texts=("", "nginx.service", "cron.service"),
)
SERVER = a_report(a_row(WEB, DB, "in", connections=7, unit=1), texts=("", "postgresql.service"))
ROUTER = a_report(a_row(WEB, DB, "through", connections=7, unit=1), texts=("", "router.service"))
SEEN = {
    ("web", "db", SOURCE, "nginx.service"): 5,
    ("web", "db", SOURCE, "cron.service"): 2,
    ("web", "-", SOURCE, "cron.service"): 3,
    ("web", "db", DESTINATION, "postgresql.service"): 7,
}


def test_programs_are_told_by_the_host_they_run_on() -> None:
    """Each side's by its own report, in any order; who forwards has no program at either end, nor has a row without."""
    for reports in ((CLIENT, SERVER, ROUTER), (ROUTER, SERVER, CLIENT), (SERVER, ROUTER, CLIENT)):
        assert programs(merge(reports, LEASES)[1]) == SEEN
    assert len(merge([ROUTER], LEASES)[1]) == 0


def test_a_program_of_a_long_name_is_cut() -> None:
    """Whoever holds a host chooses names; none fills the store."""
    found = merge([a_report(a_row(WEB, DB, "out", unit=1), texts=("", "x" * 100_000))], LEASES)[1]
    assert [len(name) for name in found.names] == [0, 255]


def test_programs_are_kept_with_their_conversations(tmp_path: Path) -> None:
    """Asked by a workload at either end, hours together, the busiest first and no more than asked; forgotten with the
    hour, with what only they named; a store of before gets room for them."""
    later = a_report(
        a_row(WEB, DB, "out", connections=4, unit=1) | {"first": AT_MS + 7_200_000, "last": AT_MS + 7_200_000},
        texts=("", "nginx.service"),
    )
    path = tmp_path / "flows.db"
    with DuckFlowStore(path) as store:
        store._database.execute("DROP TABLE program; DROP TABLE unit")
    with DuckFlowStore(path) as store:
        for reports in ((CLIENT, SERVER), (later,)):
            found, seen = merge(reports, LEASES)
            store.append(found, (), seen)
        uuids = {name: derived_uuid(name) for name in ("web", "db")}
        assert programs(store.programs(workloads=[uuids["web"]], most=10)) == SEEN | {
            ("web", "db", SOURCE, "nginx.service"): 9
        }
        of_db = store.programs(workloads=[uuids["db"]], most=10)
        assert ("web", "-", SOURCE, "cron.service") not in programs(of_db)
        assert store.programs(workloads=[uuids["web"]], most=1).connections.tolist() == [9]
        start = int(AT.timestamp())
        assert programs(store.programs(start, start + 3600, workloads=[uuids["web"]], most=10)) == SEEN
        assert len(store.programs(workloads=["nobody"], most=10)) == 0

        store.prune(start + 7200 + 86_400, max_days=1)
        left = store.programs(workloads=list(uuids.values()), most=10)
        assert programs(left) == {("web", "db", SOURCE, "nginx.service"): 4}
        assert store._database.execute("SELECT name FROM unit").fetchall() == [("nginx.service",)]
