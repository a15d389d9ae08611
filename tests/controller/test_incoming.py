"""Flow batches: what was acknowledged is stored, an agent speaks for itself only, and nobody fills the disk."""

from __future__ import annotations

import asyncio
import errno
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest

from ringfence.controller.identity import holding
from ringfence.controller.intake import incoming, spooling
from ringfence.controller.intake.incoming import Incoming, Limits
from ringfence.core.flow.conversations import Conversations
from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import Lease, Workload
from ringfence.core.net.address import parse_address
from ringfence.core.net.service import TCP, point
from ringfence.ports.state import LeaseRecord
from ringfence.stores.duckdb import DuckFlowStore
from ringfence.wire.columns import ADDRESS_COLUMNS, DIRECTIONS, NUMBER_COLUMNS, FlowRows, encode

AT = datetime(2026, 3, 3, 12, tzinfo=UTC)
AT_MS = int(AT.timestamp() * 1000)
WEB, DB, EVIL, ELSE, FAR = map(parse_address, ("10.0.0.1", "10.0.0.2", "10.0.0.66", "203.0.113.9", "203.0.113.10"))
A, B, C = (UUID(int=n, version=4) for n in (1, 2, 3))
_LOW = (1 << 64) - 1


def inventory(**addresses: tuple[Lease, ...]) -> Inventory:
    held = {"web": (Lease(WEB),), "db": (Lease(DB),), "evil": (Lease(EVIL),)} | addresses
    uuids = {"web": A, "db": B, "evil": C}
    return Inventory([Workload(n, str(uuids[n]), {"app": n}, leases, origin="agent") for n, leases in held.items()])


def batch(*rows: tuple[int, int, str], port: int = 443, at_ms: int = AT_MS) -> bytes:
    columns = {name: np.zeros(len(rows), np.int64) for name in NUMBER_COLUMNS}
    columns["point"] += point(TCP, port)
    columns["connections"] += 1
    columns["first"] += at_ms
    columns["last"] += at_ms
    columns["direction"] = np.array([DIRECTIONS.index(direction) for _, _, direction in rows])
    ends = {}
    for name in ADDRESS_COLUMNS:
        end, _, part = name.partition("_")
        addresses = [row[end == "destination"] for row in rows]
        ends[name] = np.array([a >> 64 if part == "hi" else a & _LOW for a in addresses], np.uint64)
    return encode(FlowRows(at_ms, at_ms + 60_000, 0, ("",), **ends, **columns))


class Ground:
    """A folder and a store, and a clock that is turned by hand."""

    def __init__(self, folder: Path, limits: Limits = incoming.DEFAULT) -> None:
        self.now, self.folder = AT.timestamp(), folder / "incoming"
        self.store = DuckFlowStore(folder / "flows.duckdb")
        self.incoming = Incoming(self.folder, lambda: self.now, limits)

    def keep(self, *sent: tuple[UUID, bytes]) -> None:
        async def work() -> None:
            for sender, data in sent:
                await self.incoming.keep(sender, data)

        asyncio.run(work())

    def take(self, held: Inventory | None = None) -> incoming.Taken:
        self.now += 200
        return self.incoming.take(held or inventory(), self.store)

    def told(self) -> dict[tuple[str, str], int]:
        return told(self.store.read())


def told(found: Conversations) -> dict[tuple[str, str], int]:
    """(source, destination) -> connections."""
    names = [e.workload.name if e.workload else str(e.address & 0xFF) for e in found.endpoints]
    out: dict[tuple[str, str], int] = {}
    for source, destination, count in zip(found.source, found.destination, found.connections, strict=True):
        key = (names[source], names[destination])
        out[key] = out.get(key, 0) + int(count)
    return out


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path)


# ---- durable --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_restarted", [False, True])
def test_a_torn_record_hides_nothing_that_was_acknowledged(ground: Ground, is_restarted: bool) -> None:
    """A part of a record that a full disk or a kill left in the middle of a stretch is cut off before the next one."""
    ground.keep((A, batch((WEB, ELSE, "out"))))
    (path,) = ground.folder.glob("*.batches")
    with path.open("ab") as file:
        file.write(spooling.HEAD.pack(500, A.bytes, b"x" * 32) + b"part")
    if is_restarted:
        ground.incoming = Incoming(ground.folder, lambda: ground.now)
    ground.keep((A, batch((WEB, FAR, "out"))), (B, batch((DB, ELSE, "out"))))
    ground.take()
    assert ground.told() == {("web", "9"): 1, ("web", "10"): 1, ("db", "9"): 1}


def test_how_long_a_stretch_is_may_change(ground: Ground) -> None:
    """What was kept with stretches of one length is stored with those of another, once; shorter ones sooner."""
    ground.keep((A, batch((WEB, ELSE, "out"))))
    ground.incoming = Incoming(ground.folder, lambda: ground.now, stretch_s=4)
    ground.now += 120
    ground.keep((A, batch((WEB, FAR, "out"))))
    assert ground.incoming.take(inventory(), ground.store).rows == 1
    ground.now += 8
    assert ground.incoming.take(inventory(), ground.store).rows == 1
    ground.keep((B, batch((DB, ELSE, "out"))))
    ground.incoming = Incoming(ground.folder, lambda: ground.now)
    ground.take()
    assert ground.told() == {("web", "9"): 1, ("web", "10"): 1, ("db", "9"): 1}


def test_a_disk_that_takes_half_a_record_acknowledges_nothing(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """The batch is refused, the file is as it was, and the batch is taken when it comes again."""
    ground.keep((A, batch((WEB, ELSE, "out"))))
    (path,) = ground.folder.glob("*.batches")
    before, write = path.stat().st_size, os.pwrite

    def half(file: int, content: memoryview, at: int) -> int:
        if at > before:
            raise OSError(errno.ENOSPC, "no space left on device")
        return write(file, content[:10], at)

    monkeypatch.setattr(os, "pwrite", half)
    with pytest.raises(OSError, match="no space"):
        ground.keep((A, batch((WEB, FAR, "out"))))
    assert path.stat().st_size == before
    monkeypatch.undo()
    ground.keep((A, batch((WEB, FAR, "out"))))
    ground.take()
    assert ground.told() == {("web", "9"): 1, ("web", "10"): 1}


def test_a_batch_that_is_not_synced_is_not_known(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """Delivered again after a failed sync it is written again, and counted once."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr(spooling, "sync", refuse)
    for _ in range(2):
        with pytest.raises(OSError, match="input/output"):
            ground.keep((A, batch((WEB, ELSE, "out"))))
    monkeypatch.undo()
    ground.keep((A, batch((WEB, ELSE, "out"))), (A, batch((WEB, ELSE, "out"))))
    ground.take()
    assert ground.told() == {("web", "9"): 1}


# ---- honest ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", [(WEB, DB, "out"), (WEB, DB, "in"), (WEB, DB, "through"), (WEB, ELSE, "through"),
                                 (EVIL, DB, "in"), (WEB, EVIL, "out"), (ELSE, FAR, "in")])  # fmt: skip
def test_nobody_is_believed_about_others(ground: Ground, row: tuple[int, int, str]) -> None:
    """Rows of which the sender is not the end that it says to be never become a conversation."""
    ground.keep((C, batch(row)))
    ground.take()
    assert ground.told() == {}


@pytest.mark.parametrize("row", [(EVIL, DB, "out"), (WEB, EVIL, "in"), (ELSE, FAR, "through")])
def test_everybody_is_believed_about_themselves(ground: Ground, row: tuple[int, int, str]) -> None:
    """As source outward, as destination inward, and about what was forwarded for hosts without an agent."""
    ground.keep((C, batch(row)))
    ground.take()
    assert len(ground.told()) == 1
    assert ground.incoming.foreign == 0


def test_who_speaks_for_others_beyond_noise_is_told_of(ground: Ground) -> None:
    """Hundreds of rows of another agent's host are an alarm; a few are what clocks and moved addresses explain."""
    ground.keep(
        (C, batch(*[(WEB, DB, "out")] * 300)), (A, batch(*[(WEB, ELSE, "out")] * 300, *[(DB, ELSE, "out")] * 5))
    )
    assert ground.take().false == {str(C): 300}
    assert ground.incoming.foreign == 305
    assert ground.told() == {("web", "9"): 300}


def test_an_address_is_its_senders_as_of_then(ground: Ground) -> None:
    """Before an address moved it was the one's, after it the other's; rows are labelled, and believed, accordingly."""
    moved = AT - timedelta(hours=1)
    held = holding.with_history(
        inventory(db=(), evil=(Lease(DB),)),
        (LeaseRecord("main", DB, str(B), AT - timedelta(hours=9), moved, "agent"),
         LeaseRecord("main", DB, str(C), moved, None, "agent")),
    )  # fmt: skip
    early, late = AT_MS - 2 * 3_600_000, AT_MS
    ground.keep(
        *((who, batch((DB, ELSE, "out"), at_ms=at, port=who.int & 7)) for who in (B, C) for at in (early, late))
    )
    ground.take(held)
    assert ground.told() == {("db", "9"): 1, ("evil", "9"): 1}


def test_a_gap_in_which_nobody_else_had_the_address_is_the_holders() -> None:
    """A host that was out of reach for hours, and comes back to its address, is believed about these hours."""
    records = (LeaseRecord("main", WEB, str(A), AT, AT + timedelta(hours=1), "agent"),
               LeaseRecord("main", WEB, str(A), AT + timedelta(hours=5), None, "agent"))  # fmt: skip
    found = holding.with_history(inventory(), records)
    assert found.by_uuid[str(A)].addresses == (Lease(WEB),)


# ---- bounded --------------------------------------------------------------------------------------------------------


def test_an_agent_has_a_share_and_the_others_theirs(tmp_path: Path) -> None:
    """What is beyond the share is lost, counted and told; the share is a stretch's, and nobody else pays."""
    ground = Ground(tmp_path, Limits(agent_rows=10))
    rows = [(EVIL, ELSE, "out")] * 6
    ground.keep((C, batch(*rows, port=1)), (C, batch(*rows, port=2)), (A, batch((WEB, ELSE, "out"))))
    assert ground.incoming.lost == 1
    assert ground.take().lost == {str(C): 6}
    ground.keep((C, batch(*rows, port=3)))
    assert ground.take().lost == {}
    assert ground.told() == {("evil", "9"): 12, ("web", "9"): 1}


def test_bytes_are_bounded_by_agent_and_by_folder(tmp_path: Path) -> None:
    """Many senders together do not fill the disk either."""
    size = len(batch((WEB, ELSE, "out"))) + spooling.HEAD.size
    ground = Ground(tmp_path, Limits(agent_bytes=2 * size, folder_bytes=3 * size))
    ground.keep(*((A, batch((WEB, ELSE, "out"), port=port)) for port in (1, 2, 3)))
    assert ground.incoming.lost == 1
    ground.keep(*((B, batch((DB, ELSE, "out"), port=port)) for port in (1, 2)))
    assert ground.incoming.lost == 2
    assert sum(path.stat().st_size for path in ground.folder.iterdir()) == 3 * size


def test_a_stretch_that_cannot_be_merged_is_set_aside(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ones after it are stored in the same turn, and it is there for somebody to look at."""
    ground.keep((A, batch((WEB, ELSE, "out"))))
    (bad,) = ground.folder.glob("*.batches")
    ground.now += 60
    ground.keep((A, batch((WEB, FAR, "out"))))
    good = incoming.judged

    def judged(rows: FlowRows, *words: object) -> object:
        if int(rows.destination_lo[0]) == ELSE & _LOW:
            raise OverflowError("nobody thought of this")
        return good(rows, *words)  # type: ignore[arg-type]

    monkeypatch.setattr(incoming, "judged", judged)
    ground.take()
    assert ground.told() == {("web", "10"): 1}
    assert [path.name for path in ground.folder.iterdir()] == [f"{bad.stem}.parked"]
    assert ground.incoming.parked == 1


def test_a_store_that_is_away_loses_no_stretch(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be stored now stays, and is stored later."""
    ground.keep((A, batch((WEB, ELSE, "out"))))
    with monkeypatch.context() as patch:
        patch.setattr(ground.store, "append", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
        for _ in range(5):
            with pytest.raises(OSError, match="disk full"):
                ground.take()
    ground.take()
    assert ground.told() == {("web", "9"): 1}


def test_a_large_stretch_is_merged_in_parts_as_it_is_at_once(tmp_path: Path) -> None:
    """Both ends' reports of a connection meet in the same part; a part stored before a crash is not stored again."""
    found = []
    for at_once in (1 << 19, 40):
        (tmp_path / str(at_once)).mkdir()
        ground = Ground(tmp_path / str(at_once), Limits(rows_at_once=at_once))
        sent = []
        for port in range(1, 60):
            sent += [(A, batch((WEB, DB, "out"), (WEB, ELSE + port, "out"), port=port)),
                     (B, batch((WEB, DB, "in"), port=port))]  # fmt: skip
        ground.keep(*sent)
        (path,) = ground.folder.glob("*.batches")
        content = path.read_bytes()
        ground.take()
        path.write_bytes(content)
        ground.take()
        found.append(ground.told())
    assert found[0] == found[1]
    assert found[0]["web", "db"] == 59
