"""Flow telemetry from the kernel: one process listens in every managed host's namespace, on netlink only.

    ctnetlink    every new and every ended connection, with packets, bytes and times of both directions
    NFLOG        every packet that a Ringfence rule logged

A flush turns what happened since the last one into records; a connection that lives on is reported with what it
carried in between, so long connections show at once and nothing is counted twice.

INVARIANT: a loss is never silent. The kernel's own count of messages it could not deliver is in each report, and
connections whose end was lost are found by comparing with the kernel's table and counted as `unfinished`.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterable
from typing import Literal

import msgspec

from ringfence.flows.conntrack import entries as conntrack
from ringfence.flows.conntrack import netlink, nflog
from ringfence.flows.conntrack.entries import Entry
from ringfence.flows.conntrack.nflog import BlockedAttempt
from ringfence.lab import namespaces
from ringfence.lab.channel import answer_requests

Ending = Literal["open", "closed", "reset", "refused", "unanswered"]


class Station(msgspec.Struct, frozen=True):
    """One host to listen at."""

    host: str
    namespace: str
    addresses: tuple[str, ...]


class TelemetryTask(msgspec.Struct, frozen=True):
    """What the telemetry process is started with."""

    stations: tuple[Station, ...]
    nflog_group: int


class FlowRecord(msgspec.Struct, frozen=True, array_like=True):
    """What one connection carried since it was last reported, as one host saw it; the source is the client."""

    host: str
    direction: Literal["in", "out"]
    """`out`: this host is the client."""
    protocol: int
    source: str
    destination: str
    source_port: int
    destination_port: int
    icmp_type: int | None
    packets: int
    bytes: int
    reply_packets: int
    reply_bytes: int
    start_s: float
    end_s: float
    """Seconds since the epoch: the window of this report, which begins with the connection or with the last report."""
    ending: Ending
    is_first: bool
    """Whether this is the first report of its connection."""


class Flush(msgspec.Struct, frozen=True, tag="flush"):
    """Report everything since the last flush."""


class Report(msgspec.Struct, frozen=True):
    """What happened since the last flush."""

    records: tuple[FlowRecord, ...]
    blocked: tuple[BlockedAttempt, ...]
    dropped: int = 0
    """Messages the kernel could not deliver, since the lab came up."""
    unfinished: int = 0
    """Connections whose end was not delivered, since the lab came up; they are reported with what was known."""


def serve(sock: socket.socket, argument: bytes) -> None:
    """Listen until the channel closes."""
    asyncio.run(_serve(sock, msgspec.msgpack.decode(argument, type=TelemetryTask)))


async def _serve(sock: socket.socket, task: TelemetryTask) -> None:
    listeners = [_Listener(station, task.nflog_group) for station in task.stations]

    async def answer(body: bytes) -> msgspec.Struct:
        msgspec.msgpack.decode(body, type=Flush)
        return Report(
            records=tuple(record for listener in listeners for record in listener.flush()),
            blocked=tuple(attempt for listener in listeners for attempt in listener.take_blocked()),
            dropped=sum(listener.dropped for listener in listeners),
            unfinished=sum(listener.unfinished for listener in listeners),
        )

    await answer_requests(sock, answer)


class _Listener:
    """The sockets and the state of one host."""

    def __init__(self, station: Station, group: int) -> None:
        self._station = station
        with namespaces.within(station.namespace):
            self._events, self._table, self._log = (netlink.open_socket() for _ in range(3))
        self._ledger = Ledger(station.host, frozenset(station.addresses))
        self._blocked: list[BlockedAttempt] = []
        self._missing: set[int] = set()
        conntrack.subscribe(self._events)
        nflog.bind(self._log, group)
        loop = asyncio.get_running_loop()
        for sock, read in ((self._events, self._read_events), (self._log, self._read_log)):
            sock.setblocking(False)
            loop.add_reader(sock, read)

    @property
    def dropped(self) -> int:
        return netlink.dropped(self._events) + netlink.dropped(self._log)

    @property
    def unfinished(self) -> int:
        return self._ledger.unfinished

    def flush(self) -> list[FlowRecord]:
        """Events, then the table, then the events in between.

        Only where the kernel dropped events is a connection missing from the table taken for ended, and only the second
        time: a table that changes while it is read may leave one out.
        """
        self._read_events()
        before = self._ledger.living()
        seen = self._ledger.note_table(conntrack.table(self._table), time.time_ns())
        self._read_events()
        missing = (before & self._ledger.living()) - seen if self.dropped else set()
        self._ledger.lose(missing & self._missing, time.time_ns())
        self._missing = missing
        return self._ledger.take()

    def take_blocked(self) -> list[BlockedAttempt]:
        self._read_log()
        blocked, self._blocked = self._blocked, []
        return blocked

    def _read_events(self) -> None:
        for data in netlink.datagrams(self._events):
            for kind, entry in conntrack.events(data):
                self._ledger.note(kind, entry)

    def _read_log(self) -> None:
        for data in netlink.datagrams(self._log):
            self._blocked += nflog.attempts(data, self._station.host)


class Ledger:
    """Which connections of a host live, and how much of each has been reported."""

    def __init__(self, host: str, addresses: frozenset[str]) -> None:
        self._host = host
        self._addresses = addresses
        self._live: dict[int, Entry] = {}
        """The last report of each living connection, or its beginning."""
        self._reported: dict[int, int] = {}
        """Until when (ns) each living connection has been reported."""
        self._ended: set[int] = set()
        """Ended since the last flush; the kernel's table may show one for a moment longer."""
        self._records: list[FlowRecord] = []
        self.unfinished = 0

    def note(self, kind: int, entry: Entry) -> None:
        """Take one event."""
        if entry.source in self._addresses and entry.destination in self._addresses:
            return  # a host talking to itself is no flow of the network
        if kind == conntrack.NEW:
            self._lose(entry.id, time.time_ns())  # an id that lives on here and begins anew has ended unheard
            self._live[entry.id] = entry
            return
        self._report(entry, self._live.pop(entry.id, None), entry.stop_ns or time.time_ns(), has_ended=True)
        self._reported.pop(entry.id, None)
        self._ended.add(entry.id)

    def living(self) -> set[int]:
        """The connections that live as far as is known."""
        return set(self._live)

    def note_table(self, table: Iterable[Entry], now_ns: int) -> set[int]:
        """Take the kernel's table: report what each connection carried; returns the ids in it."""
        seen: set[int] = set()
        for entry in table:
            seen.add(entry.id)
            is_own = entry.source in self._addresses and entry.destination in self._addresses
            if is_own or (entry.id in self._ended and entry.id not in self._live):
                continue
            before = self._live.get(entry.id)
            self._live[entry.id] = entry
            self._report(entry, before, now_ns, has_ended=False)
        return seen

    def lose(self, ids: Iterable[int], now_ns: int) -> None:
        """Close what is known of connections that ended without their end being heard."""
        for entry_id in ids:
            self._lose(entry_id, now_ns)

    def take(self) -> list[FlowRecord]:
        """The records since this was last asked."""
        records, self._records = self._records, []
        self._ended.clear()
        return records

    def _lose(self, entry_id: int, now_ns: int) -> None:
        entry = self._live.pop(entry_id, None)
        if entry is None:
            return
        self.unfinished += 1
        if entry_id not in self._reported:
            self._records.append(self._record(entry, None, now_ns, has_ended=True))
        self._reported.pop(entry_id, None)

    def _report(self, entry: Entry, before: Entry | None, end_ns: int, *, has_ended: bool) -> None:
        known = before if entry.id in self._reported else None
        if known is not None and (entry.packets, entry.reply_packets) == (known.packets, known.reply_packets):
            return
        self._records.append(self._record(entry, known, end_ns, has_ended=has_ended))
        self._reported[entry.id] = end_ns

    def _record(self, entry: Entry, before: Entry | None, end_ns: int, *, has_ended: bool) -> FlowRecord:
        start_ns = self._reported.get(entry.id) or entry.start_ns or end_ns
        return FlowRecord(
            host=self._host,
            direction="out" if entry.source in self._addresses else "in",
            protocol=entry.protocol,
            source=entry.source,
            destination=entry.destination,
            source_port=entry.source_port,
            destination_port=entry.destination_port,
            icmp_type=entry.icmp_type,
            packets=entry.packets - (before.packets if before else 0),
            bytes=entry.bytes - (before.bytes if before else 0),
            reply_packets=entry.reply_packets - (before.reply_packets if before else 0),
            reply_bytes=entry.reply_bytes - (before.reply_bytes if before else 0),
            start_s=start_ns / 1e9,
            end_s=max(start_ns, end_ns) / 1e9,
            ending=_ending(entry, has_ended=has_ended),
            is_first=before is None,
        )


def _ending(entry: Entry, *, has_ended: bool) -> Ending:
    if entry.reply_packets == 0:
        return "unanswered"
    if entry.tcp_state == conntrack.TCP_CLOSE:
        return "refused" if (entry.packets, entry.reply_packets) == (1, 1) else "reset"
    if entry.tcp_state in conntrack.TCP_CLOSING or has_ended:
        return "closed"
    return "open"
