"""One window of a host's traffic as the rows that travel: what passed, what was stopped, what would have been.

What conntrack saw passed. What our rules logged as `blocked` never became a connection and is a row of its own; what
they logged as `would-block` passed and is a connection already: its row says so, and it counts once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ringfence.agent.observe.violations import Attempt, Kind
from ringfence.core.intent.model import Passage
from ringfence.flows.conntrack.ledger import CARRIED, IN, OUT
from ringfence.wire.columns import STEPS, VERDICTS, FlowRows

_MOST_KINDS, _MOST_PORTS = 8192, 4096
_LOW = (1 << 64) - 1


@dataclass
class _Tried:
    ports: set[int] = field(default_factory=set)
    """Source ports: a connection tried again is one connection."""
    packets: int = 0
    bytes: int = 0
    first_ms: int = 0
    last_ms: int = 0


class Refusals:
    """Logged attempts of the present window, by kind. Beyond a bound new kinds are left to the violations' counts."""

    def __init__(self) -> None:
        self._tried: dict[Kind, _Tried] = {}

    def note(self, attempt: Attempt) -> None:
        tried = self._tried.get(attempt.kind)
        at_ms = int(attempt.at_s * 1000)
        if tried is None:
            if len(self._tried) >= _MOST_KINDS:
                return
            tried = self._tried[attempt.kind] = _Tried(first_ms=at_ms)
        if len(tried.ports) < _MOST_PORTS:
            tried.ports.add(attempt.source_port)
        tried.packets += 1
        tried.bytes += attempt.bytes
        tried.first_ms, tried.last_ms = min(tried.first_ms, at_ms), max(tried.last_ms, at_ms)

    def take(self) -> dict[Kind, _Tried]:
        """Those since it was last asked."""
        tried, self._tried = self._tried, {}
        return tried


def rows_of(
    carried: NDArray[Any], refused: dict[Kind, _Tried], units: tuple[str, ...], *, window: tuple[int, int], lost: int
) -> FlowRows:
    """The rows of a window (milliseconds since the epoch). `units` are the names of the numbers in `carried`."""
    verdicts = np.zeros((len(carried), 3), np.int64)
    texts = {"": 0}
    extra = np.zeros(len(refused), CARRIED)
    more = np.zeros((len(refused), 3), np.int64)
    count = 0
    for kind, tried in refused.items():
        words = VERDICTS.index(kind.verdict), STEPS.index(kind.step), texts.setdefault(kind.rule, len(texts))
        same = _same(carried, kind) if kind.verdict == "would-block" else None
        if same is not None and same.any():
            verdicts[same] = words
            continue
        extra[count], more[count] = _row(kind, tried), words
        count += 1
    rows = np.concatenate([carried, extra[:count]])
    verdicts = np.concatenate([verdicts, more[:count]])
    used, inverse = np.unique(rows["unit"], return_inverse=True)
    numbers = [texts.setdefault(units[number], len(texts)) for number in used.tolist()]
    columns: dict[str, Any] = {name: rows[name].astype(np.int64) for name in CARRIED.names or () if name not in _ENDS}
    columns |= {name: rows[name] for name in _ENDS}
    columns["unit"] = np.array(numbers, np.int64)[inverse]
    columns["verdict"], columns["step"], columns["rule"] = verdicts.T
    return FlowRows(*window, lost, tuple(texts), **columns)


def without(rows: FlowRows, passages: Iterable[Passage]) -> FlowRows:
    """The rows that are none of these single ends (address and port) the host goes out to."""
    gone = np.zeros(len(rows), bool)
    for passage in passages:
        (address, _), (point, _) = passage.remote.ranges[0], passage.services.ranges[0]
        there = (rows.destination_hi == np.uint64(address >> 64)) & (rows.destination_lo == np.uint64(address & _LOW))
        gone |= there & (rows.point == point) & (rows.direction == OUT)
    return rows.where(~gone) if gone.any() else rows


_LOW = (1 << 64) - 1
_ENDS = ("source_hi", "source_lo", "destination_hi", "destination_lo")


def _same(rows: NDArray[Any], kind: Kind) -> NDArray[np.bool_]:
    """The rows of what is alike; compared by the ends most rows differ in first."""
    fits: NDArray[np.bool_] = (rows["point"] == kind.point) & (rows["direction"] == _direction(kind))
    for end, address in (("source", kind.source), ("destination", kind.destination)):
        fits &= (rows[f"{end}_lo"] == np.uint64(address & _LOW)) & (rows[f"{end}_hi"] == np.uint64(address >> 64))
    return fits


def _row(kind: Kind, tried: _Tried) -> Any:
    row = np.zeros((), CARRIED)
    for end, address in (("source", kind.source), ("destination", kind.destination)):
        row[f"{end}_hi"], row[f"{end}_lo"] = address >> 64, address & _LOW
    row["point"], row["direction"], row["connections"] = kind.point, _direction(kind), len(tried.ports)
    row["packets"], row["bytes"], row["first"], row["last"] = tried.packets, tried.bytes, tried.first_ms, tried.last_ms
    return row


def _direction(kind: Kind) -> int:
    return IN if kind.direction == "in" else OUT
