"""One edge of the map, whole: its services and programs, the rules that decide it, and a rule for what none decides.

The proposal is `core.insight.recommend`'s, asked about this edge alone: the same generator, the same care for who owns
the destination.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator

import msgspec
import numpy as np

from ringfence.controller.study.grounds import Ground, Grounds, Texts
from ringfence.controller.study.programs import ProgramsAtRows, programs_at
from ringfence.controller.study.queries import View, uncovered
from ringfence.controller.study.tables import outcomes_of
from ringfence.core.engine import Judgement
from ringfence.core.errors import InputError
from ringfence.core.flow.conversations import Conversations
from ringfence.core.flow.programs import DESTINATION, SOURCE
from ringfence.core.insight.evidence import moment
from ringfence.core.insight.fold import Fold, dense, ranked
from ringfence.core.insight.leftovers import end_text
from ringfence.core.insight.map import STATUSES
from ringfence.core.insight.places import Placement, party_text, place
from ringfence.core.insight.recommend import recommend
from ringfence.core.insight.services import ServiceNames, named_services
from ringfence.core.net.service import format_point
from ringfence.core.policy.model import Policy
from ringfence.core.policy.printing import print_policy
from ringfence.wire.explore import Decider, EdgeQuery, EdgeUse, EdgeView, RuleProposal

MOST_USES, MOST_TALKERS, MOST_RULES = 200, 20, 100
MOST_PROGRAMS = 8
"""Of one side of one use."""


def edge_of(grounds: Grounds, view: View, query: EdgeQuery, texts: Texts) -> EdgeView:
    """Raises InputError `unknown-group`: the map has no such node."""
    placement = place(view.rows.endpoints, view.ground.world.inventory, view.by, subnets=True)
    source, destination = (_spot(placement, one) for one in (query.source_group, query.destination_group))
    mask = (placement.spot_of[view.rows.source] == source) & (placement.spot_of[view.rows.destination] == destination)
    rows = view.rows.where(mask)
    now, draft = (None if one is None else one.where(mask) for one in (view.judgement, view.draft))
    uses = sorted(_uses(view, rows, programs_at(grounds, view, rows), now, draft), key=_by_attention)
    pairs, talkers = _talkers(rows, placement)
    bare = uncovered(now, len(rows)) if draft is None else uncovered(draft, len(rows))
    proposals, why_not = _propose(view, rows.where(bare), texts)
    return EdgeView(
        source=placement.spots[source].name,
        destination=placement.spots[destination].name,
        connections=int(rows.connections.sum()),
        bytes=int(rows.bytes.sum()),
        first=moment(rows.first.min()) if len(rows) else None,
        last=moment(rows.last.max()) if len(rows) else None,
        uses=tuple(uses[:MOST_USES]),
        more_uses=max(0, len(uses) - MOST_USES),
        talkers=talkers,
        pairs=pairs,
        rules=tuple(_deciders(view, rows, now, draft)),
        uncovered=int(rows.connections[bare].sum()),
        proposals=proposals,
        why_not=why_not,
    )


def _spot(placement: Placement, id_: str) -> int:
    for number, spot in enumerate(placement.spots):
        if spot.id == id_:
            return number
    raise InputError("unknown-group", f"the map has no group `{id_}`", help="ask with the labels the map was asked by")


# ---- services and programs ------------------------------------------------------------------------------------------


def _uses(
    view: View, rows: Conversations, at: ProgramsAtRows, judged: Judgement | None, drafted: Judgement | None
) -> Iterator[EdgeUse]:
    named = ServiceNames(named_services(view.ground.world.policies)).of(rows.point)
    now, outcomes = outcomes_of(judged, view.ground, len(rows))
    draft, after = outcomes_of(drafted, view.draft_ground or view.ground, len(rows))
    points, point = ranked(rows.point)
    fold = Fold(dense(point, now, draft))
    programs = [_programs(at, fold, side) for side in (SOURCE, DESTINATION)]
    busiest = _busiest(fold, rows)
    sums = [fold.sum(column).tolist() for column in (rows.connections, rows.packets, rows.bytes)]
    spans = [fold.min(rows.first).tolist(), fold.max(rows.last).tolist()]
    for i in range(len(fold)):
        row = busiest[i]
        yield EdgeUse(
            service=named.text(int(named.service[row])),
            point=format_point(int(points[point[row]])),
            source_programs=programs[SOURCE][i],
            destination_programs=programs[DESTINATION][i],
            now=outcomes[int(now[row])],
            draft=after[int(draft[row])] if drafted is not None else None,
            connections=sums[0][i],
            packets=sums[1][i],
            bytes=sums[2][i],
            first=moment(spans[0][i]),
            last=moment(spans[1][i]),
            example=_pair(rows, row),
        )


def _programs(at: ProgramsAtRows, fold: Fold, side: int) -> list[tuple[str, ...]]:
    """Of each fold the busiest of a side."""
    mask = at.side == side
    number, name, counts = fold.number[at.row[mask]], at.name[mask], at.connections[mask]
    each = Fold(dense(number, name))
    number, name = each.one(number), each.one(name)
    found: list[list[str]] = [[] for _ in range(len(fold))]
    for i in np.lexsort((name, -each.sum(counts))).tolist():
        names = found[int(number[i])]
        if len(names) < MOST_PROGRAMS:
            names.append(at.names[int(name[i])])
    return [tuple(names) for names in found]


def _busiest(fold: Fold, rows: Conversations) -> list[int]:
    """Per fold its row with most connections, the first of those."""
    order = np.lexsort((np.arange(len(rows)), -rows.connections, fold.number))
    _, first = np.unique(fold.number[order], return_index=True)
    found: list[int] = order[first].tolist()
    return found


def _pair(rows: Conversations, row: int) -> str:
    source, destination = (end_text(rows.endpoints[int(end[row])]) for end in (rows.source, rows.destination))
    return f"{source} -> {destination}"


def _by_attention(use: EdgeUse) -> tuple[bool, int, int, str]:
    """What a draft says otherwise of, then the worst, then the busiest."""
    is_same = use.draft is None or use.draft.status == use.now.status
    worst = -STATUSES.index(use.now.status)
    return is_same, worst, -use.connections, use.point


def _talkers(rows: Conversations, placement: Placement) -> tuple[int, tuple[str, ...]]:
    """How many pairs of ends there are, and the busiest."""
    party = placement.party_of
    fold = Fold(dense(party[rows.source], party[rows.destination]))
    connections = fold.sum(rows.connections)
    order = np.lexsort((np.arange(len(fold)), -connections))[:MOST_TALKERS].tolist()
    source, destination = fold.one(party[rows.source]), fold.one(party[rows.destination])
    named = ((placement.parties[int(source[i])], placement.parties[int(destination[i])]) for i in order)
    return len(fold), tuple(f"{party_text(s)} -> {party_text(d)}" for s, d in named)


# ---- rules ----------------------------------------------------------------------------------------------------------


def _deciders(view: View, rows: Conversations, now: Judgement | None, draft: Judgement | None) -> Iterator[Decider]:
    for judgement, ground in ((now, view.ground), (draft, view.draft_ground)):
        if judgement is not None and ground is not None:
            yield from _decided(ground, rows, judgement, is_draft=ground is view.draft_ground)


def _decided(ground: Ground, rows: Conversations, judgement: Judgement, *, is_draft: bool) -> Iterator[Decider]:
    """The rules named for the rows, those of most connections first."""
    counts = np.bincount(judgement.rule + 1, rows.connections, len(ground.rules) + 1)[1:].astype(np.int64)
    for number in np.lexsort((np.arange(len(counts)), -counts))[:MOST_RULES].tolist():
        if not counts[number]:
            return
        found = ground.engine.rules[number]
        rule = found.rule
        yield Decider(
            found.ref, found.policy.name, rule.name, rule.action, rule.because, rule.where.file, rule.where.line,
            int(counts[number]), is_draft,
        )  # fmt: skip


def _propose(view: View, bare: Conversations, texts: Texts) -> tuple[tuple[RuleProposal, ...], tuple[str, ...]]:
    """Rules for the rows that no rule speaks of, and why some get none."""
    if not len(bare):
        return (), ()
    ground = view.draft_ground or view.ground
    existing = ground.world.policies
    found = recommend(bare, ground.world.inventory, existing=existing, least=1)
    files = dict(texts.files) | (dict(view.query.draft.files) if view.query.draft is not None else {})
    proposals: list[RuleProposal] = []
    for policy in found.policies:  # each is written by itself
        proposals += proposals_of((policy,), existing, {*files, *(one.file for one in proposals)}, texts.number)
    left = (*found.set_aside, *found.uncovered)
    return tuple(proposals), tuple(f"{one.connections:,} connections: {one.why}; {one.help}" for one in left)


def proposals_of(
    policies: Iterable[Policy], existing: Iterable[Policy], files: Iterable[str], base: int
) -> Iterator[RuleProposal]:
    """Recommended policies as files that are written together: an existing policy in its own file, beside the others
    of that file, theirs as recommended, too. `files`: names that are taken; `base`: the version of `existing`."""
    old = {policy.name: policy for policy in existing}
    new = {policy.name: policy for policy in policies}
    taken = set(files)
    for policy in new.values():
        before = old.get(policy.name)
        known = {rule.name for rule in before.rules} if before is not None else set()
        added = msgspec.structs.replace(policy, rules=tuple(rule for rule in policy.rules if rule.name not in known))
        file = before.where.file if before is not None else _free_name(policy.name, taken)
        taken.add(file)
        beside = [p for p in old.values() if before is not None and p.where.file == file]
        whole = [new.get(p.name, p) for p in beside] or [policy]
        text = "---\n".join(map(print_policy, whole))
        yield RuleProposal(policy.name, file, before is None, rules_of(added), text, base)


def _free_name(policy: str, files: Container[str]) -> str:
    name, number = f"{policy}.yaml", 1
    while name in files:
        number += 1
        name = f"{policy}-{number}.yaml"
    return name


def rules_of(policy: Policy) -> str:
    """The lines below `rules:` of a policy's text."""
    bare = msgspec.structs.replace(policy, tests=(), segments=(), services=(), margin=(), comments=())
    return print_policy(bare).partition("\nrules:\n")[2]
