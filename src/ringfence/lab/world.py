"""A lab's world as one value: networks, hosts, what each host serves, and who talks to whom.

INVARIANT: a World that parsed is buildable: names and addresses are unique, every address lies in a network of the
world, every client path names a service that its server offers.

Reading the YAML is `ringfence.lab.description`; building it is `ringfence.lab.namespaces`.
"""

from __future__ import annotations

import ipaddress
from functools import cached_property
from typing import Literal

import msgspec

from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import Lease, Workload, derived_uuid
from ringfence.core.net.address import parse_address
from ringfence.core.net.service import ICMP, ICMPV6, TCP, UDP, point

Transport = Literal["tcp", "udp", "icmp"]
Speaks = Literal["http", "greeting", "store", "dns", "ntp", "echo", "ping"]
"""How a service behaves; the bytes are in `ringfence.lab.talk`."""
HostKind = Literal["host", "device", "outside"]
"""`host`: a workload with an enforcement point; `device`: a workload without one; `outside`: no workload at all."""
Family = Literal[4, 6]
FAMILIES: tuple[Family, ...] = (4, 6)


class Network(msgspec.Struct, frozen=True):
    """One layer-2 segment with one CIDR a family; its first address of each is the router."""

    name: str
    cidrs: tuple[str, ...]

    def holds(self, address: str) -> bool:
        ip = ipaddress.ip_address(address)
        return any(ip in ipaddress.ip_network(cidr) for cidr in self.cidrs)

    def gateways(self) -> tuple[ipaddress.IPv4Interface | ipaddress.IPv6Interface, ...]:
        """The router's own address in each CIDR, with its prefix length."""
        networks = [ipaddress.ip_network(cidr) for cidr in self.cidrs]
        return tuple(ipaddress.ip_interface(f"{net.network_address + 1}/{net.prefixlen}") for net in networks)


class Service(msgspec.Struct, frozen=True):
    """What a host listens to."""

    name: str
    transport: Transport
    port: int
    speaks: Speaks

    def point(self, family: Family) -> int:
        """The service point as policies see it."""
        if self.transport == "icmp":
            return point(ICMP, 8) if family == 4 else point(ICMPV6, 128)
        return point(TCP if self.transport == "tcp" else UDP, self.port)


PING = Service("ping", "icmp", 0, "ping")
"""Every host answers it; the kernel does the work."""


class Path(msgspec.Struct, frozen=True):
    """One application path: a client host talks to a service of a server host, over every family both have."""

    client: str
    server: str
    service: str
    every_s: float
    is_held: bool = False
    """One connection stays open and carries an exchange each period, instead of one connection a period."""

    def __str__(self) -> str:
        return f"{self.client} -> {self.server} {self.service}"


class Survey(msgspec.Struct, frozen=True):
    """A legitimate-looking nuisance: one host knocks at many ports of many hosts, and is no application path."""

    client: str
    servers: tuple[str, ...]
    ports: tuple[int, ...]
    every_s: float


class Host(msgspec.Struct, frozen=True):
    """One network namespace."""

    name: str
    network: str
    addresses: tuple[str, ...]
    labels: dict[str, str] = {}
    kind: HostKind = "host"
    services: tuple[Service, ...] = ()

    def address(self, family: Family) -> str | None:
        """Its first address of a family."""
        return next((a for a in self.addresses if ipaddress.ip_address(a).version == family), None)

    def service(self, name: str) -> Service | None:
        return PING if name == PING.name else next((s for s in self.services if s.name == name), None)

    @property
    def families(self) -> tuple[Family, ...]:
        return tuple(family for family in FAMILIES if self.address(family) is not None)


class World(msgspec.Struct, frozen=True, dict=True):
    """Everything a lab is built from."""

    name: str
    networks: tuple[Network, ...]
    hosts: tuple[Host, ...]
    paths: tuple[Path, ...] = ()
    surveys: tuple[Survey, ...] = ()

    @cached_property
    def by_name(self) -> dict[str, Host]:
        return {host.name: host for host in self.hosts}

    @cached_property
    def managed(self) -> tuple[Host, ...]:
        """The hosts with an enforcement point, which are also the ones that report flows."""
        return tuple(host for host in self.hosts if host.kind == "host")

    @cached_property
    def by_address(self) -> dict[str, Host]:
        return {address: host for host in self.hosts for address in host.addresses}

    def families(self, path: Path) -> tuple[Family, ...]:
        """The address families that both ends of a path have."""
        server = self.by_name[path.server]
        return tuple(f for f in self.by_name[path.client].families if server.address(f) is not None)

    def inventory(self) -> Inventory:
        """The workloads of this world, all in `observe`; what is outside is no workload."""
        return Inventory(_workload(host) for host in self.hosts if host.kind != "outside")


def _workload(host: Host) -> Workload:
    return Workload(
        name=host.name,
        uuid=derived_uuid(host.name),
        labels=host.labels,
        addresses=tuple(Lease(parse_address(address)) for address in host.addresses),
        kind="host" if host.kind == "host" else "device",
    )
