"""Who writes to the host's rule set: every commit, whose it was, and what of our table it touched.

    with Watch(netns) as watch:
        loop.add_reader(watch.fileno(), ...)      # asyncio; idle it costs nothing
        for commit in watch.read(): ...           # never blocks

The kernel multicasts the messages of each committed transaction, then NEWGEN with the rule set generation and the
program that committed it (nfnetlink group 7, nf_tables_api.c `nf_tables_gen_notify`). Elements that run out of time
are not announced, as nobody wrote.

INVARIANT: what was missed is said: a lost notification is a commit by somebody unknown that may have touched anything.
Repairing is `converge`; this only tells.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import msgspec

from ringfence.core.errors import TargetError
from ringfence.targets.nftables import messages as m
from ringfence.targets.nftables.layout import TABLE
from ringfence.targets.nftables.netlink import NETLINK_NETFILTER, SUBSYS_NFTABLES, in_namespace
from ringfence.targets.nftables.wire import as_int, as_text, attribute_map, attributes

_GROUP = 7
"""NFNLGRP_NFTABLES (nfnetlink.h)."""
_ADD_MEMBERSHIP, _SOL_NETLINK, _SO_RCVBUFFORCE = 1, 270, 33
_BUFFER_BYTES = 8 << 20
_HEADER = struct.Struct("=IHHII")
_NEWGEN = 15
_DELETED = frozenset((m.DELTABLE, m.DELCHAIN, m.DELRULE, m.DELSET, m.DELSETELEM, m.DELOBJ, m.DELFLOWTABLE))
_KINDS = {
    m.NEWTABLE: "table", m.DELTABLE: "table", m.NEWCHAIN: "chain", m.DELCHAIN: "chain", m.NEWRULE: "rule",
    m.DELRULE: "rule", m.NEWSET: "set", m.DELSET: "set", m.NEWSETELEM: "element", m.DELSETELEM: "element",
    m.NEWOBJ: "object", m.DELOBJ: "object", 22: "flow table", m.DELFLOWTABLE: "flow table",
}  # fmt: skip
_NAME_AT = {"chain": 3, "rule": 2, "set": 2, "element": 2, "object": 2, "flow table": 2}
_MOST_WORDS = 50


class Commit(msgspec.Struct, frozen=True):
    """One committed transaction of anybody."""

    generation: int
    """The rule set generation it made; 0: not known, notifications were lost."""
    pid: int = 0
    """Of the thread that committed, as the watching process numbers it."""
    program: str = ""
    is_own: bool = False
    """This process made it."""
    touched: tuple[str, ...] = ()
    """In words, what of our table it changed; empty: nothing of it."""

    @property
    def is_tampering(self) -> bool:
        return bool(self.touched) and not self.is_own

    def __str__(self) -> str:
        who = f"{self.program} (pid {self.pid})" if self.program else "somebody"
        return f"{who}: {'; '.join(self.touched) or 'nothing of ours'}"


class Watch:
    """An open subscription. Raises TargetError `unreachable` when it cannot be opened."""

    def __init__(self, netns: str | None = None) -> None:
        try:
            self._socket = in_namespace(netns, _open)
        except OSError as error:
            raise TargetError("unreachable", f"cannot listen for rule set changes: {error.strerror}") from error
        self._touched: dict[tuple[str, str, str], int] = {}

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fileno(self) -> int:
        """Readable when there is something to read."""
        return self._socket.fileno()

    def read(self) -> tuple[Commit, ...]:
        """What was committed since last asked. Never blocks."""
        return tuple(self._read())

    def _read(self) -> Iterator[Commit]:
        while True:
            try:
                datagram = self._socket.recv(1 << 18)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise TargetError("unreachable", f"cannot read rule set changes: {error.strerror}") from error
                self._touched = {}
                yield Commit(0, touched=("changes were too many to be told apart",))
                continue
            yield from self._commits(datagram)

    def _commits(self, datagram: bytes) -> Iterator[Commit]:
        position = 0
        while position + 16 <= len(datagram):
            length, kind, *_ = _HEADER.unpack_from(datagram, position)
            body = datagram[position + 20 : position + length]
            position += (length + 3) & ~3
            if kind == SUBSYS_NFTABLES << 8 | _NEWGEN:
                yield self._commit(body)
            elif kind >> 8 == SUBSYS_NFTABLES and kind & 0xFF in _KINDS:
                self._note(kind & 0xFF, body)

    def _commit(self, body: bytes) -> Commit:
        parts = attribute_map(body)
        pid = as_int(parts.get(2, b""))
        touched, self._touched = tuple(_words(self._touched)), {}
        return Commit(as_int(parts[1]), pid, as_text(parts.get(3, b"")), _is_own(pid), touched)

    def _note(self, kind: int, body: bytes) -> None:
        parts = attribute_map(body)
        if as_text(parts.get(1, b"")) != TABLE:
            return
        what = _KINDS[kind]
        name = as_text(parts[_NAME_AT[what]]) if what in _NAME_AT and _NAME_AT[what] in parts else ""
        count = sum(1 for _ in attributes(parts.get(3, b""))) if what == "element" else 1
        key = ("-" if kind in _DELETED else "+", what, name)
        self._touched[key] = self._touched.get(key, 0) + count


def _words(touched: dict[tuple[str, str, str], int]) -> Iterator[str]:
    """`2 elements added to peer4`, `chain mine added`, `the table deleted`."""
    if ("-", "table", "") in touched:
        yield "the table deleted"
        return
    for n, ((sign, what, name), count) in enumerate(touched.items()):
        done = "deleted" if sign == "-" else "added"
        if n == _MOST_WORDS:
            yield f"and {len(touched) - n} more"
            return
        if what == "table":
            yield "the table changed"
        elif what in ("rule", "element"):
            where = f"{'to' if sign == '+' else 'from'} {name}"
            yield f"{what if count == 1 else f'{count} {what}s'} {done} {where}"
        else:
            yield f"{what} {name} {done if sign == '-' else 'added or changed'}"


def _is_own(pid: int) -> bool:
    """The kernel tells the thread (`task_pid_nr`)."""
    return pid == os.getpid() or Path(f"/proc/self/task/{pid}").exists()


def _open() -> socket.socket:
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
    try:
        opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
        opened.bind((0, 0))
        opened.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _GROUP)
        opened.setblocking(False)
    except OSError:
        opened.close()
        raise
    return opened
