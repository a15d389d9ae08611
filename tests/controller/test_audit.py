"""The audit log tells of every way it can be tampered with, and names the first entry that was."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from databases import opened
from nacl.signing import SigningKey
from sqlalchemy import Connection, create_engine, text

from ringfence.controller import audit
from ringfence.ports.state import AuditEntry, AuditHead, Change
from ringfence.stores.sql import engines

NOW = datetime(2026, 3, 3, tzinfo=UTC)
KEY = SigningKey(b"k" * 32)
OTHER = SigningKey(b"o" * 32)
TRUSTED = [bytes(KEY.verify_key)]


def tell(n: int) -> Callable[[Change], AuditEntry]:
    def work(tx: Change) -> AuditEntry:
        at = NOW + timedelta(seconds=n)
        return audit.record(tx, at=at, actor="ann", action="test", subject=f"s{n}", details={"b": n, "a": [1, None]})

    return work


async def fill(place: str | Path, *, signed_at: tuple[int, ...] = ()) -> AuditHead | None:
    """Nine entries, some signed; the last head."""
    head = None
    async with opened(place) as state:
        for n in range(1, 10):
            await state.write(tell(n))
            if n in signed_at:
                head = await state.write(lambda tx: audit.sign_head(tx, KEY, NOW))
    return head


def check(place: str | Path, *, witness: AuditHead | None = None, trusted: list[bytes] = TRUSTED) -> audit.Checked:
    async def go() -> audit.Checked:
        async with opened(place) as state:
            return await state.read(lambda view: audit.verify(view, trusted, witness=witness))

    return asyncio.run(go())


def tamper(place: str | Path, *statements: str) -> None:
    """What somebody with the database's own rights does: first away with what guards it."""
    engine = create_engine(engines.url_of(place))
    with engine.begin() as connection:
        for table in ("audit", "audit_heads"):
            for verb in ("UPDATE", "DELETE"):
                on = f" ON {table}" if connection.dialect.name == "postgresql" else ""
                connection.exec_driver_sql(f"DROP TRIGGER {table}_no_{verb}{on}")
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


def code(checked: audit.Checked) -> tuple[str, str] | None:
    return (checked.broken.code, checked.broken.subject) if checked.broken else None


def test_an_untouched_log_is_whole(place: str | Path) -> None:
    """Every entry is in order, and as many are covered by a signature as were there when it was made."""
    asyncio.run(fill(place, signed_at=(4, 7)))

    checked = check(place)

    assert (checked.broken, checked.entries, checked.signed) == (None, 9, 7)
    assert checked.last is not None
    assert checked.last.details == '{"a":[1,null],"b":9}'


def test_an_empty_log_is_whole(place: str | Path) -> None:
    """Nothing was done, and nothing is wrong with that; there is nothing to sign."""

    async def go() -> AuditHead | None:
        async with opened(place) as state:
            return await state.write(lambda tx: audit.sign_head(tx, KEY, NOW))

    assert asyncio.run(go()) is None
    assert check(place) == audit.Checked(0)


TAMPERING = {
    "an edited actor": (("UPDATE audit SET actor = 'bob' WHERE seq = 5",), ("audit-edited", "5")),
    "an edited time": (("UPDATE audit SET at = at + 1 WHERE seq = 1",), ("audit-edited", "1")),
    "edited details": (("UPDATE audit SET details = '{}' WHERE seq = 9",), ("audit-edited", "9")),
    "a deleted entry": (("DELETE FROM audit WHERE seq = 5",), ("audit-missing", "5")),
    "the first one deleted": (("DELETE FROM audit WHERE seq = 1",), ("audit-missing", "1")),
    "a deleted entry, the rest moved up": (
        ("DELETE FROM audit WHERE seq = 5", *(f"UPDATE audit SET seq = {n - 1} WHERE seq = {n}" for n in range(6, 10))),
        ("audit-edited", "5"),
    ),
    "two entries exchanged": (
        (
            "UPDATE audit SET seq = -1 WHERE seq = 3",
            "UPDATE audit SET seq = 3 WHERE seq = 4",
            "UPDATE audit SET seq = 4 WHERE seq = -1",
        ),
        ("audit-edited", "3"),
    ),
    "an entry put in": (
        ("INSERT INTO audit SELECT 10, at, actor, action, subject, details, 'x', hash FROM audit WHERE seq = 9",),
        ("audit-edited", "10"),
    ),
    "an entry before the first": (
        ("INSERT INTO audit SELECT 0, at, actor, action, subject, details, 'x', hash FROM audit WHERE seq = 9",),
        ("audit-missing", "1"),
    ),
    "the end cut off": (("DELETE FROM audit WHERE seq > 5",), ("audit-truncated", "6")),
    "everything deleted": (("DELETE FROM audit",), ("audit-truncated", "1")),
    "a head for what was left": (
        ("DELETE FROM audit WHERE seq > 5", "UPDATE audit_heads SET seq = 5 WHERE seq = 7"),
        ("audit-head-forged", "5"),
    ),
    "a head with another hash": (("UPDATE audit_heads SET hash = 'x' WHERE seq = 4",), ("audit-head-forged", "4")),
}


@pytest.mark.parametrize("what", TAMPERING)
def test_tampering_is_found_where_it_was_done(place: str | Path, what: str) -> None:
    """Editing, deleting, moving, putting in and cutting off: each is found, and the first broken entry is named."""
    statements, found = TAMPERING[what]
    asyncio.run(fill(place, signed_at=(4, 7)))

    tamper(place, *statements)

    assert code(check(place)) == found


def rehash(place: str | Path, *, seq: int, **fields: Any) -> None:
    """An edit by somebody who knows how the chain is made: everything after it is hashed anew."""
    engine = create_engine(engines.url_of(place))
    with engine.begin() as connection:
        rows = connection.execute(text("SELECT * FROM audit ORDER BY seq")).all()
        entries = [AuditEntry(**{**row._mapping, "at": _time(row.at)}) for row in rows]
        previous = entries[seq - 2].hash
        for entry in entries[seq - 1 :]:
            edited = msgspec.structs.replace(entry, previous=previous, **(fields if entry.seq == seq else {}))
            previous = audit.hash_of(edited)
            _replace(connection, msgspec.structs.replace(edited, hash=previous))
    engine.dispose()


def _time(microseconds: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)


def _replace(connection: Connection, entry: AuditEntry) -> None:
    set_ = "UPDATE audit SET actor = :actor, previous = :previous, hash = :hash WHERE seq = :seq"
    values = {"actor": entry.actor, "previous": entry.previous, "hash": entry.hash, "seq": entry.seq}
    connection.execute(text(set_), values)


def test_a_chain_made_anew_disagrees_with_what_was_signed(place: str | Path) -> None:
    """Whoever edits an entry and hashes all the rest anew is found by the next signature over them."""
    asyncio.run(fill(place, signed_at=(7,)))
    tamper(place)

    rehash(place, seq=3, actor="bob")

    assert code(check(place)) == ("audit-rewritten", "7")


def test_what_was_cut_off_with_its_heads_is_found_by_a_head_kept_elsewhere(place: str | Path) -> None:
    """A log cut short together with its signatures looks whole, but not beside a copy of the last one."""
    head = asyncio.run(fill(place, signed_at=(4, 7)))
    tamper(place, "DELETE FROM audit WHERE seq > 5", "DELETE FROM audit_heads WHERE seq > 5")

    assert code(check(place)) is None
    assert code(check(place, witness=head)) == ("audit-truncated", "6")


def test_a_head_signed_by_a_key_nobody_trusts_is_no_signature(place: str | Path) -> None:
    """Signatures count by keys that are trusted; an old key's count as long as it is listed."""
    asyncio.run(fill(place, signed_at=(4,)))

    assert code(check(place, trusted=[bytes(OTHER.verify_key)])) == ("audit-head-forged", "4")
    assert code(check(place, trusted=[bytes(OTHER.verify_key), *TRUSTED])) is None


def test_nothing_new_is_not_signed_twice(place: str | Path) -> None:
    """A head is made when there is something to sign."""
    asyncio.run(fill(place, signed_at=(9,)))

    async def again() -> AuditHead | None:
        async with opened(place) as state:
            return await state.write(lambda tx: audit.sign_head(tx, KEY, NOW))

    assert asyncio.run(again()) is None


def test_entries_of_many_writers_are_one_chain(place: str | Path) -> None:
    """However many write at once, the entries are one chain without gaps, and a write that fails leaves none."""

    async def go() -> audit.Checked:
        async with opened(place) as state:

            def bad(tx: Change) -> None:
                tell(0)(tx)
                raise LookupError

            jobs = [state.write(bad if n % 7 == 3 else tell(n)) for n in range(70)]
            await asyncio.gather(*jobs, return_exceptions=True)
            return await state.read(lambda view: audit.verify(view, ()))

    checked = asyncio.run(go())

    assert (checked.broken, checked.entries) == (None, 60)


def test_the_end_is_signed_soon_and_once_a_burst(place: str | Path) -> None:
    """A log nobody adds to any more is signed at the second look; one that grows all the time is signed, too; what is
    signed is not looked at twice."""

    async def work() -> tuple[list[bool], list[bool], list[bool]]:
        signer = audit.Signer()
        async with opened(place) as state:

            async def looks(times: int, *, is_growing: bool) -> list[bool]:
                out = []
                for _ in range(times):
                    if is_growing:
                        await state.write(tell(1))
                    out.append(await state.read(signer.is_due))
                return out

            empty = await looks(2, is_growing=False)
            growing = await looks(8, is_growing=True)
            signer.signed(8)
            await state.write(tell(9))
            quiet = await looks(2, is_growing=False)
            signer.signed(9)
            return empty, growing, quiet + await looks(2, is_growing=False)

    empty, growing, quiet = asyncio.run(work())
    assert empty == [False, False]
    assert growing == [False] * 7 + [True]
    assert quiet == [False, True, False, False]
