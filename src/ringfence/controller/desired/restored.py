"""A state that came from a backup: whether somebody confirmed that, and what was done about quarantines since.

INVARIANT: it is told by the order of the audit log, never by clocks.
"""

from __future__ import annotations

from typing import NamedTuple

from ringfence.ports.state import AuditEntry, Change, Counter, View, Where

RESTORED, CONFIRMED = "restored", "restores-confirmed"
"""Counters of the state."""
_BEGIN, _END = "quarantine.begin", "quarantine.end"


class Since(NamedTuple):
    """The workloads (UUIDs) whose quarantine somebody began, or ended, since the restore: the last of it counts."""

    begun: frozenset[str] = frozenset()
    ended: frozenset[str] = frozenset()


def mark_restored(tx: Change) -> None:
    """The state came from a backup."""
    tx.next(RESTORED)


def is_restored(view: View) -> bool:
    """Whether the state came from a backup, and nobody confirmed that yet."""
    restored, confirmed = (view.get(Counter, name) for name in (RESTORED, CONFIRMED))
    return (restored.value if restored else 0) > (confirmed.value if confirmed else 0)


def since_restore(view: View) -> Since:
    """What people did about quarantines since the state came from a backup."""
    restores = view.find(AuditEntry, Where("action", "backup.restore"), order="-seq", limit=1)
    after = restores[0].seq if restores else 0
    done = view.find(AuditEntry, Where("seq", after, ">"), Where("action", (_BEGIN, _END), "in"), order="seq")
    last = {entry.subject: entry.action for entry in done}
    return Since(*(frozenset(uuid for uuid, action in last.items() if action == what) for what in (_BEGIN, _END)))
