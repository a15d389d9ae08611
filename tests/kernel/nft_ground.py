"""Two network namespaces and a wire: a host that enforces, and a peer that is everybody else.

Packets are made by hand, so that any protocol, port and address can be tried, and seen again where they come out.
"""

from __future__ import annotations

import itertools
import os
import select
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from nft_intents import OWN

from ringfence.core.net.address import V4_BASE, format_address, is_v4
from ringfence.core.net.service import ICMP, ICMPV6, TCP, UDP
from ringfence.targets.nftables import NftablesTarget
from ringfence.targets.nftables.netlink import ACK as ACK_FLAG
from ringfence.targets.nftables.netlink import SUBSYS_CTNETLINK, Netlink, in_namespace
from ringfence.targets.nftables.wire import as_text, attribute, attribute_map

SYN, RST, ACK = 0x02, 0x04, 0x10
SCTP = 132
PATIENCE_S = 60
"""Only a broken build waits so long."""
_numbers = itertools.count()


class Seen(NamedTuple):
    """A packet as it came over the wire."""

    source: int
    destination: int
    protocol: int
    ports: tuple[int, int]
    icmp_type: int
    flags: int
    payload: bytes


class Ground:
    """A host `host` and a peer `peer`, both removed at the end."""

    def __init__(self) -> None:
        self.prefix = f"rfk{os.getpid()}x{next(_numbers)}"
        self.host, self.peer = f"{self.prefix}h", f"{self.prefix}p"
        self.target = NftablesTarget(self.host)
        self._client_port = itertools.count(20000)

    def __enter__(self) -> Ground:
        for name in (self.host, self.peer):
            run("ip", "netns", "add", name)
            self.run(name, "ip link set lo up")
        run("ip", "link", "add", "v", "netns", self.host, "type", "veth", "peer", "name", "v", "netns", self.peer)
        self._addresses()
        self._routes()
        for setting in ("net.ipv4.icmp_ratelimit=0", "net.ipv6.icmp.ratelimit=0", "net.ipv6.icmp.ratemask="):
            self.run(self.host, f"sysctl -qw {setting}")
        self._open()
        return self

    def __exit__(self, *_: object) -> None:
        for opened in (getattr(self, "_wire", None), getattr(self, "_raw4", None), getattr(self, "_raw6", None)):
            if opened is not None:
                opened.close()
        for name in (self.host, self.peer):
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True, timeout=30)

    def _addresses(self) -> None:
        self.run(self.peer, "sysctl -qw net.ipv6.ip_nonlocal_bind=1")
        self.run(self.host, "ip link set v address 02:00:00:00:00:01 up")
        self.run(self.peer, "ip link set v address 02:00:00:00:00:02 up")
        for address in OWN:
            length = 24 if is_v4(address) else 64
            extra = "" if is_v4(address) else " nodad"
            self.run(self.host, f"ip addr add {format_address(address)}/{length} dev v{extra}")
            self.run(self.peer, f"ip neigh add {format_address(address)} lladdr 02:00:00:00:00:01 dev v")
        for address, extra in (("172.20.0.1/24", ""), ("fd20::1/64", " nodad")):
            self.run(self.peer, f"ip addr add {address} dev v{extra}")
            self.run(self.host, f"ip neigh add {address.split('/')[0]} lladdr 02:00:00:00:00:02 dev v")

    def _routes(self) -> None:
        self.run(self.host, "ip route add default via 172.20.0.1")
        self.run(self.host, "ip -6 route add default via fd20::1")
        for prefix in ("10.0.0.0/8", "203.0.113.0/24", "fd00::/20", "2001:db8::/32"):
            self.run(self.peer, f"ip route add local {prefix} dev lo")

    def _open(self) -> None:
        self._wire = in_namespace(self.peer, lambda: _wire("v"))
        self._raw4 = in_namespace(self.host, lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 255))
        self._raw6 = in_namespace(self.host, _raw6)

    def run(self, name: str, command: str) -> str:
        done = subprocess.run(
            ["ip", "netns", "exec", name, *command.split()], check=True, text=True, capture_output=True, timeout=30
        )
        return done.stdout

    def nft(self, text: str) -> None:
        """Somebody else's hand in the host's rule set."""
        subprocess.run(
            ["ip", "netns", "exec", self.host, "nft", "-f", "-"], input=text, text=True, check=True, timeout=30
        )

    # -- packets by hand --

    def client_port(self) -> int:
        return next(self._client_port)

    def arrive(self, source: int, destination: int, protocol: int, content: bytes, *, hop_limit: int = 255) -> None:
        """Put a packet on the wire towards the host."""
        frame = bytes.fromhex("020000000001020000000002") + (b"\x08\x00" if is_v4(source) else b"\x86\xdd")
        self._wire.send(frame + ip_packet(source, destination, protocol, content, hop_limit=hop_limit))

    def leave(self, source: int, destination: int, protocol: int, content: bytes) -> bool:
        """Send a packet from the host; False when it was refused on the way out."""
        raw, where = (
            (self._raw4, format_address(destination)) if is_v4(source) else (self._raw6, format_address(destination))
        )
        try:
            raw.sendto(ip_packet(source, destination, protocol, content), (where, 0))
        except (PermissionError, ConnectionRefusedError, OSError):
            return False
        return True

    def seen(self) -> Iterator[Seen]:
        """What has come over the wire to the peer since last asked."""
        while select.select([self._wire], [], [], 0)[0]:
            frame = self._wire.recv(65536)
            packet = parse_packet(frame[14:])
            if packet is not None and frame[:6] == bytes.fromhex("020000000002"):
                yield packet

    def wait_for(self, found: Callable[[Seen], bool]) -> bool:
        """Whether such a packet comes over the wire."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            if any(found(packet) for packet in self.seen()):
                return True
            select.select([self._wire], [], [], 0.05)
        return False

    def counts(self) -> dict[str, int]:
        """Packets by named counter: `in_allowed`, `out_default_blocked`, ..."""
        return {f"{t.direction}_{t.step}": t.packets for t in self.target.totals()}

    def forget_connections(self) -> None:
        """Empty the host's connection table (`conntrack -F`)."""
        with Netlink(self.host) as netlink:
            netlink.request(SUBSYS_CTNETLINK << 8 | 2, ACK_FLAG, b"", family=0)

    @contextmanager
    def log(self, group: int) -> Iterator[Iterator[str]]:
        """The prefixes of the packets the host logs to an NFLOG group, as they come (nfnetlink_log.h)."""
        opened = in_namespace(self.host, lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12))
        opened.settimeout(PATIENCE_S)
        opened.bind((0, 0))
        for body in (attribute(1, b"\x01"), attribute(2, struct.pack("!IBB", 128, 2, 0))):
            head = struct.pack("=IHHIIBBH", 20 + len(body), 4 << 8 | 1, 5, 1, 0, 0, 0, socket.htons(group))
            opened.send(head + body)
            opened.recv(4096)
        try:
            yield _prefixes(opened)
        finally:
            opened.close()

    # -- sockets --

    def socket_in(self, name: str, family: int, kind: int) -> socket.socket:
        opened = in_namespace(name, lambda: socket.socket(family, kind))
        opened.settimeout(PATIENCE_S)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return opened

    def connection(
        self, *, server: str, client: str, client_address: int, address: int, port: int, client_port: int = 0
    ) -> Connection:
        """An established TCP connection between the two."""
        family = socket.AF_INET if is_v4(address) else socket.AF_INET6
        listening = self.socket_in(server, family, socket.SOCK_STREAM)
        listening.bind((format_address(address), port))
        listening.listen(8)
        calling = self.socket_in(client, family, socket.SOCK_STREAM)
        calling.bind((format_address(client_address), client_port))
        calling.connect((format_address(address), port))
        answering, _ = listening.accept()
        answering.settimeout(PATIENCE_S)
        listening.close()
        return Connection(calling, answering)


class Connection(NamedTuple):
    client: socket.socket
    server: socket.socket

    def works(self) -> bool:
        """Data goes both ways."""
        return passes(self.client, self.server) and passes(self.server, self.client)

    def close(self) -> None:
        self.client.close()
        self.server.close()


def until(holds: Callable[[], bool]) -> bool:
    """Whether it comes to hold."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        if time.monotonic() > deadline:
            return False
        select.select([], [], [], 0.05)
    return True


def passes(sender: socket.socket, receiver: socket.socket, *, within_s: float = PATIENCE_S) -> bool:
    """Whether a byte sent arrives."""
    try:
        sender.send(b"x")
    except OSError:
        return False
    ready, _, _ = select.select([receiver], [], [], within_s)
    try:
        return bool(ready) and receiver.recv(64) != b""
    except OSError:
        return False


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=30)


def _wire(device: str) -> socket.socket:
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    opened.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)
    opened.bind((device, 0))
    return opened


def _prefixes(listening: socket.socket) -> Iterator[str]:
    while True:
        datagram, at = listening.recv(65536), 0
        while at < len(datagram):
            length, kind = struct.unpack_from("=IH", datagram, at)
            if kind == 4 << 8:
                yield as_text(attribute_map(datagram[at + 20 : at + length])[10])
            at += length + 3 & ~3


def _raw6() -> socket.socket:
    opened = socket.socket(socket.AF_INET6, socket.SOCK_RAW, 255)
    opened.setsockopt(socket.IPPROTO_IPV6, 36, 1)  # IPV6_HDRINCL
    return opened


# -- bytes -----------------------------------------------------------------------------------------------------------


def checksum(content: bytes) -> int:
    content += bytes(len(content) % 2)
    total = sum(struct.unpack(f"!{len(content) // 2}H", content))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def raw(address: int) -> bytes:
    return (address - V4_BASE).to_bytes(4, "big") if is_v4(address) else address.to_bytes(16, "big")


def ip_packet(source: int, destination: int, protocol: int, content: bytes, *, hop_limit: int = 255) -> bytes:
    """An IP packet with the right checksums: conntrack calls any other invalid."""
    content = _summed(source, destination, protocol, content)
    if not is_v4(source):
        return (
            struct.pack("!IHBB", 6 << 28, len(content), protocol, hop_limit) + raw(source) + raw(destination) + content
        )
    head = (
        struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(content), 0, 0x4000, hop_limit, protocol, 0)
        + raw(source)
        + raw(destination)
    )
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + content


def _summed(source: int, destination: int, protocol: int, content: bytes) -> bytes:
    at = {TCP: 16, UDP: 6, ICMP: 2, ICMPV6: 2}.get(protocol)
    if at is None:
        return content
    pseudo = b"" if protocol == ICMP else raw(source) + raw(destination) + struct.pack("!II", len(content), protocol)
    return content[:at] + struct.pack("!H", checksum(pseudo + content)) + content[at + 2 :]


def content_of(protocol: int, ports: tuple[int, int], *, icmp_type: int = 0, flags: int = SYN) -> bytes:
    """A transport packet; the source port is also the ICMP identifier and the payload of all else."""
    if protocol == TCP:
        return struct.pack("!HHIIBBHHH", *ports, 1000, 0, 0x50, flags, 65535, 0, 0)
    if protocol == UDP:
        return struct.pack("!HHHH", *ports, 12, 0) + b"ping"
    if protocol in (ICMP, ICMPV6):
        return struct.pack("!BBHHH", icmp_type, 0, 0, ports[0], 1) + bytes(12)
    if protocol == SCTP:
        return sctp_init(ports)
    return struct.pack("!IHH", 0, *ports) + bytes(16)


def sctp_init(ports: tuple[int, int]) -> bytes:
    """An SCTP packet with one INIT chunk (RFC 9260 section 3.3.2) and its CRC32c."""
    init = struct.pack("!BBHIIHHI", 1, 0, 20, 0x1234, 65535, 1, 1, 1)
    head = struct.pack("!HHI", *ports, 0)
    return head + struct.pack("<I", crc32c(head + bytes(4) + init)) + init


def crc32c(content: bytes) -> int:
    value = 0xFFFFFFFF
    for byte in content:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF


def parse_packet(data: bytes) -> Seen | None:
    if data[0] >> 4 == 4:
        head, protocol, source, destination = 4 * (data[0] & 15), data[9], data[12:16], data[16:20]
        ends = (V4_BASE + int.from_bytes(source, "big"), V4_BASE + int.from_bytes(destination, "big"))
    elif data[0] >> 4 == 6:
        head, protocol = 40, data[6]
        ends = (int.from_bytes(data[8:24], "big"), int.from_bytes(data[24:40], "big"))
    else:
        return None
    body = data[head:] + bytes(20)
    ports = struct.unpack("!HH", body[:4])
    return Seen(*ends, protocol, (ports[0], ports[1]), body[0], body[13], data[head:])
