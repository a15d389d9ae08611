"""Who is let in, who renews, and that a revocation ends it, whatever is in flight."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast
from uuid import UUID, uuid4

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from databases import opened

from ringfence.controller import audit
from ringfence.controller.access.access import AccessError, Principal
from ringfence.controller.identity.ca import Authority, Issued, csr_of, new_key
from ringfence.controller.identity.joining import AGAIN, Joining, Revoked, _certificate, _free_name
from ringfence.controller.publishing import changes
from ringfence.ports.state import AuditEntry, Certificate, Change, Record, State, View, Where, WorkloadRecord
from ringfence.wire.join import renewal_of

A = UUID("11111111-1111-4111-8111-111111111111")
NOW = datetime(2026, 3, 3, 12, tzinfo=UTC)
Key = ec.EllipticCurvePrivateKey


class Estate:
    """One enrolled workload, and a clock that is turned by hand."""

    def __init__(self, state: State, folder: Path) -> None:
        self.state, self.now = state, NOW
        self.authority = Authority.open(folder / "ca.json", trust_domain="shop.internal", now=NOW)
        self.revoked = Revoked()
        self.joining = Joining(state, self.authority, self.revoked, lambda: self.now)
        self.forks: list[tuple[str, str]] = []
        self.joining.on_fork = self._forked
        self.key = new_key()
        self.first = self.authority.issue_svid(csr_of(self.key), A, now=NOW)

    async def _forked(self, uuid: str, serial: str) -> None:
        self.forks.append((uuid, serial))

    async def enrol(self) -> None:
        def work(tx: Change) -> None:
            tx.add(WorkloadRecord(str(A), "web", {}, NOW), _certificate(self.first, str(A), "machine-1"))
            audit.record(tx, at=NOW, actor="test", action="agent.enrol", subject=str(A), details={})

        await self.state.write(work)

    async def renew(self, old: Issued, key: Key, new: Key) -> Issued:
        csr = csr_of(new).decode()
        signature = base64.b64encode(key.sign(renewal_of(csr), ec.ECDSA(hashes.SHA256()))).decode()
        return (await self.joining.renew(old.certificate.decode(), csr, signature))[1]

    async def refused(self, old: Issued, key: Key, new: Key) -> bool:
        try:
            await self.renew(old, key, new)
        except AccessError as error:
            return error.code == "renewal-refused"
        return False

    async def certificates(self) -> list[Certificate]:
        return await self.state.read(lambda view: view.find(Certificate, Where("uuid", str(A))))


@pytest.fixture
def estate(place: str | Path, tmp_path: Path) -> Callable[[Callable[[Estate], Awaitable[None]]], None]:
    def with_estate(work: Callable[[Estate], Awaitable[None]]) -> None:
        async def go() -> None:
            async with opened(place) as state:
                made = Estate(state, tmp_path)
                await made.enrol()
                await work(made)

        asyncio.run(asyncio.wait_for(go(), 60))

    return with_estate


WithEstate = Callable[[Callable[[Estate], Awaitable[None]]], None]


def test_a_revocation_stops_a_renewal_in_flight(estate: WithEstate) -> None:
    """Revoked after the renewal was looked at and before it was stored: nothing is given out."""

    async def work(made: Estate) -> None:
        async def revoke() -> None:
            await made.joining.revoke(str(A), why="stolen", by="ann")

        revoking = asyncio.create_task(revoke())
        renewing = asyncio.create_task(made.refused(made.first, made.key, new_key()))
        await revoking
        assert await renewing
        assert [one.revoked_at for one in await made.certificates()] == [NOW]

    estate(work)


def test_a_revocation_another_controller_stored_is_kept_to(estate: WithEstate) -> None:
    """What counts is the state in the renewal's own transaction, not what was loaded at the start."""

    async def work(made: Estate) -> None:
        elsewhere = Joining(made.state, made.authority, Revoked(), lambda: made.now)
        await elsewhere.revoke(str(A), why="stolen", by="ann")
        assert await made.refused(made.first, made.key, new_key())
        assert len(await made.certificates()) == 1
        await made.state.read(made.revoked.load)
        assert made.revoked(made.first.serial, A)
        assert made.revoked("any other", A)
        assert made.revoked.is_gone(str(A))

    estate(work)


def test_a_certificate_nobody_recorded_renews_nothing(estate: WithEstate) -> None:
    """Signed by our own authority, yet not in the state (a backup older than it, a stolen root): refused."""

    async def work(made: Estate) -> None:
        key = new_key()
        stray = made.authority.issue_svid(csr_of(key), A, now=NOW)
        assert await made.refused(stray, key, new_key())

    estate(work)


def test_a_key_is_replaced_once(estate: WithEstate) -> None:
    """The old key asks for another one after the host has renewed: refused and told of, at every try."""

    async def work(made: Estate) -> None:
        second = new_key()
        heir = await made.renew(made.first, made.key, second)
        made.now += timedelta(minutes=1)
        for _ in range(3):
            assert await made.refused(made.first, made.key, new_key())
        assert made.forks == [(str(A), made.first.serial)] * 3
        assert {one.serial: one.renewed_by for one in await made.certificates()} == {
            made.first.serial: heir.serial, heir.serial: None,
        }  # fmt: skip
        await made.renew(heir, second, new_key())

    estate(work)


def test_a_lost_answer_is_asked_for_again(estate: WithEstate) -> None:
    """The same next key gets another certificate, and either of the two goes on; once."""

    async def work(made: Estate) -> None:
        second, third = new_key(), new_key()
        lost = await made.renew(made.first, made.key, second)
        made.now += timedelta(hours=30)
        got = await made.renew(made.first, made.key, second)
        assert made.forks == []
        await made.renew(got, second, third)
        assert await made.refused(lost, second, new_key())
        assert await made.refused(made.first, made.key, second)
        assert len(made.forks) == 2

    estate(work)


def test_a_lost_answer_is_not_asked_for_for_ever(estate: WithEstate) -> None:
    """After `AGAIN` the same key is refused, too."""

    async def work(made: Estate) -> None:
        second = new_key()
        await made.renew(made.first, made.key, second)
        made.now += AGAIN + timedelta(minutes=10)
        assert await made.refused(made.first, made.key, second)
        assert made.forks

    estate(work)


def test_the_machine_that_enrolled_is_remembered_through_renewals(estate: WithEstate) -> None:
    """A renewal does not say which machine it is from, and changes nothing about it."""

    async def work(made: Estate) -> None:
        await made.renew(made.first, made.key, new_key())
        assert {one.machine for one in await made.certificates()} == {"machine-1"}

    estate(work)


def test_hosts_of_one_name_are_numbered(estate: Callable[[Callable[[Estate], Awaitable[None]]], None]) -> None:
    """Each gets a name nobody has, by number in the order they come; a hole may be used or not."""

    async def work(found: Estate) -> None:
        def named(tx: Change) -> str:
            name = _free_name(tx, "web")
            tx.add(WorkloadRecord(str(uuid4()), name, {}, NOW))
            audit.record(tx, at=NOW, actor="test", action="agent.enrol", subject=name, details={})
            return name

        names = [await found.state.write(named) for _ in range(9)]
        assert names == [f"web-{number}" for number in range(2, 11)]
        assert await found.state.write(lambda tx: _free_name(tx, "db")) == "db"

    estate(work)


def test_only_what_is_revoked_is_read_at_a_start(estate: WithEstate) -> None:
    """Out of all certificates there ever were; retired workloads are among them."""

    async def work(made: Estate) -> None:
        retired = UUID(int=7)
        gone = made.authority.issue_svid(csr_of(new_key()), retired, now=NOW)

        def add(tx: Change) -> None:
            tx.add(WorkloadRecord(str(retired), "old", {}, NOW), _certificate(gone, str(retired), "machine-2"))
            audit.record(tx, at=NOW, actor="test", action="agent.enrol", subject=str(retired), details={})

        await made.state.write(add)
        admin = Principal("ann", ("administrator",))
        await made.state.write(lambda tx: changes.retire(tx, str(retired), by=admin, at=NOW, why="gone"))
        asked: list[tuple[Where, ...]] = []

        def watched(view: View) -> None:
            class Watched:
                def find(self, kind: type[Record], *where: Where, **more: Any) -> list[Any]:
                    asked.append(where)
                    return view.find(kind, *where, **more)

            made.revoked.load(cast(View, Watched()))

        await made.state.read(watched)
        assert asked == [(Where("revoked_at", None, "!="),)]
        assert made.revoked(gone.serial, retired)
        assert made.revoked.is_gone(str(retired))
        assert not made.revoked(made.first.serial, A)

    estate(work)


def test_certificates_that_were_replaced_are_forgotten_in_time(estate: WithEstate) -> None:
    """Long after nothing can be had for them; the last one of a host, and what was revoked, stay. It is audited."""

    async def work(made: Estate) -> None:
        key = new_key()
        second = await made.renew(made.first, made.key, key)
        made.now = NOW + timedelta(days=60)
        assert await made.joining.forget() == 0
        made.now = NOW + timedelta(days=62)
        assert await made.joining.forget() == 1
        assert await made.joining.forget() == 0
        assert [one.serial for one in await made.certificates()] == [second.serial]
        entries = await made.state.read(lambda view: view.find(AuditEntry, Where("action", "certificates.forget")))
        assert [entry.details for entry in entries] == ['{"count":1}']

        made.now = NOW
        third = await made.renew(second, key, new_key())
        await made.joining.revoke(str(A), why="stolen", by="ann")
        made.now = NOW + timedelta(days=100)
        assert await made.joining.forget() == 0
        assert {one.serial for one in await made.certificates()} == {second.serial, third.serial}

    estate(work)
