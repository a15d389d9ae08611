"""Who joins the estate, and who must leave: certificates for tokens, renewal, revocation.

INVARIANT: a certificate is recorded, together with the workload it names and the use of the token, before anybody gets
it; what is revoked is refused from the moment the revocation is stored, requests in flight included. A key is replaced
by one other key: whoever asks for a second one is refused, and told of as a clone.
"""

from __future__ import annotations

import base64
import hashlib
import uuid as uuid_
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime, timedelta

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ringfence.controller import audit
from ringfence.controller.access.access import AccessError, Welcome, redeem
from ringfence.controller.identity.ca import Authority, Issued, is_issued_by, serial_of, workload_of, workload_uri
from ringfence.core.errors import InputError
from ringfence.core.labels.selector import LABEL_VALUE
from ringfence.ports.state import Certificate, Change, State, View, Where, WorkloadRecord
from ringfence.wire.join import parse_join, renewal_of

LATE = timedelta(days=30)
"""So long after its end a certificate may be exchanged for a new one: a host that was switched off comes back."""
KEPT = timedelta(days=60)
"""So long after its end a certificate that was replaced is remembered: nothing can be had for it by then."""
AGAIN = timedelta(days=3)
"""So long a renewal whose answer was lost may be asked for again, for the same key: a weekend."""


class Revoked:
    """What the callout asks at every connection; kept beside the state so that it answers at once."""

    def __init__(self) -> None:
        self.serials: set[str] = set()
        self.workloads: set[str] = set()

    def load(self, view: View) -> None:
        """Whoever is retired is revoked in the same transaction: those alone are read, out of all there ever were."""
        revoked = view.find(Certificate, Where("revoked_at", None, "!="))
        self.serials |= {one.serial for one in revoked}
        self.workloads |= {one.uuid for one in revoked}

    def add(self, uuid: str, serials: Iterable[str]) -> None:
        """A workload is revoked, whatever else it is given."""
        self.serials |= set(serials)
        self.workloads.add(uuid)

    def is_gone(self, uuid: str) -> bool:
        """Whether nothing that a workload says is to be heard."""
        return uuid in self.workloads

    def __call__(self, serial: str, workload: uuid_.UUID) -> bool:
        return serial in self.serials or str(workload) in self.workloads


class Joining:
    """Lets hosts in."""

    def __init__(self, state: State, authority: Authority, revoked: Revoked, clock: Callable[[], datetime]) -> None:
        self._state, self._authority, self._revoked, self._clock = state, authority, revoked, clock
        self.on_fork: Callable[[str, str], Awaitable[None]] = _nobody
        """Called with a workload's UUID, and the serial of a certificate that was to be replaced a second time."""

    async def enrol(
        self, token: str, csr: str, hostname: str, machine: str, *, source: int | None = None
    ) -> tuple[str, Issued]:
        """(UUID of the new workload, its certificate). `source`: the address it asks from, which it may hold then.

        Raises AccessError `join-refused`, InputError `bad-token`, `bad-csr`.
        """
        join, now = parse_join(token), self._clock()
        uuid = uuid_.uuid4()
        issued = self._authority.issue_svid(csr.encode(), uuid, now=now)

        def work(tx: Change) -> None:
            welcome = redeem(tx, join.id, join.secret, by=hostname, at=now)
            name = _free_name(tx, hostname)
            record = _record(welcome, str(uuid), name, workload_uri(self._authority.trust_domain, uuid), now)
            tx.add(msgspec.structs.replace(record, enrolled_from=source))
            tx.add(_certificate(issued, str(uuid), machine))
            details = {"name": name, "profile": welcome.profile, "machine": machine, "serial": issued.serial}
            audit.record(tx, at=now, actor=f"join/{join.id}", action="agent.enrol", subject=str(uuid), details=details)

        await self._state.write(work)
        return str(uuid), issued

    async def renew(self, certificate: str, csr: str, signature: str) -> tuple[str, Issued]:
        """The same for who can prove to have the key of a certificate that is not revoked, not long over, and not
        replaced by one for another key.

        `signature`: base64 of ECDSA with SHA-256 over `renewal_of(csr)`. Raises AccessError `renewal-refused`,
        InputError `bad-csr`.
        """
        now = self._clock()
        old = _proven(certificate, csr, signature)
        uuid = workload_of(old, self._authority.trust_domain)
        if uuid is None or not is_issued_by(old, self._authority.roots):
            raise _refused("is of another authority")
        if self._revoked(serial_of(old), uuid):
            raise _refused("is revoked")
        if now > old.not_valid_after_utc + LATE:
            raise _refused("ended too long ago")
        issued = self._authority.issue_svid(csr.encode(), uuid, now=now)
        try:
            await self._state.write(lambda tx: _renewed(tx, str(uuid), serial_of(old), issued, now))
        except _Fork as fork:
            await self.on_fork(str(uuid), serial_of(old))
            raise _refused("was replaced already by one for another key") from fork
        return str(uuid), issued

    async def revoke(self, uuid: str, *, why: str, by: str) -> int:
        """The workload is refused for good: how many of its certificates were not yet. Raises InputError
        `unknown-workload`."""
        now = self._clock()

        def work(tx: Change) -> list[str]:
            if tx.get(WorkloadRecord, uuid) is None:
                raise unknown_workload(uuid)
            live = (Where("uuid", uuid), Where("revoked_at", None))
            serials = [one.serial for one in tx.find(Certificate, *live)]
            tx.update(Certificate, *live, revoked_at=now, why=why)
            details = {"why": why, "serials": serials}
            audit.record(tx, at=now, actor=by, action="agent.revoke", subject=uuid, details=details)
            return serials

        serials = await self._state.write(work)
        self._revoked.add(uuid, serials)
        return len(serials)

    async def forget(self) -> int:
        """Drop certificates that were replaced, and ended long ago: how many. What was revoked stays."""
        now = self._clock()

        def work(tx: Change) -> int:
            over = (Where("not_after", now - KEPT, "<"), Where("renewed_by", None, "!="), Where("revoked_at", None))
            if not tx.count(Certificate, *over):
                return 0
            count = tx.remove(Certificate, *over)
            audit.record(
                tx, at=now, actor="controller", action="certificates.forget", subject="ca", details={"count": count}
            )
            return count

        return await self._state.write(work)


def unknown_workload(said: str, meant: str = "") -> InputError:
    """That no workload has this name or UUID. `meant`: what was probably meant."""
    help_ = meant or "`ringfence agent list` names hosts with an agent"
    return InputError("unknown-workload", f"there is no workload `{said}`", help=help_)


class _Fork(Exception):
    """A key was to be replaced by a second one."""


def _renewed(tx: Change, uuid: str, serial: str, issued: Issued, now: datetime) -> None:
    """Replace a certificate. Raises AccessError `renewal-refused`, _Fork."""
    old = tx.get(Certificate, serial)
    if old is None or old.uuid != uuid:
        raise _refused("is not one that was given out here")
    if tx.get(WorkloadRecord, uuid) is None:
        raise _refused("is of a workload that is gone")
    if tx.count(Certificate, Where("uuid", uuid), Where("revoked_at", None, "!=")):
        raise _refused("is revoked")
    new = _certificate(issued, uuid, old.machine)
    alike = (Where("uuid", uuid), Where("key", old.key))
    heirs = {one.renewed_by for one in tx.find(Certificate, *alike) if one.renewed_by is not None}
    if heirs and not _is_again(tx, heirs, new, now):
        raise _Fork
    tx.add(new)
    tx.update(Certificate, *alike, Where("renewed_by", None), renewed_by=new.serial)
    details = {"serial": new.serial, "before": serial}
    audit.record(tx, at=now, actor=uuid, action="agent.renew", subject=uuid, details=details)


def _is_again(tx: Change, heirs: Iterable[str], new: Certificate, now: datetime) -> bool:
    """Whether a renewal is the one there was: for the same key, lately, and nothing came of it."""
    found = [one for heir in heirs if (one := tx.get(Certificate, heir)) is not None]
    same = tx.find(Certificate, Where("uuid", new.uuid), Where("key", new.key))
    is_same = bool(found) and all(one.key == new.key and now - one.not_before <= AGAIN for one in found)
    return is_same and all(one.renewed_by is None for one in same)


def _proven(certificate: str, csr: str, signature: str) -> x509.Certificate:
    try:
        old = x509.load_pem_x509_certificate(certificate.encode())
        key = old.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise ValueError("of another kind")
        key.verify(base64.b64decode(signature, validate=True), renewal_of(csr), ec.ECDSA(hashes.SHA256()))
    except (ValueError, InvalidSignature) as error:
        raise _refused("was not proven to be one's own") from error
    return old


def _refused(why: str) -> AccessError:
    return AccessError("renewal-refused", f"the certificate {why}", help="enrol the host again with a join token")


def _record(welcome: Welcome, uuid: str, name: str, spiffe: str, now: datetime) -> WorkloadRecord:
    mode = welcome.mode
    return WorkloadRecord(
        uuid,
        name,
        welcome.labels,
        now,
        mode_in=mode.inbound,
        mode_out=mode.outbound,
        spiffe=spiffe,
        last_seen=now,
        profile=welcome.profile,
    )


def _certificate(issued: Issued, uuid: str, machine: str) -> Certificate:
    key = x509.load_pem_x509_certificate(issued.certificate).public_key()
    spki = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    digest = hashlib.sha256(spki).hexdigest()
    return Certificate(
        issued.serial, uuid, issued.fingerprint, issued.not_before, issued.not_after, key=digest, machine=machine
    )


async def _nobody(*_: object) -> None:
    """Nobody is told."""


def _free_name(tx: Change, hostname: str) -> str:
    """The host's own name, or with a number where another has it. Costs a few looks, however many hosts there are."""
    plain = hostname if LABEL_VALUE.fullmatch(hostname) else "host"

    def is_free(number: int) -> bool:
        return not tx.count(WorkloadRecord, Where("name", _numbered(plain, number)))

    taken, free = 0, 1
    while not is_free(free):
        taken, free = free, 2 * free
    while free - taken > 1:
        middle = (taken + free) // 2
        taken, free = (taken, middle) if is_free(middle) else (middle, free)
    return _numbered(plain, free)


def _numbered(name: str, number: int) -> str:
    return name if number == 1 else f"{name}-{number}"
