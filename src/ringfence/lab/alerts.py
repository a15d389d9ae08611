"""Blocked attempts as alerts: who was stopped from reaching what, by which rule, how often.

The kernel tells which host's rules stopped a packet and at which step; the rule's name is the engine's answer for
that connection at that host's end. INVARIANT: where the two disagree on the step, the alert says so
(`is_consistent`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Literal, NamedTuple

import msgspec

from ringfence.core.identity.inventory import Inventory
from ringfence.core.net.address import format_address, parse_address
from ringfence.core.net.service import DHCP_PORTS, UDP, format_point, point
from ringfence.core.world import Endpoint, Flow
from ringfence.flows.conntrack.nflog import BlockedAttempt
from ringfence.lab.attack import Judge


class Alert(msgspec.Struct, frozen=True):
    """All attempts of one source on one destination that one end stopped for one reason."""

    source: str
    """The workload's name, else the address."""
    destination: str
    services: tuple[str, ...]
    """Those tried, the most often tried first."""
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
    connections: dict[_Connection, list[BlockedAttempt]] = {}
    for attempt in attempts:
        connections.setdefault(_connection(attempt), []).append(attempt)
    alike: dict[_Cause, list[tuple[_Connection, list[BlockedAttempt]]]] = {}
    for connection, group in connections.items():
        alike.setdefault(_cause(connection, group, inventory, judge), []).append((connection, group))
    found = [_alert(cause, groups) for cause, groups in alike.items()]
    return tuple(sorted(found, key=lambda a: (-a.attempts, a.source, a.destination, a.host, a.reason)))


class _Connection(NamedTuple):
    """What is judged once, however often it was tried."""

    host: str
    direction: str
    source: str
    destination: str
    service: int
    dhcp_source_port: int | None


class _Cause(NamedTuple):
    """What makes attempts alike."""

    source: str
    destination: str
    host: str
    end: Literal["source", "destination"]
    reason: str
    rule: str | None
    is_consistent: bool


def _connection(attempt: BlockedAttempt) -> _Connection:
    detail = attempt.destination_port if attempt.icmp_type is None else attempt.icmp_type
    is_dhcp = attempt.protocol == UDP and attempt.destination_port in DHCP_PORTS
    source_port = attempt.source_port if is_dhcp else None
    service = point(attempt.protocol, detail)
    return _Connection(attempt.host, attempt.direction, attempt.source, attempt.destination, service, source_port)


def _cause(connection: _Connection, group: list[BlockedAttempt], inventory: Inventory, judge: Judge) -> _Cause:
    at = datetime.fromtimestamp(group[-1].at_s, UTC)
    source, destination = parse_address(connection.source), parse_address(connection.destination)
    ends = Endpoint(address=source), Endpoint(address=destination)
    verdict = judge(Flow(*ends, connection.service, source_port=connection.dhcp_source_port, at=at))
    end: Literal["source", "destination"] = "destination" if connection.direction == "in" else "source"
    said = next((e for e in verdict.ends if e.end == end), None)
    return _Cause(
        _name(inventory, source, at),
        _name(inventory, destination, at),
        connection.host,
        end,
        said.reason if said else "uncontrolled",
        said.rule if said else None,
        said is not None and all(said.reason in attempt.prefix.split() for attempt in group),
    )


def _alert(cause: _Cause, groups: list[tuple[_Connection, list[BlockedAttempt]]]) -> Alert:
    tried: Counter[str] = Counter()
    for connection, group in groups:
        tried[format_point(connection.service)] += len(group)
    times = [attempt.at_s for _, group in groups for attempt in group]
    return Alert(
        source=cause.source,
        destination=cause.destination,
        services=tuple(sorted(tried, key=lambda service: (-tried[service], service))),
        host=cause.host,
        end=cause.end,
        reason=cause.reason,
        rule=cause.rule,
        attempts=sum(tried.values()),
        first=datetime.fromtimestamp(min(times), UTC),
        last=datetime.fromtimestamp(max(times), UTC),
        is_consistent=cause.is_consistent,
    )


def _name(inventory: Inventory, address: int, at: datetime) -> str:
    holders = inventory.holders(address, at)
    return holders[0].name if holders else format_address(address)
