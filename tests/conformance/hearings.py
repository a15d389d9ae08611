"""A question about a connection, taken apart into what each controlled end sees of it: one packet at one host.

A hearing is the part of a question that one host's firewall can judge: its own address, the other's, a service point,
and the process its socket belongs to. The verdicts wanted of it are the oracle's for that end.

INVARIANT: a question is either heard at every controlled end that it concerns, or refused with one of `REASONS`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from ringfence.core.decide import Party, Side, end_verdict, is_quarantined, me, parties
from ringfence.core.identity.workload import Direction, Workload
from ringfence.core.net.address import LOOPBACK, is_v4, parse_cidr
from ringfence.core.net.service import DHCP_PORTS, ICMP, ICMPV6, UDP
from ringfence.core.world import VERDICTS, EndVerdict, Flow, VerdictName, World

EPHEMERAL = 40000
LINK_LOCAL = parse_cidr("fe80::/10")
REASONS = {
    "name": "a packet carries addresses, not names",
    "no-address": "a workload sends no packet from an address it does not hold",
    "families": "the two ends have no family in common",
    "no-packet": "no packet of this family, or from this address, has this protocol and ICMP type",
    "own-address": "the other end's address is the host's own as well, so the packet never leaves it",
    "holder": "an address does not say which of its holders, or of its networks, is meant",
    "mutual-tls": "an address firewall cannot see that a peer proved its identity",
    "two-processes": "the question names a process and states the unit of another",
    "process-mode": "a host has one mode for all its processes",
    "process-quarantine": "a host isolates as a whole",
}
"""Why a question cannot be put to an address firewall."""
REFUSED = {
    "mutual-tls": "mutual-tls-unsupported",
    "process-mode": "process-mode-unsupported",
    "process-quarantine": "process-quarantine-unsupported",
}
"""Those a policy can ask for: the code with which the host's intent refuses."""


class Unheard(Exception):
    """The question is not one of packets; `host` is the host that refuses it, if it is refused."""

    def __init__(self, reason: str, host: Workload | None = None) -> None:
        assert reason in REASONS
        super().__init__(REASONS[reason])
        self.reason = reason
        self.host = host


class Hearing(NamedTuple):
    """What one controlled end judges, and what it must say."""

    host: Workload
    end: str
    local: int
    remote: int
    point: int
    source_port: int
    unit: str | None
    """The process whose socket it is, where known."""
    wanted: tuple[EndVerdict, ...]
    """The oracle's verdict for each holder the remote address may stand for."""
    is_inside: bool
    """The packet stays on the host."""

    @property
    def direction(self) -> Direction:
        return "out" if self.end == "source" else "in"

    @property
    def source(self) -> int:
        return self.local if self.end == "source" else self.remote

    @property
    def destination(self) -> int:
        return self.remote if self.end == "source" else self.local

    @property
    def verdict(self) -> VerdictName:
        return worst(want.verdict for want in self.wanted)


def worst(verdicts: Iterable[VerdictName]) -> VerdictName:
    """The constitution's sum of ends: blocked over would-block over allowed; of no controlled end: allowed."""
    return max(verdicts, key=VERDICTS.index, default="allowed")


def at_its_time(world: World, flow: Flow) -> World:
    """The world as it is when the flow is asked."""
    return msgspec.structs.replace(world, at=flow.at or world.at)


def hearings(world: World, flow: Flow) -> tuple[Hearing, ...]:
    """What each controlled end sees; empty where there is none. Raises Unheard."""
    world = at_its_time(world, flow)
    pairs = _pairs(world, flow)
    heard = _heard(world, msgspec.structs.replace(flow, mutual_tls=False), pairs)
    if flow.mutual_tls:
        for before, after in zip(heard, _heard(world, flow, pairs), strict=True):
            if before.wanted != after.wanted:
                raise Unheard("mutual-tls", before.host)
    return heard


def _pairs(world: World, flow: Flow) -> list[tuple[Party, Party]]:
    """Every two addresses, with their holders, that the question may stand for."""
    sources = parties(world, flow, flow.source, world.at, True)
    destinations = parties(world, flow, flow.destination, world.at, False)
    for party in (*sources, *destinations):
        if party.address is None:
            raise Unheard("no-address" if party.name is None else "name")
        if party.host and party.address not in {lease.address for lease in party.host.live_addresses(world.at)}:
            raise Unheard("no-address")
    pairs = [(s, d) for s in sources for d in destinations if _is_v4(s) == _is_v4(d)]
    if not pairs:
        raise Unheard("families")
    if not all(is_a_packet(flow.point, is_ipv4=_is_v4(s)) and may_send(s.address or 0, flow.point) for s, _ in pairs):
        raise Unheard("no-packet")
    if any(s.address == d.address and s.host != d.host for s, d in pairs):
        raise Unheard("own-address")
    return pairs


def _is_v4(party: Party) -> bool:
    return is_v4(party.address or 0)


def is_a_packet(point: int, *, is_ipv4: bool) -> bool:
    protocol, detail = point >> 16, point & 0xFFFF
    if protocol not in (ICMP, ICMPV6):
        return True
    return detail <= 0xFF and (protocol == ICMP) == is_ipv4


def may_send(source: int, point: int) -> bool:
    """MLD comes from link-local addresses alone, or from none (RFC 2710 section 3, RFC 3590 section 4)."""
    return not is_mld(point) or source in LINK_LOCAL or not source


def is_mld(point: int) -> bool:
    return point >> 16 == ICMPV6 and point & 0xFFFF in (130, 131, 132, 143)


def _heard(world: World, flow: Flow, pairs: list[tuple[Party, Party]]) -> tuple[Hearing, ...]:
    found: dict[tuple[str, str, str | None, int, int], list[Side]] = {}
    for source, destination in pairs:
        for side in (Side(end, world, flow, source, destination, world.at) for end in ("source", "destination")):
            mine = me(side)
            if mine.host is not None and mine.local is not None and mine.local.is_controlled:
                key = (side.end, mine.host.uuid, mine.unit, source.address or 0, destination.address or 0)
                found.setdefault(key, []).append(side)
    return tuple(_hearing(sides) for sides in found.values())


def _hearing(sides: list[Side]) -> Hearing:
    side = sides[0]
    mine = me(side)
    assert mine.host is not None
    _refuse_processes(side, mine, mine.host)
    others = [s.destination if s.end == "source" else s.source for s in sides]
    local, remote = mine.address or 0, others[0].address or 0
    own = {other.host == mine.host for other in others}
    if len(own) > 1 or (False in own and remote in {x.address for x in mine.host.live_addresses(side.world.at)}):
        raise Unheard("own-address")
    is_inside = True in own or local in LOOPBACK or remote in LOOPBACK
    asked = {other.host.uuid for other in others if other.host}
    seen = {holder.uuid for holder in seen_at(side.world, mine.host, remote)}
    if not is_inside and (asked != seen or (not seen and is_isolated_elsewhere(side.world, remote))):
        raise Unheard("holder")
    if not is_inside and is_bound_beside(side.world, mine.host, remote, {other.network for other in others}):
        raise Unheard("holder")
    verdicts = tuple(end_verdict(s) for s in sides)
    port = source_port(side.flow)
    return Hearing(mine.host, side.end, local, remote, side.flow.point, port, mine.unit, verdicts, is_inside)


def _refuse_processes(side: Side, mine: Party, host: Workload) -> None:
    if mine.process is None:
        return
    if mine.unit != mine.process.unit:
        raise Unheard("two-processes")
    if side.world.as_mode is None and mine.process.mode != host.mode:
        raise Unheard("process-mode", host)
    as_host = mine._replace(process=None)
    as_host_side = side._replace(source=as_host) if side.end == "source" else side._replace(destination=as_host)
    if is_quarantined(side, side.end) != is_quarantined(as_host_side, side.end):
        raise Unheard("process-quarantine", host)


def seen_at(world: World, host: Workload, address: int) -> tuple[Workload, ...]:
    """Who holds an address as a host sees it: in any of the networks it is in."""
    networks = {lease.network for lease in host.live_addresses(world.at)}
    return tuple(w for network in sorted(networks) for w in world.inventory.holders(address, world.at, network))


def is_isolated_elsewhere(world: World, address: int) -> bool:
    """Whether a quarantined workload has the address in some network: hosts isolate it wherever nobody else has it."""
    isolated = (world.inventory.by_uuid.get(q.workload) for q in world.quarantines if not q.until or world.at < q.until)
    return any(address == lease.address for w in isolated if w for lease in w.live_addresses(world.at))


def is_bound_beside(world: World, host: Workload, address: int, asked: set[str]) -> bool:
    """Whether a quarantine binds an address in a network the host is in, besides those it is asked about."""
    networks = {lease.network for lease in host.live_addresses(world.at)} - asked
    live = (q for q in world.quarantines if not q.until or world.at < q.until)
    return any(lease.address == address and lease.network in networks for q in live for lease in q.addresses)


def source_port(flow: Flow) -> int:
    """As asked; unstated, DHCP's own where it is DHCP."""
    if flow.source_port is not None:
        return flow.source_port
    clients = DHCP_PORTS.get(flow.point & 0xFFFF, ()) if flow.point >> 16 == UDP else ()
    return clients[0] if clients else EPHEMERAL
