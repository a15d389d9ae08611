"""What each remote class may do with one local part of a host: rows of (action, atoms, rule), precedence applied.

Hosts about which the same rules speak share a table. Only classes that one of those rules names can have a verdict: a
compiler need not look at the others.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from ringfence.core.engine.bits import Ids, members
from ringfence.core.engine.engine import Engine
from ringfence.core.engine.rules import End
from ringfence.core.intent.locals import END_OF, Local, facts_of
from ringfence.core.intent.membership import Seen
from ringfence.core.policy.model import Action

Row = tuple[tuple[Action, int, int], ...]
"""One class's verdicts in one part: (action, atoms as a bitset, rule number), sorted."""


class Verdicts:
    """The rows of one local part, wherever on a host it is."""

    def __init__(self, engine: Engine, local: Local, known: dict[int, Row]) -> None:
        """`known`: rows by the rules that speak, shared by all tables, because few rule sets are distinct."""
        self._engine = engine
        self._rules = local.rules
        self._is_source = local.direction == "out"
        self._end: End = END_OF[local.direction]
        self._own = (local.rules, 0, local.scope) if self._is_source else (0, local.rules, local.scope)
        self._facts = facts_of(engine, local.direction, local.unit)
        self._known = known
        self._rows: dict[Seen, Row] = {}

    @cached_property
    def touched(self) -> frozenset[int]:
        """The remote classes that some rule about the local part names: no other has a verdict."""
        relation = self._engine.relation
        named: list[Ids] = [relation.classes_of(n)[1 if self._is_source else 0] for n in members(self._rules)]
        return frozenset(np.concatenate(named).tolist()) if named else frozenset()

    def of(self, seen: Seen) -> Row:
        """The verdicts of a remote, each atom in at most one of them; an atom in none is the default."""
        row = self._rows.get(seen)
        if row is None:
            rows = [self._of_class(class_, is_believed=seen.believed[self._is_source]) for class_ in seen.classes]
            row = self._rows[seen] = rows[0] if len(rows) == 1 else _worst(rows)
        return row

    def forget(self, seen: Seen) -> None:
        """A remote that is nobody any more."""
        self._rows.pop(seen, None)

    def _of_class(self, remote: int, *, is_believed: bool) -> Row:
        other = self._engine.relation.rows(remote)
        if not self._rules & other[1 if self._is_source else 0]:
            return ()
        ends = (self._own, other) if self._is_source else (other, self._own)
        live, _ = self._engine.speaking_rows(self._end, *ends, self._facts, peer_enforces=is_believed)
        if live not in self._known:
            self._known[live] = self._resolved(live)
        return self._known[live]

    def _resolved(self, live: int) -> Row:
        """Matching rules -> the verdict of each atom, grouped by verdict and rule."""
        relation = self._engine.relation
        atoms = 0
        for number in members(live):
            atoms |= relation.masks[number]
        cells: dict[tuple[Action, int], int] = {}
        for atom in members(atoms):
            verdict = self._first(live & relation.services[atom])
            cells[verdict] = cells.get(verdict, 0) | 1 << atom
        return tuple(sorted((action, mask, rule) for (action, rule), mask in cells.items()))

    def _first(self, matching: int) -> tuple[Action, int]:
        relation = self._engine.relation
        if forbidding := matching & relation.forbid:
            return "forbid", relation.first(forbidding)
        if allowing := matching & relation.allow:
            return "allow", relation.first(allowing)
        return "deny", relation.first(matching)


def _worst(rows: list[Row]) -> Row:
    """An address with several holders passes only what would pass for every one of them."""
    by_atom = [{atom: (action, rule) for action, mask, rule in row for atom in members(mask)} for row in rows]
    cells: dict[tuple[Action, int], int] = {}
    for atom in set().union(*by_atom):
        verdicts = [verdicts_.get(atom) for verdicts_ in by_atom]
        blocking = sorted(
            (v for v in verdicts if v is not None and v[0] != "allow"), key=lambda v: (v[0] == "deny", v[1])
        )
        if blocking:
            cells[blocking[0]] = cells.get(blocking[0], 0) | 1 << atom
        elif None not in verdicts:
            least = min(v for v in verdicts if v is not None)
            cells[least] = cells.get(least, 0) | 1 << atom
    return tuple(sorted((action, mask, rule) for (action, rule), mask in cells.items()))
