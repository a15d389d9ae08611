"""Telling people: what is told about an alert, and the Protocol of whoever carries it.

INVARIANT: a notice is complete and bounded: what happened, where, by which rule, since when, how often, and what to
run next, in plain text that holds no control characters, however hostile the names in it are.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal, Protocol

import msgspec

from ringfence.core.errors import RingfenceError
from ringfence.ports.state import AlertSeverity, AlertState

News = Literal["opened", "reopened", "raised", "again", "flapping", "resolved", "summary"]
"""Why a notice is sent: new, back after it was closed, more severe, still going on, coming and going, over; or that
there is more than was told one by one."""
SEVERITIES: tuple[AlertSeverity, ...] = ("info", "warning", "error", "critical")
"""Ascending."""


class Notice(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is told. `id` is unique: the same one twice is the same notice delivered twice."""

    id: str
    at: datetime
    news: News
    kind: str
    severity: AlertSeverity
    message: str
    """One sentence: who did what to whom."""
    alert: str = ""
    """Its id; empty for a summary."""
    state: AlertState = "open"
    subject: str = ""
    """What it is about: a workload, a version."""
    where: str = ""
    """The host that saw it."""
    rule: str = ""
    source: str = ""
    """Name of the workload, else the address."""
    source_identity: str = ""
    source_address: str = ""
    destination: str = ""
    destination_identity: str = ""
    destination_address: str = ""
    service: str = ""
    verdict: str = ""
    count: int = 1
    more: int = 0
    """How many since the last notice of this alert; of a summary, those held back."""
    first: datetime | None = None
    last: datetime | None = None
    examples: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    """What to run next, the best first."""


class NotifyError(RingfenceError):
    """A notice was not delivered."""

    def __init__(
        self, code: str, message: str, *, help: str = "", is_permanent: bool = False, retry_after_s: float | None = None
    ) -> None:
        super().__init__(code, message, help=help)
        self.is_permanent = is_permanent
        """It would fail again, however often it is tried."""
        self.retry_after_s = retry_after_s
        """How long the other side asked to be left alone."""


class Notifier(Protocol):
    """One way to tell people. Keeps nothing: what could not be delivered is the caller's."""

    @property
    def target(self) -> str:
        """Where to, for people; holds no secret."""

    async def send(self, notice: Notice) -> None:
        """Return when the other side has it, as far as its protocol can tell. Raises NotifyError."""

    async def close(self) -> None: ...
