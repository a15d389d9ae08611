"""One decision, with its reason: essential, quarantine, forbid, allow, deny, default at each controlled end.

Each end is asked on its own and the worst counts, at a tie the destination's. An end that may be several things (a
workload's addresses, an address's holders) counts as the worst of them. `judgement` does the same for many rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from ringfence.core.engine.bits import members
from ringfence.core.engine.rules import End, Facts, unstated
from ringfence.core.identity.workload import Direction, ModeName, Workload
from ringfence.core.net import service
from ringfence.core.net.address import is_loopback, is_v4
from ringfence.core.policy.model import Peer
from ringfence.core.world import Endpoint, EndVerdict, Flow, Quarantine, Reason, Verdict, VerdictName

if TYPE_CHECKING:
    from ringfence.core.engine.engine import Engine

_BADNESS: dict[VerdictName, int] = {"allowed": 0, "would-block": 1, "blocked": 2}
_UNCONTROLLED = Verdict("allowed", "uncontrolled")


class Party(NamedTuple):
    """One end made concrete: its class as others see it, and as its own enforcement point does."""

    host: Workload | None
    local: Workload | None
    """The process where one is known, else the host: whose mode counts at its own end."""
    address: int | None
    seen: int
    """The class every other end sees: the host's, or the bare address's."""
    own: int
    """The class its own enforcement point sees: the process's where one is known."""
    unit: str | None
    network: str = "main"
    """The address is in."""


class Connection(NamedTuple):
    """One pair of what the ends of a flow may stand for, with what is stated about it."""

    flow: Flow
    source: Party
    destination: Party
    atom: int
    facts: Facts


class Step(NamedTuple):
    """The first step that speaks at an end, the rule it names (a slot) and what would have changed it."""

    reason: Reason
    passes: bool
    rule: int | None = None
    unless: tuple[str, ...] = ()


_ESSENTIAL = Step("essential", passes=True)
_DEFAULT = Step("default", passes=False)


def decide(engine: Engine, flow: Flow, *, held_at: datetime | None = None) -> Verdict:
    """The verdict of one new connection with the responsible rule: the worst over what its ends may stand for.

    `held_at`: whose an address is, is asked of that time; everything else of the flow's.
    """
    world = engine.world
    if flow.at is not None and flow.at != world.at and world.names:
        return decide(type(engine)(msgspec.structs.replace(world, at=flow.at)), flow, held_at=held_at)
    at = flow.at or world.at
    then = held_at or at
    sources = _parties(engine, flow.source, then, flow.from_process, None)
    destinations = _parties(engine, flow.destination, then, flow.to_process, flow.point)
    if len(sources) == 1 == len(destinations):
        return _overall(engine, flow, at, sources[0], destinations[0])
    pairs = _of_one_family(sources, destinations)
    return max((_overall(engine, flow, at, s, d) for s, d in pairs), key=lambda v: _BADNESS[v.verdict])


def _of_one_family(sources: Sequence[Party], destinations: Sequence[Party]) -> list[tuple[Party, Party]]:
    """The pairs whose addresses are of one family; all of them when none are."""
    pairs = [(s, d) for s in sources for d in destinations]
    alike = [(s, d) for s, d in pairs if s.address is None or d.address is None or is_v4(s.address) == is_v4(d.address)]
    return alike or pairs


# ---- who the ends are ------------------------------------------------------------------------------------------------


def _parties(engine: Engine, end: Endpoint, at: datetime, unit: str | None, point: int | None) -> list[Party]:
    inventory, asked, address = engine.world.inventory, end.workload, end.address
    if asked is not None:
        host, process = (engine.host_of(asked), asked) if asked.kind == "process" else (asked, None)
        if address is not None:
            return [_party(engine, host, process, address, unit, point)._replace(network=end.network)]
        held = [(x, inventory.holders(x.address, at, x.network)) for x in host.live_addresses(at)]
        found = [
            _party(engine, holder, process if holder.uuid == host.uuid else None, x.address, unit, point)._replace(
                network=x.network
            )
            for x, holders in held
            for holder in holders
        ]
        return found or [_party(engine, host, process, None, unit, point)]
    holders = inventory.holders(address, at, end.network) if address is not None else ()
    if holders:
        found = [_party(engine, holder, None, address, unit, point) for holder in holders]
        return [one._replace(network=end.network) for one in found]
    number = engine.class_of_name(end.name) if end.name else engine.class_of(None, address)
    return [Party(None, None, address, number, number, unit, end.network)]


def _party(
    engine: Engine, host: Workload, process: Workload | None, address: int | None, unit: str | None, point: int | None
) -> Party:
    """The process is the asked one, the one whose unit was stated, or (destination) the one that owns the service."""
    for candidate in () if process else engine.world.inventory.processes_of(host.name):
        owns = point is not None and unit is None and point in candidate.services
        if owns or (unit is not None and candidate.unit == unit):
            process = candidate
    seen = engine.class_of(host, address)
    if process is None:
        return Party(host, host, address, seen, seen, unit)
    return Party(host, process, address, seen, engine.class_of(process, address), unit or process.unit)


# ---- what they say ---------------------------------------------------------------------------------------------------


def _overall(engine: Engine, flow: Flow, at: datetime, source: Party, destination: Party) -> Verdict:
    facts = Facts(at, flow.mutual_tls, source.unit, destination.unit)
    connection = Connection(flow, source, destination, engine.atoms.atom(flow.point), facts)
    always = _is_always_essential(engine, connection)
    said: list[tuple[EndVerdict, int | None]] = []
    if source.local is not None and source.local.is_controlled:
        said.append(_end(engine, "source", source.local, connection, is_essential=always))
    if destination.local is not None and destination.local.is_controlled:
        said.append(_end(engine, "destination", destination.local, connection, is_essential=always))
    if not said:
        return _UNCONTROLLED
    worst, number = said[-1]
    if len(said) == 2 and _BADNESS[said[0][0].verdict] > _BADNESS[worst.verdict]:
        worst, number = said[0]
    where = None if number is None else engine.rules[number].rule.where
    return Verdict(worst.verdict, worst.reason, worst.rule, where, tuple([end for end, _ in said]), worst.unless)


def _end(
    engine: Engine, end: End, local: Workload, connection: Connection, *, is_essential: bool
) -> tuple[EndVerdict, int | None]:
    mode = mode_at(engine, local, end)
    step = _ESSENTIAL if is_essential else _step(engine, end, connection)
    verdict = verdict_of(step.reason, mode, passes=step.passes)
    ref = None if step.rule is None else engine.rules[step.rule].ref
    return EndVerdict(end, local.name, mode, verdict, step.reason, ref, step.unless), step.rule


def mode_at(engine: Engine, workload: Workload, end: End) -> ModeName:
    mode = engine.world.as_mode or workload.mode
    return mode.outbound if end == "source" else mode.inbound


def verdict_of(reason: Reason, mode: ModeName, *, passes: bool) -> VerdictName:
    """What a step means in a mode: quarantine always bites, forbid and deny from `selective` on, the default in
    `enforce`.
    """
    if passes:
        return "allowed"
    if reason == "quarantine" or mode == "enforce" or (mode == "selective" and reason in ("forbid", "deny")):
        return "blocked"
    return "would-block"


def _step(engine: Engine, end: End, connection: Connection) -> Step:
    """Essential, quarantine, forbid, allow, deny, default: the first that speaks."""
    if engine.world.failsafe and _is_failsafe(engine, end, connection):
        return _ESSENTIAL
    if (engine.quarantined or engine.bound) and (excepted := _quarantine_answers(engine, end, connection)):
        return Step("quarantine", passes=all(excepted))
    source, destination = connection.source, connection.destination
    if end == "source":
        ends, believed = (source.own, destination.seen), _believes(engine, "destination", destination)
    else:
        ends, believed = (source.seen, destination.own), _believes(engine, "source", source)
    return _rule_step(engine, end, *ends, connection, peer_enforces=believed)


def _believes(engine: Engine, end: End, other: Party) -> bool:
    """Whether the other end checks its own processes: only then is their condition taken as true here."""
    if not engine.relation.conditional or other.local is None:
        return False
    return other.local.is_controlled and mode_at(engine, other.local, end) == "enforce"


def _rule_step(engine: Engine, end: End, s: int, d: int, connection: Connection, *, peer_enforces: bool) -> Step:
    relation, facts = engine.relation, connection.facts
    here = relation.services[connection.atom]
    live, asked = engine.speaking(end, s, d, facts, peer_enforces=peer_enforces, within=here)
    if not live and not asked:
        return _DEFAULT
    if forbidding := live & relation.forbid:
        return Step("forbid", passes=False, rule=relation.first(forbidding))
    if allowing := live & relation.allow:
        return Step("allow", passes=True, rule=relation.first(allowing))
    unless = _unless(engine, end, asked, facts, peer_enforces=peer_enforces) if asked else ()
    if live:
        return Step("deny", passes=False, rule=relation.first(live), unless=unless)
    return Step("default", passes=False, unless=unless)


def _unless(engine: Engine, end: End, asked: int, facts: Facts, *, peer_enforces: bool) -> tuple[str, ...]:
    """What nobody stated that would have let one of these allows hold."""
    conditions = (engine.rules[number].rule.conditions for number in members(asked))
    return tuple(sorted({x for c in conditions for x in unstated(c, end, facts, peer_enforces=peer_enforces)}))


# ---- what no rule decides --------------------------------------------------------------------------------------------


def _is_always_essential(engine: Engine, connection: Connection) -> bool:
    """Essential at both ends: a host's own traffic, loopback, ICMP that networking needs, DHCP."""
    flow, source, destination, atom, _ = connection
    if source.host is not None and destination.host is not None and source.host.uuid == destination.host.uuid:
        return True
    if (engine.essential | engine.dhcp) >> atom & 1:
        clients = service.DHCP_PORTS.get(flow.point & 0xFFFF, ())
        if flow.point in service.ESSENTIAL_ICMP or flow.source_port is None or flow.source_port in clients:
            return True
    here, there = source.address, destination.address
    return (here is not None and is_loopback(here)) or (there is not None and is_loopback(there))


def _is_failsafe(engine: Engine, end: End, connection: Connection) -> bool:
    flow, source, destination, *_ = connection
    direction, remote = ("out", destination.address) if end == "source" else ("in", source.address)
    passages = (f for f in engine.world.failsafe if f.direction == direction and flow.point in f.services)
    return remote is not None and any(remote in passage.remote for passage in passages)


def _quarantine_answers(engine: Engine, end: End, connection: Connection) -> list[bool]:
    """For each quarantined end, whether its exceptions pass the connection; a process binds its own end only."""
    flow, source, destination, _, facts = connection
    out = []
    ways: tuple[tuple[Party, Party, Direction], ...] = ((source, destination, "out"), (destination, source, "in"))
    for party, other, direction in ways:
        is_own = (end == "source") == (direction == "out")
        bound = {w.uuid for w in (party.host, party.local if is_own else None) if w is not None}
        live = [q for uuid in bound for q in engine.quarantined.get(uuid, ()) if is_live(q, facts.at)]
        if live:
            out.append(_excepts(engine, live, other, flow.point, direction))
        if not is_own and party.address is not None and engine.bound:
            out += _bound_answers(engine, party, other, flow.point, direction, facts.at)
    return out


def _bound_answers(
    engine: Engine, party: Party, other: Party, point: int, direction: Direction, at: datetime
) -> Iterator[bool]:
    """For each quarantine that binds an end's address for somebody else than its holder: whether it lets it pass.

    The other end binds it. A holder who is not isolated gets none of the exceptions: who it is, nobody can tell.
    """
    binding: dict[str, list[Quarantine]] = {}
    for network, one in engine.bound.get(party.address or 0, ()):
        if (
            is_live(one, at)
            and _binds(engine, network, party, at)
            and (party.host is None or one.workload != party.host.uuid)
        ):
            binding.setdefault(one.workload, []).append(one)
    is_told = party.host is None or any(is_live(q, at) for q in engine.quarantined.get(party.host.uuid, ()))
    for live in binding.values():
        yield is_told and _excepts(engine, live, other, point, direction)


def _binds(engine: Engine, network: str, party: Party, at: datetime) -> bool:
    """An address is bound in its own network, and in every other where nobody holds it."""
    assert party.address is not None
    return network == party.network or not engine.world.inventory.holders(party.address, at, party.network)


def _excepts(engine: Engine, live: Iterable[Quarantine], other: Party, point: int, direction: Direction) -> bool:
    """Whether an exception of one of them lets a connection with the other end pass."""
    exceptions = (x for q in live for x in q.allow if x.direction == direction and point in x.services)
    return any(_is_in(engine, other, x.peers) for x in exceptions)


def _is_in(engine: Engine, party: Party, peers: Iterable[Peer]) -> bool:
    wanted = engine.peers.bits_of(peers)
    return bool(engine.classes.membership[party.seen] & wanted)


def is_live(quarantine: Quarantine, at: datetime) -> bool:
    return quarantine.until is None or at < quarantine.until
