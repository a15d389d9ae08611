"""Who joins the estate, and who must leave: certificates for tokens, renewal, revocation.

INVARIANT: a certificate is recorded, together with the workload it names and the use of the token, before anybody gets
it; what is revoked is refused from the moment the revocation is stored.
"""

from __future__ import annotations

import base64
import uuid as uuid_
from collections.abc import Callable
from datetime import datetime, timedelta

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from ringfence.controller import audit
from ringfence.controller.access import AccessError, Welcome, redeem
from ringfence.controller.ca import Authority, Issued, is_issued_by, serial_of, workload_of, workload_uri
from ringfence.core.errors import InputError
from ringfence.core.labels.selector import LABEL_VALUE
from ringfence.ports.state import Certificate, Change, State, View, Where, WorkloadRecord
from ringfence.wire.join import parse_join, renewal_of

LATE = timedelta(days=30)
"""So long after its end a certificate may be exchanged for a new one: a host that was switched off comes back."""


class Revoked:
    """What the callout asks at every connection; kept beside the state so that it answers at once."""

    def __init__(self) -> None:
        self.serials: set[str] = set()
        self.workloads: set[str] = set()

    def load(self, view: View) -> None:
        self.serials = {one.serial for one in view.find(Certificate, Where("revoked_at", None, "!="))}
        known = {record.uuid for record in view.find(WorkloadRecord)}
        self.workloads = {one.uuid for one in view.find(Certificate)} - known

    def __call__(self, serial: str, workload: uuid_.UUID) -> bool:
        return serial in self.serials or str(workload) in self.workloads


class Joining:
    """Lets hosts in."""

    def __init__(self, state: State, authority: Authority, revoked: Revoked, clock: Callable[[], datetime]) -> None:
        self._state, self._authority, self._revoked, self._clock = state, authority, revoked, clock

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
            tx.add(_certificate(issued, str(uuid)))
            details = {"name": name, "profile": welcome.profile, "machine": machine, "serial": issued.serial}
            audit.record(tx, at=now, actor=f"join/{join.id}", action="agent.enrol", subject=str(uuid), details=details)

        await self._state.write(work)
        return str(uuid), issued

    async def renew(self, certificate: str, csr: str, signature: str) -> tuple[str, Issued]:
        """The same for who can prove to have the key of a certificate that is not revoked, and not long over.

        `signature`: base64 of ECDSA with SHA-256 over `renewal_of(csr)`. Raises AccessError `renewal-refused`.
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

        def work(tx: Change) -> None:
            if tx.get(WorkloadRecord, str(uuid)) is None:
                raise _refused("is of a workload that is gone")
            tx.add(_certificate(issued, str(uuid)))
            details = {"serial": issued.serial, "before": serial_of(old)}
            audit.record(tx, at=now, actor=str(uuid), action="agent.renew", subject=str(uuid), details=details)

        await self._state.write(work)
        return str(uuid), issued

    async def revoke(self, uuid: str, *, why: str, by: str) -> int:
        """No certificate of the workload is good any more: how many that were. Raises InputError `unknown-workload`."""
        now = self._clock()

        def work(tx: Change) -> list[str]:
            if tx.get(WorkloadRecord, uuid) is None:
                raise InputError("unknown-workload", f"no workload has the UUID `{uuid}`", help="look at the list")
            live = (Where("uuid", uuid), Where("revoked_at", None))
            serials = [one.serial for one in tx.find(Certificate, *live)]
            tx.update(Certificate, *live, revoked_at=now, why=why)
            details = {"why": why, "serials": serials}
            audit.record(tx, at=now, actor=by, action="agent.revoke", subject=uuid, details=details)
            return serials

        serials = await self._state.write(work)
        self._revoked.serials |= set(serials)
        return len(serials)


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


def _certificate(issued: Issued, uuid: str) -> Certificate:
    return Certificate(issued.serial, uuid, issued.fingerprint, issued.not_before, issued.not_after)


def _free_name(tx: Change, hostname: str) -> str:
    """The host's own name, or with a number where another has it."""
    plain = hostname if LABEL_VALUE.fullmatch(hostname) else "host"
    names = {record.name for record in tx.find(WorkloadRecord)}
    return next(name for n in range(len(names) + 1) if (name := plain if not n else f"{plain}-{n + 1}") not in names)
