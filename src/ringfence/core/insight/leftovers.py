"""What a recommendation did not write a rule for, and what its reader should look at: counted, listed, with the
next step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime

import msgspec
import numpy as np
from numpy.typing import NDArray

from ringfence.core.errors import Finding
from ringfence.core.flow.conversations import Conversations
from ringfence.core.insight.evidence import moment
from ringfence.core.insight.parties import LabelKeys, Parties
from ringfence.core.net.address import format_address
from ringfence.core.net.service import format_point
from ringfence.core.policy.model import Cidr, Everywhere, Policy
from ringfence.core.world import Endpoint

EXAMPLES = 5
NAMES_SHOWN = 5


class Leftover(msgspec.Struct, frozen=True):
    """Traffic of one reason that no recommended rule stands for."""

    reason: str
    why: str
    help: str
    rows: int
    connections: int
    sources: int
    destinations: int
    first: datetime
    last: datetime
    examples: tuple[str, ...]
    """The most frequent: `scan-1 -> db-1 tcp/22, 3 times`."""


def leftovers(
    c: Conversations, reason: NDArray[np.uint8], mask: NDArray[np.bool_], told: Mapping[int, tuple[str, str, str]]
) -> tuple[Leftover, ...]:
    """The masked rows by reason, most connections first. `told` gives each reason's name, meaning and next step."""
    groups = ((number, np.flatnonzero(mask & (reason == number))) for number in told)
    found = [_leftover(c.where(rows), *told[number]) for number, rows in groups if len(rows)]
    return tuple(sorted(found, key=lambda x: (-x.connections, x.reason)))


def _leftover(c: Conversations, reason: str, why: str, help_: str) -> Leftover:
    return Leftover(
        reason, why, help_, len(c), int(c.connections.sum()), len(np.unique(c.source)), len(np.unique(c.destination)),
        moment(c.first.min()), moment(c.last.max()), tuple(_examples(c)),
    )  # fmt: skip


def _examples(c: Conversations) -> Iterator[str]:
    keys = np.stack([c.source, c.destination, c.point], axis=1)
    distinct, group = np.unique(keys, axis=0, return_inverse=True)
    times = np.bincount(group.reshape(-1), c.connections, len(distinct)).astype(np.int64)
    for i in np.argsort(-times, kind="stable")[:EXAMPLES].tolist():
        source, destination, point = distinct[i].tolist()
        ends = f"{end_text(c.endpoints[source])} -> {end_text(c.endpoints[destination])}"
        yield f"{ends} {format_point(point)}, {'once' if times[i] == 1 else f'{times[i]:,} times'}"


def end_text(endpoint: Endpoint) -> str:
    """What to call an end: its workload, its name, or its address."""
    if endpoint.workload is not None:
        return endpoint.workload.name
    if endpoint.name is not None:
        return endpoint.name
    return "?" if endpoint.address is None else format_address(endpoint.address)


def review(
    parties: Parties, keys: LabelKeys, seen: NDArray[np.bool_], policies: Iterable[Policy]
) -> tuple[Finding, ...]:
    """What to mend before trusting the policies. `seen` marks the endpoints that took part."""
    workloads = {
        w.name: parties.labels[parties.of_endpoint[i]] for i, w in enumerate(parties.workloads) if w and seen[i]
    }
    return (*_label_findings(workloads, keys), *_address_findings(policies))


def _label_findings(workloads: Mapping[str, Mapping[str, str]], keys: LabelKeys) -> Iterator[Finding]:
    bare = sorted(name for name, labels in workloads.items() if not any(k in labels for k in keys.scope))
    if bare:
        message = (
            f"{len(bare)} workload(s) with traffic have neither `{keys.scope[0]}` nor `{keys.scope[1]}`: {_some(bare)}"
        )
        help_ = "label them; no rule may pick a workload by what it lacks"
        yield Finding("unlabelled-workload", message, "warning", help=help_, subject=bare[0])
    used = {key for labels in workloads.values() for key in labels}
    for key in (*keys.scope, keys.role):
        lacking = sorted(n for n, labels in workloads.items() if key not in labels and n not in bare)
        if lacking and key in used:
            message = f"{len(lacking)} workload(s) with traffic have no `{key}`: {_some(lacking)}"
            help_ = f"give them `{key}`; rules about them also pick workloads that differ only there"
            yield Finding("missing-label", message, "warning", help=help_, subject=lacking[0])


def _address_findings(policies: Iterable[Policy]) -> Iterator[Finding]:
    for policy in policies:
        for rule in policy.rules:
            peers = (*rule.sources, *rule.destinations)
            if any(isinstance(p, Everywhere) and p.word == "private" for p in peers):
                message = "its private addresses are too scattered to list, so it names them all"
                help_ = "add those machines to the inventory, then recommend again"
                yield Finding("private-everywhere", message, "warning", help=help_, subject=policy.ref(rule))
            elif any(isinstance(p, Cidr) for p in peers):
                listed = ", ".join(p.text for p in peers if isinstance(p, Cidr))
                message = f"it names addresses that no workload holds: {listed}"
                help_ = "add those machines to the inventory and labels will follow them"
                yield Finding("unknown-addresses", message, "info", help=help_, subject=policy.ref(rule))


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(f"`{name}`" for name in names[:NAMES_SHOWN]) + more
