"""The embedded store keeps what it acknowledged, gives it back by time and end, and forgets by age and size."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from flow_samples import ADDRESSES, T0_S, records, rows_of, workload

from ringfence.core.errors import InputError
from ringfence.core.flow.conversations import Conversations
from ringfence.core.flow.leases import LeaseTable
from ringfence.core.flow.series import HOUR_S
from ringfence.core.flow.tally import FileReport
from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import Lease, Mode, Workload
from ringfence.core.net.intervals import IntervalSet
from ringfence.core.world import Endpoint
from ringfence.flows.merge import merger
from ringfence.stores.duckdb import DuckFlowStore

DAY = 24
WEB, DB = workload("web", Lease(ADDRESSES[0])), workload("db", Lease(ADDRESSES[1]))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DuckFlowStore]:
    with DuckFlowStore(tmp_path / "flows.duckdb") as opened:
        yield opened


def conversations(*rows: dict[str, object], inventory: Inventory | None = None) -> Conversations:
    with merger(LeaseTable.of(inventory or Inventory([WEB, DB]))) as merging:
        merging.add(records(*rows))
        return merging.finish().conversations


def hours(count: int, per_hour: int = 1) -> Conversations:
    """Conversations of the same pair in successive hours, on `per_hour` ports."""
    endpoints = (Endpoint(WEB, ADDRESSES[0]), Endpoint(DB, ADDRESSES[1]))
    rows = count * per_hour
    hour = T0_S + HOUR_S * np.repeat(np.arange(count, dtype=np.int64), per_hour)
    rng = np.random.default_rng(1)
    one = np.ones(rows, np.int64)
    return Conversations(
        endpoints, source=np.zeros(rows, np.int32), destination=np.ones(rows, np.int32),
        point=(6 << 16 | np.tile(np.arange(per_hour), count) % 65536).astype(np.int32),
        reported=np.ones(rows, np.uint8), hour=hour, connections=one, packets=rng.integers(1, 2**40, rows),
        bytes=rng.integers(1, 2**50, rows), first=hour, last=hour + 9, confidence=np.zeros(rows, np.uint8),
    )  # fmt: skip


def test_the_same_key_of_two_imports_is_one_row(store: DuckFlowStore) -> None:
    """Rows of several imports with equal keys are joined: sums, first, last, best evidence."""
    store.append(conversations({"bytes": 10, "start": 10}))
    store.append(conversations({"bytes": 5, "start": 100, "flags": 2}, {"sport": 50001, "start": 7}))
    (row,) = rows_of(store.read())
    assert row[5:] == (3, 3, 115, T0_S + 7, T0_S + 105, 2)


def test_workloads_come_back_as_they_were(tmp_path: Path) -> None:
    """Every field of a workload but its leases survives; a relabelled one is another row."""
    full = Workload(
        "db", "u-1", {"app": "shop", "env": "prod"}, (), "pod", Mode("enforce", "observe"), "kubernetes", "spiffe://x",
        "h", "db.service", IntervalSet(((1, 2), (5, 9))),
    )  # fmt: skip
    later = msgspec.structs.replace(full, labels={"app": "shop", "env": "dev"})
    path = tmp_path / "flows.duckdb"
    held = (
        Endpoint(None, ADDRESSES[2]),
        Endpoint(None, None, name="example.com"),
        Endpoint(full, ADDRESSES[0], "other"),
    )
    one = conversations({}, {"dport": 80})
    ends = (*held, Endpoint(later, ADDRESSES[0], "other"))
    with DuckFlowStore(path) as store:
        for end in ends:
            store.append(Conversations((held[0], end), **{n: getattr(one, n) for n in COLUMNS}))
    with DuckFlowStore(path) as store:
        found = {(e.workload, e.address, e.network, e.name) for e in map(_hashable, store.read().endpoints)}
    assert found == {(e.workload, e.address, e.network, e.name) for e in map(_hashable, ends)}
    assert len(found) == 4


COLUMNS = ("source", "destination", "point", "reported", "hour", "connections", "packets", "bytes", "first", "last",
           "confidence")  # fmt: skip


def _hashable(end: Endpoint) -> Endpoint:
    return Endpoint(repr(end.workload), end.address, end.network, end.name)  # type: ignore[arg-type]


def test_spans_and_ends(store: DuckFlowStore) -> None:
    """A read is bounded by whole hours, half open, and by the ends asked for, on either side."""
    store.append(hours(5))
    store.append(conversations({"src": "203.0.113.9", "dst": "10.0.0.3"}))
    assert store.read(T0_S + HOUR_S, T0_S + 3 * HOUR_S).hour.tolist() == [T0_S + HOUR_S, T0_S + 2 * HOUR_S]
    assert store.read(T0_S + HOUR_S + 1, T0_S + 2 * HOUR_S + 1).hour.tolist() == [T0_S + HOUR_S, T0_S + 2 * HOUR_S]
    assert len(store.read(T0_S + 99 * HOUR_S)) == 0
    assert len(store.read(workloads=[WEB.uuid])) == 5
    assert len(store.read(workloads=[DB.uuid])) == 5
    assert len(store.read(workloads=[])) == 0
    assert len(store.read(workloads=["nobody"])) == 0
    assert len(store.read(addresses=[ADDRESSES[3]])) == 1
    assert len(store.read(workloads=[WEB.uuid], addresses=[ADDRESSES[3]])) == 6
    assert len(store.read(T0_S, T0_S + HOUR_S, workloads=[WEB.uuid])) == 1
    assert {e.address for e in store.read(addresses=[ADDRESSES[3]]).endpoints} == {ADDRESSES[3], ADDRESSES[2]}


def test_totals_and_series(store: DuckFlowStore) -> None:
    """Totals and the time series say what the rows say."""
    store.append(conversations({"bytes": 7}, {"start": 7200, "reported": 2, "bytes": 3}))
    totals = store.totals()
    assert (totals.rows, totals.connections, totals.bytes, totals.by_reported) == (2, 2, 10, (0, 1, 1, 0))
    assert (totals.first, totals.last) == (T0_S, T0_S + 7205)
    assert store.totals(T0_S + HOUR_S).connections == 1
    assert store.totals(0, 1).first is None
    series = store.series()
    assert series.hour.tolist() == [T0_S, T0_S + HOUR_S, T0_S + 2 * HOUR_S]
    assert series.connections.tolist() == [[0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0]]
    assert series.bytes.tolist() == [[0, 7, 0, 0], [0, 0, 0, 0], [0, 0, 3, 0]]
    assert store.series(0, 1).hour.tolist() == []


def test_a_file_is_added_once(store: DuckFlowStore) -> None:
    """Rows of a file whose digest is known are refused, with nothing kept."""
    file = FileReport("a.log", digest="d1", lines=3, records=3)
    store.append(hours(1), [file])
    with pytest.raises(InputError) as refused:
        store.append(hours(2), [FileReport("b.log", digest="d2"), file])
    assert refused.value.code == "flows-already-imported"
    assert store.totals().rows == 1
    assert store.known_files(["d1", "d2", "d3"]) == {"d1"}
    assert store.known_files([]) == frozenset()
    assert store.earlier_imports(["a.log", "b.log"]) == {"a.log": "d1"}
    store.append(hours(1), [FileReport("a.log", digest="d4")])
    assert store.earlier_imports(["a.log"]) == {"a.log": "d4"}


def test_old_hours_are_forgotten(store: DuckFlowStore) -> None:
    """Hours older than the limit go, the hour of the limit stays; files stay known."""
    store.append(hours(3 * DAY), [FileReport("a.log", digest="d1")])
    now = T0_S + 3 * DAY * HOUR_S + 60
    pruned = store.prune(now, max_days=1)
    assert (pruned.rows, pruned.hours, pruned.before) == (2 * DAY, 2 * DAY, T0_S + 2 * DAY * HOUR_S)
    assert store.read().hour.min() == pruned.before
    assert store.known_files(["d1"]) == {"d1"}
    again = store.prune(now, max_days=1)
    assert (again.rows, again.before) == (0, None)
    store.append(hours(1))
    assert store.totals().rows == DAY + 1


def test_the_store_fits_its_limit(store: DuckFlowStore) -> None:
    """With a limit in bytes the oldest hours go until the file, as the disk sees it, fits; the newest stay longest."""
    store.append(hours(40, per_hour=20_000))
    store.prune(0, max_bytes=1 << 40)
    full = store.size_bytes()
    assert store.totals().rows == 800_000
    pruned = store.prune(0, max_bytes=full // 2)
    assert pruned.size_bytes == store.size_bytes() <= full // 2
    left = store.read().hour
    assert 0 < len(left) < 800_000
    assert left.max() == T0_S + 39 * HOUR_S
    assert (pruned.rows, left.min()) == (800_000 - len(left), pruned.before)


def test_forgetting_drops_ends_nobody_needs(tmp_path: Path) -> None:
    """Endpoints and workloads without conversations go too, and new ones get numbers of their own."""
    with DuckFlowStore(tmp_path / "flows.duckdb") as store:
        store.append(conversations({"src": "203.0.113.9"}))
        store.append(hours(2))
        store.prune(T0_S + DAY * HOUR_S + HOUR_S, max_days=1)
        assert len(store.read().endpoints) == 2
        store.append(conversations({"src": "203.0.113.10", "dst": "10.0.0.3"}))
        found = store.read()
        assert sorted(e.address or 0 for e in found.endpoints) == sorted([*ADDRESSES[:3], ADDRESSES[4]])


def test_what_a_crash_left_is_cleared(tmp_path: Path) -> None:
    """A compaction that did not end leaves the store as it was, and its own file is gone at the next start."""
    path = tmp_path / "flows.duckdb"
    with DuckFlowStore(path) as store:
        store.append(hours(2))
    leftover = tmp_path / "flows.duckdb.compacting"
    leftover.write_bytes(path.read_bytes()[:5000])
    with DuckFlowStore(path) as store:
        assert store.totals().rows == 2
    assert not leftover.exists()


def test_an_impossible_limit_empties_the_store(store: DuckFlowStore) -> None:
    """A limit below the size of an empty store forgets everything and ends."""
    store.append(hours(3))
    assert store.prune(0, max_bytes=1).rows == 3
    assert store.totals().rows == 0


def test_one_process_owns_the_store(tmp_path: Path) -> None:
    """A second process is told who is in the way, not given half a store."""
    code = """
        import sys
        from ringfence.core.errors import InputError
        from ringfence.stores.duckdb import DuckFlowStore
        try:
            DuckFlowStore(sys.argv[1])
        except InputError as error:
            print(error.code)
    """
    with DuckFlowStore(tmp_path / "flows.duckdb"):
        run = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "flows.duckdb")]
        assert (
            subprocess.run(run, capture_output=True, text=True, check=True, timeout=60).stdout == "flow-store-locked\n"
        )


def test_nor_is_it_shared_within_a_process(store: DuckFlowStore, tmp_path: Path) -> None:
    """A second store on the same file is refused, so that none replaces the file under the other."""
    store.append(hours(1))
    with pytest.raises(InputError) as refused:
        DuckFlowStore(tmp_path / "flows.duckdb")
    assert refused.value.code == "flow-store-locked"
    assert store.totals().rows == 1


def test_another_file_is_not_a_store(tmp_path: Path) -> None:
    """A file that is no store, or one of another version, is refused by code."""
    (tmp_path / "x").write_bytes(b"not a database" * 1000)
    with pytest.raises(InputError) as refused:
        DuckFlowStore(tmp_path / "x")
    assert refused.value.code == "flow-store-damaged"
    with DuckFlowStore(tmp_path / "y") as store:
        store._database.execute("UPDATE meta SET version = 99")
    with pytest.raises(InputError) as refused:
        DuckFlowStore(tmp_path / "y")
    assert refused.value.code == "flow-store-version"


WRITER = """
    import sys
    sys.path.insert(0, sys.argv[2])
    from test_duckdb_store import hours
    from ringfence.core.flow.tally import FileReport
    from ringfence.stores.duckdb import DuckFlowStore
    store = DuckFlowStore(sys.argv[1])
    number = store.totals().rows // 500
    while True:
        store.append(hours(5, per_hour=100), [FileReport(f"f{number}", digest=f"d{number}", lines=1)])
        print(number, flush=True)
        number += 1
"""


def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    """Killed amid appends, over and over, the store opens with every acknowledged append whole, none by half."""
    path = tmp_path / "flows.duckdb"
    acknowledged = 0
    for kills in range(3):
        command = [sys.executable, "-c", textwrap.dedent(WRITER), str(path), str(Path(__file__).parent)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            for _ in range(4 + kills):
                acknowledged = int(writer.stdout.readline()) + 1
            writer.send_signal(signal.SIGKILL)
            acknowledged += writer.stdout.read().count(b"\n")
        with DuckFlowStore(path) as store:
            rows = store.totals().rows
            assert rows % 500 == 0
            assert acknowledged * 500 <= rows <= (acknowledged + 1) * 500
            digests = [f"d{number}" for number in range(acknowledged + 2)]
            assert len(store.known_files(digests)) == rows // 500
            acknowledged = rows // 500
