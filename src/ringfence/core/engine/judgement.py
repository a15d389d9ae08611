"""Judge conversations in bulk: one verdict, reason and rule a row, vectorised.

Rows that need more than the bitmaps (an end with process workloads, quarantined, failsafe, or known by name only, an
address that has leases but no one workload when it was seen) are decided one by one by the same engine; there are few.

INVARIANT: an address without a workload is whoever's it was when the row was first seen, never who has it now.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ringfence.core.engine import decision, kernel
from ringfence.core.engine.bits import members, of_ids, to_ids
from ringfence.core.engine.rules import End, Facts, holds
from ringfence.core.flow.conversations import Conversations
from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import MODES, Mode, Workload
from ringfence.core.net.address import LOOPBACK
from ringfence.core.world import REASONS, VERDICTS, Endpoint, Flow, Verdict

if TYPE_CHECKING:
    from ringfence.core.engine.engine import Engine

_ENFORCE, _SELECTIVE = MODES.index("enforce"), MODES.index("selective")
_BY_ACTION = np.array([REASONS.index(r) for r in ("forbid", "allow", "deny", "default")], dtype=np.uint8)
_BLOCKED = VERDICTS.index("blocked")
_ESSENTIAL, _UNCONTROLLED = REASONS.index("essential"), REASONS.index("uncontrolled")


@dataclass(frozen=True)
class Judgement:
    """Columns as long as the conversations judged."""

    verdict: NDArray[np.uint8]
    """Index into `world.VERDICTS`."""
    reason: NDArray[np.uint8]
    """Index into `world.REASONS`."""
    rule: NDArray[np.int32]
    """Index into `engine.rules`, -1 for none."""
    is_held: NDArray[np.bool_]
    """Whether an end that says so has an agent of ours to hold it to that; false says nothing of estates on disk."""

    @property
    def unheld(self) -> NDArray[np.bool_]:
        """Rows that policy blocks, and nobody is there to."""
        loose: NDArray[np.bool_] = (self.verdict == _BLOCKED) & ~self.is_held
        return loose

    def where(self, mask: NDArray[np.bool_]) -> Judgement:
        """Some of the rows."""
        return Judgement(self.verdict[mask], self.reason[mask], self.rule[mask], self.is_held[mask])


class _Said(NamedTuple):
    """What one end says of every row, as the columns of a judgement."""

    verdict: NDArray[np.uint8]
    reason: NDArray[np.uint8]
    rule: NDArray[np.int32]


@dataclass(frozen=True)
class _Subjects:
    """What the batch needs of each endpoint, as columns."""

    class_: NDArray[np.int32]
    is_controlled: NDArray[np.bool_]
    has_agent: NDArray[np.bool_]
    inbound: NDArray[np.uint8]
    outbound: NDArray[np.uint8]
    holder: NDArray[np.int64]
    """A number per workload; -1 for a bare address."""
    is_loopback: NDArray[np.bool_]
    is_special: NDArray[np.bool_]


def judge(
    engine: Engine, conversations: Conversations, *, as_mode: Mode | None = None, pure: bool = False
) -> Judgement:
    """Every row's verdict under the engine's world, or as if every controlled end were in `as_mode`."""
    if not engine.relation.is_ranked:
        return _judge_ranked(engine, conversations, as_mode)
    subjects = _subjects(engine, conversations.endpoints, as_mode or engine.world.as_mode)
    s, d = conversations.source, conversations.destination
    atoms = engine.atoms.atoms(conversations.point)
    columns = (subjects.class_[s], subjects.class_[d], atoms)
    controlled = (subjects.is_controlled[s], subjects.is_controlled[d])
    modes = (subjects.outbound[s], subjects.inbound[d])
    believes = tuple((c & (m == _ENFORCE)).astype(np.uint8) for c, m in zip(controlled, modes, strict=True))
    essential = _essential_rows(engine, subjects, s, d, atoms)
    maps = kernel.bitmaps_of(engine.relation)
    out = _uncontrolled(len(conversations))
    agents = (subjects.has_agent[s], subjects.has_agent[d])
    ends: tuple[End, End] = ("source", "destination")
    for index, end in enumerate(ends):
        held = _held(engine, end)
        least = kernel.decide(engine.relation, maps, held, columns, believes[1 - index], end, pure=pure)
        _join(out, _end(least, modes[index], essential), controlled[index], agents[index])
    special = subjects.is_special[s] | subjects.is_special[d]
    _one_by_one(engine, conversations, np.flatnonzero(special), out, as_mode)
    return out


def _judge_ranked(engine: Engine, conversations: Conversations, as_mode: Mode | None) -> Judgement:
    """The batch names the lowest bit, so an engine whose rules are out of rank is judged by a fresh index of its
    world.
    """
    fresh = type(engine)(engine.world)
    found = judge(fresh, conversations, as_mode=as_mode)
    slots = np.array([*(engine.find_rule(rule.ref) for rule in fresh.rules), -1], dtype=np.int32)
    return Judgement(found.verdict, found.reason, slots[found.rule], found.is_held)


def _uncontrolled(rows: int) -> Judgement:
    reason = np.full(rows, _UNCONTROLLED, np.uint8)
    return Judgement(np.zeros(rows, np.uint8), reason, np.full(rows, -1, np.int32), np.zeros(rows, np.bool_))


def _end(least: NDArray[np.int32], mode: NDArray[np.uint8], essential: NDArray[np.bool_]) -> _Said:
    """One end's verdicts from its least forbid, allow and deny."""
    action = np.where(least[:, 0] >= 0, 0, np.where(least[:, 1] >= 0, 1, np.where(least[:, 2] >= 0, 2, 3)))
    rule = np.where(action < 3, least[np.arange(len(least)), np.minimum(action, 2)], -1).astype(np.int32)
    reason = _BY_ACTION[action]
    bites = (mode == _ENFORCE) | ((mode == _SELECTIVE) & (action != 3))
    verdict = np.where(action == 1, 0, np.where(bites, 2, 1)).astype(np.uint8)
    reason = np.where(essential, _ESSENTIAL, reason).astype(np.uint8)
    return _Said(
        np.where(essential, 0, verdict).astype(np.uint8), reason, np.where(essential, -1, rule).astype(np.int32)
    )


def _join(out: Judgement, end: _Said, controlled: NDArray[np.bool_], has_agent: NDArray[np.bool_]) -> None:
    """The worst end wins; called source first, so that the destination wins a tie. Either holds what both say."""
    wins = controlled & ((end.verdict >= out.verdict) | (out.reason == _UNCONTROLLED))
    is_tie = wins & (end.verdict == out.verdict)
    out.is_held[wins] = has_agent[wins] | (is_tie & out.is_held)[wins]
    for name in ("verdict", "reason", "rule"):
        getattr(out, name)[wins] = getattr(end, name)[wins]


def _held(engine: Engine, end: End) -> kernel.Held:
    """The allows that hold when nothing is stated: always, or only where the other end is believed."""
    relation, facts = engine.relation, Facts(engine.world.at)
    always, if_believed = relation.allow & ~relation.conditional, 0
    conditional = [(n, engine.rules[n].rule.conditions) for n in members(relation.allow & relation.conditional)]
    always |= of_ids(n for n, c in conditional if holds(c, end, facts, peer_enforces=False))
    if_believed = of_ids(n for n, c in conditional if holds(c, end, facts, peer_enforces=True)) & ~always
    return kernel.Held(always, if_believed)


def _essential_rows(
    engine: Engine, subjects: _Subjects, s: NDArray[np.int32], d: NDArray[np.int32], atoms: NDArray[np.int32]
) -> NDArray[np.bool_]:
    by_atom = np.zeros(len(engine.atoms), dtype=bool)
    by_atom[to_ids(engine.essential | engine.dhcp)] = True
    own = (subjects.holder[s] == subjects.holder[d]) & (subjects.holder[s] >= 0)
    result: NDArray[np.bool_] = by_atom[atoms] | own | subjects.is_loopback[s] | subjects.is_loopback[d]
    return result


def _subjects(engine: Engine, endpoints: tuple[Endpoint, ...], as_mode: Mode | None) -> _Subjects:
    """One pass over the endpoints (workloads and addresses, not flows)."""
    holders: dict[str, int] = {}
    rows = [_subject(engine, end, as_mode, holders) for end in endpoints]
    columns = list(zip(*rows, strict=True)) if rows else [()] * 8
    kinds = (np.int32, np.bool_, np.bool_, np.uint8, np.uint8, np.int64, np.bool_, np.bool_)
    return _Subjects(*(np.array(column, dtype=kind) for column, kind in zip(columns, kinds, strict=True)))


def _subject(
    engine: Engine, end: Endpoint, as_mode: Mode | None, holders: dict[str, int]
) -> tuple[int, bool, bool, int, int, int, bool, bool]:
    workload = end.workload
    mode = as_mode or (workload.mode if workload else Mode())
    number = engine.class_of(workload, end.address)
    holder = -1 if workload is None else holders.setdefault(workload.uuid, len(holders))
    is_controlled = workload is not None and workload.is_controlled
    is_loopback = end.address is not None and end.address in LOOPBACK
    modes = (MODES.index(mode.inbound), MODES.index(mode.outbound))
    has_agent = workload is not None and engine.world.inventory.has_agent(workload)
    return number, is_controlled, has_agent, *modes, holder, is_loopback, _is_special(engine, end, workload)


def _is_special(engine: Engine, end: Endpoint, workload: Workload | None) -> bool:
    world = engine.world
    if end.address is not None and end.address in engine.bound:
        return True
    if workload is None:
        has_leases = end.address is not None and bool(world.inventory.leases_of(end.address, end.network))
        touches_failsafe = end.address is not None and any(end.address in f.remote for f in world.failsafe)
        return end.name is not None or touches_failsafe or has_leases
    in_failsafe = end.address is not None and any(end.address in f.remote for f in world.failsafe)
    is_quarantined = any(q.workload == workload.uuid for q in world.quarantines)
    has_processes = workload.kind == "process" or bool(world.inventory.processes_of(workload.name))
    needs_address = end.address is None and len(workload.live_addresses(world.at)) > 0
    return in_failsafe or is_quarantined or has_processes or needs_address


def _one_by_one(
    engine: Engine, conversations: Conversations, rows: NDArray[np.intp], out: Judgement, as_mode: Mode | None
) -> None:
    """Distinct special connections, each decided once."""
    if not len(rows):
        return
    judge_ = engine if as_mode is None else engine.under(as_mode)
    index = {rule.ref: number for number, rule in enumerate(engine.rules)}
    source, destination = conversations.source[rows], conversations.destination[rows]
    seen = conversations.first[rows]
    ends, inventory = conversations.endpoints, engine.world.inventory
    stretches = [_stretches(inventory, ends, column, seen) for column in (source, destination)]
    keys = np.stack([source, destination, conversations.point[rows], *stretches], axis=1)
    _, example, inverse = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    asked = zip(keys[example, :3].tolist(), seen[example].tolist(), strict=True)
    verdicts = [
        decision.decide(judge_, Flow(ends[s], ends[d], p), held_at=_EPOCH + timedelta(seconds=then))
        for (s, d, p), then in asked
    ]
    inverse = inverse.reshape(-1)
    out.verdict[rows] = np.array([VERDICTS.index(v.verdict) for v in verdicts], np.uint8)[inverse]
    out.reason[rows] = np.array([REASONS.index(v.reason) for v in verdicts], np.uint8)[inverse]
    out.rule[rows] = np.array([index.get(v.rule or "", -1) for v in verdicts], np.int32)[inverse]
    out.is_held[rows] = np.array([is_held(inventory, v) for v in verdicts], np.bool_)[inverse]


def is_held(inventory: Inventory, verdict: Verdict) -> bool:
    """Whether an end that says the verdict has an agent of ours."""
    saying = (inventory.find(end.workload) for end in verdict.ends if end.verdict == verdict.verdict)
    return any(inventory.has_agent(workload) for workload in saying if workload is not None)


def _stretches(
    inventory: Inventory, endpoints: tuple[Endpoint, ...], column: NDArray[np.int32], seen: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Per row a number that tells apart the times between which an end that is not settled may change hands."""
    out = np.zeros(len(column), dtype=np.int64)
    for number in np.unique(column).tolist():
        leases = (
            lease
            for address, network in _asked(inventory, endpoints[number])
            for lease in inventory.leases_of(address, network)
        )
        times = {math.ceil(t.timestamp()) for lease in leases for t in (lease.start, lease.end) if t is not None}
        if times:
            mine = column == number
            out[mine] = np.searchsorted(np.array(sorted(times)), seen[mine], side="right")
    return out


def _asked(inventory: Inventory, end: Endpoint) -> list[tuple[int, str]]:
    """The addresses whose holders an end stands for: a bare one, or all of a workload whose address is not known."""
    if end.workload is None or end.address is not None:
        return [] if end.workload or end.address is None else [(end.address, end.network)]
    workload = end.workload
    host = (inventory.find(workload.host or "") if workload.kind == "process" else None) or workload
    return [(lease.address, lease.network) for lease in host.addresses]


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
