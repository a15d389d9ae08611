"""Netlink sockets in any network namespace, atomic nftables batches, and dumps.

INVARIANT: a batch is one kernel transaction: all of it commits or none of it (nfnetlink batches, kernel >= 4.x).
Never changes the caller's namespace: a socket belongs for life to the namespace it was opened in, and it is opened on a
thread of its own. Does not know what the messages mean.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeVar

from ringfence.core.errors import TargetError
from ringfence.targets.nftables.wire import be32

NETLINK_NETFILTER = 12
SUBSYS_CTNETLINK, SUBSYS_NFTABLES = 1, 10
NFPROTO_INET = 1

REQUEST, ACK, EXCLUSIVE, DUMP, CREATE, APPEND = 0x1, 0x4, 0x200, 0x300, 0x400, 0x800
_ERROR, _DONE = 2, 3
_DUMP_INTERRUPTED = 0x10
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_BATCH_GENID = 1
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33
_CLONE_NEWNET = 0x40000000
_RECEIVE_BYTES = 1 << 18
_TIMEOUT_S = 60
_DUMP_ATTEMPTS = 8
_HEADER = struct.Struct("=IHHII")
_GENERIC = struct.Struct("=BBH")

T = TypeVar("T")


class Message(NamedTuple):
    """One message of a batch, with words for the error it may cause."""

    kind: int
    flags: int
    body: bytes
    about: str


class Refused(OSError):
    """The kernel refused a message; `about` says which."""

    def __init__(self, number: int, about: str) -> None:
        super().__init__(number, os.strerror(number))
        self.about = about


def in_namespace(netns: str | None, action: Callable[[], T]) -> T:
    """Run `action` inside the named network namespace, on its own thread; None is the caller's own namespace.

    Raises TargetError `namespace-missing` when there is no such namespace.
    """
    if netns is None:
        return action()
    result: list[T] = []
    failure: list[BaseException] = []

    def enter() -> None:
        try:
            _set_namespace(netns)
            result.append(action())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=enter, name=f"netns-{netns}")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return result[0]


def _set_namespace(netns: str) -> None:
    path = netns if netns.startswith("/") else f"/run/netns/{netns}"
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise TargetError(
            "namespace-missing",
            f"network namespace `{netns}` cannot be opened",
            help="`ip netns list` shows those that exist",
        ) from error
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(handle, _CLONE_NEWNET):
            number = ctypes.get_errno()
            raise TargetError("not-permitted", f"cannot enter network namespace `{netns}`: {os.strerror(number)}")
    finally:
        os.close(handle)


class Netlink:
    """One netfilter netlink socket. Raises TargetError `unreachable` when it cannot be opened."""

    def __init__(self, netns: str | None = None) -> None:
        try:
            self._socket = in_namespace(netns, _open)
        except OSError as error:
            raise TargetError("unreachable", f"cannot open a netfilter netlink socket: {error.strerror}") from error
        self._sequence = 1

    @property
    def port(self) -> int:
        """The socket's address: what a table it owns is marked with."""
        port: int = self._socket.getsockname()[0]
        return port

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def commit(self, messages: Sequence[Message], *, generation: int | None = None) -> None:
        """Send nftables messages as one transaction. Raises Refused and leaves the old state when any is refused.

        `generation`: refuse with ERESTART unless the rule set's generation is still this one.
        """
        if not messages:
            return
        begin = self._next()
        parts = [_pack(_BATCH_BEGIN, REQUEST, begin, _genid(generation), resource=SUBSYS_NFTABLES, family=0)]
        about: dict[int, str] = {begin: "the transaction"}
        for index, message in enumerate(messages):
            sequence = self._next()
            about[sequence] = message.about
            flags = message.flags | REQUEST | (ACK if index == len(messages) - 1 else 0)
            parts.append(_pack(SUBSYS_NFTABLES << 8 | message.kind, flags, sequence, message.body))
        last = self._sequence - 1
        parts.append(_pack(_BATCH_END, REQUEST, self._next(), b"", resource=SUBSYS_NFTABLES, family=0))
        self._send(b"".join(parts))
        self._await(begin, last, about)

    def _await(self, begin: int, last: int, about: dict[int, str]) -> None:
        """Read answers up to that of the last message; the first refusal is the cause, the rest follow from it."""
        first: Refused | None = None
        for kind, sequence, body, _ in self._answers():
            if kind != _ERROR or sequence not in about:
                continue
            number = -struct.unpack_from("=i", body)[0]
            if number and first is None:
                first = Refused(number, about[sequence])
            if sequence == last or (number and sequence == begin):
                break
        if first is not None:
            raise first

    def request(self, kind: int, flags: int, body: bytes, *, family: int = NFPROTO_INET) -> list[bytes]:
        """One acknowledged or dumping request: the bodies (after `nfgenmsg`) it answers with."""
        for _ in range(_DUMP_ATTEMPTS):
            sequence = self._next()
            self._send(_pack(kind, flags | REQUEST, sequence, body, family=family))
            bodies = self._collect(sequence, is_dump=flags & DUMP == DUMP)
            if bodies is not None:
                return bodies
        raise TargetError("read-back-unstable", "the rule set kept changing while it was read", help="try again")

    def _collect(self, sequence: int, *, is_dump: bool) -> list[bytes] | None:
        """None when a concurrent change interrupted the dump, so that its parts may not fit together."""
        bodies: list[bytes] = []
        interrupted = False
        for kind, found, body, flags in self._answers():
            if found != sequence:
                continue
            interrupted |= bool(flags & _DUMP_INTERRUPTED)
            if kind in (_ERROR, _DONE):
                number = -struct.unpack_from("=i", body)[0] if len(body) >= 4 else 0
                if number == errno.EINTR:
                    return None
                if number:
                    raise Refused(number, "the read-back")
                break
            bodies.append(body[4:])
            if not is_dump:
                break
        return None if interrupted else bodies

    def generation(self) -> int:
        """The rule set's generation: it moves with every committed change by anyone in the namespace."""
        body = self.request(SUBSYS_NFTABLES << 8 | 16, 0, b"", family=0)[0]
        return int.from_bytes(body[4:8], "big")

    def _answers(self) -> Iterator[tuple[int, int, bytes, int]]:
        while True:
            datagram = self._receive()
            position = 0
            while position < len(datagram):
                length, kind, flags, sequence, _ = _HEADER.unpack_from(datagram, position)
                yield kind, sequence, datagram[position + 16 : position + length], flags
                position += (length + 3) & ~3

    def _receive(self) -> bytes:
        try:
            return self._socket.recv(_RECEIVE_BYTES)
        except TimeoutError as error:
            raise TargetError("unreachable", f"the kernel did not answer within {_TIMEOUT_S} s") from error
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                raise TargetError("read-back-unstable", "answers were lost", help="try again") from error
            raise

    def _send(self, data: bytes) -> None:
        self._socket.sendto(data, (0, 0))

    def _next(self) -> int:
        self._sequence += 1
        return self._sequence - 1


def following(generation: int) -> int:
    """The rule set generation after one more commit (`nf_tables_commit` skips 0)."""
    return (generation + 1) & 0xFFFFFFFF or 1


def _genid(generation: int | None) -> bytes:
    return b"" if generation is None else be32(_BATCH_GENID, generation)


def _pack(kind: int, flags: int, sequence: int, body: bytes, *, resource: int = 0, family: int = NFPROTO_INET) -> bytes:
    length = 20 + len(body)
    head = _HEADER.pack(length, kind, flags, sequence, 0)
    return head + _GENERIC.pack(family, 0, socket.htons(resource)) + body + bytes(-length % 4)


def _open() -> socket.socket:
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
    for option, size_bytes in ((_SO_SNDBUFFORCE, 128 << 20), (_SO_RCVBUFFORCE, 16 << 20)):
        try:
            opened.setsockopt(socket.SOL_SOCKET, option, size_bytes)
        except PermissionError:
            opened.close()
            raise
    opened.settimeout(_TIMEOUT_S)
    opened.bind((0, 0))
    return opened
