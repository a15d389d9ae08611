"""The audit log: who did what, each entry bound to the one before by its hash, the end of it signed now and then.

    audit.record(tx, at=now, actor="ann", action="policy.publish", subject="12", details={...})

INVARIANT: an entry's hash is SHA-256 of the canonical JSON of everything else in it, the hash of the entry before
included; the first one's `previous` is GENESIS. So an entry that is edited, deleted, moved or put in breaks the chain
there; a chain that was made anew or cut short disagrees with a signed head.

Its end is signed some seconds after the last change (`Signer`), and when a controller stops.

Whoever can write the database and cut off the heads as well is found only by a head kept elsewhere: `verify` takes one
as `witness`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Final

import msgspec
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from ringfence.core.errors import Finding, InputError
from ringfence.core.identity.workload import utc
from ringfence.ports.state import AuditEntry, AuditHead, Change, View, Where
from ringfence.wire.envelope import key_id

GENESIS = "0" * 64
LOOK_S: Final = 4.0
"""How often to see whether the log has grown: what was written is signed within two looks, where nothing follows."""
_MOST_LOOKS: Final = 8
"""A log that grows all the time is signed as often."""
_PAGE = 5_000
"""Entries read at once."""


class Checked(msgspec.Struct, frozen=True):
    """What became of checking the log."""

    entries: int
    """How many are in order, from the first."""
    last: AuditEntry | None = None
    """The last that is in order."""
    signed: int = 0
    """How far a signature covers them."""
    broken: Finding | None = None
    """The first thing that is not as it was written; None: nothing."""


def record(
    tx: Change, *, at: datetime, actor: str, action: str, subject: str = "", details: Mapping[str, object] | None = None
) -> AuditEntry:
    """Append an entry in the transaction of what it tells."""
    last = last_entry(tx)
    text = msgspec.json.encode(dict(details or {}), order="deterministic").decode()
    previous = last.hash if last else GENESIS
    unsealed = AuditEntry((last.seq if last else 0) + 1, utc(at), actor, action, subject, text, previous, "")
    entry = msgspec.structs.replace(unsealed, hash=hash_of(unsealed))
    tx.add(entry)
    return entry


def demand_reason(why: str, what: str) -> None:
    """What changes who may talk to whom says why, in the log. Raises InputError `no-reason`."""
    if not why.strip():
        raise InputError("no-reason", f"{what} needs a reason", help="say it with --why (`why`, or `note`, in the API)")


def last_entry(view: View) -> AuditEntry | None:
    return next(iter(view.find(AuditEntry, order="-seq", limit=1)), None)


def hash_of(entry: AuditEntry) -> str:
    """SHA-256, in hex, of the canonical JSON of the entry without its own hash."""
    fields = msgspec.structs.asdict(entry)
    del fields["hash"]
    return hashlib.sha256(msgspec.json.encode(fields, order="deterministic")).hexdigest()


def sign_head(tx: Change, key: SigningKey, at: datetime) -> AuditHead | None:
    """Sign the log as it is; None if there is nothing new to sign. Keep a copy of what is returned elsewhere."""
    last = last_entry(tx)
    if last is None or tx.get(AuditHead, last.seq) is not None:
        return None
    unsigned = AuditHead(last.seq, utc(at), last.hash, key_id(key.verify_key), "")
    head = msgspec.structs.replace(unsigned, signature=key.sign(_signed(unsigned)).signature.hex())
    tx.add(head)
    return head


class Signer:
    """When the end of the log is to be signed: once nobody adds to it for a moment, or somebody did for long enough.

    A look costs one entry read; a signature is made per burst of changes, not per change.
    """

    def __init__(self) -> None:
        self._signed = self._seen = self._waited = 0

    def is_due(self, view: View) -> bool:
        """One look, every `LOOK_S`."""
        last = last_entry(view)
        end = last.seq if last is not None else 0
        is_quiet, self._seen = end == self._seen, end
        self._waited = 0 if end == self._signed else self._waited + 1
        return end != self._signed and (is_quiet or self._waited >= _MOST_LOOKS)

    def signed(self, end: int) -> None:
        """Up to this entry."""
        self._signed, self._waited = end, 0


def verify(view: View, trusted: Iterable[bytes], *, witness: AuditHead | None = None) -> Checked:
    """Read the whole log and name the first entry that is not as it was written.

    `trusted`: raw Ed25519 public keys, of old signing keys too; `witness`: a head that was kept outside the database.
    Findings: `audit-edited`, `audit-missing`, `audit-moved`, `audit-truncated`, `audit-rewritten`,
    `audit-head-forged`.
    """
    keys = {key_id(key): key for key in map(VerifyKey, trusted)}
    heads = [*view.find(AuditHead, order="seq"), *([witness] if witness else [])]
    forged = next((head for head in heads if not _is_signed(head, keys)), None)
    if forged is not None:
        return Checked(0, broken=_broken("audit-head-forged", forged.seq, "its signature does not fit it"))
    by_seq: dict[int, list[AuditHead]] = {}
    for head in heads:
        by_seq.setdefault(head.seq, []).append(head)
    return _walk(_entries(view), by_seq)


def _walk(entries: Iterator[AuditEntry], heads: Mapping[int, list[AuditHead]]) -> Checked:
    last: AuditEntry | None = None
    signed = 0
    for entry in entries:
        seen = last.seq if last else 0
        broken = _fault(entry, last, heads.get(entry.seq, []))
        if broken is not None:
            return Checked(seen, last, signed, broken)
        last = entry
        signed = entry.seq if entry.seq in heads else signed
    end = last.seq if last else 0
    beyond = min((seq for seq in heads if seq > end), default=None)
    broken = None if beyond is None else _broken("audit-truncated", end + 1, f"a signature covers entry {beyond}")
    return Checked(end, last, signed, broken)


def _fault(entry: AuditEntry, last: AuditEntry | None, heads: Iterable[AuditHead]) -> Finding | None:
    """What is wrong with an entry behind another."""
    expected = (last.seq if last else 0) + 1
    if entry.seq != expected:
        return _broken("audit-missing", expected, f"entry {entry.seq} comes next")
    if hash_of(entry) != entry.hash:
        return _broken("audit-edited", entry.seq, "it says something else than what was hashed")
    if entry.previous != (last.hash if last else GENESIS):
        return _broken("audit-moved", entry.seq, "it was not written behind the entry before it")
    if any(head.hash != entry.hash for head in heads):
        return _broken("audit-rewritten", entry.seq, "it is not the entry that was signed")
    return None


def _entries(view: View) -> Iterator[AuditEntry]:
    after = -(1 << 62)
    while page := view.find(AuditEntry, Where("seq", after, ">"), order="seq", limit=_PAGE):
        yield from page
        after = page[-1].seq


def _signed(head: AuditHead) -> bytes:
    return f"ringfence audit head {head.seq} {head.at.isoformat()} {head.hash}\n".encode()


def _is_signed(head: AuditHead, keys: Mapping[str, VerifyKey]) -> bool:
    key = keys.get(head.key)
    if key is None:
        return False
    try:
        key.verify(_signed(head), bytes.fromhex(head.signature))
    except (BadSignatureError, ValueError):
        return False
    return True


def _broken(code: str, seq: int, why: str) -> Finding:
    help_ = "restore the log from a backup made before, and find out who could write to the database"
    return Finding(code, f"the audit log is broken at entry {seq}: {why}", subject=str(seq), help=help_)
