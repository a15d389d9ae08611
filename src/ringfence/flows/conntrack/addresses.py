"""The addresses a network namespace has now (rtnetlink(7), RTM_GETADDR)."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator

from ringfence.core.net.address import V4_BASE
from ringfence.flows.conntrack import netlink

_NETLINK_ROUTE, _GET_ADDRESS, _NEW_ADDRESS = 0, 22, 20
_ADDRESS, _LOCAL = 1, 2
_MESSAGE_BYTES = 8
"""`struct ifaddrmsg`."""


def open_socket() -> socket.socket:
    """A route netlink socket of the namespace this thread is in."""
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_ROUTE)
    sock.bind((0, 0))
    return sock


def own_addresses(sock: socket.socket) -> frozenset[int]:
    """All of them, on the 128-bit line, loopback included. Raises OSError."""
    flags = netlink.NLM_F_REQUEST | netlink.NLM_F_DUMP
    sock.send(struct.pack("=IHHII", 24, _GET_ADDRESS, flags, 1, 0) + bytes(_MESSAGE_BYTES))
    return frozenset(_answers(sock))


def _answers(sock: socket.socket) -> Iterator[int]:
    while True:
        for kind, data, start, end in netlink.messages(sock.recv(netlink.BUFFER_BYTES)):
            if kind == netlink.NLMSG_DONE:
                return
            if kind == netlink.NLMSG_ERROR:
                number = -struct.unpack_from("=i", data, start)[0]
                raise OSError(number, os.strerror(number))
            if kind == _NEW_ADDRESS:
                found = netlink.attributes(data, start + _MESSAGE_BYTES, end)
                place = found.get(_LOCAL) or found.get(_ADDRESS)
                if place is not None:
                    yield _address(data[slice(*place)])


def _address(raw: bytes) -> int:
    return V4_BASE + int.from_bytes(raw, "big") if len(raw) == 4 else int.from_bytes(raw, "big")
