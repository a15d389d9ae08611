"""The state keeps what it acknowledged, whole transactions at a time, on SQLite and PostgreSQL alike."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from databases import NewState, opened
from sqlalchemy import create_engine, inspect

from ringfence.controller import audit
from ringfence.core.identity.workload import Lease, Mode, Workload
from ringfence.core.net.address import parse_address
from ringfence.core.net.intervals import IntervalSet
from ringfence.ports import state as s
from ringfence.ports.state import Change, StateError, Where
from ringfence.stores.sql import engines, migrations
from ringfence.stores.sql.tables import METADATA, TABLES

NOW = datetime(2026, 3, 3, 2, 10, 0, 123456, tzinfo=UTC)
LATER = NOW + timedelta(days=1)
WEB = s.WorkloadRecord("u-web", "web", {"app": "shop", "role": "web"}, NOW)
DB = s.WorkloadRecord("u-db", "db", {"app": "shop", "role": "db"}, NOW, last_seen=LATER)
V1 = s.PolicyVersion(1, NOW, "ann", "first", {"shop.yaml": "policy: shop\n"}, "", "d1")
EVERYTHING: tuple[s.Record, ...] = (
    WEB,
    msgspec.structs.replace(
        DB, kind="process", host="web", unit="pg.service", services=IntervalSet(((1, 9), (20, 20)))
    ),
    s.LeaseRecord("main", 5, "u-web", None, LATER, "agent"),
    s.LeaseRecord("blue", (1 << 128) - 1, "u-db", NOW, None, "file"),
    s.PairingProfile("web", {"role": "web"}, NOW, "ann", Mode("enforce", "observe"), 3, LATER),
    s.JoinTokenRecord("j1", "h", "web", NOW, "ann", None, LATER),
    s.Certificate("0a", "u-web", "ff", NOW, LATER, LATER, "lost"),
    s.ApiToken("t1", "h", "ann", ("author", "viewer"), NOW, "root", "app=shop", None),
    s.Session("s1", "h", "ann", NOW, NOW, LATER, "t1"),
    s.Session("s2", "h", "bob", NOW, NOW, LATER, None, "https://idp bob", "[]"),
    V1,
    s.PolicyVersion(2, LATER, "bob", "", {}, "[x]", "d2", 1),
    s.Proposal("p1", NOW, "ann", "n", {"a": "b"}, "", "d", 1, "published", LATER, "bob", 2),
    s.WorkloadChange(1, NOW, "ann", "u-web", "labels", "{}", '{"a":"b"}'),
    s.QuarantineRecord(
        *("q1", "u-web", "full", "malware", "ann", NOW),
        exceptions=(s.WrittenException("u-db", "tcp/22", "in"),),
        addresses=(Lease(5), Lease((1 << 128) - 1, "blue")),
    ),
    s.Rollout("r1", 1, "running", NOW, ("u-web",)),
    s.AgentRecord("u-web", NOW, "i", "1.0", '{"x":1}', ""),
    s.Alert("a1", "drift", "u-web", "warning", "open", 1, NOW, NOW, "web", "drifted"),
    s.AuditHead(7, NOW, "h", "k", "s"),
    s.GroupVersion(("main",), "app=shop", 4),
    s.Counter("revision", 9),
)


def decided(*records: s.Record) -> Callable[[Change], None]:
    """Work that adds records, with an audit entry."""

    def work(tx: Change) -> None:
        audit.record(tx, at=NOW, actor="test", action="test")
        tx.add(*records)

    return work


def run(place: str | Path, *works: Callable[[Change], Any]) -> list[Any]:
    async def go() -> list[Any]:
        async with opened(place) as state:
            return [await state.write(work) for work in works]

    return asyncio.run(go())


def look(place: str | Path, work: Callable[[s.View], Any]) -> Any:
    async def go() -> Any:
        async with opened(place) as state:
            return await state.read(work)

    return asyncio.run(go())


def test_every_kind_of_record_comes_back_as_it_was(place: str | Path) -> None:
    """Whatever is kept, with every field set or not, is read equal after the database was closed and opened."""
    run(place, decided(*EVERYTHING))

    kept = look(place, lambda view: [one for kind in s.RECORDS for one in view.find(kind)])

    assert {type(one) for one in EVERYTHING} | {s.AuditEntry} == set(s.RECORDS)
    assert [one for one in kept if not isinstance(one, s.AuditEntry)] == [
        one for kind in s.RECORDS for one in sorted((e for e in EVERYTHING if type(e) is kind), key=_key)
    ]


def _key(record: s.Record) -> list[str]:
    return [str(getattr(record, column.name)) for column in TABLES[type(record)].primary_key.columns]


def test_a_workload_of_the_core_survives_the_state() -> None:
    """A workload taken apart into a record and leases is put together equal."""
    leases = (Lease(parse_address("10.0.0.1")), Lease(parse_address("10.0.0.2"), "blue", NOW, LATER))
    workload = Workload(
        name="w", uuid="u", labels={"a": "b"}, addresses=leases[::-1], kind="vm", mode=Mode("enforce", "selective"),
        origin="aws", spiffe="spiffe://x/y", host="h", unit="u.service", services=IntervalSet(((1, 2),)),
    )  # fmt: skip
    records = [s.LeaseRecord(one.network, one.address, "u", one.start, one.end, "aws") for one in workload.addresses]

    back = s.WorkloadRecord.of(workload, NOW).workload(records)

    assert msgspec.structs.replace(back, addresses=()) == msgspec.structs.replace(workload, addresses=())
    assert sorted(back.addresses, key=str) == sorted(leases, key=str)


def test_a_failed_write_leaves_nothing(place: str | Path) -> None:
    """A transaction that raises undoes all it did, and only that: its neighbours in the same commit stay."""

    async def go() -> tuple[list[Any], list[s.WorkloadRecord]]:
        async with opened(place) as state:

            def bad(tx: Change) -> None:
                decided(msgspec.structs.replace(WEB, uuid="u-bad", name="bad"))(tx)
                raise LookupError("after the change")

            jobs = [state.write(decided(WEB)), state.write(bad), state.write(decided(DB))]
            answers = await asyncio.gather(*jobs, return_exceptions=True)
            return answers, await state.read(lambda view: view.find(s.WorkloadRecord))

    answers, kept = asyncio.run(go())

    assert [type(answer) for answer in answers] == [type(None), LookupError, type(None)]
    assert [record.name for record in kept] == ["db", "web"]


@pytest.mark.parametrize("kind", sorted(s.DECIDED, key=lambda kind: kind.__name__), ids=lambda kind: kind.__name__)
def test_a_decision_without_an_audit_entry_is_refused(tmp_path: Path, kind: type[s.Record]) -> None:
    """INVARIANT: whatever people decide about, by whichever way of changing it, needs an audit entry beside it."""
    place = tmp_path / "state.db"
    run(place, decided(*EVERYTHING))
    record = next(one for one in EVERYTHING if type(one) is kind)
    key = TABLES[kind].primary_key.columns.keys()[0]
    named = Where(key, getattr(record, key))
    value = {key: getattr(record, key)}
    fresh = msgspec.structs.replace(record, **{key: 99 if isinstance(value[key], int) else "new"})
    if isinstance(fresh, s.WorkloadRecord):
        fresh = msgspec.structs.replace(fresh, name="new")
    ways: list[Callable[[Change], Any]] = [
        lambda tx: tx.add(fresh), lambda tx: tx.put(record), lambda tx: tx.update(kind, named, **value),
    ]  # fmt: skip

    for way in ways:
        with pytest.raises(StateError) as raised:
            run(place, way)
        assert raised.value.code == "unaudited-change"
    with pytest.raises(StateError) as raised:
        run(place, lambda tx: tx.remove(kind, named))
    assert raised.value.code in ("unaudited-change", "record-missing")
    assert look(place, lambda view: sorted(view.find(kind), key=_key)) == sorted(
        (one for one in EVERYTHING if type(one) is kind), key=_key
    )


def test_observations_need_no_audit_entry(place: str | Path) -> None:
    """Heartbeats, counts and when a workload was seen last are measured, not decided."""
    run(place, decided(WEB))

    run(
        place,
        lambda tx: tx.put(s.AgentRecord("u-web", NOW), s.GroupVersion(("main",), "k", 1)),
        lambda tx: tx.update(s.WorkloadRecord, Where("uuid", "u-web"), last_seen=LATER, is_stale=True),
    )

    assert look(place, lambda view: view.get(s.WorkloadRecord, "u-web")).is_stale


def test_the_audit_log_cannot_be_changed(place: str | Path) -> None:
    """Neither through the state nor through the database itself is an audit entry changed or deleted."""
    run(place, decided(WEB))
    entry = look(place, audit.last_entry)

    for way in (
        lambda tx: tx.update(s.AuditEntry, Where("seq", 1), actor="nobody"),
        lambda tx: tx.remove(s.AuditEntry, Where("seq", 1)),
        lambda tx: tx.put(entry),
    ):
        with pytest.raises(StateError, match=r"append-only"):
            run(place, way)
    engine = create_engine(engines.url_of(place))
    for statement in ("UPDATE audit SET actor = 'nobody'", "DELETE FROM audit"):
        with pytest.raises(Exception, match="append-only"), engine.begin() as connection:
            connection.exec_driver_sql(statement)
    engine.dispose()


def test_references_are_kept(place: str | Path) -> None:
    """A lease or agent of nobody is refused; with a workload go its leases and its agent."""
    with pytest.raises(StateError) as raised:
        run(place, lambda tx: tx.add(s.LeaseRecord("main", 1, "nobody")))
    run(place, decided(WEB, s.LeaseRecord("main", 1, "u-web"), s.AgentRecord("u-web")))

    def leave(tx: Change) -> int:
        audit.record(tx, at=NOW, actor="test", action="workload.remove")
        return tx.remove(s.WorkloadRecord, Where("uuid", "u-web"))

    assert run(place, leave) == [1]
    assert raised.value.code == "record-missing"
    assert look(place, lambda view: (view.count(s.LeaseRecord), view.count(s.AgentRecord))) == (0, 0)


def test_names_and_live_alerts_are_unique(place: str | Path) -> None:
    """Two workloads of one name, and two alerts of one kind and key that are not closed, are refused."""
    alert = next(one for one in EVERYTHING if isinstance(one, s.Alert))
    closed = [msgspec.structs.replace(alert, id=f"c{n}", state="closed") for n in range(2)]
    run(place, decided(WEB, alert, *closed))

    for twin in (msgspec.structs.replace(WEB, uuid="other"), msgspec.structs.replace(alert, id="other")):
        with pytest.raises(StateError) as raised:
            run(place, decided(twin))
        assert raised.value.code == "record-exists"


def test_what_grows_never_goes_back(place: str | Path) -> None:
    """Counters and group versions keep the greatest value they were given, across restarts."""
    group = ("main", "blue")
    run(place, lambda tx: tx.put(s.GroupVersion(group, "k", 5), s.Counter("revision", 7)))
    run(place, lambda tx: tx.put(s.GroupVersion(group, "k", 3), s.Counter("revision", 2)))
    (value,) = run(place, lambda tx: tx.next("revision", 3))

    versions = look(place, lambda view: (view.get(s.GroupVersion, group, "k"), view.get(s.Counter, "revision")))

    assert value == 10
    assert versions == (s.GroupVersion(group, "k", 5), s.Counter("revision", 10))


def test_conditions_and_order(place: str | Path) -> None:
    """Every comparison picks what it says; None equals None only; `in` nothing picks nobody; ties have an order."""
    certificates = [
        s.Certificate(f"{n:02}", f"u{n % 2}", "f", NOW, NOW + timedelta(hours=n), NOW if n == 3 else None)
        for n in range(5)
    ]
    run(place, decided(*certificates))

    def serials(*where: Where, **how: Any) -> list[str]:
        return [one.serial for one in look(place, lambda view: view.find(s.Certificate, *where, **how))]

    assert serials(Where("revoked_at", None)) == ["00", "01", "02", "04"]
    assert serials(Where("revoked_at", None, "!=")) == ["03"]
    assert serials(Where("uuid", "u1"), Where("not_after", NOW + timedelta(hours=1), ">")) == ["03"]
    assert serials(Where("not_after", NOW + timedelta(hours=1), "<=")) == ["00", "01"]
    assert serials(Where("serial", ("04", "00"), "in"), order="-not_after") == ["04", "00"]
    assert serials(Where("serial", (), "in")) == []
    assert serials(order="uuid", limit=3) == ["00", "02", "04"]
    with pytest.raises(ValueError, match="no field `seriel`"):
        serials(Where("seriel", "1"))


def test_a_read_sees_one_moment(place: str | Path) -> None:
    """What is read in one transaction is of one time, whatever is written meanwhile."""

    async def go() -> tuple[int, int, int]:
        async with opened(place) as state:
            loop = asyncio.get_running_loop()

            def twice(view: s.View) -> tuple[int, int]:
                before = view.count(s.WorkloadRecord)
                asyncio.run_coroutine_threadsafe(state.write(decided(WEB)), loop).result(30)
                return before, view.count(s.WorkloadRecord)

            before, still = await state.read(twice)
            return before, still, await state.read(lambda view: view.count(s.WorkloadRecord))

    assert asyncio.run(go()) == (0, 0, 1)


def test_a_second_writer_is_refused(place: str | Path) -> None:
    """One process writes: whoever comes second is told so, and gets in when the first is gone."""

    async def go() -> str:
        async with opened(place):
            with pytest.raises(StateError) as raised:
                async with opened(place):
                    pass
            return raised.value.code

    assert asyncio.run(go()) == "state-in-use"
    run(place, decided(WEB))


def test_a_closed_state_says_so(place: str | Path) -> None:
    """After closing, what was begun is done and nothing more is taken; closing twice is closing once."""

    async def go() -> tuple[list[None], list[str]]:
        async with opened(place) as state:
            pending = [asyncio.ensure_future(state.write(decided(one))) for one in (WEB, DB)]
            await asyncio.sleep(0)
            await state.close()
            await state.close()
            codes = []
            for refused in (state.write(decided(V1)), state.read(lambda view: view.count(s.Alert))):
                with pytest.raises(StateError) as raised:
                    await refused
                codes.append(raised.value.code)
            return await asyncio.gather(*pending), codes

    assert asyncio.run(go()) == ([None, None], ["state-closed", "state-closed"])
    assert look(place, lambda view: view.count(s.WorkloadRecord)) == 2


def test_a_write_nobody_waits_for_any_more_is_whole(place: str | Path) -> None:
    """Giving up on a write does not stop the others, and leaves it done or not done."""

    async def go() -> None:
        async with opened(place) as state:
            given_up = asyncio.ensure_future(state.write(decided(WEB)))
            await asyncio.sleep(0)
            given_up.cancel()
            await state.write(decided(DB))

    asyncio.run(go())

    names = look(place, lambda view: [one.name for one in view.find(s.WorkloadRecord)])
    entries = look(place, lambda view: view.count(s.AuditEntry))
    assert names in (["db"], ["db", "web"])
    assert entries == len(names)


WRITER = textwrap.dedent("""
    import asyncio, sys
    from datetime import UTC, datetime
    from ringfence.controller import audit
    from ringfence.ports.state import Counter, WorkloadRecord
    from ringfence.stores.sql import SqlState

    NOW = datetime(2026, 3, 3, tzinfo=UTC)

    async def one(state, n):
        def work(tx):
            tx.add(WorkloadRecord(f"u{n}", f"w{n}", {}, NOW))
            audit.record(tx, at=NOW, actor="writer", action="add", subject=f"u{n}")
        await state.write(work)
        print(n, flush=True)

    async def main():
        state = SqlState(sys.argv[1])
        for n in range(0, 1_000_000, 8):
            await asyncio.gather(*(one(state, n + k) for k in range(8)))

    asyncio.run(main())
""")


def test_what_was_acknowledged_survives_kill_9(place: str | Path) -> None:
    """A process killed in the middle of writing loses nothing it had been told is kept, and leaves no half of a
    change: every workload has its audit entry, and the chain is whole."""
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(place)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    acknowledged = [process.stdout.readline() for _ in range(100)]
    process.send_signal(signal.SIGKILL)
    acknowledged += process.stdout.readlines()
    process.stdout.close()
    process.wait(30)

    async def reopened() -> tuple[set[str], set[str], audit.Checked]:
        async with opened(place) as state:
            return await state.read(
                lambda view: (
                    {one.uuid for one in view.find(s.WorkloadRecord)},
                    {one.subject for one in view.find(s.AuditEntry)},
                    audit.verify(view, ()),
                )
            )

    kept, audited, checked = _patiently(lambda: asyncio.run(reopened()))
    assert {f"u{int(line)}" for line in acknowledged if line.endswith("\n")} <= kept
    assert kept == audited
    assert checked.broken is None
    assert checked.entries == len(kept)


def _patiently(open_: Callable[[], Any]) -> Any:
    """A killed client's lock goes when the PostgreSQL server notices."""
    for _ in range(200):
        try:
            return open_()
        except StateError as error:
            if error.code != "state-in-use":
                raise
            time.sleep(0.05)
    return open_()


def test_a_database_that_goes_away_is_told_and_comes_back(request: pytest.FixtureRequest) -> None:
    """While PostgreSQL is down writes and reads fail with a code and change nothing; when it is back so is the state,
    without opening it anew."""
    server = request.getfixturevalue("postgres")
    url = server.new_database()

    async def go() -> tuple[list[str], list[str]]:
        async with opened(url) as state:
            await state.write(decided(WEB))
            server.stop(signal.SIGQUIT)
            try:
                codes = []
                for lost in (state.write(decided(DB)), state.read(lambda view: view.count(s.Alert))):
                    with pytest.raises(StateError) as raised:
                        await lost
                    codes.append(raised.value.code)
            finally:
                server.start()
            await state.write(decided(V1))
            return codes, [one.name for one in await state.read(lambda view: view.find(s.WorkloadRecord))]

    assert asyncio.run(go()) == (["state-unreachable", "state-unreachable"], ["web"])


def test_a_full_disk_fails_the_write_and_not_the_state(tmp_path: Path) -> None:
    """A write that does not fit is refused with a code; what was kept before is still there and smaller ones go on."""
    place = tmp_path / "state.db"

    async def go() -> tuple[str, int]:
        async with opened(place) as state:
            await state.write(decided(WEB))

            def fill(tx: Change) -> None:
                tx.connection.exec_driver_sql("PRAGMA max_page_count=1")  # type: ignore[attr-defined]
                tx.put(s.AgentRecord("u-web", heartbeat="x" * 1_000_000))

            with pytest.raises(StateError) as raised:
                await state.write(fill)
            await state.write(lambda tx: tx.update(s.WorkloadRecord, Where("uuid", "u-web"), is_stale=True))
            return raised.value.code, await state.read(lambda view: view.count(s.WorkloadRecord))

    assert asyncio.run(go()) == ("state-unwritable", 1)


# ---- the schema -----------------------------------------------------------------------------------------------------


def schema_of(place: str | Path) -> dict[str, Any]:
    """Tables with their columns, keys, references and indexes, as the database tells them."""
    engine = create_engine(engines.url_of(place))
    with engine.connect() as connection:
        inspector = inspect(connection)
        tables = {
            name: {
                "columns": [
                    (c["name"], str(c["type"]).upper(), bool(c["nullable"])) for c in inspector.get_columns(name)
                ],
                "key": inspector.get_pk_constraint(name)["constrained_columns"],
                "refers": sorted(
                    (k["constrained_columns"][0], k["referred_table"], k["options"].get("ondelete", ""))
                    for k in inspector.get_foreign_keys(name)
                ),
                "unique": sorted(u["column_names"] for u in inspector.get_unique_constraints(name)),
                "indexes": sorted(
                    (i["name"], i["column_names"], bool(i["unique"]))
                    for i in inspector.get_indexes(name)
                    if not i.get("duplicates_constraint")
                ),
            }
            for name in inspector.get_table_names()
        }
    engine.dispose()
    return tables


def nullable_keys_aside(schema: dict[str, Any]) -> dict[str, Any]:
    """SQLite lets the columns of a written key be NULL unless told; SQLAlchemy always tells."""
    for table in schema.values():
        table["columns"] = [(n, t, null and n not in table["key"]) for n, t, null in table["columns"]]
    return schema


def test_the_migrations_make_what_the_tables_say(new_state: NewState) -> None:
    """INVARIANT: a database brought forward step by step has the tables, columns, keys and indexes the code uses."""
    migrated, made = new_state(), new_state()
    run(migrated)
    engine = create_engine(engines.url_of(made))
    METADATA.create_all(engine)
    engine.dispose()

    assert nullable_keys_aside(schema_of(migrated)) == nullable_keys_aside(schema_of(made))


def test_a_column_for_every_field() -> None:
    """Every kind of record has a table with exactly its fields, in order."""
    assert set(TABLES) == set(s.RECORDS)
    for kind, table in TABLES.items():
        assert [column.name for column in table.columns] == [field.name for field in msgspec.structs.fields(kind)]


def test_an_old_state_is_brought_forward_with_all_it_holds(new_state: NewState) -> None:
    """A database of the first schema, with rows in it, opens as one of the newest, and nothing is lost."""
    place = new_state()
    url = engines.url_of(place)
    engine = create_engine(url)
    with engine.begin() as connection:
        migrations.migrate(connection, to=1)
        connection.exec_driver_sql(
            "INSERT INTO workloads VALUES ('u-web','web','{\"app\":\"shop\",\"role\":\"web\"}',1772503800123456,'host',"
            "'agent','observe','observe',NULL,NULL,'{\"ranges\":[]}',NULL,NULL,false,'',NULL)"
        )
        assert migrations.version_of(connection) == 1
    engine.dispose()

    assert look(place, lambda view: view.find(s.WorkloadRecord)) == [WEB]
    run(place, decided(*(one for one in EVERYTHING if isinstance(one, s.PolicyVersion | s.Proposal | s.AuditHead))))
    assert nullable_keys_aside(schema_of(place)) == nullable_keys_aside(schema_of(_fresh(new_state)))


@pytest.mark.parametrize("address", [-1, 1 << 128])
def test_what_is_no_address_is_not_written(place: str | Path, address: int) -> None:
    """A number outside the 128 bits is refused where it would be stored."""
    run(place, decided(WEB))

    with pytest.raises(Exception, match="is no address"):
        run(place, lambda tx: tx.put(s.LeaseRecord("main", address, WEB.uuid)))
    assert look(place, lambda view: view.count(s.LeaseRecord)) == 0


def test_a_row_whose_address_cannot_be_read_hides_no_other(place: str | Path) -> None:
    """It is nobody's address; the rest of the table is as it was."""
    run(place, decided(WEB, s.LeaseRecord("main", 7, WEB.uuid)))
    engine = create_engine(engines.url_of(place))
    with engine.begin() as connection:
        for text in ("-0000000000000000000000000000001", "nonsense"):
            connection.exec_driver_sql(f"INSERT INTO leases VALUES ('main','{text}','{WEB.uuid}',0,NULL,'agent')")
    engine.dispose()

    assert sorted(lease.address for lease in look(place, lambda view: view.find(s.LeaseRecord))) == [-1, -1, 7]


def _fresh(new_state: NewState) -> str | Path:
    place = new_state()
    run(place)
    return place


def test_a_newer_state_is_left_alone(place: str | Path) -> None:
    """A database of a schema from the future is refused, and not touched."""
    run(place, decided(WEB))
    engine = create_engine(engines.url_of(place))
    with engine.begin() as connection:
        connection.exec_driver_sql(f"INSERT INTO schema_version VALUES ({migrations.NEWEST + 1})")
    engine.dispose()

    with pytest.raises(StateError) as raised:
        run(place)

    assert raised.value.code == "state-version"


def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    """A file of something else is refused with a code and stays as it is."""
    place = tmp_path / "state.db"
    place.write_text("not a database, but something of somebody's" * 100)
    before = place.read_bytes()

    with pytest.raises(StateError) as raised:
        run(place)

    assert raised.value.code == "state-damaged"
    assert place.read_bytes() == before


def test_the_database_is_for_its_owner_only(tmp_path: Path) -> None:
    """An SQLite state is readable by nobody else, nor are the files beside it."""
    run(tmp_path / "state.db", decided(WEB))

    assert {path.stat().st_mode & 0o077 for path in tmp_path.iterdir()} == {0}


@pytest.mark.parametrize("url", ["mysql://x/y", "sqlite://", "postgresql+nothing://x/y", "://"])
def test_an_address_of_no_database_is_refused(url: str) -> None:
    """What is neither SQLite nor PostgreSQL, or would be kept in memory only, is refused with a code."""
    with pytest.raises(StateError) as raised:
        engines.url_of(url)

    assert raised.value.code == "state-url"


def test_sqlite_is_asked_for_durability(tmp_path: Path) -> None:
    """The writing connection commits to disk before it acknowledges, keeps references, and writes ahead."""
    place = tmp_path / "state.db"
    run(place)
    engine = engines.writer(engines.url_of(place))
    with engine.connect() as connection:
        told = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("synchronous", "foreign_keys", "journal_mode")
        }
    engine.dispose()

    assert told == {"synchronous": 2, "foreign_keys": 1, "journal_mode": "wal"}
    assert sqlite3.threadsafety >= 1


def test_a_server_gives_up_a_writer_that_fell_silent(request: pytest.FixtureRequest) -> None:
    """Where a network was away, the lock of the connection that was lost there is free in seconds, not in hours: the
    server is told to look after the writing connection."""
    server = request.getfixturevalue("postgres")
    url = server.new_database()
    engine = engines.writer(engines.url_of(url))
    with engine.connect() as connection:
        told = connection.exec_driver_sql(
            "SELECT name FROM pg_settings WHERE name LIKE 'tcp_keepalives%%' AND source = 'session' ORDER BY name"
        ).scalars()
        assert list(told) == ["tcp_keepalives_count", "tcp_keepalives_idle", "tcp_keepalives_interval"]
    engine.dispose()
    server.drop(url)


def test_who_lost_the_database_to_another_never_writes_again(request: pytest.FixtureRequest) -> None:
    """INVARIANT: nobody writes from what another process has overtaken: who lost the connection goes on only if nobody
    else opened the state meanwhile."""
    server = request.getfixturevalue("postgres")
    url = server.new_database()

    async def go() -> list[str]:
        codes = []
        async with opened(url) as first:
            await first.write(decided(WEB))
            server.stop(signal.SIGQUIT)
            server.start()
            async with opened(url) as second:
                await second.write(decided(DB))
                codes.append(await _refused(first))
            codes.append(await _refused(first))
            codes.append(str(await first.read(lambda view: view.count(s.WorkloadRecord))))
        async with opened(url) as third:
            await third.write(decided(V1))
        return codes

    assert asyncio.run(go()) == ["state-in-use", "state-taken", "2"]


async def _refused(state: Any) -> str:
    with pytest.raises(StateError) as raised:
        await state.write(decided(V1))
    return raised.value.code
