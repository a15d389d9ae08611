"""A scan of every TCP port by bare SYN packets, as an attacker who is root on its host does it: all 65,535 in seconds.

A SYN-ACK means open, a RST refused, nothing silent; the attacker's own kernel resets what opened (RFC 9293 section
3.5.2). A lost packet is not sent again, so what a scan finds is reachable and what it misses is likely not;
`ringfence.lab.probe` settles single ports with retransmission and finds out who answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import struct
import time

import msgspec
import numpy as np
from numpy.typing import NDArray

from ringfence.lab.channel import answer_requests

LAST_PORT = 65535
SOURCE_PORT = 61001
"""Above Linux's ephemeral range (ip_local_port_range), so no other connection of the host uses it."""
_BATCH = 1024
_SO_RCVBUFFORCE = 33
_IPV6_CHECKSUM = 7
_CHECKSUM_AT = 16
_SYN, _RST, _SYN_ACK = 0x02, 0x04, 0x12
_PORTS = struct.Struct("!HH")


class SynScan(msgspec.Struct, frozen=True):
    """Every port from 1 to `last_port` of each address."""

    addresses: tuple[str, ...]
    last_port: int = LAST_PORT
    patience_s: float = 1.0
    """How long to wait for answers after the last packet."""


class SynFound(msgspec.Struct, frozen=True):
    """What answered."""

    sent: int
    open: tuple[tuple[str, int], ...]
    """(address, port) of each SYN-ACK, sorted."""
    refused: int

    @property
    def silent(self) -> int:
        return self.sent - self.refused - len(self.open)


def serve(sock: socket.socket, argument: bytes) -> None:
    """Answer scan requests until the channel closes."""

    async def answer(body: bytes) -> msgspec.Struct:
        return run(msgspec.msgpack.decode(body, type=SynScan))

    asyncio.run(answer_requests(sock, answer))


def run(asked: SynScan) -> SynFound:
    """SynScan from the namespace this process is in, address by address."""
    with contextlib.ExitStack() as stack:
        aims = [stack.enter_context(_Aim(address, asked.last_port)) for address in asked.addresses]
        for first in range(0, asked.last_port, _BATCH):
            for aim in aims:
                aim.send(first, min(first + _BATCH, asked.last_port))
        _wait(aims, asked.patience_s)
        found = sorted((aim.address, port) for aim in aims for port in aim.open)
        return SynFound(len(aims) * asked.last_port, tuple(found), sum(len(aim.refused) for aim in aims))


def _wait(aims: list[_Aim], patience_s: float) -> None:
    """Collect until nothing has come for the whole patience."""
    quiet_since = time.monotonic()
    while time.monotonic() - quiet_since < patience_s:
        if sum(aim.collect() for aim in aims):
            quiet_since = time.monotonic()
        time.sleep(0.02)


class _Aim:
    """One address: its packets and its answers."""

    def __init__(self, address: str, last_port: int) -> None:
        self.address = address
        self.open: set[int] = set()
        self.refused: set[int] = set()
        self._is_v4 = ":" not in address
        self._sock = socket.socket(
            socket.AF_INET if self._is_v4 else socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_TCP
        )
        self._sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 16 << 20)
        self._sock.connect((address, 0))
        self._sock.setblocking(False)
        source = self._sock.getsockname()[0] if self._is_v4 else None
        if not self._is_v4:
            self._sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_CHECKSUM, _CHECKSUM_AT)
        self._packets = memoryview(syn_packets(last_port, source, address if self._is_v4 else None))

    def __enter__(self) -> _Aim:
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.close()

    def send(self, first: int, end: int) -> None:
        """The packets for ports first + 1 .. end, then whatever answers are there."""
        send, packets = self._sock.send, self._packets
        for at in range(first * 20, end * 20, 20):
            try:
                send(packets[at : at + 20])
            except (BlockingIOError, ConnectionError, PermissionError):
                self.collect()  # the host's own queue is full, or its own rules forbid: a packet less
        self.collect()

    def collect(self) -> int:
        """Read the answers that are there; how many."""
        count = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                count += 1
                self._note(self._sock.recv(256))
        return count - 1

    def _note(self, packet: bytes) -> None:
        start = (packet[0] & 15) * 4 if self._is_v4 else 0
        port, ours = _PORTS.unpack_from(packet, start)
        flags = packet[start + 13] & 0x17
        if ours == SOURCE_PORT and flags == _SYN_ACK:
            self.open.add(port)
        elif ours == SOURCE_PORT and flags & _RST:
            self.refused.add(port)


def syn_packets(last_port: int, source: str | None, destination: str | None) -> bytes:
    """TCP headers of a SYN to each port 1..last_port, 20 bytes each.

    With IPv4 addresses the checksum is filled in; without, it is left to the kernel (IPV6_CHECKSUM, RFC 3542
    section 3.1).
    """
    words = np.zeros((last_port, 10), dtype=np.uint32)
    words[:, 0] = SOURCE_PORT
    words[:, 1] = np.arange(1, last_port + 1)
    words[:, 2] = 0x5246  # any sequence number
    words[:, 6] = 5 << 12 | _SYN
    words[:, 7] = 64240
    if source is not None and destination is not None:
        words[:, 8] = _checksums(words, source, destination)
    return words.astype(">u2").tobytes()


def _checksums(words: NDArray[np.uint32], source: str, destination: str) -> NDArray[np.uint32]:
    """RFC 9293 section 3.1: one's complement sum over pseudo header and header."""
    addresses = ipaddress.IPv4Address(source).packed + ipaddress.IPv4Address(destination).packed
    total = words.sum(axis=1, dtype=np.uint32) + np.uint32(
        sum(struct.unpack("!4H", addresses)) + socket.IPPROTO_TCP + 20
    )
    for _ in range(2):
        total = (total & 0xFFFF) + (total >> 16)
    checksums: NDArray[np.uint32] = ~total & np.uint32(0xFFFF)
    return checksums
