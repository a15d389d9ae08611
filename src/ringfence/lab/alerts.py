"""Blocked attempts as alerts: who was stopped from reaching what, by which rule, how often.

The kernel tells which host's rules stopped a packet and at which step; the rule's name is the engine's answer for
that connection at that host's end. INVARIANT: where the two disagree on the step, the alert says so
(`is_consistent`).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Literal

import msgspec

from ringfence.core.identity.inventory import Inventory
from ringfence.core.net.address import format_address, parse_address
from ringfence.core.net.service import format_point, point
from ringfence.core.world import Endpoint, EndVerdict, Flow
from ringfence.lab.attack import Judge
from ringfence.lab.nflog import BlockedAttempt


class Alert(msgspec.Struct, frozen=True):
    """All attempts of one source on one service of one destination that one end stopped."""

    source: str
    """The workload's name, else the address."""
    destination: str
    service: str
    host: str
    """Whose rules stopped it."""
    end: Literal["source", "destination"]
    reason: str
    """`forbid`, `deny`, `default` or `quarantine`."""
    rule: str | None
    """`policy/rule`; None where nothing allows it."""
    attempts: int
    first: datetime
    last: datetime
    is_consistent: bool = True
    """Whether the kernel's rule and the engine name the same step."""


def alerts(attempts: Iterable[BlockedAttempt], inventory: Inventory, judge: Judge) -> tuple[Alert, ...]:
    """One alert for all attempts alike, most frequent first."""
    grouped: dict[tuple[str, str, str, int], list[BlockedAttempt]] = {}
    for attempt in attempts:
        service = point(attempt.protocol, _detail(attempt))
        grouped.setdefault((attempt.host, attempt.source, attempt.destination, service), []).append(attempt)
    folded: dict[tuple[object, ...], Alert] = {}
    for (_, source, destination, service), group in grouped.items():
        alert = _alert(group, parse_address(source), parse_address(destination), service, inventory, judge)
        key = (alert.source, alert.destination, alert.service, alert.host, alert.end, alert.reason, alert.rule)
        folded[key] = _joined(folded[key], alert) if key in folded else alert
    return tuple(sorted(folded.values(), key=lambda a: (-a.attempts, a.source, a.destination, a.service, a.host)))


def _detail(attempt: BlockedAttempt) -> int:
    return attempt.destination_port if attempt.icmp_type is None else attempt.icmp_type


def _alert(
    group: list[BlockedAttempt], source: int, destination: int, service: int, inventory: Inventory, judge: Judge
) -> Alert:
    first, last = (datetime.fromtimestamp(pick(a.at_s for a in group), UTC) for pick in (min, max))
    end: Literal["source", "destination"] = "destination" if group[0].direction == "in" else "source"
    flow = Flow(Endpoint(address=source), Endpoint(address=destination), service, at=last)
    verdict = next((e for e in judge(flow).ends if e.end == end), None)
    return Alert(
        source=_name(inventory, source, last),
        destination=_name(inventory, destination, last),
        service=format_point(service),
        host=group[0].host,
        end=end,
        reason=verdict.reason if verdict else "uncontrolled",
        rule=verdict.rule if verdict else None,
        attempts=len(group),
        first=first,
        last=last,
        is_consistent=_agrees(verdict, {attempt.prefix for attempt in group}),
    )


def _agrees(verdict: EndVerdict | None, prefixes: set[str]) -> bool:
    return verdict is not None and all(verdict.reason in prefix.split() for prefix in prefixes)


def _name(inventory: Inventory, address: int, at: datetime) -> str:
    holders = inventory.holders(address, at)
    return holders[0].name if holders else format_address(address)


def _joined(one: Alert, other: Alert) -> Alert:
    return msgspec.structs.replace(
        one,
        attempts=one.attempts + other.attempts,
        first=min(one.first, other.first),
        last=max(one.last, other.last),
        is_consistent=one.is_consistent and other.is_consistent,
    )
