"""The sockets of a network namespace with the control group of each: who listens, who is connected (sock_diag(7)).

Source of the numbers: linux/inet_diag.h (`inet_diag_req_v2`, `inet_diag_msg`, INET_DIAG_CGROUP_ID).
"""

from __future__ import annotations

import os
import socket
import struct
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ringfence.core.net.address import V4_BASE
from ringfence.core.net.service import TCP, UDP
from ringfence.flows.conntrack import netlink

SOCKET: Final = np.dtype(
    [("protocol", "u1"), ("state", "u1"), ("local_hi", "u8"), ("local_lo", "u8"), ("remote_hi", "u8"),
     ("remote_lo", "u8"), ("local_port", "u2"), ("remote_port", "u2"), ("inode", "u4"), ("cgroup", "u8")]
)  # fmt: skip
"""One socket; addresses as halves on the 128-bit line; `cgroup` is 0 where the kernel names none."""
LISTEN, UNCONNECTED = 10, 7
_NETLINK_SOCK_DIAG, _BY_FAMILY = 4, 20
_CGROUP_ID = 21
_MESSAGE_BYTES = 72
_V4_HIGH = np.uint64(V4_BASE)
_TIMEOUT_S = 10


def open_socket() -> socket.socket:
    """A sock_diag socket of the namespace this thread is in."""
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG)
    sock.setsockopt(socket.SOL_SOCKET, netlink.SO_RCVBUFFORCE, 8 << 20)
    sock.settimeout(_TIMEOUT_S)
    return sock


def all_sockets(sock: socket.socket) -> NDArray[Any]:
    """Every TCP and UDP socket of the namespace that has an owner. Raises OSError."""
    parts = [_dump(sock, family, protocol) for family in (socket.AF_INET, socket.AF_INET6) for protocol in (TCP, UDP)]
    found = np.concatenate(parts)
    owned: NDArray[Any] = found[found["inode"] != 0]
    return owned


def _dump(sock: socket.socket, family: int, protocol: int) -> NDArray[Any]:
    body = struct.pack("=BBBxI48x", family, protocol, 0, 0xFFFFFFFF)
    flags = netlink.NLM_F_REQUEST | netlink.NLM_F_DUMP
    sock.send(struct.pack("=IHHII", 16 + len(body), _BY_FAMILY, flags, 1, 0) + body)
    parts = [np.zeros(0, SOCKET)]
    while True:
        data = sock.recv(netlink.BUFFER_BYTES)
        by_size: dict[int, list[int]] = {}
        is_done = False
        for kind, _, start, end in netlink.messages(data):
            if kind == netlink.NLMSG_ERROR:
                number = -struct.unpack_from("=i", data, start)[0]
                raise OSError(number, os.strerror(number))
            if kind == _BY_FAMILY:
                by_size.setdefault(end - start, []).append(start)
            is_done |= kind == netlink.NLMSG_DONE
        table = np.frombuffer(data, np.uint8)
        parts += [_rows(table[np.array(at)[:, None] + np.arange(size)], protocol) for size, at in by_size.items()]
        if is_done:
            return np.concatenate(parts)


def _rows(table: NDArray[np.uint8], protocol: int) -> NDArray[Any]:
    """Messages of one length (`struct inet_diag_msg`, then attributes)."""
    rows = np.zeros(len(table), SOCKET)
    rows["protocol"], rows["state"] = protocol, table[:, 1]
    ports = np.ascontiguousarray(table[:, 4:8]).view(">u2")
    rows["local_port"], rows["remote_port"] = ports[:, 0], ports[:, 1]
    is_v4 = table[:, 0] == socket.AF_INET
    for end, at in (("local", 8), ("remote", 24)):
        halves = np.ascontiguousarray(table[:, at : at + 16]).view(">u8")
        short = np.ascontiguousarray(table[:, at : at + 4]).view(">u4")[:, 0] + _V4_HIGH
        rows[f"{end}_hi"] = np.where(is_v4, 0, halves[:, 0])
        rows[f"{end}_lo"] = np.where(is_v4, short, halves[:, 1])
    rows["inode"] = np.ascontiguousarray(table[:, 68:72]).view(np.uint32)[:, 0]
    rows["cgroup"] = _cgroups(table)
    return rows


def _cgroups(table: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """The value of the cgroup attribute: where the first message has it, and where others that differ have it."""
    out = np.zeros(len(table), np.uint64)
    left = np.arange(len(table))
    while len(left):
        data = table[left[0]].tobytes()
        place = netlink.attributes(data, _MESSAGE_BYTES, len(data)).get(_CGROUP_ID)
        if place is None:
            left = left[1:]
            continue
        head = np.frombuffer(data[place[0] - 4 : place[0]], np.uint8)
        fits = (table[left, place[0] - 4 : place[0]] == head).all(axis=1)
        out[left[fits]] = np.ascontiguousarray(table[left[fits], place[0] : place[0] + 8]).view(np.uint64)[:, 0]
        left = left[~fits]
    return out
