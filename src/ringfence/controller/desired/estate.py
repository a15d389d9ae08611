"""The estate as the state holds it: records -> the values every decision depends on."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

import msgspec

from ringfence.controller.desired.inputs import Inputs, Manner, Version
from ringfence.controller.desired.rollout import ahead_in
from ringfence.core.errors import InputError, RingfenceError
from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import Lease, Workload
from ringfence.core.labels.selector import parse_selector
from ringfence.core.net.address import HOLDABLE, parse_address, parse_cidr
from ringfence.core.net.intervals import IntervalSet
from ringfence.core.net.service import parse_service
from ringfence.core.policy.model import WORDS, Cidr, Everywhere, Peer, Policy, Workloads
from ringfence.core.policy.parse import parse_policies
from ringfence.core.world import Quarantine, QuarantineException, World
from ringfence.ports.state import (
    LeaseRecord,
    PolicyVersion,
    QuarantineRecord,
    Rollout,
    View,
    Where,
    WorkloadRecord,
    WrittenException,
)
from ringfence.settings import Settings, failsafe_of, names_of, parse_settings

_log = logging.getLogger(__name__)
UNDERWAY = ("canary", "spreading", "stopped")
"""States of a rollout whose version is not everybody's yet."""


ROLLED_OUT = ("done", "passed")
"""States of one whose version every host was told: it ended, or another began while it spread."""


class Held(msgspec.Struct, frozen=True):
    """All of the state that a decision depends on, as of one moment."""

    workloads: tuple[Workload, ...]
    versions: tuple[PolicyVersion, ...]
    """The newest, and the one before that every host has."""
    quarantines: tuple[QuarantineRecord, ...]
    rollouts: dict[int, Rollout] = {}
    """How those versions are, or were, rolled out."""

    @property
    def newest(self) -> PolicyVersion | None:
        return self.versions[0] if self.versions else None

    @property
    def underway(self) -> Rollout | None:
        """The rollout of the newest version, unless every host has it."""
        found = self.rollouts.get(self.newest.number) if self.newest is not None else None
        return found if found is not None and found.state in UNDERWAY else None


def read_estate(view: View) -> Held:
    """What the state says now."""
    versions = view.find(PolicyVersion, order="-number", limit=1)
    quarantines = view.find(QuarantineRecord, Where("released_at", None))
    held = Held((), tuple(versions), (), _rollouts(view, versions))
    if held.underway is not None and (base := base_of(view, versions[0].number)) is not None:
        versions.append(base)
    return Held(tuple(read_workloads(view)), tuple(versions), tuple(quarantines), _rollouts(view, versions))


def _rollouts(view: View, versions: Iterable[PolicyVersion]) -> dict[int, Rollout]:
    """The last rollout of each version."""
    found = view.find(Rollout, Where("version", [v.number for v in versions], "in"), order="started")
    return {rollout.version: rollout for rollout in found}


def base_of(view: View, number: int) -> PolicyVersion | None:
    """The version that every host has while another is rolled out: the newest that was rolled out before it."""
    done = view.find(
        Rollout, Where("version", number, "<"), Where("state", ROLLED_OUT, "in"), order="-version", limit=1
    )
    return view.get(PolicyVersion, done[0].version) if done else None


def read_workloads(view: View, *where: Where) -> Iterable[Workload]:
    """Workloads with the addresses they hold or held."""
    leases: dict[str, list[LeaseRecord]] = {}
    for lease in view.find(LeaseRecord, Where("end", None)):
        leases.setdefault(lease.workload, []).append(lease)
    return [record_to_workload(record, leases.get(record.uuid, ())) for record in view.find(WorkloadRecord, *where)]


def read_workload(view: View, uuid: str) -> Workload | None:
    record = view.get(WorkloadRecord, uuid)
    if record is None:
        return None
    return record_to_workload(record, view.find(LeaseRecord, Where("workload", uuid), Where("end", None)))


def record_to_workload(record: WorkloadRecord, leases: Iterable[LeaseRecord]) -> Workload:
    """The workload with the addresses it holds now: when that began is history, no condition. A row that holds what no
    host can have is skipped: it must not keep the others from being followed."""
    workload = record.workload()
    addresses = sorted({(lease.network, lease.address) for lease in leases if lease.address in HOLDABLE})
    return msgspec.structs.replace(workload, addresses=tuple(Lease(address, network) for network, address in addresses))


def settings_of(version: PolicyVersion | None) -> Settings:
    """The settings a version was judged with. Raises FindingsError."""
    return settings_in(version.settings if version is not None else "")


def settings_in(text: str) -> Settings:
    return parse_settings(text, Path("ringfence.toml"))


def policies_of(version: PolicyVersion, ignore: Iterable[str]) -> tuple[Policy, ...]:
    """What a version says. Raises FindingsError."""
    return parse_policies(version.files, ignore=frozenset(ignore)).raise_if_errors()


def inputs_of(held: Held, at: datetime, ahead: frozenset[str] = frozenset()) -> Inputs:
    """Everything the desired state is a function of; each version with its own settings.

    INVARIANT: a version that cannot be read here and now stops nothing: it says so, and its hosts keep what they have.
    """
    is_underway = held.underway is not None
    base = held.newest if not is_underway else (held.versions[1] if len(held.versions) > 1 else None)
    return Inputs(
        inventory=Inventory(held.workloads),
        base=_version(base, held),
        at=at,
        next=_version(held.newest, held) if is_underway else None,
        ahead=ahead,
    )


def ahead_of(held: Held) -> frozenset[str]:
    """The hosts that are told the version under way."""
    if held.underway is None:
        return frozenset()
    hosts = {w.uuid for w in held.workloads if w.has_agent and w.is_host}
    return ahead_in(held.underway.state, held.underway.canary, hosts)


def _version(version: PolicyVersion | None, held: Held) -> Version:
    if version is None:
        return Version(0)
    rollout = held.rollouts.get(version.number)
    try:
        said = version_of(version)
        text = rollout.manner if rollout is not None else ""
        return msgspec.structs.replace(said, manner=msgspec.json.decode(text, type=Manner)) if text else said
    except (RingfenceError, ValueError) as error:
        _log.error("version %d cannot be read; its hosts keep what they have: %s", version.number, error)
        return Version(version.number, problem=str(error))


def version_of(version: PolicyVersion) -> Version:
    """What a version says, with its own settings. Raises FindingsError."""
    settings = settings_of(version)
    ignore = frozenset(settings.identity.ignore)
    policies = policies_of(version, ignore)
    return Version(version.number, policies, Manner(), failsafe_of(settings), names_of(settings), ignore)


def world_in(settings: str, inventory: Inventory, at: datetime) -> World:
    """The world that settings make of an inventory; it has no policies. Raises FindingsError."""
    read = settings_in(settings)
    return World(inventory.ignoring(read.identity.ignore), (), (), failsafe_of(read), names_of(read), at)


# ---- quarantine -----------------------------------------------------------------------------------------------------


def quarantines_of(records: Iterable[QuarantineRecord]) -> tuple[Quarantine, ...]:
    """Records as the core judges them. An exception that cannot be read passes nothing."""
    return tuple(
        Quarantine(record.workload, tuple(map(exception_of, record.exceptions)), record.until, record.addresses)
        for record in records
    )


def exception_of(written: WrittenException) -> QuarantineException:
    """Raises InputError `bad-exception`."""
    try:
        return QuarantineException((_peer(written.peer),), parse_service(written.service), written.direction)
    except ValueError as error:
        message = f"`{written.peer}` on `{written.service}` cannot be excepted: {error}"
        help_ = "write it like `role=forensics tcp/22 in`"
        raise InputError("bad-exception", message, help=help_) from error


def _peer(text: str) -> Peer:
    """A word, an address, a CIDR or a selector. Raises ValueError."""
    if text in WORDS:
        return Everywhere(text)
    if "/" in text or ":" in text or text[:1].isdigit():
        return Cidr(text, parse_cidr(text) if "/" in text else IntervalSet.single(parse_address(text)))
    selector = parse_selector(text)
    if not selector.requirements:
        raise ValueError("it picks everybody; write `anyone` if that is meant")
    return Workloads((selector,), text)
