"""Compile the Intent of one enforcement point from the engine's index.

INVARIANT: a cell's action and rule are what the engine answers for that class, service point and end, under
`enforce`. INVARIANT: span. An address is listed only where its verdicts differ from those its range, or an
unknown address, would get.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from ringfence.core.engine.bits import members
from ringfence.core.engine.engine import Engine
from ringfence.core.engine.rules import RuleRef, next_change
from ringfence.core.errors import Finding, Severity
from ringfence.core.identity.workload import Direction, Workload
from ringfence.core.intent.membership import Membership, Seen
from ringfence.core.intent.model import UNKNOWN_CLASS, Cell, Intent, Part, Passage, PeerClass
from ringfence.core.intent.verdicts import Row, Verdicts
from ringfence.core.net.address import EVERYWHERE as EVERY_ADDRESS
from ringfence.core.net.intervals import IntervalSet
from ringfence.core.policy.model import Peer
from ringfence.core.world import Quarantine


@dataclass(frozen=True)
class _Local:
    """One way this host is judged: for some of its addresses, or one of its processes."""

    direction: Direction
    class_: int
    addresses: IntervalSet
    unit: str | None


class IntentCompiler:
    """Compiles the intents of all hosts of one engine; membership is worked out once a network."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._memberships: dict[frozenset[str], Membership] = {}
        self._tables: dict[tuple[Direction, int, str | None], Verdicts] = {}
        self._resolved: dict[int, Row] = {0: ()}
        self._points_of: dict[int, IntervalSet] = {}
        self._texts: dict[Seen, str] = {}
        unknown = engine.classes.of(None, engine.peers.of_address(None, is_held=False), is_controlled=False)
        self._unknown = Seen((unknown,))

    def compile(self, workload: Workload) -> Intent:
        """The intent of one controlled host."""
        networks = self.networks_of(workload)
        body = self.body(workload)
        return assemble(self.station(workload, body), body, self.groups(networks), self.isolations(networks))

    def station(self, workload: Workload, body: Body) -> Station:
        """What is the host's own."""
        return Station(
            workload=workload.uuid,
            name=workload.name,
            mode=self.engine.world.as_mode or workload.mode,
            own=self._own(workload),
            body=body.digest,
            failsafe=self._failsafe,
            valid_until=self._valid_until,
            refusals=tuple(refusals(self.engine, workload, {local.class_: local.direction for local in ()}, ())),
        )

    def body(self, workload: Workload) -> Body:
        """What each class may do there; one object for all hosts that are judged alike."""
        locals_ = tuple(self._locals(workload, self._own(workload)))
        key = (self.networks_of(workload), locals_)
        if key not in self._bodies:
            self._bodies[key] = self._body(list(locals_), key[0])
        return self._bodies[key]

    def groups(self, networks: frozenset[str]) -> dict[str, tuple[int, ...]]:
        """Every group of addresses, by key, as the hosts of some networks know them."""
        return {self._group_key(group): group.addresses for group in self._membership(networks).groups}

    # ---- who the host is ----------------------------------------------------------------------------------------

    def _locals(self, workload: Workload, own: tuple[int, ...]) -> Iterator[_Local]:
        """Every (direction, unit, own class) the host is judged as.

        Where its addresses differ in class, any other address it has (a secondary one, broadcast, multicast) is judged
        by its labels alone, so that no address of the host is without a part.
        """
        by_class: dict[int, list[int]] = {}
        for address in own or (None,):
            by_class.setdefault(self.engine.class_of(workload, address), []).extend(
                [] if address is None else [address]
            )
        processes = {p.unit: p for p in self.engine.world.inventory.processes_of(workload.name) if p.unit}
        for direction in _DIRECTIONS:
            for unit in (None, *sorted({*processes, *self._named_units(direction, by_class)})):
                for class_, addresses in by_class.items():
                    mine = _points(addresses) if len(by_class) > 1 else IntervalSet()
                    process = processes.get(unit) if unit else None
                    at = addresses[0] if addresses else None
                    judged = class_ if process is None else self.engine.class_of(process, at)
                    yield _Local(direction, judged, mine, unit)
                if len(by_class) > 1:
                    judged = self.engine.class_of(processes.get(unit or "") or workload, None)
                    yield _Local(direction, judged, EVERY_ADDRESS - _points(own), unit)

    def _named_units(self, direction: Direction, classes: Iterable[int]) -> set[str]:
        """Units that a rule about this host names on this side."""
        relation = self.engine.relation
        side = 0 if direction == "out" else 1
        about = 0
        for class_ in classes:
            about |= relation.rows(class_)[side]
        conditions = (self.engine.rules[n].rule.conditions for n in members(about & relation.conditional))
        units = (c.from_process if direction == "out" else c.to_process for c in conditions)
        return {unit for unit in units if unit}

    # ---- who is who ---------------------------------------------------------------------------------------------

    def _verdicts(self, local: _Local) -> Verdicts:
        key = (local.direction, local.class_, local.unit)
        if key not in self._tables:
            self._tables[key] = Verdicts(self.engine, *key, self._resolved)
        return self._tables[key]

    def _membership(self, networks: frozenset[str]) -> Membership:
        if networks not in self._memberships:
            self._memberships[networks] = Membership(self.engine, networks)
        return self._memberships[networks]

    def _peers(
        self, locals_: list[_Local], networks: frozenset[str], own: tuple[int, ...]
    ) -> tuple[tuple[PeerClass, ...], dict[int, Seen]]:
        """The classes this host must tell apart, with their addresses, and what each number stands for.

        A class that no rule about this host names gets what any unlisted address gets, so it is not looked at.
        """
        tables = [self._verdicts(local) for local in locals_]
        rows = _Rows(tables)
        kept: dict[Seen, tuple[list[int], list[tuple[int, int]]]] = {}
        for group in self._membership(networks).groups_about(frozenset().union(*(t.touched for t in tables))):
            if rows[group.seen] != rows[group.fallback]:
                kept.setdefault(group.seen, ([], []))[0].extend(group.addresses)
        for bare, ranges in self._bare:
            if rows[bare] != rows[self._unknown]:
                kept.setdefault(bare, ([], []))[1].extend(ranges)
        numbers = _numbers({seen: self._text(seen) for seen in kept})
        mine = frozenset(own)
        peers = (
            PeerClass(numbers[seen], self._text(seen), tuple(sorted(set(addresses) - mine)), tuple(sorted(ranges)))
            for seen, (addresses, ranges) in kept.items()
        )
        listed = tuple(sorted((p for p in peers if p.addresses or p.ranges), key=lambda p: p.id))
        present = {peer.id for peer in listed}
        return listed, {numbers[seen]: seen for seen in kept if numbers[seen] in present}

    @cached_property
    def _bare(self) -> list[tuple[Seen, tuple[tuple[int, int], ...]]]:
        """The classes of addresses that nobody holds, with their ranges."""
        return [(Seen((class_,)), ranges.ranges) for class_, ranges in enumerate(self.engine.classes.ranges) if ranges]

    def _text(self, seen: Seen) -> str:
        """What the class is, in words that no other class shares."""
        if seen not in self._texts:
            believed = [name for name, is_ in zip(("sends", "receives"), seen.believed, strict=True) if is_]
            words = " | ".join(sorted(map(self._class_text, seen.classes)))
            self._texts[seen] = words + (f" (believed: {' '.join(believed)})" if believed else "")
        return self._texts[seen]

    def _class_text(self, class_: int) -> str:
        classes, peers = self.engine.classes, self.engine.peers
        inside = classes.membership[class_] & self._address_bits
        where = "+".join(sorted(peers.peers[n].text for n in members(inside)))
        labels = classes.labels[class_]
        if labels is None:
            return where or "unknown"
        named = ",".join(f"{key}={value}" for key, value in labels.items()) or "unlabelled"
        unmanaged = "" if classes.is_controlled[class_] else " (unmanaged)"
        return named + unmanaged + (f" in {where}" if where else "")

    @cached_property
    def _address_bits(self) -> int:
        everyone = self.engine.peers.of_address(None, is_held=False)
        return self.engine.peers.all_addresses & ~everyone

    # ---- parts --------------------------------------------------------------------------------------------------

    def _part(self, local: _Local, kept: dict[int, Seen]) -> Part:
        cells: list[Cell] = []
        for number, seen in [(UNKNOWN_CLASS, self._unknown), *sorted(kept.items())]:
            for action, mask, rule in self._verdicts(local).of(seen):
                cells.append(Cell(number, self._points(mask), action, self.engine.rules[rule].ref))
        return Part(local.direction, tuple(cells), local.addresses, local.unit)

    def _points(self, atoms: int) -> IntervalSet:
        if atoms not in self._points_of:
            self._points_of[atoms] = self.engine.atoms.points(atoms)
        return self._points_of[atoms]

    # ---- quarantine ---------------------------------------------------------------------------------------------

    def _live_quarantines(self) -> list[Quarantine]:
        at = self.engine.world.at
        return [q for q in self.engine.world.quarantines if q.until is None or at < q.until]

    def _addresses_of(self, quarantine: Quarantine, networks: frozenset[str]) -> set[int]:
        """The quarantined workload's addresses, in every network but where somebody else holds them here: isolating
        one address too many closes, never opens."""
        world = self.engine.world
        workload = world.inventory.by_uuid.get(quarantine.workload)
        return {
            lease.address
            for lease in (workload.live_addresses(world.at) if workload else ())
            if lease.network in networks
            or not any(world.inventory.holders(lease.address, world.at, n) for n in networks)
        }

    def _passages(
        self,
        workload: Workload,
        mine: list[Quarantine],
        isolated: dict[Quarantine, tuple[int, ...]],
        networks: frozenset[str],
    ) -> Iterator[Passage]:
        """What passes: this host's exceptions, a quarantined peer's exceptions, and where both are, what both except.

        An address that several workloads hold passes nothing: it would have to pass for each of them.
        """
        if not mine and not isolated:
            return
        unclear = self._conflicted(networks)
        theirs = [
            Passage(_OPPOSITE[exception.direction], remote, exception.services)
            for quarantine, addresses in isolated.items()
            for exception in quarantine.allow
            if self._picks(exception.peers, workload) and (remote := _points(addresses) - unclear)
        ]
        if not mine:
            yield from theirs
            return
        everyone_isolated = _points(address for addresses in isolated.values() for address in addresses)
        for exception in (x for quarantine in mine for x in quarantine.allow):
            remote = self._reach_of(exception.peers, networks) - unclear
            if free := remote - everyone_isolated:
                yield Passage(exception.direction, free, exception.services)
            for other in theirs:
                both, services = remote & other.remote, exception.services & other.services
                if other.direction == exception.direction and both and services:
                    yield Passage(exception.direction, both, services)

    def _conflicted(self, networks: frozenset[str]) -> IntervalSet:
        """The addresses that stand for several workloads in the host's networks."""
        holders = self._membership(networks).holders
        return _points(address for address, here in holders.items() if len({w.uuid for w in here}) > 1)

    def _picks(self, peers: tuple[Peer, ...], workload: Workload) -> bool:
        """Whether the peers pick this host at every one of its addresses (a passage does not tell them apart)."""
        classes = {self.engine.class_of(workload, x.address) for x in workload.live_addresses(self.engine.world.at)}
        return bool(classes) and all(any(self._is_in(class_, peer) for peer in peers) for class_ in classes)

    def _is_in(self, class_: int, peer: Peer) -> bool:
        number = self.engine.peers.id(peer)
        return number is not None and bool(self.engine.classes.membership[class_] >> number & 1)

    def _reach_of(self, peers: tuple[Peer, ...], networks: frozenset[str]) -> IntervalSet:
        """Every address, held or not, that is one of the peers as seen from a network."""
        held: dict[int, bool] = {}
        for group in self._membership(networks).groups:
            picked = all(any(self._is_in(class_, peer) for peer in peers) for class_ in group.seen.classes)
            held.update(dict.fromkeys(group.addresses, picked))
        bare = [
            r
            for c, ranges in enumerate(self.engine.classes.ranges)
            if any(self._is_in(c, p) for p in peers)
            for r in ranges
        ]
        everyone_held = _points(held)
        return (IntervalSet.of(bare) - everyone_held) | _points(a for a, picked in held.items() if picked)

    # ---- what changes later, what cannot be expressed ------------------------------------------------------------

    @cached_property
    def _valid_until(self) -> datetime | None:
        world = self.engine.world
        times: list[datetime | None] = [next_change(r.rule.conditions, world.at) for r in self.engine.rules]
        times += [q.until for q in world.quarantines]
        times += [t for w in world.inventory.workloads for lease in w.addresses for t in (lease.start, lease.end)]
        times += [t for answers in world.names.values() for a in answers for t in (a.start, a.end)]
        return min((t for t in times if t is not None and t > world.at), default=None)

    def _refusals(self, workload: Workload, locals_: list[_Local]) -> Iterator[Finding]:
        """Allows about this host whose conditions no address-based firewall can check; they stay closed."""
        relation = self.engine.relation
        about = 0
        for local in locals_:
            source, destination, _ = relation.rows(local.class_)
            about |= destination if local.direction == "in" else source
        for number in members(about & relation.conditional):
            rule = self.engine.rules[number]
            if rule.rule.conditions.mutual_tls:
                message = "`require: mutual-tls` needs an identity handshake, which this target does not have"
                help_ = "the allow stays closed; remove the condition or accept the refusal"
                yield _refused("mutual-tls-unsupported", message, rule, help_)
        yield from self._process_refusals(workload)
        yield from self._exception_refusals(workload)

    def _exception_refusals(self, workload: Workload) -> Iterator[Finding]:
        """Quarantine exceptions that hold at some of this host's addresses only: a passage does not tell them apart."""
        at = self.engine.world.at
        classes = {self.engine.class_of(workload, lease.address) for lease in workload.live_addresses(at)}
        for quarantine in self._live_quarantines():
            if quarantine.workload == workload.uuid:
                continue
            for exception in quarantine.allow:
                picked = {c for c in classes if any(self._is_in(c, peer) for peer in exception.peers)}
                if picked and picked != classes:
                    words = ", ".join(peer.text for peer in exception.peers)
                    message = f"the quarantine exception for `{words}` picks only some addresses of `{workload.name}`"
                    help_ = "it stays closed here; name the workload by labels instead"
                    yield Finding("quarantine-exception-partial", message, "warning", help=help_, subject=workload.name)

    def _process_refusals(self, workload: Workload) -> Iterator[Finding]:
        """What a host cannot do about the processes on it."""
        processes = self.engine.world.inventory.processes_of(workload.name)
        if not processes:
            return
        isolated = {q.workload for q in self._live_quarantines()}
        for process in processes:
            if process.uuid in isolated:
                message = f"process `{process.name}` is quarantined; a host isolates as a whole"
                yield Finding(
                    "process-quarantine-unsupported", message, help="quarantine its host", subject=process.name
                )
            if process.mode != workload.mode:
                message = f"process `{process.name}` has another mode than its host `{workload.name}`"
                yield Finding("process-mode-unsupported", message, help="give both the same mode", subject=process.name)
        classes = [self.engine.class_of(process, None) for process in processes]
        own = self.engine.class_of(workload, None)
        between = 0
        for source in classes:
            for destination in classes:
                if source != destination:
                    between |= self._naming(source, destination) & ~self._naming(own, own)
        for number in members(between):
            rule = self.engine.rules[number]
            message = (
                f"names processes on one host, `{workload.name}`; traffic between them is loopback and not controlled"
            )
            help_ = "move one of them to another host, or drop the rule"
            yield _refused("process-to-process-unsupported", message, rule, help_)

    def _naming(self, source: int, destination: int) -> int:
        """The rules that name one class as source and another as destination."""
        return self.engine.relation.rows(source)[0] & self.engine.relation.rows(destination)[1]


class _Rows(dict[Seen, tuple[Row, ...]]):
    """What a remote may do in every part of a host."""

    def __init__(self, tables: list[Verdicts]) -> None:
        super().__init__()
        self._tables = tables

    def __missing__(self, seen: Seen) -> tuple[Row, ...]:
        row = self[seen] = tuple(table.of(seen) for table in self._tables)
        return row


_OPPOSITE: dict[Direction, Direction] = {"in": "out", "out": "in"}
_DIRECTIONS: tuple[Direction, ...] = ("in", "out")


def _refused(code: str, message: str, rule: RuleRef, help_: str) -> Finding:
    """A refused allow stays closed, which may be accepted; any other refused rule fails the plan."""
    severity: Severity = "warning" if rule.rule.action == "allow" else "error"
    return Finding(code, message, severity, rule.rule.where, help=help_, subject=rule.ref)


def _points(addresses: Iterable[int]) -> IntervalSet:
    return IntervalSet.of((address, address) for address in addresses)


def _numbers(texts: dict[Seen, str]) -> dict[Seen, int]:
    """A number for each class that depends only on what the class is, so numbers stay when others come and go.

    31 bits of SHA-256; on the (rare) collision the later text takes the next free number.
    """
    out: dict[Seen, int] = {}
    taken = {UNKNOWN_CLASS}
    for seen, text in sorted(texts.items(), key=lambda item: (item[1], item[0])):
        number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1 or 1
        while number in taken:
            number = number % 0x7FFFFFFE + 1
        out[seen] = number
        taken.add(number)
    return out
