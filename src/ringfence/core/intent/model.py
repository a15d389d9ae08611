"""Intent: everything one enforcement point needs, fully resolved, with nothing left to decide on the host.

    peers      which class an address is: exact addresses, and disjoint ranges for CIDRs and words
    parts      what each class may do here: (local part, class, services) -> allow, deny or forbid
    the rest   mode, quarantine, failsafe

A workload that appears, moves or dies changes `peers` only. Addresses are the 128-bit ints of `core.net.address`,
services the 24-bit points of `core.net.service`, every range inclusive.

INVARIANT: precedence is already applied. Within one part no two cells overlap, a point in no cell is the mode's
default, and an address in no class is class 0 (whose cells, if any, come from rules about `anyone`).
INVARIANT: exact addresses are looked up before ranges; an address is in at most one class and ranges are disjoint.
"""

from __future__ import annotations

import hashlib
from datetime import datetime

import msgspec

from ringfence.core.errors import Finding
from ringfence.core.identity.workload import Direction, Mode
from ringfence.core.net.intervals import EMPTY, IntervalSet
from ringfence.core.policy.model import Action

UNKNOWN_CLASS = 0


class PeerClass(msgspec.Struct, frozen=True):
    """One class of remote addresses; `id` is at least 1 and never reused across live generations."""

    id: int
    text: str
    """For people: the labels, or the CIDRs."""
    addresses: tuple[int, ...] = ()
    """Exact addresses, sorted."""
    ranges: tuple[tuple[int, int], ...] = ()
    """Ranges of addresses that no workload holds, sorted."""


class Cell(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The verdict of one class on some services, under `enforce`."""

    peer: int
    services: IntervalSet
    action: Action
    rule: str


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The cells of one direction for some of the host's own addresses or one of its processes."""

    direction: Direction
    cells: tuple[Cell, ...] = ()
    local: IntervalSet = IntervalSet()
    """The host's own addresses this part is for; empty means all of them."""
    unit: str | None = None
    """The process (systemd unit, cgroup or path) this part is for; None means every process no other part names."""


class Passage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Traffic that passes outright: remote addresses and services in one direction."""

    direction: Direction
    remote: IntervalSet
    services: IntervalSet
    local: IntervalSet = EMPTY
    """The host's own addresses it is for; empty means all of them."""

    def __post_init__(self) -> None:
        if not self.local:  # the default itself, so that equal passages are written, and digested, alike
            msgspec.structs.force_setattr(self, "local", EMPTY)


class Intent(msgspec.Struct, frozen=True):
    """All that one host must enforce."""

    workload: str
    """UUID."""
    name: str
    mode: Mode
    own: tuple[int, ...]
    """The host's own live addresses."""
    peers: tuple[PeerClass, ...] = ()
    parts: tuple[Part, ...] = ()
    failsafe: tuple[Passage, ...] = ()
    is_quarantined: bool = False
    """This host itself is isolated: everything but `quarantine_passages` is blocked."""
    isolated: tuple[int, ...] = ()
    """Remote addresses of quarantined workloads: everything with them but `quarantine_passages` is blocked."""
    quarantine_passages: tuple[Passage, ...] = ()
    """What passes a quarantine, with the rule "both must except it" already applied."""
    valid_until: datetime | None = None
    """When a condition, lease or expiry changes the answer next; compile again by then."""
    revision: int = 0
    refusals: tuple[Finding, ...] = ()
    """Rules no host can express. A warning is an allow that stays closed, which may be accepted; an error (a deny, a
    forbid, a quarantine) fails the plan."""

    @property
    def digest(self) -> str:
        """SHA-256 over the canonical JSON of what is enforced (not the revision, names or refusals)."""
        return _digest(msgspec.structs.replace(self, revision=0, refusals=(), valid_until=None, name=""))

    @property
    def policy_digest(self) -> str:
        """The digest less membership: equal when only addresses of peers came or went."""
        peers = tuple(PeerClass(p.id, "") for p in self.peers)
        return _digest(
            msgspec.structs.replace(self, revision=0, refusals=(), valid_until=None, name="", peers=peers, isolated=())
        )


def _digest(value: Intent) -> str:
    return hashlib.sha256(msgspec.json.encode(value, order="deterministic")).hexdigest()
