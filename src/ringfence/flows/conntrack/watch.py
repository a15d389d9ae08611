"""Every connection of one network namespace, as the kernel tells it: events as they come, the whole table now and then.

INVARIANT: nothing is lost in silence. The kernel counts the events it could not deliver (`lost`); after a loss the
table is read again (`is_dump_due`), so that what lives is known again, and what began and ended unheard is the loss.
"""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Iterator

import numpy as np

from ringfence.flows.conntrack import addresses, entries, netlink
from ringfence.flows.conntrack.batch import Reader
from ringfence.flows.conntrack.ledger import Answers, Attribute, Ledger, Rows, nobodys
from ringfence.flows.conntrack.receive import DATAGRAMS, Receiver

_AFTER_LOSS_S = 5.0
"""Between dumps that losses call for."""
_GET = 0x101
_AT_ONCE = 4096
"""Rows noted together: enough for whole-array steps, few enough for little memory."""


class Watch:
    """Opened on a thread that is in the namespace; used from any one thread."""

    def __init__(
        self, attribute: Attribute, *, answers: Answers = nobodys, buffer_bytes: int = netlink.RECEIVE_BYTES
    ) -> None:
        """Raises OSError: without CAP_NET_ADMIN, or without the module nf_conntrack_netlink."""
        self.events, self._table, self._route = netlink.open_socket(), netlink.open_socket(), addresses.open_socket()
        self.events.setsockopt(socket.SOL_SOCKET, netlink.SO_RCVBUFFORCE, buffer_bytes)
        self.events.setblocking(False)
        self.ledger = Ledger(attribute, answers, seed=secrets.randbits(63))
        self._reader, self._receiver = Reader(), Receiver(self.events)
        self._lost_at_dump = 0
        self._is_reading = False
        self._dumped = float("-inf")
        entries.subscribe(self.events)

    def close(self) -> None:
        for opened in (self.events, self._table, self._route):
            opened.close()

    @property
    def lost(self) -> int:
        """Events that were not delivered or could not be read, since it was opened."""
        return netlink.dropped(self.events) + self._receiver.cut + self._reader.unreadable

    def drain(self) -> int:
        """Note what is queued; returns how many events there were."""
        count = 0
        rows: list[Rows] = []
        for lines, sizes in self._receiver.waiting():
            count += len(sizes)
            rows.append(self._reader.datagrams(lines, sizes))
            if len(rows) * DATAGRAMS >= _AT_ONCE:
                self._note(rows)
                rows = []
        self._note(rows)
        return count

    def _note(self, rows: list[Rows]) -> None:
        if rows:
            self.ledger.own = self.ledger.own.of(addresses.own_addresses(self._route))
            self.ledger.note(np.concatenate(rows), _now_ms())

    def is_dump_due(self, every_s: float) -> bool:
        """Whether the table should be read: regularly, and soon after a loss."""
        age = time.monotonic() - self._dumped
        return age >= every_s or (self.lost > self._lost_at_dump and age >= min(_AFTER_LOSS_S, every_s))

    def dump(self) -> Iterator[None]:
        """Read the whole table in parts, between which anything else may be done. Raises OSError."""
        lost = self.lost
        self._dumped = time.monotonic()
        self.drain()
        self.ledger.own = self.ledger.own.of(addresses.own_addresses(self._route))
        self.ledger.begin_dump()
        while self._is_reading:  # a dump that was given up must be read to its end before the next
            self._is_reading = not netlink.is_last(self._table.recv(netlink.BUFFER_BYTES))
        self._table.send(netlink.request(_GET, netlink.NLM_F_DUMP, socket.AF_UNSPEC, 0))
        self._is_reading = True
        rows: list[Rows] = []
        while self._is_reading:
            data = self._table.recv(netlink.BUFFER_BYTES)
            self._is_reading = not netlink.is_last(data)
            rows.append(self._reader.dumped(data))
            if not self._is_reading or sum(map(len, rows)) >= _AT_ONCE:
                self.drain()
                self.ledger.note_dump(np.concatenate(rows), _now_ms())
                rows = []
            yield
        self.ledger.end_dump(was_lossy=lost > self._lost_at_dump)
        self._lost_at_dump = lost


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
