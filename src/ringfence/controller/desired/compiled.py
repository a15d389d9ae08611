"""One version of the policies over the inventory: what hosts run now, and after each turn of its dates and windows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

import msgspec

from ringfence.controller.desired.group_versions import GroupId
from ringfence.controller.desired.inputs import Inputs, Version
from ringfence.core.engine.engine import Engine
from ringfence.core.engine.live import LiveEngine
from ringfence.core.engine.rules import next_change, number_rules
from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import Lease, Workload
from ringfence.core.intent.compile import IntentCompiler, Moved
from ringfence.core.intent.membership import Group
from ringfence.core.intent.pieces import Body
from ringfence.core.policy.model import Conditions, Policy
from ringfence.core.world import Answer

HORIZON = timedelta(days=7)
MAX_UPCOMING = 8
"""How far ahead, and how many turns of dates and windows, a host is told of; after that what they open is closed."""


class Compiled:
    """One version over the present inventory, now and at the next turns of its dates and windows."""

    def __init__(self, version: Version, inputs: Inputs) -> None:
        self.version, self._inputs = version, inputs
        self._inventory = inputs.inventory
        self.live = LiveEngine(version.world(inputs.inventory, inputs.at))
        self.compiler = IntentCompiler(self.live.engine)
        self.upcoming = tuple(_turns(version, inputs))

    def follow(self, before: Workload | None, after: Workload | None, inputs: Inputs) -> Iterable[Moved]:
        """One workload that came, changed or went; `inputs` as they are then. What followed now, and at each turn."""
        self._inputs = msgspec.structs.replace(inputs, at=self._inputs.at)
        if after is not None:
            self.live.put_workload(after)
        elif before is not None:
            self.live.remove_workload(before.uuid)
        yield self.compiler.move(before, after)
        for _, later in self.upcoming:
            inventory = later.engine.world.inventory
            earlier = None if before is None else inventory.by_uuid[before.uuid]
            still = None if after is None else _still(after, self._inputs.at)
            later.engine.move(earlier, still, inventory.replacing(earlier, still))
            yield later.move(earlier, still)

    def covers(self, inputs: Inputs) -> bool:
        """Whether compiling over these would give the same."""
        return inputs.inventory is self._inventory and inputs.at == self._inputs.at

    @property
    def compiled_at(self) -> datetime:
        return self._inputs.at

    @property
    def turns(self) -> Iterable[datetime]:
        """When to compile anew: what holds now ends, or what was foretold runs out."""
        if self.compiler.valid_until is not None:
            yield self.compiler.valid_until
        if self.upcoming:
            yield self._inputs.at + HORIZON / 2

    def bodies(self, host: Workload) -> Iterator[tuple[str, Body]]:
        """What the host runs now, and after each turn, with its digest."""
        yield self.compiler.digest(host), self.compiler.body(host)
        for _, later in self.upcoming:
            still = later.engine.world.inventory.by_uuid[host.uuid]
            yield later.digest(still), later.body(still)

    def group(self, group_id: GroupId) -> Group | None:
        """A group that some body names."""
        networks, key = group_id
        compilers = (self.compiler, *(later for _, later in self.upcoming))
        return next((t[key] for c in compilers if key in (t := c.tables.get(networks, {}))), None)

    @property
    def tables(self) -> Iterable[tuple[GroupId, Group]]:
        """Every group that some body names."""
        for compiler in (self.compiler, *(later for _, later in self.upcoming)):
            for networks, table in compiler.tables.items():
                for key, group in table.items():
                    yield (networks, key), group


def _turns(version: Version, inputs: Inputs) -> Iterable[tuple[datetime, IntentCompiler]]:
    """What the next turns of dates and windows make of the policies, and at last what they are without them."""
    refs = number_rules(version.policies)
    if not any(_is_timed(ref.rule.conditions) for ref in refs):
        return
    at, end = inputs.at, inputs.at + HORIZON
    inventory, names = _held_still(version, inputs)
    still = msgspec.structs.replace(version, names=names)
    for _ in range(MAX_UPCOMING):
        times = (next_change(ref.rule.conditions, at) for ref in refs)
        following = min((time for time in times if time is not None), default=None)
        if following is None or following > end:
            break
        at = following
        yield at, IntentCompiler(Engine(still.world(inventory, at)))
    untimed = msgspec.structs.replace(still, policies=tuple(map(_untimed, version.policies)))
    engine = Engine(untimed.world(inventory, at), refine_by=version.policies)  # the same classes, the same groups
    yield max(end, at + timedelta(minutes=1)), IntentCompiler(engine)


def _held_still(version: Version, inputs: Inputs) -> tuple[Inventory, dict[str, tuple[Answer, ...]]]:
    """Addresses and names as they are now, whatever their leases say: only policy turns."""
    at = inputs.at
    inventory = Inventory((_still(workload, at) for workload in inputs.inventory.workloads), ignore=version.ignore)
    names = {name: tuple(Answer(a.addresses) for a in said if a.is_live(at)) for name, said in version.names.items()}
    return inventory, names


def _still(workload: Workload, at: datetime) -> Workload:
    """The workload with the addresses it has at a time, for ever."""
    leases = tuple(Lease(lease.address, lease.network) for lease in workload.live_addresses(at))
    return msgspec.structs.replace(workload, addresses=leases)


def _is_timed(conditions: Conditions) -> bool:
    return conditions.until is not None or conditions.within is not None


def _untimed(policy: Policy) -> Policy:
    """The policy less every allow that depends on the time."""
    kept = tuple(rule for rule in policy.rules if not _is_timed(rule.conditions))
    return msgspec.structs.replace(policy, rules=kept)
