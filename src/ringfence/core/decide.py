"""The oracle: DESIGN section 3 read aloud. Naive on purpose; it exists to check the engine (law 8).

It imports value types only and keeps its own helpers, so a fault in a shared one cannot hide in both.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo

from ringfence.core.identity.workload import Mode, Workload
from ringfence.core.labels.selector import Labels
from ringfence.core.net.address import INTERNET_RANGE, LOOPBACK, PRIVATE, is_v4
from ringfence.core.net.service import DHCP_PORTS, ESSENTIAL_ICMP, UDP
from ringfence.core.policy.model import Action, Cidr, Conditions, Everywhere, Peer, Policy, Rule, Within, Workloads
from ringfence.core.world import VERDICTS, Endpoint, EndVerdict, Flow, Quarantine, Reason, Verdict, VerdictName, World

End = Literal["source", "destination"]


class Party(NamedTuple):
    """One end made concrete: who holds the address there and then, and the process in question if known."""

    host: Workload | None
    process: Workload | None
    labels: Labels | None
    """The host's: how everyone else sees this end."""
    address: int | None
    name: str | None
    unit: str | None
    network: str

    @property
    def local(self) -> Workload | None:
        return self.process or self.host


class Side(NamedTuple):
    """A flow as one controlled end sees it: itself as the process it is, the other end as its host."""

    end: End
    world: World
    flow: Flow
    source: Party
    destination: Party
    at: datetime


def decide(world: World, flow: Flow) -> Verdict:
    """The verdict of a new connection: the worst over every holder and address the ends may stand for."""
    at = flow.at or world.at
    pairs = [
        (s, d)
        for s in parties(world, flow, flow.source, at, True)
        for d in parties(world, flow, flow.destination, at, False)
    ]
    alike = [
        (s, d) for s, d in pairs if None in (s.address, d.address) or is_v4(s.address or 0) == is_v4(d.address or 0)
    ]
    return max((overall(world, flow, s, d, at) for s, d in alike or pairs), key=lambda v: VERDICTS.index(v.verdict))


def overall(world: World, flow: Flow, source: Party, destination: Party, at: datetime) -> Verdict:
    """Each controlled end decides on its own; the worst counts, at a tie the destination."""
    sides = [Side(end, world, flow, source, destination, at) for end in ENDS]
    ends = [end_verdict(side) for side in sides if (me(side).local or UNMANAGED).is_controlled]
    if not ends:
        return Verdict("allowed", "uncontrolled")
    worst = max(ends, key=lambda e: VERDICTS.index(e.verdict))
    where = next((r.where for p in world.policies for r in p.rules if p.ref(r) == worst.rule), None)
    return Verdict(worst.verdict, worst.reason, worst.rule, where, tuple(reversed(ends)), worst.unless)


def end_verdict(side: Side) -> EndVerdict:
    workload = me(side).local
    assert workload is not None
    mode = mode_of(side, side.end)
    reason, rule, unless = step(side)
    verdict = verdict_of(reason, mode, rule)
    return EndVerdict(side.end, workload.name, mode, verdict, reason, None if rule == EXCEPTED else rule, unless)


def verdict_of(reason: Reason, mode: str, rule: str | None) -> VerdictName:
    if reason in ("essential", "allow") or (reason == "quarantine" and rule == EXCEPTED):
        return "allowed"
    if reason == "quarantine" or mode == "enforce" or (mode == "selective" and reason in ("forbid", "deny")):
        return "blocked"
    return "would-block"


def step(side: Side) -> tuple[Reason, str | None, tuple[str, ...]]:
    """The six steps: essential, quarantine, forbid, allow, deny, default."""
    if is_essential(side):
        return "essential", None, ()
    excepted = [is_excepted(side, q) for q in ("source", "destination") if is_quarantined(side, q)]
    excepted += [passes for q in ("source", "destination") if q != side.end for passes in bound_passes(side, q)]
    if excepted:
        return "quarantine", EXCEPTED if all(excepted) else None, ()
    matching = [(p.ref(r), p, r) for p in side.world.policies for r in p.rules if matches(side, p, r)]
    unless = {x for _, _, r in matching if r.action == "allow" for x in unstated(side, r.conditions)}
    for action in STEPS:
        named = sorted(
            ref for ref, _, r in matching if r.action == action and (action != "allow" or holds(side, r.conditions))
        )
        if named:
            return action, named[0], tuple(sorted(unless)) if action == "deny" else ()
    return "default", None, tuple(sorted(unless))


def matches(side: Side, policy: Policy, rule: Rule) -> bool:
    """The rule's ends and service, and whether its scope lets it speak here."""
    if not (
        any(picks(side, peer, "source") for peer in rule.sources)
        and any(picks(side, peer, "destination") for peer in rule.destinations)
        and any(lo <= side.flow.point <= hi for lo, hi in rule.services.ranges)
    ):
        return False
    source, destination = (policy.scope is None or in_scope(policy, side, end) for end in ("source", "destination"))
    return destination if rule.action == "allow" and side.end == "destination" else source or destination


def picks(side: Side, peer: Peer, end: str, *, as_host: bool = False) -> bool:
    party = side.source if end == "source" else side.destination
    if isinstance(peer, Workloads):
        labels = party.labels if as_host else labels_at(side, end)
        return labels is not None and all(s.matches(labels) for s in peer.selectors)
    if isinstance(peer, Cidr):
        return party.address is not None and party.address in peer.addresses
    if isinstance(peer, Everywhere):
        where = {"private": PRIVATE, "internet": INTERNET_RANGE}.get(peer.word)
        held = peer.word == "internet" and party.host is not None
        return where is None or (not held and party.address is not None and party.address in where)
    if party.name is not None:
        return party.name == peer.text or (peer.text.startswith("*.") and party.name.endswith(peer.text[1:]))
    answers = [
        a
        for n, list_ in side.world.names.items()
        for a in list_
        if n == peer.text or (peer.text[:2] == "*." and n.endswith(peer.text[1:]))
    ]
    return any(a.is_live(side.at) and party.address in a.addresses for a in answers)


def holds(side: Side, c: Conditions) -> bool:
    """Every condition of an allow. A process is checked at its own end and believed if that end is enforcing."""
    local = side.at.astimezone(ZoneInfo(c.within.zone)) if c.within else None
    return (
        (not c.mutual_tls or side.flow.mutual_tls)
        and (c.from_process is None or process_holds(side, "source", c.from_process))
        and (c.to_process is None or process_holds(side, "destination", c.to_process))
        and (c.until is None or side.at.astimezone(UTC).date() <= c.until)
        and (c.within is None or local is None or in_window(local.weekday(), local.hour * 60 + local.minute, c.within))
    )


def process_holds(side: Side, end: str, unit: str) -> bool:
    party = side.source if end == "source" else side.destination
    if side.end == end:
        return party.unit == unit
    return party.local is not None and party.local.is_controlled and mode_of(side, end) == "enforce"


def unstated(side: Side, c: Conditions) -> Iterator[str]:
    """What nobody stated and would let this allow hold here: nothing where another condition fails anyway."""
    asks_from = c.from_process if side.end == "source" and side.source.unit is None else None
    asks_to = c.to_process if side.end == "destination" and side.destination.unit is None else None
    rest = Conditions(
        from_process=None if asks_from else c.from_process,
        to_process=None if asks_to else c.to_process,
        until=c.until,
        within=c.within,
    )
    if not holds(side, rest):
        return
    if c.mutual_tls and not side.flow.mutual_tls:
        yield "mutual-tls"
    if asks_from:
        yield f"from_process={asks_from}"
    if asks_to:
        yield f"to_process={asks_to}"


def in_window(weekday: int, minute: int, w: Within) -> bool:
    if w.start_minute < w.end_minute:
        return weekday in w.days and w.start_minute <= minute < w.end_minute
    return (weekday in w.days and minute >= w.start_minute) or ((weekday - 1) % 7 in w.days and minute < w.end_minute)


def is_essential(side: Side) -> bool:
    source, destination, flow = side.source, side.destination, side.flow
    if source.host is not None and destination.host is not None and source.host.uuid == destination.host.uuid:
        return True
    if (
        any(p.address is not None and p.address in LOOPBACK for p in (source, destination))
        or flow.point in ESSENTIAL_ICMP
    ):
        return True
    clients = DHCP_PORTS.get(flow.point & 0xFFFF, ()) if flow.point >> 16 == UDP else ()
    if clients and (flow.source_port is None or flow.source_port in clients):
        return True
    direction, remote = ("out", destination) if side.end == "source" else ("in", source)
    failsafe = [f for f in side.world.failsafe if f.direction == direction and flow.point in f.services]
    return remote.address is not None and any(remote.address in f.remote for f in failsafe)


def is_quarantined(side: Side, end: str) -> bool:
    return bool(live_quarantines(side, end))


def live_quarantines(side: Side, end: str) -> list[Quarantine]:
    """Those of the host at an end, and at its own end those of the process."""
    party = side.source if end == "source" else side.destination
    bound = [party.host, party.process if end == side.end else None]
    uuids = {workload.uuid for workload in bound if workload is not None}
    live = [q for q in side.world.quarantines if q.until is None or side.at < q.until]
    return [q for q in live if q.workload in uuids]


def is_excepted(side: Side, end: str) -> bool:
    return any(excepts(side, end, q) for q in live_quarantines(side, end))


def bound_passes(side: Side, end: str) -> list[bool]:
    """The far end's address, where a quarantine of somebody else binds it: passed only as each of them excepts, and
    not at all while somebody holds it who is not isolated."""
    party = side.source if end == "source" else side.destination
    holders = side.world.inventory.holders(party.address, side.at, party.network) if party.address is not None else ()
    binding = [
        q
        for q in side.world.quarantines
        if (q.until is None or side.at < q.until)
        and (party.host is None or q.workload != party.host.uuid)
        and any(x.address == party.address and (x.network == party.network or not holders) for x in q.addresses)
    ]
    is_told = party.host is None or is_quarantined(side, end)
    workloads = sorted({q.workload for q in binding})
    return [is_told and any(excepts(side, end, q) for q in binding if q.workload == w) for w in workloads]


def excepts(side: Side, end: str, quarantine: Quarantine) -> bool:
    direction, other = ("out", "destination") if end == "source" else ("in", "source")
    exceptions = quarantine.allow
    return any(
        x.direction == direction
        and side.flow.point in x.services
        and any(picks(side, p, other, as_host=True) for p in x.peers)
        for x in exceptions
    )


def parties(world: World, flow: Flow, end: Endpoint, at: datetime, is_source: bool) -> list[Party]:
    """Who an asked endpoint may be: all who hold a workload's live addresses, an address's holders, or nobody."""
    inventory, unit = world.inventory, flow.from_process if is_source else flow.to_process
    asked = end.workload
    process = asked if asked is not None and asked.kind == "process" else None
    host = inventory.find(process.host or "") if process else asked
    found: list[tuple[Workload | None, int | None, str]] = []
    if asked is not None and end.address is not None:
        found = [(host, end.address, end.network)]
    elif asked is not None:
        leases = (host or asked).live_addresses(at)
        held = [(h, x.address, x.network) for x in leases for h in inventory.holders(x.address, at, x.network)]
        found = [*held] or [(host, None, end.network)]
    elif end.address is not None:
        found = [(h, end.address, end.network) for h in inventory.holders(end.address, at, end.network)]
    mine = {host.uuid} if host else set()
    return [
        party(world, h, a, process if h and h.uuid in mine else None, unit, flow, is_source)._replace(network=network)
        for h, a, network in found
    ] or [Party(None, None, None, end.address, end.name, unit, end.network)]


def party(
    world: World,
    host: Workload | None,
    address: int | None,
    process: Workload | None,
    unit: str | None,
    flow: Flow,
    is_source: bool,
) -> Party:
    """A process is the asked one, the one whose unit was stated, or (destination) the one that owns the service."""
    for candidate in world.inventory.processes_of(host.name) if host and process is None else ():
        owns = not is_source and unit is None and flow.point in candidate.services
        process = candidate if owns or (unit is not None and candidate.unit == unit) else process
    labels = world.inventory.labels_of(host) if host else None
    return Party(host, process, labels, address, None, unit or (process.unit if process else None), "")


def labels_at(side: Side, end: str) -> Labels | None:
    party_ = side.source if end == "source" else side.destination
    if end == side.end and party_.process is not None:
        return side.world.inventory.labels_of(party_.process)
    return party_.labels


def in_scope(policy: Policy, side: Side, end: str) -> bool:
    labels = labels_at(side, end)
    return policy.scope is not None and labels is not None and policy.scope.matches(labels)


def me(side: Side) -> Party:
    return side.source if side.end == "source" else side.destination


def mode_of(side: Side, end: str) -> str:
    party_ = side.source if end == "source" else side.destination
    mode = side.world.as_mode or (party_.local or UNMANAGED).mode
    return mode.of("out" if end == "source" else "in")


ENDS: tuple[End, ...] = ("destination", "source")
STEPS: tuple[Action, ...] = ("forbid", "allow", "deny")
EXCEPTED = "\0excepted"
"""Marks a quarantine passed by its exception list; never shown."""
UNMANAGED = Workload("", "", kind="device", mode=Mode())
