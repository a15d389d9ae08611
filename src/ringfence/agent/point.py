"""The enforcement point as the agent drives it: what it asks of a target, so that a policy can be tried and reverted.

    converge        the whole intent, proven                 audit   all of it, read anew
    move, isolate   a few addresses, at the cost of the change
    watch           who writes to the rules, as it happens

INVARIANT: the kernel itself ends a trial that was not confirmed: nobody has to be alive for it.
INVARIANT: where the kernel can, the table belongs to this process alone as long as it lives, and its rules outlive it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from ringfence.core.errors import TargetError
from ringfence.core.intent.model import Intent
from ringfence.ports.target import Observed
from ringfence.targets.nftables import NftablesTarget
from ringfence.targets.nftables.ownership import Ownership
from ringfence.targets.nftables.watch import Watch
from ringfence.wire.messages import Live


class How(NamedTuple):
    """How an intent is to be applied."""

    live: Live = "cut"
    grace_s: float = 60.0
    trial_s: float | None = None
    """For so long it is tried; None: for good."""
    fallback: Intent | None = None
    """What decides again when the trial ends: the confirmed policy over the membership of now."""
    policy: str = ""
    """What the policy goes by, and its trial."""


class Tried(NamedTuple):
    """A policy on trial, as the kernel knows it."""

    policy: str
    """What it goes by."""
    left_s: float
    """0: it was not confirmed in time, and the one before decides again."""


class Told(Protocol):
    """One commit of anybody, in words by `str`."""

    @property
    def is_tampering(self) -> bool: ...


class Watching(Protocol):
    """A subscription to everybody's commits."""

    def fileno(self) -> int: ...

    def read(self) -> Sequence[Told]:
        """Never blocks."""

    def close(self) -> None: ...


class Point(Protocol):
    """One host's rules."""

    def converge(self, intent: Intent, how: How) -> Observed:
        """Raises FindingsError: refused as a whole; TargetError: the old rules are in force."""

    def move(self, added: Mapping[int, Collection[int]], removed: Collection[int]) -> Observed:
        """Addresses that are of a class from now on, and those that are of none. Raises like `converge`."""

    def isolate(self, intent: Intent) -> Observed:
        """The quarantines of an intent that is in force but for them, for what is on trial, too. Raises like
        `converge`; TargetError `policy-differs` where something else is in force."""

    def observe(self) -> Observed: ...

    def audit(self, intent: Intent) -> tuple[str, ...]:
        """What differs from the intent when everything is read anew; what was known of the kernel is forgotten then."""

    def tried(self) -> Tried | None:
        """What is on trial, or was and is still told apart in the kernel."""

    def confirm(self) -> None:
        """What is on trial stays; where the kernel had nothing to try, nothing happens. Raises TargetError
        `trial-over`: the policy before it is in force again."""

    def sever(self) -> int:
        """Tell the host's programs which of their connections the rules refuse; how many there were."""

    def watch(self) -> Watching:
        """Raises TargetError `unreachable`."""

    def text(self, intent: Intent) -> str:
        """The rules, for people."""

    def remove(self) -> None: ...

    def close(self) -> None:
        """Let go of the rules, which stay."""


class NftablesPoint:
    """This host, or a network namespace of it. With an `ownership` the table is this process's own until `close`."""

    def __init__(
        self, netns: str | None, ownership: Ownership | None = None, *, cgroup_root: Path | None = None
    ) -> None:
        self._netns, self._ownership, self._cgroup_root = netns, ownership, cgroup_root
        self.target = self._fresh()

    def _fresh(self) -> NftablesTarget:
        return NftablesTarget(self._netns, cgroup_root=self._cgroup_root, ownership=self._ownership)

    def converge(self, intent: Intent, how: How) -> Observed:
        return self.target.converge(
            intent, trial_s=how.trial_s, live=how.live, grace_s=how.grace_s, policy=how.policy, fallback=how.fallback
        )

    def move(self, added: Mapping[int, Collection[int]], removed: Collection[int]) -> Observed:
        return self.target.apply_membership(added, removed)

    def isolate(self, intent: Intent) -> Observed:
        return self.target.apply_isolation(intent, severs=True)

    def observe(self) -> Observed:
        return self.target.observe()

    def audit(self, intent: Intent) -> tuple[str, ...]:
        self.target = self._fresh()
        found = self.target.verify(intent)
        return () if found.state in ("realised", "refused") else found.differences or ("the table is gone",)

    def tried(self) -> Tried | None:
        found = self.target.observe()
        if found.trial is None or not (found.on_trial or found.is_reverted):
            return None
        return Tried(found.trial.policy, found.trial_left_s if found.on_trial else 0.0)

    def confirm(self) -> None:
        found = self.target.observe()
        if found.on_trial or found.is_reverted:
            self.target.confirm()

    def sever(self) -> int:
        return self.target.sever()

    def watch(self) -> Watch:
        return Watch(self._netns)

    def text(self, intent: Intent) -> str:
        return self.target.render(intent)

    def remove(self) -> None:
        self.target.remove()

    def close(self) -> None:
        if self._ownership is not None:
            self._ownership.close()


def nftables(netns: str | None) -> NftablesPoint:
    """The enforcement point of this host; its table is this process's own from the first converge on.

    Raises TargetError `not-permitted`, `unreachable`.
    """
    try:
        ownership = Ownership(netns)
    except OSError as error:
        raise TargetError("not-permitted", f"the rules of this host cannot be changed: {error.strerror}",
                          help="run as root, or with CAP_NET_ADMIN") from error  # fmt: skip
    return NftablesPoint(netns, ownership)
