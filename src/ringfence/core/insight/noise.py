"""Traffic that no policy should be written from: set aside with a reason, counted and listed, never dropped silently.

INVARIANT: every row gets exactly one reason, "" where it is kept; the first that applies, but `scanner` and `probe`
before `blocked-today`. It does not judge rarity between parties (`single-shot`): that needs the pairs, and is decided
where they are built.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ringfence.core.flow.conversations import DIRECTION_CONFIDENCE, REPORTED, Conversations
from ringfence.core.insight.parties import ELSEWHERE, INTERNET, LOOPBACK_PLACE, MULTICAST, Parties
from ringfence.core.net.address import is_v4
from ringfence.core.net.intervals import IntervalSet, union
from ringfence.core.net.service import DHCP_PORTS, ESSENTIAL_ICMP, TCP, UDP, WELL_KNOWN, parse_service

Aside = Literal[
    "", "multicast", "reserved", "essential", "uncontrolled", "blocked-today", "scanner", "probe",
    "both-ephemeral", "direction-unsure", "single-shot",
]  # fmt: skip
ASIDE: tuple[Aside, ...] = (
    "", "multicast", "reserved", "essential", "uncontrolled", "blocked-today", "scanner", "probe",
    "both-ephemeral", "direction-unsure", "single-shot",
)  # fmt: skip
WHY: dict[Aside, str] = {
    "multicast": "multicast and broadcast are not connections between two ends; no rule can name them exactly",
    "reserved": "an end is loopback, unspecified or a reserved address",
    "essential": "passes without a rule: own addresses, DHCP, and ICMP that networking needs",
    "uncontrolled": "neither end has an enforcement point; no rule of ours would change it",
    "blocked-today": "something blocks it already; a rule would open what is closed",
    "scanner": "its source tried many targets and few answered",
    "probe": "it came from the internet and nothing was exchanged; whoever it was got no answer",
    "both-ephemeral": "both ports look ephemeral; which end is the server is unknown",
    "direction-unsure": "who opened the connection was told from port numbers alone, and the port did not come back",
    "single-shot": "seen once; too little to write a rule from",
}
"""What each reason means, for people."""
HELP: dict[Aside, str] = {
    "multicast": "nothing to do",
    "reserved": "nothing to do",
    "essential": "nothing to do",
    "uncontrolled": "install an agent at either end if it matters",
    "blocked-today": "write a rule by hand if it should pass",
    "probe": "nothing to do; write a rule by hand if it should pass",
    "scanner": "allow it by hand if it is your own scanner, in a policy of its own",
    "both-ephemeral": "let an agent report it, which knows who listens",
    "direction-unsure": "let an agent report it, which knows who listens",
    "single-shot": "watch longer, or write the rule by hand if it belongs",
}
"""The next step for each reason."""

EPHEMERAL_FROM = 32768
"""Linux's default first ephemeral port (ip_local_port_range); IANA's 49152 lies within."""
REGULAR_FROM = 3
"""A destination port seen this often is a service: an ephemeral port does not come back."""
SCANNER_TARGETS = 20
SCANNER_BREADTH = 12
"""A scanner's feeble targets are at least this many destinations and services, added up."""
SCANNER_FEEBLE_SHARE = 0.6
FEEBLE_PACKETS = 3
"""A TCP connection with no more packets, both directions together, carried nothing (SYN, RST, a retry)."""

_BLOCKED = REPORTED.index("blocked")
_FLAGS = DIRECTION_CONFIDENCE.index("flags")
_PORT_ORDER = DIRECTION_CONFIDENCE.index("port-order")


def set_aside(conversations: Conversations, parties: Parties) -> NDArray[np.uint8]:
    """Per row an index into ASIDE; 0 keeps the row."""
    reason = np.zeros(len(conversations), np.uint8)
    tests = (
        ("multicast", _is_multicast), ("reserved", _is_reserved), ("essential", _is_essential),
        ("uncontrolled", _is_uncontrolled), ("blocked-today", _is_blocked),
    )  # fmt: skip
    for name, test in tests:
        reason[(reason == 0) & test(conversations, parties)] = ASIDE.index(name)
    live = (reason == 0) | (reason == ASIDE.index("blocked-today"))
    rows = np.flatnonzero(live)
    is_sweep, is_probe = _scans(conversations.where(rows), parties)
    reason[rows[is_probe]] = ASIDE.index("probe")
    reason[rows[is_sweep]] = ASIDE.index("scanner")
    kept = np.flatnonzero(reason == 0)
    unsure = kept[_is_unsure(conversations.where(kept))]
    high = (conversations.point[unsure] & 0xFFFF) >= EPHEMERAL_FROM
    reason[unsure] = np.where(high, ASIDE.index("both-ephemeral"), ASIDE.index("direction-unsure"))
    return reason


def in_services(points: NDArray[np.int32], services: IntervalSet) -> NDArray[np.bool_]:
    """Per point: whether it is in the set."""
    if not services:
        return np.zeros(len(points), dtype=bool)
    starts = np.array([lo for lo, _ in services.ranges], np.int64)
    ends = np.array([hi for _, hi in services.ranges], np.int64)
    at = np.searchsorted(starts, points, side="right") - 1
    return (at >= 0) & (points <= ends[at])


def dense_ids(*columns: NDArray[np.int64]) -> NDArray[np.int64]:
    """Dense ids of the distinct tuples of non-negative columns (packed pairwise, so nothing overflows)."""
    key = columns[0].astype(np.int64)
    for column in columns[1:]:
        key = np.unique(key, return_inverse=True)[1].astype(np.int64)
        key = key * (int(column.max(initial=0)) + 1) + column
    return np.unique(key, return_inverse=True)[1].astype(np.int64)


def _is_multicast(c: Conversations, parties: Parties) -> NDArray[np.bool_]:
    looks = np.array(
        [
            parties.workloads[i] is None and e.address is not None and is_v4(e.address) and e.address & 0xFF == 0xFF
            for i, e in enumerate(c.endpoints)
        ],
        dtype=bool,
    )
    broadcast = looks[c.destination] & ((c.point >> 16) == UDP)
    return np.asarray((parties.place == MULTICAST)[c.destination] | broadcast)


def _is_reserved(c: Conversations, parties: Parties) -> NDArray[np.bool_]:
    odd = (parties.place == LOOPBACK_PLACE) | (parties.place == ELSEWHERE) | (parties.place == MULTICAST)
    return np.asarray(odd[c.source] | odd[c.destination])


def _is_essential(c: Conversations, parties: Parties) -> NDArray[np.bool_]:
    numbers = {w.uuid: i for i, w in enumerate({w.uuid: w for w in parties.workloads if w is not None}.values())}
    holder = np.array([numbers[w.uuid] if w is not None else -1 for w in parties.workloads], np.int64)
    own = (holder[c.source] == holder[c.destination]) & (holder[c.source] >= 0)
    dhcp = ((c.point >> 16) == UDP) & np.isin(c.point & 0xFFFF, list(DHCP_PORTS))
    return np.asarray(own | dhcp | in_services(c.point, ESSENTIAL_ICMP))


def _is_uncontrolled(c: Conversations, parties: Parties) -> NDArray[np.bool_]:
    return np.asarray(~parties.is_controlled[c.source] & ~parties.is_controlled[c.destination])


def _is_blocked(c: Conversations, parties: Parties) -> NDArray[np.bool_]:
    return np.asarray(c.reported == _BLOCKED)


def _scans(c: Conversations, parties: Parties) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Rows of sources that sweep, to targets that did not answer or were met once; and what the internet probes.

    Internet ends count as one: a web site's visitors are no scan."""
    internet = parties.place == INTERNET
    source = np.where(internet[c.source], -1, c.source).astype(np.int64) + 1
    destination = np.where(internet[c.destination], -1, c.destination).astype(np.int64) + 1
    target_of_row = dense_ids(source, destination, c.point.astype(np.int64))
    n = int(target_of_row.max(initial=-1)) + 1
    once = np.bincount(target_of_row, c.connections, n) <= 1
    feeble = _feeble_targets(c, target_of_row, n, once)
    first_row = np.empty(n, np.int64)
    first_row[target_of_row[::-1]] = np.arange(len(c))[::-1]
    source_of, destination_of, point_of = source[first_row], destination[first_row], c.point[first_row].astype(np.int64)
    is_sweep = _sweeping_sources(source_of, destination_of, point_of, feeble)
    probe = (source_of == 0) & _all_rows(target_of_row, n, _has_no_payload(c))
    return (is_sweep[source_of] & (feeble | once))[target_of_row], probe[target_of_row]


def _feeble_targets(
    c: Conversations, target_of_row: NDArray[np.int64], n: int, once: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Targets that never answered: blocked, nothing carried, or tried once where nobody counts packets."""
    blocked = _all_rows(target_of_row, n, c.reported == _BLOCKED)
    uncounted = _all_rows(target_of_row, n, c.packets == 0)
    return blocked | _all_rows(target_of_row, n, _has_no_payload(c)) | (once & uncounted)


def _has_no_payload(c: Conversations) -> NDArray[np.bool_]:
    """TCP that carried nothing, UDP without a reply. Zero packets means the source of the records does not count
    them."""
    protocol = c.point >> 16
    most = np.where(protocol == TCP, FEEBLE_PACKETS, np.where(protocol == UDP, 1, 0))
    return np.asarray((c.packets > 0) & (c.packets <= most * c.connections))


def _all_rows(group: NDArray[np.int64], n: int, claim: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return np.asarray(np.bincount(group, ~claim, n) == 0)


def _sweeping_sources(
    source: NDArray[np.int64], destination: NDArray[np.int64], point: NDArray[np.int64], feeble: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Per source (0 is the internet as a whole, which no sweep is told of): it sweeps hosts or ports."""
    n = int(source.max(initial=0)) + 1
    targets = np.bincount(source, minlength=n)
    failing = np.bincount(source, feeble, n)
    hosts = _distinct_per(source[feeble], destination[feeble], n)
    ports = _distinct_per(source[feeble], point[feeble], n)
    is_broad = hosts + ports >= SCANNER_BREADTH
    is_sweep = (targets >= SCANNER_TARGETS) & (failing >= SCANNER_FEEBLE_SHARE * targets) & is_broad
    is_sweep[0] = False
    return np.asarray(is_sweep)


def _distinct_per(group: NDArray[np.int64], value: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """How many distinct values each group has."""
    width = int(value.max(initial=0)) + 1
    return np.bincount(np.unique(group * width + value) // width, minlength=n)


def _is_unsure(c: Conversations) -> NDArray[np.bool_]:
    """The direction rests on port numbers, and nothing shows that the port is a service."""
    service_of_row = dense_ids(c.destination.astype(np.int64), c.point.astype(np.int64))
    n = int(service_of_row.max(initial=-1)) + 1
    seen = np.bincount(service_of_row, c.connections, n)
    guessed = _all_rows(service_of_row, n, c.confidence == _PORT_ORDER)
    fanned = _all_rows(service_of_row, n, c.confidence < _FLAGS)
    port = c.point & 0xFFFF
    ported = np.isin(c.point >> 16, (TCP, UDP))
    known = (port < 1024) | in_services(c.point, KNOWN_SERVICES)
    rare = (seen < REGULAR_FROM)[service_of_row]
    unsure = guessed[service_of_row] | (fanned[service_of_row] & (port >= EPHEMERAL_FROM))
    return np.asarray(ported & rare & unsure & ~known)


KNOWN_SERVICES = union(parse_service(item) for text in WELL_KNOWN.values() for item in text.split())
