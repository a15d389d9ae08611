"""What the realised rules do with a packet: the kernel's program, read back, run on paper.

Independent of `render`: it interprets expressions, sets and chains as the kernel does (nf_tables_core.c), knowing
nothing of how they came to be. Used to prove that what is there decides as the intent does.

INVARIANT: an expression it does not know makes the outcome `unknown`, never a pass.
"""

from __future__ import annotations

import operator
import struct
from bisect import bisect_right
from collections.abc import Callable
from typing import Literal

import msgspec
import numpy as np

from ringfence.core.identity.workload import Direction
from ringfence.core.net.address import V4_BASE, is_v4
from ringfence.core.net.service import ICMP, ICMPV6, TCP
from ringfence.targets.nftables import expressions as x
from ringfence.targets.nftables.layout import DORMANT, HOOKS, Chain, Hash, Interval, Layout, as_rows
from ringfence.targets.nftables.services import REPLY_TYPES

Ending = Literal["accept", "drop", "reject", "unknown"]
State = Literal["new", "established", "related", "invalid"]
_STATE_BITS = {"invalid": 1, "established": 2, "related": 4, "new": 8}
_SYN = 0x02
_DEVICE = 2
_MANY = 1024
"""A table of more elements is not worth a dictionary for the few packets a host is asked about."""


class Packet(msgspec.Struct, frozen=True):
    """One packet at a hook. Addresses on the 128-bit line; `ports` are (source, destination)."""

    hook: Literal["input", "forward", "output"]
    source: int
    destination: int
    protocol: int
    ports: tuple[int, int] = (0, 0)
    icmp_type: int = 0
    tcp_flags: int = _SYN
    state: State = "new"
    is_reply: bool = False
    is_translated: frozenset[Literal["snat", "dnat"]] = frozenset()
    """Which addresses of the connection this host replaces."""
    mark: int = 0
    device: int = _DEVICE
    hop_limit: int = 255
    cgroups: tuple[int, ...] = ()
    """The cgroup ids of the local socket's ancestors, from level 1 down."""


class Outcome(msgspec.Struct, frozen=True):
    ending: Ending
    counters: tuple[str, ...] = ()
    """The named counters it passed, in order."""
    mark: int = 0


class _Break(Exception):
    """The rule does not apply: go on with the next."""


class _End(Exception):
    def __init__(self, ending: Ending) -> None:
        self.ending = ending


class _Run:
    """One packet on its way through the chains."""

    def __init__(self, machine: Machine, packet: Packet) -> None:
        self.machine, self.packet = machine, packet
        self.registers = bytearray(80)
        self.priority = 0
        self.mark = packet.mark
        self.counters: list[str] = []

    def load(self, register: int, length: int) -> bytes:
        at = _offset(register)
        return bytes(self.registers[at : at + length])

    def store(self, register: int, value: bytes) -> None:
        at, padded = _offset(register), value + bytes(-len(value) % 4)
        self.registers[at : at + len(padded)] = padded

    def chain(self, chain: Chain) -> None:
        """Run a chain's rules; returns at its end or a `return`, and ends by _End."""
        for rule in chain.rules:
            try:
                verdict = self.rule(rule.expressions)
            except _Break:
                continue
            if verdict is None:
                continue
            if verdict.code == x.RETURN:
                return
            if verdict.code in (x.JUMP, x.GOTO):
                self.chain(self.machine.layout.chains[verdict.chain or ""])
                if verdict.code == x.GOTO:
                    return
            else:
                raise _End("accept" if verdict.code == x.ACCEPT else "drop")

    def rule(self, expressions: tuple[x.Expression, ...]) -> x.Verdict | None:
        for expression in expressions:
            verdict = _STEPS[type(expression)](self, expression)
            if verdict is not None:
                return verdict
        return None


def _offset(register: int) -> int:
    return 16 * register if register <= 4 else 4 * (register - 4)


def _meta(run: _Run, e: x.Meta) -> None:
    p = run.packet
    if e.source is not None:
        if e.key != x.META_PRIORITY:
            raise _End("unknown")
        run.priority = struct.unpack("=I", run.load(e.source, 4))[0]
        return
    values: dict[int, Callable[[], bytes]] = {
        x.META_PRIORITY: lambda: struct.pack("=I", run.priority),
        x.META_IIF: lambda: struct.pack("=I", p.device if p.hook != "output" else 0),
        x.META_OIF: lambda: struct.pack("=I", p.device if p.hook != "input" else 0),
        x.META_NFPROTO: lambda: bytes((2 if is_v4(p.source) else 10,)),
        x.META_L4PROTO: lambda: bytes((p.protocol,)),
    }
    if e.key not in values:
        raise _End("unknown")
    run.store(e.to or 0, values[e.key]())


def _payload(run: _Run, e: x.Payload) -> None:
    header = _network(run.packet) if e.base == x.NETWORK else _transport(run.packet)
    if e.base not in (x.NETWORK, x.TRANSPORT) or e.offset + e.length > len(header):
        raise _Break
    run.store(e.to, header[e.offset : e.offset + e.length])


def _network(p: Packet) -> bytes:
    if is_v4(p.source):
        head = bytes(8) + bytes((p.hop_limit, p.protocol, 0, 0))
        return head + struct.pack("!II", p.source - V4_BASE, p.destination - V4_BASE)
    return (
        bytes(6) + bytes((p.protocol, p.hop_limit)) + p.source.to_bytes(16, "big") + p.destination.to_bytes(16, "big")
    )


def _transport(p: Packet) -> bytes:
    if p.protocol in (ICMP, ICMPV6):
        return bytes((p.icmp_type,)) + bytes(7)
    flags = p.tcp_flags if p.protocol == TCP else 0
    return struct.pack("!HH", *p.ports) + bytes(9) + bytes((flags,)) + bytes(6)


def _ct(run: _Run, e: x.Ct) -> None:
    p = run.packet
    if e.source is not None:
        if e.key != x.CT_MARK:
            raise _End("unknown")
        if p.state != "invalid":
            run.mark = struct.unpack("=I", run.load(e.source, 4))[0]
        return
    if e.key == x.CT_STATE:
        run.store(e.to or 0, struct.pack("=I", _STATE_BITS[p.state]))
        return
    if p.state == "invalid":
        raise _Break
    status = sum({"snat": 0x10, "dnat": 0x20}[kind] for kind in p.is_translated)
    values = {
        x.CT_MARK: struct.pack("=I", run.mark),
        x.CT_DIRECTION: bytes((p.is_reply,)),
        x.CT_STATUS: struct.pack("=I", status),
    }
    if e.key not in values:
        raise _End("unknown")
    run.store(e.to or 0, values[e.key])


_COMPARISONS = {
    x.EQ: operator.eq,
    x.NEQ: operator.ne,
    x.LT: operator.lt,
    x.LTE: operator.le,
    x.GT: operator.gt,
    x.GTE: operator.ge,
}


def _cmp(run: _Run, e: x.Cmp) -> None:
    if not _COMPARISONS[e.op](run.load(e.register, len(e.value)), e.value):
        raise _Break


def _bitwise(run: _Run, e: x.Bitwise) -> None:
    source = run.load(e.source, len(e.mask))
    run.store(e.to, bytes(s & m ^ v for s, m, v in zip(source, e.mask, e.xor, strict=True)))


def _lookup(run: _Run, e: x.Lookup) -> x.Verdict | None:
    found, value = run.machine.find(e.set_name, run)(e.source)
    if found == e.inverted:
        raise _Break
    if e.to is None:
        return None
    if e.to == x.VERDICT_REGISTER:
        return x.Verdict(x.GOTO, str(value))
    run.store(e.to, value if isinstance(value, bytes) else struct.pack("=I", value))
    return None


def _immediate(run: _Run, e: x.Immediate) -> None:
    run.store(e.to, e.value)


def _verdict(_: _Run, e: x.Verdict) -> x.Verdict:
    return e


def _counter(run: _Run, e: x.CounterRef) -> None:
    run.counters.append(e.name)


def _nothing(_: _Run, __: x.Expression) -> None:
    """Limits and logs never decide: every rule with one has no verdict."""


def _reject(_: _Run, __: x.Expression) -> None:
    raise _End("reject")


def _socket(run: _Run, e: x.SocketGroup) -> None:
    if len(run.packet.cgroups) < e.level:
        raise _Break
    run.store(e.to, struct.pack("=Q", run.packet.cgroups[e.level - 1]))


def _foreign(_: _Run, __: x.Expression) -> None:
    raise _End("unknown")


_STEPS: dict[type, Callable[..., x.Verdict | None]] = {
    x.Meta: _meta,
    x.Payload: _payload,
    x.Ct: _ct,
    x.Cmp: _cmp,
    x.Bitwise: _bitwise,
    x.Lookup: _lookup,
    x.Immediate: _immediate,
    x.Verdict: _verdict,
    x.CounterRef: _counter,
    x.Counter: _nothing,
    x.Limit: _nothing,
    x.Log: _nothing,
    x.Reject: _reject,
    x.SocketGroup: _socket,
    x.Foreign: _foreign,
}


class Machine:
    """A layout made ready to run packets through."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._tables: dict[str, Callable[[bytes], bytes | None]] = {}

    def run(self, packet: Packet) -> Outcome:
        base = next((c for c in self.layout.chains.values() if self._is_base(c, packet)), None)
        if base is None or base.hook is None or self.layout.flags & DORMANT:
            return Outcome("accept")
        run = _Run(self, packet)
        try:
            run.chain(base)
            ending: Ending = base.hook.policy
        except _End as end:
            ending = end.ending
        return Outcome(ending, tuple(run.counters), run.mark)

    def _is_base(self, chain: Chain, packet: Packet) -> bool:
        return chain.hook is not None and chain.hook.number == HOOKS[packet.hook]

    def find(self, name: str, run: _Run) -> Callable[[int], tuple[bool, bytes | int | str | None]]:
        elements, length = self.layout.elements[name], self.layout.sets[name].key_length

        def look(register: int) -> tuple[bool, bytes | int | str | None]:
            key = run.load(register, length)
            if isinstance(elements, Hash):
                value = self._table(name, elements)(key)
                return value is not None, value
            return _in_intervals(elements, int.from_bytes(key, "big"))

        return look

    def _table(self, name: str, elements: Hash) -> Callable[[bytes], bytes | None]:
        """What the timers say is in a set whose elements come and go; a large table is searched as it is."""
        if name not in self._tables:
            if name in self.layout.timers:
                self._tables[name] = dict.fromkeys(self.layout.timers[name], b"").get
            elif len(elements) >= _MANY:
                self._tables[name] = _search(elements)
            else:
                rows = zip(elements.keys, elements.values, strict=True)
                self._tables[name] = {key.tobytes(): value.tobytes() for key, value in rows}.get
        return self._tables[name]


def _search(elements: Hash) -> Callable[[bytes], bytes | None]:
    """INVARIANT: elements of a layout are sorted by key."""
    rows = as_rows(elements.keys)

    def look(key: bytes) -> bytes | None:
        row = as_rows(np.frombuffer(key, np.uint8).reshape(1, -1))[0]
        at = int(np.searchsorted(rows, row))
        return elements.values[at].tobytes() if at < len(rows) and rows[at] == row else None

    return look


def _in_intervals(intervals: tuple[Interval, ...], key: int) -> tuple[bool, int | str | None]:
    index = bisect_right(intervals, key, key=lambda i: i.lo) - 1
    if index < 0 or key > intervals[index].hi:
        return False, None
    return True, intervals[index].value


class Decision(msgspec.Struct, frozen=True):
    """How the realised rules judge a flow: whether it passes, at which step, and as which direction."""

    passes: bool
    step: str
    """`allow`, `deny`, `forbid`, `default`, `quarantine`, `invalid`, or `essential` when nothing counted it."""
    direction: str


def decide_realised(
    machine: Machine,
    direction: Direction,
    *,
    remote: int,
    local: int,
    point: int,
    cgroups: tuple[int, ...] = (),
    is_reply: bool = False,
) -> Decision:
    """The verdict on a new flow, or (`is_reply`) on the first answer of an established one judged before this policy.

    Raises ValueError for an ICMP type that has no answer.
    """
    protocol, detail = point >> 16, point & 0xFFFF
    is_input = (direction == "in") != is_reply
    source, destination = (remote, local) if is_input else (local, remote)
    client = 40000
    packet = Packet(
        "input" if is_input else "output",
        source,
        destination,
        protocol,
        (detail, client) if is_reply else (client, detail),
        _reply_type(protocol, detail) if is_reply and protocol in REPLY_TYPES else detail & 0xFF,
        0x12 if is_reply else _SYN,
        "established" if is_reply else "new",
        is_reply,
        cgroups=cgroups,
    )
    outcome = machine.run(packet)
    side, _, word = (outcome.counters[-1] if outcome.counters else f"{direction}_essential").partition("_")
    step = {"allowed": "allow"}.get(word, word.split("_")[0])
    return Decision(outcome.ending == "accept", step, side)


def _reply_type(protocol: int, request: int) -> int:
    if request not in REPLY_TYPES[protocol]:
        raise ValueError(f"ICMP type {request} has no answer")
    return REPLY_TYPES[protocol][request]
