"""A target: one enforcement technology. Exact or refused (law 4); own only what is ours (law 7)."""

from __future__ import annotations

from typing import Any, Literal, Protocol

import msgspec

from ringfence.core.errors import Finding
from ringfence.core.intent.model import Intent

State = Literal["realised", "pending", "drifted", "refused", "unreachable", "absent"]


class Observed(msgspec.Struct, frozen=True):
    """What was read back from the enforcement point, as an Intent again, with what differs."""

    state: State
    intent: Intent | None = None
    """The read-back, parsed; None when nothing of ours is there."""
    digest: str = ""
    differences: tuple[str, ...] = ()


class Target(Protocol):
    """`support` and `plan` are pure; `apply` and `observe` are the only steps that touch anything."""

    def support(self, intent: Intent) -> tuple[Finding, ...]:
        """Refusals: what this technology cannot express exactly."""

    def plan(self, intent: Intent, observed: Observed) -> Any:
        """What to add and remove, as one transaction; empty when nothing changes."""

    def apply(self, plan: Any) -> None:
        """Commit the plan atomically. Raises TargetError and leaves the old state when refused."""

    def observe(self) -> Observed:
        """Read back what is realised."""
