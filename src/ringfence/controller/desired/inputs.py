"""What the desired state of every host is a function of: values, nothing that acts."""

from __future__ import annotations

from datetime import datetime

import msgspec

from ringfence.core.identity.inventory import Inventory
from ringfence.core.policy.model import Policy
from ringfence.core.world import Answer, Failsafe, World
from ringfence.wire.messages import Live, Trial


class Manner(msgspec.Struct, frozen=True):
    """How a version of the policies is to be applied."""

    live: Live = "drain"
    grace_s: int = 60
    trial: Trial | None = None


class Version(msgspec.Struct, frozen=True):
    """A published version of the policies."""

    number: int
    policies: tuple[Policy, ...] = ()
    manner: Manner = Manner()
    failsafe: tuple[Failsafe, ...] = ()
    names: dict[str, tuple[Answer, ...]] = {}
    ignore: frozenset[str] = frozenset()
    """Label keys that make no identities under it."""
    problem: str = ""
    """Why it cannot be read, here and now: its hosts keep what they have."""

    def world(self, inventory: Inventory, at: datetime) -> World:
        """The world under this version and its own settings, without quarantines."""
        return World(inventory.ignoring(self.ignore), self.policies, (), self.failsafe, self.names, at)


class Inputs(msgspec.Struct, frozen=True):
    """Everything the desired state is a function of."""

    inventory: Inventory
    base: Version
    at: datetime
    next: Version | None = None
    """A version being rolled out."""
    ahead: frozenset[str] = frozenset()
    """The hosts (UUIDs) that have the next version already."""
    is_held: bool = False
    """Every host keeps what it has: nothing is told but quarantine."""

    def version_of(self, uuid: str) -> Version:
        """The version a host is to have."""
        return self.next if self.next is not None and uuid in self.ahead else self.base

    @property
    def versions(self) -> tuple[Version, ...]:
        """Those in use that can be read."""
        every = (self.base,) if self.next is None else (self.base, self.next)
        return tuple(one for one in every if not one.problem)
