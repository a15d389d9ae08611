"""An intruder inside the lab: what it reaches from one host, and what policy lets it reach.

The intruder is root on its own host, so it first throws away every rule there. What then stops it are the destination
ends, and what `permitted` answers is judged by the destination ends alone.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import msgspec

from ringfence.core.identity.inventory import Inventory
from ringfence.core.net.address import parse_address
from ringfence.core.net.service import TCP, UDP, WELL_KNOWN, parse_service, protocol_of
from ringfence.core.world import Endpoint, Flow, Verdict
from ringfence.lab import namespaces
from ringfence.lab.lab import Lab
from ringfence.lab.probe import Sighting
from ringfence.lab.syn_scan import SynFound
from ringfence.lab.world import FAMILIES, PING, Family, Host, World

Judge = Callable[[Flow], Verdict]
UNKNOWN_SERVICE = "?"


class Reached(msgspec.Struct, frozen=True, order=True):
    """One service of one host, over one address family."""

    host: str
    service: str
    """Its name in the world; `?` for a port that is open but declared by nobody."""
    transport: str
    port: int
    family: Family

    def __str__(self) -> str:
        port = f" {self.transport}/{self.port}" if self.port else ""
        return f"{self.host} {self.service}{port} (IPv{self.family})"


class Intrusion(msgspec.Struct, frozen=True):
    """What one intruder tried and what it got."""

    attacker: str
    reached: frozenset[Reached]
    probes: int
    """Connection attempts, datagrams and pings made, each with its retransmissions."""
    syn: SynFound | None = None
    """What bare SYNs to every port found, if every port was tried."""


def targets_of(world: World, attacker: str) -> tuple[str, ...]:
    """Every host of ours but the intruder's own."""
    return tuple(host.name for host in world.hosts if host.kind != "outside" and host.name != attacker)


def disarm(lab: Lab, attacker: str) -> None:
    """What root does first: throw away every rule on its own host. Raises RingfenceError `lab-command-failed`."""
    lab.command(attacker, "nft", "flush", "ruleset")


def rearm(lab: Lab, attacker: str) -> None:
    """Give the host back what the lab put there; putting Ringfence's own table back is its target's work."""
    if lab.world.by_name[attacker].kind == "host":
        namespaces.track(lab.namespace(attacker))


def attack(lab: Lab, attacker: str, *, every_port: bool = False, low_ports: bool = True) -> Intrusion:
    """Knock at every host: well-known and declared ports with full connections, and the ports below 1025 unless told
    otherwise; every TCP port with SYNs if asked."""
    targets = targets_of(lab.world, attacker)
    syn = lab.syn_scan(attacker, targets=targets) if every_port else None
    extra = {port for _, port in syn.open} if syn else set()
    low = set(range(1, 1025)) if low_ports else set()
    tcp = sorted(interesting_ports(lab.world, TCP) | low | extra)
    seen = lab.scan(attacker, tcp=tcp, udp=sorted(interesting_ports(lab.world, UDP)), targets=targets)
    reached = frozenset(_reached(lab.world, sighting) for sighting in seen.open)
    return Intrusion(attacker, reached, len(seen.sightings), syn)


def interesting_ports(world: World, protocol: int) -> set[int]:
    """The ports that anybody serves, and those of the service dictionary."""
    transport = "tcp" if protocol == TCP else "udp"
    served = {s.port for host in world.hosts for s in host.services if s.transport == transport}
    texts = [text for words in WELL_KNOWN.values() for text in words.split()]
    ranges = [span for text in texts for span in parse_service(text) if protocol_of(span[0]) == protocol]
    return served | {point & 0xFFFF for low, high in ranges for point in range(low, high + 1)}


def _reached(world: World, sighting: Sighting) -> Reached:
    """Who really answered, which is whom the address belongs to unless something is very wrong."""
    host = sighting.identity.host if sighting.identity else world.by_address[sighting.address].name
    named = sighting.identity.service if sighting.identity else UNKNOWN_SERVICE
    service = PING.name if sighting.transport == "icmp" else named
    return Reached(host, service, sighting.transport, sighting.port, 6 if ":" in sighting.address else 4)


def permitted(world: World, inventory: Inventory, judge: Judge, attacker: str, at: datetime) -> frozenset[Reached]:
    """Every declared service that the destination's own end lets the intruder's host reach."""
    source = world.by_name[attacker]
    services = [
        (host, service, family)
        for host in (world.by_name[name] for name in targets_of(world, attacker))
        for service in (PING, *host.services)
        for family in FAMILIES
        if source.address(family) and host.address(family)
    ]
    return frozenset(
        Reached(host.name, service.name, service.transport, service.port, family)
        for host, service, family in services
        if _lets_in(judge(_flow(inventory, source, host, service.point(family), family, at)))
    )


def _flow(inventory: Inventory, source: Host, destination: Host, point: int, family: Family, at: datetime) -> Flow:
    def end(host: Host) -> Endpoint:
        return Endpoint(inventory.by_name[host.name], parse_address(host.address(family) or ""))

    return Flow(end(source), end(destination), point, at=at)


def _lets_in(verdict: Verdict) -> bool:
    """Whether the destination end alone lets it pass; an end without an enforcement point does."""
    return all(end.verdict == "allowed" for end in verdict.ends if end.end == "destination")
