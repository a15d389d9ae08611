"""Evidence: asked of a host, its parts gathered from the bus, whole on disk, with a digest in the audit log.

    evidence/ID/order.json   what was asked         evidence/ID/NNN.part   as they come       evidence/ID/bundle.tar.gz

INVARIANT: nothing is deleted that the audit log does not say was, with its digest.
INVARIANT: a part counts only if it was asked for, of the host that sends it; a bundle is whole or not there. A kept
message is on disk before the bus forgets it.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import secrets
import shutil
from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from ringfence.controller import audit
from ringfence.controller.access.access import Principal
from ringfence.controller.publishing.workloads import Workloads
from ringfence.core.errors import InputError
from ringfence.durable import write_secret
from ringfence.ports.bus import Bus
from ringfence.ports.state import State
from ringfence.wire import subjects
from ringfence.wire.api import AskEvidence, EvidenceView
from ringfence.wire.evidence import Part, join, read_part
from ringfence.wire.messages import Order

_log = logging.getLogger(__name__)
_VALID: Final = timedelta(minutes=10)
_ID = re.compile(r"[0-9a-f]{16}")
_BUNDLE, _DIGEST = "bundle.tar.gz", "sha256"
"""The digest is written last: where it is, the bundle is whole."""
_WITH_COMMAND_LINES = "with-command-lines"
"""As agents read it (`agent.evidence`)."""


class Keep(NamedTuple):
    """How much evidence is kept: beyond it the oldest goes, but never the newest."""

    bundles: int = 500
    size_bytes: int = 20_000_000_000


class Collecting:
    """The evidence of an estate."""

    def __init__(
        self,
        folder: Path,
        state: State,
        workloads: Workloads,
        order: Callable[[str, Order], Awaitable[None]],
        clock: Callable[[], datetime],
        *,
        keep: Keep,
    ) -> None:
        self._folder, self._state, self._workloads = folder, state, workloads
        self._order, self._clock, self._keeps = order, clock, keep
        self._forgetting = asyncio.Lock()
        """Bundles of several hosts come at once, and each is forgotten once."""

    async def start(self, bus: Bus) -> None:
        """Hear what agents send."""
        await bus.consume("evidence", "rf.keep.*.evidence", self._take)

    async def ask(self, asked: AskEvidence, *, by: Principal) -> EvidenceView:
        """Tell a host to send a bundle. Raises AccessError `not-allowed`, `outside-scope`, InputError
        `unknown-workload`, `no-reason`, BusError."""
        by.demand("evidence")
        audit.demand_reason(asked.why, "evidence")
        workload, now, id_ = self._workloads.find(asked.workload), self._clock(), secrets.token_hex(8)
        by.demand_workload("evidence", workload.labels)
        view = EvidenceView(id_, workload.uuid, workload.name, now, by.name, "asked")
        details = {"id": id_, "why": asked.why, "command_lines": asked.with_command_lines}
        await asyncio.to_thread(self._open, view)
        await self._state.write(
            lambda tx: audit.record(
                tx, at=now, actor=by.name, action="evidence.ask", subject=workload.uuid, details=details
            )
        )
        argument = _WITH_COMMAND_LINES if asked.with_command_lines else ""
        await self._order(workload.uuid, Order(id_, "evidence", argument, (now + _VALID).timestamp(), workload.uuid))
        return view

    def _open(self, view: EvidenceView) -> None:
        folder = self._folder / view.id
        folder.mkdir(parents=True, mode=0o700)
        write_secret(folder / "order.json", msgspec.json.encode(view))

    async def _take(self, subject: str, data: bytes) -> None:
        """One part; on disk when this returns."""
        sender = subjects.sender(subject)
        try:
            part = read_part(data)
        except InputError as error:
            _log.warning("evidence of `%s` cannot be read, and is lost: %s", sender, error.message)
            return
        view = await asyncio.to_thread(self._view, part.id)
        if view is None or view.workload != sender:
            _log.warning("`%s` sent evidence that nobody asked it for", sender)
            return
        digest = await asyncio.to_thread(self._keep, part)
        if digest:
            details = {"id": part.id, "digest": digest}
            now = self._clock()
            await self._state.write(
                lambda tx: audit.record(
                    tx, at=now, actor=sender, action="evidence.here", subject=sender, details=details
                )
            )
            await self.retain()

    def _keep(self, part: Part) -> str:
        """Keep a part; the digest of the bundle where that makes it whole."""
        folder = self._folder / part.id
        if (folder / _DIGEST).exists():
            return ""
        write_secret(folder / f"{part.number:03}.part", msgspec.msgpack.encode(part))
        try:
            bundle = join(self._parts(folder))
        except InputError as error:
            _log.warning("evidence `%s` is damaged: %s", part.id, error.message)
            return ""
        if bundle is None:
            return ""
        digest = hashlib.sha256(bundle).hexdigest()
        write_secret(folder / _BUNDLE, bundle)
        write_secret(folder / _DIGEST, digest.encode())
        for path in folder.glob("*.part"):
            path.unlink()
        return digest

    @staticmethod
    def _parts(folder: Path) -> Iterator[Part]:
        for path in folder.glob("*.part"):
            yield read_part(path.read_bytes())

    # ---- forgetting -------------------------------------------------------------------------------------------------

    async def delete(self, id_: str, *, why: str, by: Principal) -> EvidenceView:
        """Forget a bundle, whether it is here yet or not. Raises AccessError `not-allowed`, `outside-scope`, InputError
        `no-reason`, `unknown-evidence`."""
        by.demand("erase")
        audit.demand_reason(why, "deleting evidence")
        async with self._forgetting:
            view = await asyncio.to_thread(self._view, id_)
            if view is None:
                raise _unknown(id_)
            known = self._workloads.inventory.by_uuid.get(view.workload)
            by.demand_workload("erase", known.labels if known is not None else {})
            await self._forget(view, by.name, why)
        return view

    async def retain(self) -> int:
        """Forget the oldest bundles beyond what is kept; how many."""
        room, gone = self._keeps.size_bytes, 0
        async with self._forgetting:
            for number, (view, size) in enumerate(await asyncio.to_thread(self._sized)):
                room -= size
                if number and (number >= self._keeps.bundles or room < 0):
                    await self._forget(view, "controller", "more than is kept")
                    gone += 1
        return gone

    def _sized(self) -> list[tuple[EvidenceView, int]]:
        """Every bundle with what it takes on disk, the latest first."""
        return [(v, sum(p.stat().st_size for p in (self._folder / v.id).iterdir())) for v in self.all()]

    async def _forget(self, view: EvidenceView, by: str, why: str) -> None:
        details = {"id": view.id, "digest": view.digest, "size_bytes": view.size_bytes, "asked": view.at, "why": why}
        now = self._clock()
        await self._state.write(
            lambda tx: audit.record(
                tx, at=now, actor=by, action="evidence.delete", subject=view.workload, details=details
            )
        )
        await asyncio.to_thread(shutil.rmtree, self._folder / view.id)

    # ---- looking ----------------------------------------------------------------------------------------------------

    def all(self) -> tuple[EvidenceView, ...]:
        """Every bundle, the latest first. Slow: for a thread."""
        ids = (path.name for path in self._folder.glob("*/")) if self._folder.is_dir() else ()
        views = [view for id_ in ids if (view := self._view(id_)) is not None]
        return tuple(sorted(views, key=lambda v: v.at, reverse=True))

    def demand(self, view: EvidenceView, by: Principal) -> None:
        """The right over evidence of that host. Raises AccessError `not-allowed`, `outside-scope`."""
        known = self._workloads.inventory.by_uuid.get(view.workload)
        by.demand_workload("evidence", known.labels if known is not None else {})

    def path(self, id_: str) -> tuple[EvidenceView, Path]:
        """A bundle that is here. Raises InputError `unknown-evidence`, `evidence-not-here`."""
        view = self._view(id_)
        if view is None:
            raise _unknown(id_)
        if view.state != "here":
            help_ = "the host sends it when it can; look again"
            raise InputError("evidence-not-here", f"evidence `{id_}` is not here yet", help=help_)
        return view, self._folder / id_ / _BUNDLE

    def _view(self, id_: str) -> EvidenceView | None:
        """None where there is none, or it is deleted at this moment."""
        try:
            return self._read(self._folder / id_) if _ID.fullmatch(id_) else None
        except FileNotFoundError:
            return None

    def _read(self, folder: Path) -> EvidenceView:
        order = folder / "order.json"
        view = msgspec.json.decode(order.read_bytes(), type=EvidenceView)
        digest = folder / _DIGEST
        if digest.exists():
            size = (folder / _BUNDLE).stat().st_size
            return msgspec.structs.replace(view, state="here", size_bytes=size, digest=digest.read_text())
        return msgspec.structs.replace(view, state="arriving") if any(folder.glob("*.part")) else view


def _unknown(id_: str) -> InputError:
    return InputError(
        "unknown-evidence", f"there is no evidence `{id_}`", help="`ringfence evidence` lists those there are"
    )
