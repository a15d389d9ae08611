"""What a host sees of its own traffic, told upwards: flows by the minute, violations within a second.

    observer = Observer(target, spool, netns=None)
    observer.intent = intent          # names the rule of a violation
    await observer.run()              # until cancelled; then what is known is told

Idle, it sleeps: sockets wake it, and after each reading it lets events gather for a moment, so that a busy host costs a
few wake-ups a second and each is spent on whole batches.

INVARIANT: what is not told is counted: events the kernel could not deliver, violations beyond the cap, packets that the
rules' own log limit passed over. Nothing here ever stops enforcement: a failing socket, a full spool, a missing module
is a number in `stats`.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from ringfence.agent.observe.flow_rows import Refusals, rows_of, without
from ringfence.agent.observe.processes import Processes, Units, ports_of_clients, program_of
from ringfence.agent.observe.spool import Spool
from ringfence.agent.observe.violations import Attempt, Violations, as_begun, described, judged
from ringfence.core.errors import TargetError
from ringfence.core.intent.model import Intent, Passage
from ringfence.flows.conntrack import netlink, nflog, sockets
from ringfence.flows.conntrack.batch import TRACKED
from ringfence.flows.conntrack.ledger import IN, OUT
from ringfence.flows.conntrack.watch import Watch
from ringfence.targets.nftables.marks import PICKED_UP
from ringfence.targets.nftables.netlink import in_namespace
from ringfence.targets.nftables.statements import LOG_GROUP
from ringfence.targets.nftables.target import NftablesTarget
from ringfence.wire.columns import encode
from ringfence.wire.messages import Events, Violation

_GATHER_S = 0.4
"""How long events gather after a reading; the kernel's buffer holds about 25,000."""
_GATHER_BUSY_S = 0.15
_BUSY_EVENTS = 6000
_LOG_GATHER_S = 0.1
_TICK_S = 1.0
_ROWS_A_MESSAGE = 20_000
_MOST_ROWS = 50_000
"""Told early, when so many rows wait."""
_ACCOUNTING = Path("/proc/sys/net/netfilter/nf_conntrack_acct")
_LOGGED_STEPS = ("_blocked", "_would", "quarantine")
"""Ends of the names of counters whose packets are logged, too."""


class ObserverStats(msgspec.Struct, frozen=True):
    """Since the observer was made."""

    events: int = 0
    """Of connections that began or ended."""
    lost: int = 0
    """Events the kernel could not deliver or nobody could read."""
    unfinished: int = 0
    """Connections whose end was never heard."""
    living: int = 0
    attempts: int = 0
    """Packets logged by our rules."""
    suppressed: int = 0
    """Packets our rules stopped, or would have, that are not described in any violation."""
    attributed: int = 0
    unattributed: int = 0
    """Connections whose process was over, or hidden, when it was looked for."""
    dumps: int = 0
    rows: int = 0
    has_bytes: bool = True
    """Whether the kernel counts packets and bytes (`nf_conntrack_acct`)."""
    faults: tuple[str, ...] = ()
    """What does not work, in words."""


class _Opened(NamedTuple):
    watch: Watch
    log: socket.socket
    diag: socket.socket
    has_bytes: bool


class Observer:
    """Telemetry of one network namespace."""

    def __init__(
        self,
        target: NftablesTarget,
        spool: Spool,
        *,
        netns: str | None = None,
        interval_s: float = 60.0,
        dump_s: float = 60.0,
        buffer_bytes: int = netlink.RECEIVE_BYTES,
        cgroup_root: Path | None = None,
        on_told: Callable[[], None] = lambda: None,
    ) -> None:
        """`interval_s`: how often flows are told. `on_told` is called when something was put in the spool."""
        self.intent: Intent | None = None
        """What is in force: it names the rule of a violation."""
        self.channel: tuple[Passage, ...] = ()
        """The agent's own way to its controller: essential, so no policy has to know it and no flow tells it."""
        self._target, self._spool, self._netns, self._on_told = target, spool, netns, on_told
        self._interval_s, self._dump_s, self._buffer_bytes = interval_s, dump_s, buffer_bytes
        self._units = Units(cgroup_root)
        self._processes = Processes(self._sockets, self._units)
        self._violations, self._refusals = Violations(), Refusals()
        self._opened: _Opened | None = None
        self._final: ObserverStats | None = None
        self._events = self._dumps = self._rows = self._suppressed = self._lost_told = 0
        self._counted: dict[str, int] = {}
        self._judged = self._passed_over = 0
        self._window_ms = _now_ms()
        self._faults: dict[str, str] = {}
        self.ready = asyncio.Event()
        """Set when everything from now on is seen."""

    def stats(self) -> ObserverStats:
        if self._final is not None:
            return self._final
        opened = self._opened
        ledger = opened.watch.ledger if opened else None
        return ObserverStats(
            events=self._events,
            lost=opened.watch.lost + netlink.dropped(opened.log) if opened else 0,
            unfinished=ledger.unfinished if ledger else 0,
            living=ledger.living if ledger else 0,
            attempts=self._violations.logged,
            suppressed=self._suppressed + self._violations.suppressed,
            attributed=self._processes.attributed,
            unattributed=self._processes.unknown,
            dumps=self._dumps,
            rows=self._rows,
            has_bytes=opened.has_bytes if opened else False,
            faults=tuple(self._faults.values()),
        )

    async def run(self) -> None:
        """Observe until cancelled. Raises TargetError `unreachable` where the kernel cannot be listened to."""
        async with self._listening() as opened:
            self._count_judged()
            self._judged = 0  # what was counted before anybody listened is not missed
            await self._dump(opened)
            self.ready.set()
            tasks = [self._hear_events(opened), self._hear_log(opened), self._keep_time(opened)]
            try:
                async with asyncio.TaskGroup() as group:
                    for task in tasks:
                        group.create_task(task)
            finally:
                await self._last_words(opened)

    @asynccontextmanager
    async def _listening(self) -> AsyncIterator[_Opened]:
        try:
            self._opened = opened = in_namespace(self._netns, self._open)
        except OSError as error:
            raise TargetError(
                "unreachable",
                f"the kernel's connections cannot be listened to: {error.strerror}",
                help="run with CAP_NET_ADMIN, load nf_conntrack_netlink and nfnetlink_log, and end what else"
                f" listens to log group {LOG_GROUP}",
            ) from error
        try:
            yield opened
        finally:
            self._final = self.stats()
            opened.watch.close()
            opened.log.close()
            opened.diag.close()

    def _open(self) -> _Opened:
        has_bytes = _turn_on_accounting()
        log = netlink.open_socket()
        nflog.bind(log, LOG_GROUP)
        log.setblocking(False)
        self._processes.client_ports = ports_of_clients()
        watch = Watch(self._processes.attribute, answers=self._processes.answers, buffer_bytes=self._buffer_bytes)
        return _Opened(watch, log, sockets.open_socket(), has_bytes)

    # ---- connections -------------------------------------------------------------------------------------------------

    async def _hear_events(self, opened: _Opened) -> None:
        while True:
            await _readable(opened.watch.events)
            count = self._drain(opened)
            if opened.watch.ledger.waiting() > _MOST_ROWS:
                self._tell_flows(opened)
            await asyncio.sleep(_GATHER_BUSY_S if count > _BUSY_EVENTS else _GATHER_S)

    def _drain(self, opened: _Opened) -> int:
        count = opened.watch.drain()
        self._events += count
        return count

    async def _dump(self, opened: _Opened) -> None:
        with self._fault("dump", "the table of connections cannot be read"):
            for _ in opened.watch.dump():
                await asyncio.sleep(0)
            self._dumps += 1

    def _sockets(self) -> NDArray[Any]:
        if self._opened is None:
            raise OSError(errno.ENOTCONN, "nothing is open")
        try:
            found = sockets.all_sockets(self._opened.diag)
        except OSError as error:
            self._faults["sockets"] = f"the host's sockets cannot be listed: {error}"
            raise
        self._faults.pop("sockets", None)
        return found

    # ---- violations --------------------------------------------------------------------------------------------------

    async def _hear_log(self, opened: _Opened) -> None:
        while True:
            await _readable(opened.log)
            if self._read_log(opened):
                self._tell_violations()
            await asyncio.sleep(_LOG_GATHER_S)

    def _read_log(self, opened: _Opened) -> bool:
        """Whether something came that is to be told at once."""
        is_news = False
        for data in netlink.datagrams(opened.log):
            for logged in nflog.attempts(data, ""):
                attempt = judged(logged, self.intent)
                if attempt is not None:
                    is_news |= self._note(attempt)
        return is_news

    def _note(self, logged: Attempt) -> bool:
        """Whether it is to be told at once."""
        attempt = as_begun(logged, self.intent) if logged.is_doubtful and self._is_answer(logged) else logged
        if attempt is None:
            self._violations.pass_over()
            return False
        self._refusals.note(attempt)
        return self._violations.note(attempt)

    def _is_answer(self, attempt: Attempt) -> bool:
        """Whether what was in mid-stream began at the other end than where this came from."""
        row = _as_row(attempt)
        row["mark"] = PICKED_UP
        direction = np.array([OUT if attempt.kind.direction == "out" else IN], np.uint8)
        return bool(self._processes.answers(row, direction)[0])

    def _tell_violations(self, *, is_last: bool = False) -> None:
        due = self._violations.due(time.monotonic(), is_last=is_last)
        if not due:
            return
        violations = tuple(self._described(attempt, count) for attempt, count in due)
        self._put_events(violations)

    def _put_events(self, violations: tuple[Violation, ...]) -> None:
        id = self._spool.new_id()
        suppressed, self._violations.suppressed = self._violations.suppressed, 0
        self._suppressed += suppressed
        self._spool.put("events", msgspec.json.encode(Events(id, violations, suppressed=suppressed)), id=id)
        self._on_told()

    def _described(self, attempt: Attempt, count: int) -> Violation:
        row, is_client = _as_row(attempt), attempt.kind.direction == "out"
        number = int(self._processes.attribute(row, np.array([OUT if is_client else IN], np.uint8))[0])
        inode = self._processes.inode_of(row[0], is_client=is_client)
        return described(attempt, count, unit=self._units.names[number], process=program_of(inode) if inode else "")

    def _count_judged(self) -> None:
        """Packets that our rules counted since this was last asked."""
        with self._fault("counters", "the rules' counters cannot be read"):
            now = {
                f"{t.direction}_{t.step}": t.packets for t in self._target.totals() if t.step.endswith(_LOGGED_STEPS)
            }
            self._judged += sum(_since(self._counted.get(name, 0), packets) for name, packets in now.items())
            self._counted = now

    def _passed_over_by_limit(self, opened: _Opened) -> int:
        """Those of them that the rules' log limit did not log. Counters are read first: what was counted by then is in
        the queue, if it was logged."""
        self._count_judged()
        self._read_log(opened)
        missed = max(self._judged - self._violations.logged - self._passed_over, 0)
        self._passed_over += missed
        return missed

    # ---- time --------------------------------------------------------------------------------------------------------

    async def _keep_time(self, opened: _Opened) -> None:
        told = time.time()
        while True:
            await asyncio.sleep(min(_TICK_S, self._interval_s))
            self._tell_violations()
            if opened.watch.is_dump_due(self._dump_s):
                await self._dump(opened)
            if time.time() // self._interval_s != told // self._interval_s:
                told = time.time()
                self._tell_passed_over(opened)
                self._tell_flows(opened)

    def _tell_passed_over(self, opened: _Opened) -> None:
        self._violations.suppressed += self._passed_over_by_limit(opened)
        self._tell_violations()
        if self._violations.suppressed:
            self._put_events(())

    def _tell_flows(self, opened: _Opened) -> None:
        """Everything since the last time, as batches in the spool."""
        self._read_log(opened)
        self._drain(opened)
        until, lost = _now_ms(), opened.watch.lost
        carried, refused = opened.watch.ledger.take(), self._refusals.take()
        since, self._window_ms = self._window_ms, until
        missed, self._lost_told = lost - self._lost_told, lost
        rows = rows_of(carried, refused, self._units.names, window=(min(since, until), until), lost=missed)
        rows = without(rows, self.channel)
        if not len(rows) and not missed:
            return
        self._rows += len(rows)
        for at in range(0, max(len(rows), 1), _ROWS_A_MESSAGE):
            part = rows.where(slice(at, at + _ROWS_A_MESSAGE))
            self._spool.put("flows", encode(part if at == 0 else dataclasses.replace(part, lost=0)))
        self._on_told()

    async def _last_words(self, opened: _Opened) -> None:
        await self._dump(opened)
        self._tell_passed_over(opened)
        self._tell_violations(is_last=True)
        self._tell_flows(opened)

    # ---- faults ------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _fault(self, name: str, words: str) -> Iterator[None]:
        """What the kernel refuses is a fault in `stats`, until it works again."""
        try:
            yield
            self._faults.pop(name, None)
        except (OSError, TargetError) as error:
            self._faults[name] = f"{words}: {error}"


async def _readable(sock: socket.socket) -> None:
    """Return when there is something to read."""
    loop = asyncio.get_running_loop()
    waiting: asyncio.Future[None] = loop.create_future()
    loop.add_reader(sock, lambda: None if waiting.done() else waiting.set_result(None))
    try:
        await waiting
    finally:
        loop.remove_reader(sock)


def _turn_on_accounting() -> bool:
    """Have the kernel count packets and bytes of connections from now on; whether it does."""
    try:
        if _ACCOUNTING.read_text().strip() != "1":
            _ACCOUNTING.write_text("1")
    except OSError:
        return False
    return True


def _since(before: int, now: int) -> int:
    """A counter's increase; one that is smaller began anew."""
    return now - before if now >= before else now


def _as_row(attempt: Attempt) -> NDArray[Any]:
    """The connection that was tried, as the kernel would have told it."""
    row, kind = np.zeros(1, TRACKED), attempt.kind
    for end, address in (("source", kind.source), ("destination", kind.destination)):
        row[f"{end}_hi"], row[f"{end}_lo"] = address >> 64, address & 0xFFFFFFFFFFFFFFFF
    row["protocol"], row["source_port"] = kind.point >> 16, attempt.source_port
    row["destination_port"] = kind.point & 0xFFFF
    return row


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
