"""Raw netfilter netlink (Linux `nfnetlink`): requests, and messages and attributes of what comes back.

Attributes are TLVs in native byte order, their values mostly big-endian (linux/netlink.h, linux/netfilter/nfnetlink.h).
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator

NETLINK_NETFILTER = 12
SOL_NETLINK = 270
NETLINK_ADD_MEMBERSHIP = 1
SO_RCVBUFFORCE = 33
SO_MEMINFO = 55
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 1, 4, 0x300
NLMSG_ERROR, NLMSG_DONE = 2, 3
_MESSAGE = struct.Struct("=IHHII")
_GENERIC = struct.Struct("!BBH")
_ATTRIBUTE = struct.Struct("=HH")
_ERROR = struct.Struct("=i")
_DROPS_INDEX = 8
"""Of the nine 32-bit words of SO_MEMINFO (linux/sock_diag.h SK_MEMINFO_DROPS)."""
RECEIVE_BYTES = 32 << 20
BUFFER_BYTES = 1 << 18


def open_socket() -> socket.socket:
    """A netfilter netlink socket of the namespace this thread is in, with room for bursts."""
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
    sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BYTES)
    sock.bind((0, 0))
    return sock


def dropped(sock: socket.socket) -> int:
    """How many messages the kernel could not queue on this socket since it was opened."""
    words = sock.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 36)
    return int(struct.unpack("=9I", words)[_DROPS_INDEX])


def request(kind: int, flags: int, family: int, resource_id: int, attributes: bytes = b"") -> bytes:
    """One message; `kind` is subsystem << 8 | command."""
    body = _GENERIC.pack(family, 0, resource_id) + attributes
    return _MESSAGE.pack(_MESSAGE.size + len(body), kind, flags | NLM_F_REQUEST, 1, 0) + body


def attribute(kind: int, value: bytes) -> bytes:
    padded = value + bytes(-len(value) % 4)
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + padded


def messages(data: bytes) -> Iterator[tuple[int, bytes, int, int]]:
    """(type, data, start, end) of each message; start is behind the netlink header."""
    offset = 0
    while offset + _MESSAGE.size <= len(data):
        length, kind, _, _, _ = _MESSAGE.unpack_from(data, offset)
        if length < _MESSAGE.size or offset + length > len(data):
            return
        yield kind, data, offset + _MESSAGE.size, offset + length
        offset += length + 3 & ~3


def attributes(data: bytes, start: int, end: int) -> dict[int, tuple[int, int]]:
    """Attribute type -> (start, end) of its value, in one level."""
    out: dict[int, tuple[int, int]] = {}
    while start + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, start)
        if length < 4 or start + length > end:
            break
        out[kind & 0x3FFF] = (start + 4, start + length)
        start += length + 3 & ~3
    return out


def acknowledged(sock: socket.socket, message: bytes) -> None:
    """Send a request with ACK and wait for the kernel's word. Raises OSError with its errno."""
    sock.send(message)
    kind, data, start, _ = next(messages(sock.recv(BUFFER_BYTES)))
    number = -_ERROR.unpack_from(data, start)[0] if kind == NLMSG_ERROR else 0
    if number:
        raise OSError(number, os.strerror(number))


def dump(sock: socket.socket, message: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(data, start, end) of every message of a dump, behind the netfilter header. Raises OSError."""
    sock.send(message)
    while True:
        for kind, data, start, end in messages(sock.recv(BUFFER_BYTES)):
            if kind == NLMSG_DONE:
                return
            if kind == NLMSG_ERROR:
                number = -_ERROR.unpack_from(data, start)[0]
                raise OSError(number, os.strerror(number))
            yield data, start + _GENERIC.size, end


def is_last(data: bytes) -> bool:
    """Whether a datagram of a dump is its end. Raises OSError where the kernel refused."""
    for kind, _, start, _ in messages(data):
        if kind == NLMSG_ERROR:
            number = -_ERROR.unpack_from(data, start)[0]
            raise OSError(number, os.strerror(number))
        if kind == NLMSG_DONE:
            return True
    return False


def datagrams(sock: socket.socket) -> Iterator[bytes]:
    """What is queued now. After an overrun (ENOBUFS) the rest is still good; the kernel counts what it dropped."""
    while True:
        try:
            yield sock.recv(BUFFER_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
