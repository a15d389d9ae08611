"""What outlives the agent: whom it trusts, and what it was told to enforce.

    disk.save(Record(held.snapshot(), ...))      atomic, flushed; the one before is kept beside it
    disk.load()                                  the newest that is whole, and what was heard since (`journal`)

INVARIANT: at every moment one whole record is on the disk, once there was one. One that is damaged, or that others than
root could have written, is never used, not even in part: the one before it is, and that is said.
INVARIANT: what a version wrote last stays readable for it until it is replaced by its own: a host that goes back to the
version before boots into what that version held.
INVARIANT: a disk that refuses stops nothing: `save` says why and the agent goes on with what it has in memory.
"""

from __future__ import annotations

import os
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from ringfence import __version__
from ringfence.agent.held import journal
from ringfence.agent.held.held import Held, Snapshot
from ringfence.agent.held.journal import Heard
from ringfence.agent.owned import read_owned
from ringfence.core.errors import InputError, Location
from ringfence.core.intent.model import Passage
from ringfence.durable import read_secret, sync_folder, write_secret

HELD: Final = "held"
PREVIOUS: Final = "held.previous"
TRUST: Final = "trust.json"
BEFORE: Final = "held.before"
"""What another version wrote last, when this one began."""
IN_FORCE: Final = "in-force"
"""What was left in the kernel (`witness`)."""
_NEW = "held.new"
_MAGIC = b"rfh1"
_MAX_BYTES = 256 << 20


class Trust(msgspec.Struct, frozen=True):
    """Whom this agent belongs to, as told at enrolment and at each renewal. What a later version adds is passed over: a
    host that goes back keeps its identity."""

    workload: str
    """UUID."""
    trust_domain: str
    controller: str
    """URL of its API."""
    nats: tuple[str, ...]
    """URLs of the bus."""
    message_keys: tuple[bytes, ...]
    """Raw Ed25519 public keys."""


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What it enforces, and what became of it."""

    workload: str
    """UUID: a record of another identity is nobody's."""
    snapshot: Snapshot
    rejected: int = 0
    """The revision of an assignment that failed its trial or was refused."""
    refusal: tuple[str, ...] = ()
    """Why it was refused; empty where it failed its trial: that is not tried again."""
    channel: tuple[Passage, ...] = ()
    """The way to the controller, by the addresses it had last."""


class Loaded(NamedTuple):
    record: Record | None
    problem: str = ""
    """What was wrong with the newest."""
    heard: tuple[Heard, ...] = ()
    """What was heard since, in order."""
    by: str = ""
    """The version that wrote the record."""

    def held(self) -> Held | None:
        """All that this host was told; None where there is no record."""
        if self.record is None:
            return None
        return replayed(Held.restore(self.record.workload, self.record.snapshot), self.heard)


def replayed(held: Held, heard: tuple[Heard, ...]) -> Held:
    """What was heard, said again: what is held already changes nothing."""
    for message in heard:
        held.take(message)
    return held


class Disk:
    """The folder of one agent."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    # ---- whom to trust ----------------------------------------------------------------------------------------------

    def save_trust(self, trust: Trust) -> None:
        write_secret(self.folder / TRUST, msgspec.json.encode(trust))

    def load_trust(self) -> Trust:
        """Raises InputError `identity-missing`, `identity-damaged`, `secret-exposed`."""
        path = self.folder / TRUST
        content = read_secret(path)
        if content is None:
            raise InputError("identity-missing", "this host is not enrolled", help="`ringfence-agent enrol --token T`")
        try:
            return msgspec.json.decode(content, type=Trust)
        except ValueError as error:
            raise InputError(
                "identity-damaged",
                f"`{path}` does not say whom to trust: {error}",
                help="enrol again; until then the last policy stays in force",
                where=Location(str(path)),
            ) from error

    # ---- what to enforce --------------------------------------------------------------------------------------------

    def save(self, record: Record) -> str:
        """Why it could not be kept; empty when it is on the disk."""
        try:
            self._replace(_packed(record, __version__))
        except OSError as error:
            return error.strerror or str(error)
        return ""

    def keep_before(self, loaded: Loaded) -> None:
        """Where another version wrote what there is: keep it, as that version can read it, for going back."""
        held = loaded.held()
        if loaded.record is None or held is None or loaded.by == __version__:
            return
        record = msgspec.structs.replace(loaded.record, snapshot=held.snapshot())
        with suppress(OSError):
            write_secret(self.folder / BEFORE, _packed(record, loaded.by))

    def load(self) -> Loaded:
        problem = ""
        for name in (HELD, PREVIOUS, BEFORE):
            try:
                record, by = _unpacked(read_owned(self.folder / name))
            except FileNotFoundError:
                continue
            except (OSError, ValueError, zlib.error, msgspec.DecodeError) as error:
                what = "of a later version, or damaged" if isinstance(error, msgspec.ValidationError) else "damaged"
                problem = problem or f"`{self.folder / name}` is {what}: {error}"
                continue
            told = journal.heard(self.folder, record.workload)
            return Loaded(record, problem or told.problem, told.messages, by)
        return Loaded(None, problem)

    def forget(self) -> None:
        """Everything that says what to enforce, and who this is."""
        journal.forget(self.folder)
        for name in (HELD, PREVIOUS, BEFORE, _NEW, TRUST, IN_FORCE):
            (self.folder / name).unlink(missing_ok=True)

    def _replace(self, content: bytes) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh, path, previous = (self.folder / name for name in (_NEW, HELD, PREVIOUS))
        fresh.unlink(missing_ok=True)
        try:
            with open(fresh, "xb", opener=_for_the_owner) as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            with suppress(OSError):  # half a record takes the room that a whole one needs
                fresh.unlink()
            raise
        if path.exists():
            path.replace(previous)
        fresh.replace(path)
        sync_folder(self.folder)


def _packed(record: Record, by: str) -> bytes:
    """Who wrote it stands behind the record, where the versions that know of no such thing do not look."""
    data = zlib.compress(msgspec.json.encode(record), 1) + by.encode()
    return _MAGIC + zlib.crc32(data).to_bytes(4, "big") + data


def _unpacked(content: bytes) -> tuple[Record, str]:
    """A record, and the version that wrote it."""
    data = content[8:]
    if content[:4] != _MAGIC or zlib.crc32(data).to_bytes(4, "big") != content[4:8]:
        raise ValueError("its checksum does not fit")
    inflater = zlib.decompressobj()
    text = inflater.decompress(data, _MAX_BYTES)
    if not inflater.eof:
        raise ValueError("it ends early, or never")
    return msgspec.json.decode(text, type=Record), inflater.unused_data.decode(errors="replace")


def _for_the_owner(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
