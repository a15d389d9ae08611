"""What workloads must be to one another: unique, on a host that exists, and alone on what they own.

INVARIANT: nothing here depends on the order of the workloads but the order of the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import combinations

import msgspec

from ringfence.core.errors import Location
from ringfence.core.identity.workload import CONTROLLED_KINDS, Lease, Workload
from ringfence.core.net.address import format_address, parse_address
from ringfence.core.net.intervals import EMPTY
from ringfence.inventory.files.draft import Draft, Findings, unknown_word
from ringfence.inventory.files.workloads import overlaps

Read = tuple[Draft, Workload]
EARLIEST, LATEST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


def compile_together(read: Sequence[Read], findings: Findings) -> tuple[Read, ...]:
    """Processes placed on their hosts, and a finding for whatever two workloads cannot both claim."""
    unique = _unique(read, findings)
    hosts = {key: workload for _, workload in unique for key in (workload.uuid, workload.name)}
    placed = tuple(
        (draft, _placed(draft, workload, hosts, findings)) if workload.kind == "process" else (draft, workload)
        for draft, workload in unique
    )
    _check_ownership(placed, findings)
    _check_leases(placed, findings)
    return placed


def place(draft: Draft) -> Location:
    """Where a workload is named."""
    return draft.place(draft.texts.get("name", draft.at))


def _unique(read: Sequence[Read], findings: Findings) -> list[Read]:
    """One workload for each name and UUID; the first is kept so that what it holds is still checked."""
    kept: list[Read] = []
    seen: dict[str, Draft] = {}
    for draft, workload in read:
        taken = workload.name if workload.name in seen else workload.uuid if workload.uuid in seen else None
        if taken is None:
            kept.append((draft, workload))
        else:
            message = f"`{taken}` is already the name or UUID of the workload at {place(seen[taken])}"
            findings.add("duplicate-workload", message, place(draft), text=taken, subject=workload.name)
        seen.setdefault(workload.name, draft)
        seen.setdefault(workload.uuid, draft)
    return kept


def _placed(draft: Draft, process: Workload, hosts: dict[str, Workload], findings: Findings) -> Workload:
    """The process with its host by name and, where it states none, its host's mode."""
    written = draft.texts["host"]
    host, where = hosts.get(written.value), draft.place(written)
    if host is None:
        message = f"`{process.name}` runs on `{written.value}`, which no inventory file names"
        help_ = unknown_word(written.value, [w.name for w in hosts.values() if w.kind != "process"])
        findings.add("unknown-host", message, where, text=written.value, help=help_, subject=process.name)
        return process
    if host.kind == "process" or host.kind not in CONTROLLED_KINDS:
        message = f"`{host.name}` is a {host.kind}, and no process of ours runs on one"
        findings.add("bad-host", message, where, text=written.value, subject=process.name)
    states_mode = any(key in draft.texts for key in ("mode", "mode:in", "mode:out"))
    return msgspec.structs.replace(process, host=host.name, mode=process.mode if states_mode else host.mode)


def _check_ownership(read: Sequence[Read], findings: Findings) -> None:
    """Two processes of one host never own one unit or one service: whose it is would depend on an order."""
    by_host: dict[str | None, list[Read]] = {}
    for draft, workload in read:
        if workload.kind == "process":
            by_host.setdefault(workload.host, []).append((draft, workload))
    for group in by_host.values():
        for (_, one), (draft, other) in combinations(group, 2):
            if one.unit == other.unit or (one.services & other.services) != EMPTY:
                message = f"`{one.name}` and `{other.name}` own the same unit or service of `{one.host}`"
                findings.add("service-owned-twice", message, place(draft), subject=other.name)


Held = tuple[Lease, Draft, Workload]
"""One lease, and whose it is."""


def _check_leases(read: Sequence[Read], findings: Findings) -> None:
    holders: dict[tuple[str, int], list[Held]] = {}
    for draft, workload in read:
        for lease in workload.addresses:
            holders.setdefault((lease.network, lease.address), []).append((lease, draft, workload))
    for (network, address), group in holders.items():
        disputed = _disputed(group) if len(group) > 1 else []
        if disputed:
            _, draft, last = max(disputed, key=lambda held: place(held[1]))
            text, names = format_address(address), ", ".join(sorted(workload.name for _, _, workload in disputed))
            message = f"`{text}` in network `{network}` is held by {names} at one time"
            where = _written(draft, address)
            findings.add("address-conflict", message, where, text=text, subject=last.name, severity="warning")


def _disputed(group: list[Held]) -> list[Held]:
    """Those that hold the address while another does."""
    by_start = sorted(group, key=lambda held: (held[0].start or EARLIEST, place(held[1])))
    disputed: dict[str, Held] = {}
    longest = by_start[0]
    for held in by_start[1:]:
        if overlaps(longest[0], held[0]):
            disputed |= {longest[2].name: longest, held[2].name: held}
        longest = max(longest, held, key=lambda h: h[0].end or LATEST)
    return list(disputed.values())


def _written(draft: Draft, address: int) -> Location:
    """Where the draft lists the address."""
    return next(draft.place(a.address) for a in draft.addresses if parse_address(a.address.value) == address)
