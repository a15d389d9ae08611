"""A controller that was put back to an earlier moment: by a snapshot of its machine, or by a backup.

Its agents hold later revisions than it will give, and would take nothing from it: it steps past them and tells
everything anew. After a restore from a backup it does not know which quarantines were begun and which certificates were
revoked since, so it waits.

INVARIANT: until an administrator confirms a restore, hosts keep what they have; only a quarantine that somebody begins
or ends is told, to hold beside those they have (`restored.Since`). INVARIANT: no agent can make the numbers run out, or
have everything told anew over and over.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Final

import msgspec

from ringfence.controller import audit
from ringfence.controller.access.access import Principal
from ringfence.controller.desired.reconcile import Reconciler
from ringfence.controller.desired.restored import CONFIRMED, is_restored
from ringfence.core.errors import InputError
from ringfence.ports.state import Change, State
from ringfence.wire.messages import Realised

_log = logging.getLogger(__name__)
MOST: Final = 1 << 53
"""A revision beyond this is no controller's: it is not believed."""
_PAUSE: Final = timedelta(minutes=1)


class Resuming:
    """Keeps the controller ahead of its agents."""

    def __init__(
        self,
        state: State,
        reconciler: Reconciler,
        clock: Callable[[], datetime],
        heard: Callable[[], Mapping[str, Realised]],
        tell: Callable[[str, str, str], None],
    ) -> None:
        """`heard`: what each agent realised, by UUID; `tell`: (UUID, kind, message), for people."""
        self._state, self._reconciler, self._clock = state, reconciler, clock
        self._heard, self._tell = heard, tell
        self._leapt: datetime | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether a restore is to be confirmed."""
        return self._reconciler.inputs.is_held

    async def advance(self) -> None:
        """Step past the revisions that agents name, if any is later than ours. Call it every few seconds."""
        now = self._clock()
        if self._leapt is not None and now - self._leapt < _PAUSE:
            return
        revision, isolations = self._reconciler.revisions
        ahead = {uuid: said for uuid, said in self._heard().items() if _is_ahead(said, revision, isolations)}
        if not ahead:
            return
        self._leapt = now
        named = [one for said in ahead.values() for one in (said.assignment, said.change) if one <= MOST]
        revision = max(named, default=0)
        isolations = max((said.isolations for said in ahead.values() if said.isolations <= MOST), default=0)
        await self._reconciler.leap(revision, isolations)
        uuid = min(ahead)
        message = (
            f"{len(ahead)} hosts hold later revisions than this controller ever gave: it was put back to an earlier "
            "moment. Everything is told anew; look for quarantines, revocations and changes that were made since"
        )
        self._tell(uuid, "controller-put-back", message)
        details = {"hosts": sorted(ahead)[:100], "revision": revision, "isolations": isolations}
        await self._state.write(
            lambda tx: audit.record(
                tx, at=now, actor="controller", action="controller.leap", subject=uuid, details=details
            )
        )

    async def confirm(self, *, by: Principal) -> None:
        """An administrator has looked: what the state says is in force from now on. Raises AccessError `not-allowed`,
        InputError `not-restored`."""
        by.demand("backup")
        now = self._clock()

        def work(tx: Change) -> None:
            if not is_restored(tx):
                raise InputError("not-restored", "no restore waits to be confirmed", help="nothing is to be done")
            tx.next(CONFIRMED)
            audit.record(tx, at=now, actor=by.name, action="backup.confirm", subject="restore", details={})

        await self._state.write(work)
        await self._reconciler.reveal()
        await self._reconciler.change(lambda inputs: msgspec.structs.replace(inputs, is_held=False))


def _is_ahead(said: Realised, revision: int, isolations: int) -> bool:
    named = max(said.assignment, said.change)
    return revision < named <= MOST or isolations < said.isolations <= MOST
