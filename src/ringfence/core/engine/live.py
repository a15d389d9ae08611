"""A live index: the same answers after one rule or one workload changed, at the cost of the change.

A rule keeps its slot: removing it takes it out of the action bitsets, adding it sets its bits in the rows of its
classes. The resident connection sets are repainted only where the rule speaks.

INVARIANT (no hysteresis, law 2): after any sequence of changes every answer equals that of an engine compiled from the
result. What a change cannot express in place (a new CIDR, a service that cuts an atom) compiles anew.
"""

from __future__ import annotations

from functools import cached_property

import msgspec
import numpy as np

from ringfence.core.engine import matrix
from ringfence.core.engine.bits import Ids
from ringfence.core.engine.engine import Engine
from ringfence.core.engine.prove import canvas_of
from ringfence.core.engine.rules import Facts, RuleRef
from ringfence.core.errors import InputError
from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import Workload
from ringfence.core.policy.model import Policy, Rule
from ringfence.core.world import World

MAX_RESIDENT = 10_000
"""Classes up to which the connection sets stay in memory (4 bytes a pair: 400 MB); above it ask in strips."""
_SMALL = 16
"""Cells up to which a block is repainted one by one: painting has a fixed cost."""


class LiveEngine:
    """An engine that follows changes. `engine` always answers for the present world."""

    def __init__(self, world: World) -> None:
        self._adopt(Engine(world))

    def _adopt(self, engine: Engine) -> None:
        self.engine = engine
        self.interner = matrix.Interner()
        self.__dict__.pop("_resident", None)

    @property
    def numbers(self) -> matrix.Numbers:
        """The resident connection sets, classes x classes. Raises InputError `too-many-identities` above the cap."""
        size = len(self.engine.classes)
        if size > MAX_RESIDENT:
            help_ = "exclude per-workload labels with `identity.ignore`, or ask in strips"
            raise InputError("too-many-identities", f"{size} classes are more than stay in memory", help=help_)
        self._grow(size)
        return self._resident[:size, :size]

    def passes(self, source: int, destination: int) -> int:
        """The atoms that pass between two classes, as a bitset."""
        return self.interner.sets[int(self.numbers[source, destination])]

    # ---- rules ------------------------------------------------------------------------------------------------------

    def add_rule(self, policy: str, rule: Rule) -> None:
        """Add a rule to a policy of the world. Raises InputError `duplicate-name`, `unknown-policy`."""
        owner = self._policy(policy)
        if self.engine.find_rule(owner.ref(rule)) is not None:
            raise InputError("duplicate-name", f"`{policy}` has a rule `{rule.name}` already")
        grown = msgspec.structs.replace(owner, rules=(*owner.rules, rule))
        world = self._with_policy(grown)
        number = self.engine.adopt_rule(world, RuleRef(grown.ref(rule), grown, rule))
        if number is None:
            self._adopt(Engine(world))
            return
        self._repaint(number)

    def remove_rule(self, ref: str) -> None:
        """Remove `policy/name`. Raises InputError `unknown-rule`."""
        number = self.engine.find_rule(ref)
        if number is None:
            raise InputError("unknown-rule", f"there is no rule `{ref}`")
        gone = self.engine.rules[number]
        owner = self._policy(gone.policy.name)
        position = owner.rules.index(gone.rule)
        kept = owner.rules[:position] + owner.rules[position + 1 :]
        self.engine.drop_rule(self._with_policy(msgspec.structs.replace(owner, rules=kept)), number)
        self._repaint(number)

    def _policy(self, name: str) -> Policy:
        found = next((p for p in self.engine.world.policies if p.name == name), None)
        if found is None:
            raise InputError("unknown-policy", f"there is no policy `{name}`")
        return found

    def _with_policy(self, policy: Policy) -> World:
        policies = tuple(policy if p.name == policy.name else p for p in self.engine.world.policies)
        return msgspec.structs.replace(self.engine.world, policies=policies)

    # ---- workloads --------------------------------------------------------------------------------------------------

    def put_workload(self, workload: Workload) -> None:
        """Add a workload, or replace the one with its UUID: a relabelling, a new address, another mode.

        Raises InputError `duplicate-name` for the name of another workload.
        """
        before = self.engine.world.inventory.by_uuid.get(workload.uuid)
        namesake = self.engine.world.inventory.by_name.get(workload.name)
        if namesake is not None and namesake.uuid != workload.uuid:
            raise InputError("duplicate-name", f"`{workload.name}` is the name of another workload")
        self.engine.move(before, workload, self._inventory(before, workload))

    def remove_workload(self, uuid: str) -> None:
        """Forget a workload. Raises InputError `unknown-workload`."""
        before = self.engine.world.inventory.by_uuid.get(uuid)
        if before is None:
            raise InputError("unknown-workload", f"there is no workload `{uuid}`")
        self.engine.move(before, None, self._inventory(before, None))

    def _inventory(self, before: Workload | None, after: Workload | None) -> Inventory:
        return self.engine.world.inventory.replacing(before, after)

    # ---- the resident matrix
    # ------------------------------------------------------------------------------------------

    @cached_property
    def _resident(self) -> matrix.Numbers:
        size = len(self.engine.classes)
        self._painted = size
        room = np.zeros((size + size // 8 + 16,) * 2, dtype=np.int32)
        room[:size, :size] = matrix.passed(self._canvas(np.arange(size), np.arange(size)))
        return room

    def _canvas(self, rows: Ids, columns: Ids) -> matrix.Canvas:
        return canvas_of(self.engine, rows, columns, Facts(self.engine.world.at), self.interner)

    def _grow(self, size: int) -> None:
        """Rows and columns for classes that appeared since."""
        room = self._resident
        if size > len(room):
            bigger = np.zeros((size + size // 8 + 16,) * 2, dtype=np.int32)
            bigger[: self._painted, : self._painted] = room[: self._painted, : self._painted]
            room = self.__dict__["_resident"] = bigger
        if size > self._painted:
            new, everyone = np.arange(self._painted, size), np.arange(size)
            self._paint_block(new, everyone)
            self._paint_block(everyone, new)
            self._painted = size

    def _repaint(self, number: int) -> None:
        """Where a rule speaks at either end: its sources by its destinations."""
        if "_resident" not in self.__dict__:
            return
        rows, columns = self.engine.relation.classes_of(number)
        self._paint_block(rows[rows < self._painted], columns[columns < self._painted])

    def _paint_block(self, rows: Ids, columns: Ids) -> None:
        if not len(rows) or not len(columns):
            return
        if len(rows) * len(columns) > _SMALL:
            self._resident[np.ix_(rows, columns)] = matrix.passed(self._canvas(rows, columns))
            return
        for row in rows.tolist():
            for column in columns.tolist():
                self._resident[row, column] = self.interner.number(self._cell(row, column))

    def _cell(self, row: int, column: int) -> int:
        return self.engine.passed_between(row, column, Facts(self.engine.world.at))
