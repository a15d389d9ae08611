"""The enforcement point as the agent drives it: what it asks of a target, so that a policy can be tried and reverted.

INVARIANT: the kernel itself ends a trial that was not confirmed: nobody has to be alive for it.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from ringfence.core.intent.model import Intent
from ringfence.ports.target import Observed
from ringfence.targets.nftables import NftablesTarget
from ringfence.targets.nftables.policy_change import Change
from ringfence.wire.messages import Live


class How(NamedTuple):
    """How an intent is to be applied."""

    live: Live = "cut"
    grace_s: float = 60.0
    trial_s: float | None = None
    """For so long it is tried; None: for good."""
    fallback: Intent | None = None
    """What decides again when the trial ends: the confirmed policy over the membership of now."""


class Point(Protocol):
    """One host's rules."""

    def converge(self, intent: Intent, how: How) -> Observed:
        """Raises FindingsError: refused as a whole; TargetError: the old rules are in force."""

    def observe(self) -> Observed: ...

    def confirm(self) -> None:
        """What is on trial stays; where the kernel had nothing to try, nothing happens. Raises TargetError
        `trial-over`: the policy before it is in force again."""

    def words(self, intent: Intent) -> tuple[str, ...]:
        """What somebody else changed, against the intent."""

    def text(self, intent: Intent) -> str:
        """The rules, for people."""

    def remove(self) -> None: ...


class NftablesPoint:
    """This host, or a network namespace of it."""

    def __init__(self, target: NftablesTarget) -> None:
        self.target = target

    def converge(self, intent: Intent, how: How) -> Observed:
        return self.target.converge(
            intent, trial_s=how.trial_s, live=how.live, grace_s=how.grace_s, fallback=how.fallback
        )

    def observe(self) -> Observed:
        return self.target.observe()

    def confirm(self) -> None:
        found = self.target.observe()
        if found.on_trial or found.is_reverted:
            self.target.confirm()

    def words(self, intent: Intent) -> tuple[str, ...]:
        found = self.target.observe()
        changes = self.target.changes(intent, found)
        if changes.is_first:
            return ("the table is gone",)
        repairs = () if changes.repairs == Change() else ("rules or addresses were changed by hand",)
        return (*changes.foreign, *repairs) or found.differences

    def text(self, intent: Intent) -> str:
        return self.target.render(intent)

    def remove(self) -> None:
        self.target.remove()


def nftables(netns: str | None) -> NftablesPoint:
    """The enforcement point of this host."""
    return NftablesPoint(NftablesTarget(netns))
