"""Stored traffic judged by policies that are not enforced yet: what passes, what breaks, what opens, and what would
mend it.

INVARIANT: every verdict is the engine's; this module only counts. The totals by verdict, by rule, by hour and by
application each add up to the connections given.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import msgspec
import numpy as np
from numpy.typing import NDArray

from ringfence.core.engine import Engine, Judgement
from ringfence.core.engine.nearest import nearest
from ringfence.core.flow.conversations import REPORTED, Conversations
from ringfence.core.identity.workload import Mode, Workload
from ringfence.core.insight.evidence import moment
from ringfence.core.insight.leftovers import Leftover, end_text, leftovers
from ringfence.core.insight.noise import ASIDE, HELP, WHY, dense_ids, set_aside
from ringfence.core.insight.parties import NAME, PLACES, PRIVATE_PLACE, WORKLOAD, LabelKeys, Parties, identify
from ringfence.core.insight.segments import spoken_order
from ringfence.core.insight.services import ServiceNames
from ringfence.core.net.address import format_address, is_v4
from ringfence.core.world import REASONS, VERDICTS, Reason, VerdictName

Ids = NDArray[np.int64]
_ALLOWED, _BLOCKED = VERDICTS.index("allowed"), VERDICTS.index("blocked")
_WAS_BLOCKED = REPORTED.index("blocked")

TOP_TALKERS = 20
MOST_BREAKS = 500
MOST_HINTS = 100
"""Each hint asks the engine about every rule, so only the heaviest get one."""


class Count(msgspec.Struct, frozen=True):
    """Connections, bytes and conversation rows of one kind."""

    connections: int = 0
    bytes: int = 0
    rows: int = 0


class RuleUse(msgspec.Struct, frozen=True):
    """One rule (or the default, or no control at all) and the connections it decided."""

    rule: str | None
    """`policy/name`; None where no rule spoke."""
    reason: Reason
    allowed: int
    would_block: int
    blocked: int


class Series(msgspec.Struct, frozen=True):
    """Connections an hour by verdict, in step; hours without traffic are left out."""

    hours: tuple[datetime, ...]
    allowed: tuple[int, ...]
    would_block: tuple[int, ...]
    blocked: tuple[int, ...]


class Talker(msgspec.Struct, frozen=True):
    """A pair of ends with much traffic."""

    source: str
    destination: str
    connections: int
    bytes: int
    worst: VerdictName


class Break(msgspec.Struct, frozen=True):
    """Connections of one kind that would not pass were it enforced."""

    source: str
    """A group: `app=shop,env=prod,role=web`, `internet`, a subnet."""
    destination: str
    service: str
    verdict: VerdictName
    reason: Reason
    rule: str | None
    connections: int
    sources: int
    """Distinct ends in the group."""
    destinations: int
    first: datetime
    last: datetime
    example: str
    hint: str
    """The nearest thing that would let it pass; empty beyond the heaviest breaks."""


class Change(msgspec.Struct, frozen=True):
    """Connections of one kind whose fate differs from what was reported when they were seen."""

    source: str
    destination: str
    service: str
    connections: int
    last: datetime
    rule: str | None


class ApplicationCoverage(msgspec.Struct, frozen=True):
    """What policy says about traffic to (or, where the destination has no labels, from) one application."""

    application: str
    allowed: int
    """By a rule, or essential."""
    uncontrolled: int
    would_block: int
    blocked: int

    @property
    def share(self) -> float:
        """Of the controlled connections, those that pass."""
        controlled = self.allowed + self.would_block + self.blocked
        return 1.0 if not controlled else self.allowed / controlled


@dataclass(frozen=True)
class Simulation:
    """The whole answer; `judgement` keeps the verdict of every row."""

    totals: dict[VerdictName, Count]
    rules: tuple[RuleUse, ...]
    """Most connections first."""
    unused: tuple[str, ...]
    """Rules that decided nothing."""
    series: Series
    talkers: tuple[Talker, ...]
    breaks: tuple[Break, ...]
    """What breaks: blocked, or would be; most connections first, at most MOST_BREAKS."""
    more_breaks: int
    """Kinds left out of `breaks`."""
    ranked: tuple[int, ...]
    """Kinds that break, listed or not, by the rank of their rows; `breaks` has those of rank 0 first, and so on."""
    noise: tuple[Leftover, ...]
    """What would not pass and nobody misses: scanners, what is blocked today, broadcasts. Not among the breaks."""
    opens: tuple[Change, ...]
    """Reported blocked when seen, allowed now."""
    closes: tuple[Change, ...]
    """Reported allowed when seen, blocked now."""
    applications: tuple[ApplicationCoverage, ...]
    judgement: Judgement

    @property
    def is_clean(self) -> bool:
        """Nothing breaks."""
        return not self.breaks


def simulate(
    engine: Engine,
    conversations: Conversations,
    *,
    as_mode: Mode | None = None,
    keys: LabelKeys | None = None,
    rank: NDArray[np.int64] | None = None,
) -> Simulation:
    """Replay conversations against the engine's policies, in real modes or as if every end were in `as_mode`. `rank`:
    how much each row matters, 0 the most; None: all alike."""
    judgement = engine.judge(conversations, as_mode=as_mode)
    run = _Run(engine, conversations, judgement, keys or LabelKeys.found_in(engine.world.inventory))
    breaks, more, ranked = run.breaks(rank if rank is not None else np.zeros(len(conversations), np.int64))
    return Simulation(
        totals=run.totals(), rules=run.rules(), unused=run.unused(), series=run.series(), talkers=run.talkers(),
        breaks=breaks, more_breaks=more, ranked=ranked, noise=run.noise(),
        opens=run.changes((run.was == _WAS_BLOCKED) & (run.verdict == _ALLOWED)),
        closes=run.changes((run.was == REPORTED.index("allowed")) & (run.verdict == _BLOCKED)),
        applications=run.applications(), judgement=judgement,
    )  # fmt: skip


class _Run:
    """The columns of one simulation and the counts over them."""

    def __init__(self, engine: Engine, conversations: Conversations, judgement: Judgement, keys: LabelKeys) -> None:
        self.engine, self.c, self.keys = engine, conversations, keys
        self.verdict, self.reason = judgement.verdict, judgement.reason
        self.rule = judgement.rule.astype(np.int64)
        self.was = conversations.reported
        self.parties = identify(conversations, engine.world.inventory)
        self.groups, self.group_of = _groups(conversations, self.parties, keys)
        self.services = ServiceNames({}).of(conversations.point)
        self.aside = set_aside(conversations, self.parties)

    def totals(self) -> dict[VerdictName, Count]:
        sums = [np.bincount(self.verdict, w, len(VERDICTS)) for w in (self.c.connections, self.c.bytes, None)]
        return {name: Count(*(int(s[i]) for s in sums)) for i, name in enumerate(VERDICTS)}

    def rules(self) -> tuple[RuleUse, ...]:
        kinds = np.stack([self.rule, self.reason.astype(np.int64)], axis=1)
        distinct, group = np.unique(kinds, axis=0, return_inverse=True)
        cells = np.bincount(group.reshape(-1) * 3 + self.verdict, self.c.connections, 3 * len(distinct)).reshape(-1, 3)
        uses = (
            RuleUse(self._ref(rule), REASONS[reason], *(int(n) for n in cells[i]))
            for i, (rule, reason) in enumerate(distinct.tolist())
        )
        return tuple(sorted(uses, key=lambda u: (-(u.allowed + u.would_block + u.blocked), u.rule or "", u.reason)))

    def unused(self) -> tuple[str, ...]:
        used = set(np.unique(self.rule).tolist())
        return tuple(rule.ref for number, rule in enumerate(self.engine.rules) if number not in used)

    def series(self) -> Series:
        hours, index = np.unique(self.c.hour, return_inverse=True)
        cells = np.bincount(index * 3 + self.verdict, self.c.connections, 3 * len(hours)).reshape(-1, 3)
        columns = (tuple(int(n) for n in cells[:, i]) for i in range(3))
        return Series(tuple(moment(h) for h in hours), *columns)

    def talkers(self) -> tuple[Talker, ...]:
        """Pairs of ends with the most bytes."""
        pair = dense_ids(self.c.source.astype(np.int64), self.c.destination.astype(np.int64))
        n = int(pair.max(initial=-1)) + 1
        connections, volume = np.bincount(pair, self.c.connections, n), np.bincount(pair, self.c.bytes, n)
        worst = np.zeros(n, np.uint8)
        np.maximum.at(worst, pair, self.verdict)
        row = _first_rows(pair, n)
        top = np.lexsort((np.arange(n), -connections, -volume))[:TOP_TALKERS].tolist()
        return tuple(
            Talker(*self._ends(int(row[i])), int(connections[i]), int(volume[i]), VERDICTS[worst[i]]) for i in top
        )

    def breaks(self, rank: Ids) -> tuple[tuple[Break, ...], int, tuple[int, ...]]:
        """(those listed, how many are not, how many there are of each rank)."""
        rows = np.flatnonzero((self.verdict != _ALLOWED) & (self.aside == 0))
        kinds = self._kinds(rows, self.verdict, self.reason, self.rule + 1, rank)
        ordered = sorted(kinds, key=lambda k: (rank[k.row], -k.connections, k.key))
        listed = tuple(self._break(kind, with_hint=i < MOST_HINTS) for i, kind in enumerate(ordered[:MOST_BREAKS]))
        ranked = np.bincount(rank[[kind.row for kind in kinds]], minlength=int(rank.max(initial=0)) + 1)
        return listed, max(0, len(ordered) - MOST_BREAKS), tuple(ranked.tolist())

    def noise(self) -> tuple[Leftover, ...]:
        told = {i: (name, WHY[name], HELP[name]) for i, name in enumerate(ASIDE) if name}
        return leftovers(self.c, self.aside, (self.verdict != _ALLOWED) & (self.aside > 0), told)

    def changes(self, mask: NDArray[np.bool_]) -> tuple[Change, ...]:
        kinds = self._kinds(np.flatnonzero(mask), self.rule + 1)
        ordered = sorted(kinds, key=lambda k: (-k.connections, k.key))[:MOST_BREAKS]
        return tuple(Change(*k.key, k.connections, moment(k.last), self._ref(int(self.rule[k.row]))) for k in ordered)

    def applications(self) -> tuple[ApplicationCoverage, ...]:
        names = [self._application(party) for party in range(len(self.parties.labels))]
        index = {name: i for i, name in enumerate(sorted({name for name in names if name}))}
        of_party = np.array([index.get(name, -1) for name in names], np.int64)
        to, from_ = (of_party[self.parties.of_endpoint[x]] for x in (self.c.destination, self.c.source))
        owner = np.where(to >= 0, to, from_)
        column = np.where(
            self.verdict == _ALLOWED, (self.reason == REASONS.index("uncontrolled")) * 1, self.verdict + 1
        )
        rows = np.flatnonzero(owner >= 0)
        cells = np.bincount(owner[rows] * 4 + column[rows], self.c.connections[rows], 4 * len(index)).reshape(-1, 4)
        return tuple(ApplicationCoverage(name, *(int(x) for x in cells[i])) for name, i in index.items())

    def _application(self, party: int) -> str:
        labels = self.parties.labels[party]
        return ",".join(f"{key}={labels[key]}" for key in self.keys.scope if key in labels)

    def _kinds(self, rows: Ids, *more: NDArray[np.generic]) -> list[_Kind]:
        """Rows grouped by their ends' groups, service and further columns."""
        c = self.c.where(rows)
        source, destination = self.group_of[c.source], self.group_of[c.destination]
        service = self.services.service[rows]
        kind = dense_ids(source, destination, service, *(column[rows].astype(np.int64) for column in more))
        n = int(kind.max(initial=-1)) + 1
        connections = np.bincount(kind, c.connections, n)
        ends = [_distinct(kind, x.astype(np.int64), n) for x in (c.source, c.destination)]
        first, last = np.full(n, np.iinfo(np.int64).max), np.zeros(n, np.int64)
        np.minimum.at(first, kind, c.first)
        np.maximum.at(last, kind, c.last)
        row = _first_rows(kind, n)
        names = [
            (self.groups[source[i]], self.groups[destination[i]], self.services.text(int(service[i])))
            for i in row.tolist()
        ]
        return [
            _Kind(
                names[i],
                int(connections[i]), int(ends[0][i]), int(ends[1][i]), int(first[i]), int(last[i]), int(rows[row[i]]),
            )
            for i in range(n)
        ]  # fmt: skip

    def _break(self, kind: _Kind, *, with_hint: bool) -> Break:
        row = kind.row
        source, destination = self._ends(row)
        return Break(
            *kind.key, VERDICTS[self.verdict[row]], REASONS[self.reason[row]], self._ref(int(self.rule[row])),
            kind.connections, kind.sources, kind.destinations, moment(kind.first), moment(kind.last),
            f"{source} -> {destination}", self._hint(row) if with_hint else "",
        )  # fmt: skip

    def _hint(self, row: int) -> str:
        """What would let this row pass."""
        ref, reason = self._ref(int(self.rule[row])), REASONS[self.reason[row]]
        if reason == "forbid":
            return f"`{ref}` forbids it, and no allow lifts a forbid"
        if reason == "quarantine":
            return "an end is quarantined; release it, or except this in the quarantine"
        ends = (int(self.c.source[row]), int(self.c.destination[row]))
        unlabelled = [w.name for w in map(self._workload, ends) if w is not None and not w.labels]
        if unlabelled:
            return f"label `{unlabelled[0]}`, then write a rule for it"
        source, destination = self._class(ends[0]), self._class(ends[1])
        found = nearest(self.engine, source, destination, int(self.c.point[row]))
        if found is None:
            owner = "source" if self._workload(ends[1]) is None else "destination"
            return f"no rule comes close: add an allow to the {owner}'s policy"
        return f"`{found.rule}` comes closest; it needs: {', '.join(found.missing)}"

    def _workload(self, end: int) -> Workload | None:
        return self.parties.workloads[end]

    def _class(self, end: int) -> int:
        return self.engine.class_of(self._workload(end), self.c.endpoints[end].address)

    def _ends(self, row: int) -> tuple[str, str]:
        ends = self.c.endpoints
        return end_text(ends[int(self.c.source[row])]), end_text(ends[int(self.c.destination[row])])

    def _ref(self, number: int) -> str | None:
        return None if number < 0 else self.engine.rules[number].ref


@dataclass(frozen=True)
class _Kind:
    """One group of rows."""

    key: tuple[str, str, str]
    connections: int
    sources: int
    destinations: int
    first: int
    last: int
    row: int
    """One of its rows."""


def _groups(c: Conversations, parties: Parties, keys: LabelKeys) -> tuple[tuple[str, ...], Ids]:
    """What every endpoint is called as a group: its labels, its place, or its subnet."""
    index: dict[str, int] = {}
    of_party = [_party_text(labels.items(), keys) for labels in parties.labels]
    out = np.empty(len(c.endpoints), np.int64)
    for i, endpoint in enumerate(c.endpoints):
        text = of_party[parties.of_endpoint[i]] if parties.place[i] == WORKLOAD else PLACES[parties.place[i]]
        if parties.place[i] == PRIVATE_PLACE and endpoint.address is not None:
            text = _subnet(endpoint.address)
        elif parties.place[i] == NAME and endpoint.name is not None:
            text = endpoint.name
        out[i] = index.setdefault(text, len(index))
    return tuple(index), out


def _party_text(labels: Iterable[tuple[str, str]], keys: LabelKeys) -> str:
    shown = tuple(pair for pair in labels if pair[0] in (*keys.scope, keys.role))
    return ",".join(f"{key}={value}" for key, value in spoken_order(shown, keys)) or "unlabelled"


def _subnet(address: int) -> str:
    bits, length = (8, 24) if is_v4(address) else (64, 64)
    return f"{format_address(address >> bits << bits)}/{length}"


def _first_rows(group: Ids, n: int) -> Ids:
    out = np.empty(n, np.int64)
    out[group[::-1]] = np.arange(len(group))[::-1]
    return out


def _distinct(group: Ids, value: Ids, n: int) -> Ids:
    width = int(value.max(initial=0)) + 1
    return np.bincount(np.unique(group * width + value) // width, minlength=n)
