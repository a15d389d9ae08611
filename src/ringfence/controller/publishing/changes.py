"""Labels and modes of workloads, changed so that each change can be looked at.

INVARIANT: a change of labels is a change of policy (law 9): it has a revision, an author and an audit entry.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import msgspec

from ringfence.controller import audit
from ringfence.controller.access.access import Principal, check_labels
from ringfence.controller.identity.joining import unknown_workload
from ringfence.core.errors import InputError
from ringfence.core.identity.workload import Mode
from ringfence.ports.state import Certificate, Change, QuarantineRecord, Where, WorkloadChange, WorkloadRecord

REVISION = "workload-changes"
"""The counter of revisions."""


def relabel(
    tx: Change, uuid: str, labels: Mapping[str, str], *, by: Principal, at: datetime, why: str = ""
) -> WorkloadChange | None:
    """Give a workload these labels instead of its own; None if they are its own.

    Raises AccessError `not-allowed`, `outside-scope`, InputError `unknown-workload`, `bad-label-key`,
    `bad-label-value`.
    """
    known = _workload(tx, uuid)
    by.demand_workload("label", known.labels, labels)
    check_labels(labels)
    if dict(labels) == known.labels:
        return None
    tx.update(WorkloadRecord, Where("uuid", uuid), labels=dict(labels))
    change = WorkloadChange(0, at, by.name, uuid, "labels", _json(known.labels), _json(dict(labels)))
    return _remember(tx, change, why)


def set_mode(tx: Change, uuid: str, mode: Mode, *, by: Principal, at: datetime, why: str = "") -> WorkloadChange | None:
    """Hold a workload in this mode; None if it is. Raises as `relabel`."""
    known = _workload(tx, uuid)
    by.demand_workload("mode", known.labels)
    before = Mode(known.mode_in, known.mode_out)
    if mode == before:
        return None
    tx.update(WorkloadRecord, Where("uuid", uuid), mode_in=mode.inbound, mode_out=mode.outbound)
    return _remember(tx, WorkloadChange(0, at, by.name, uuid, "mode", _json(before), _json(mode)), why)


def retire(tx: Change, uuid: str, *, by: Principal, at: datetime, why: str) -> None:
    """A workload is gone: with it go its leases and its agent, and its certificates are refused.

    Raises AccessError `not-allowed`, `outside-scope`, InputError `unknown-workload`, `workload-quarantined`: an
    isolation ends by being released, not by forgetting whom it isolates.
    """
    known = _workload(tx, uuid)
    by.demand_workload("enrol", known.labels)
    isolations = tx.find(QuarantineRecord, Where("workload", uuid), Where("released_at", None))
    if any(one.until is None or one.until > at for one in isolations):
        message = f"`{known.name}` is in quarantine"
        raise InputError("workload-quarantined", message, help="release it first")
    tx.update(Certificate, Where("uuid", uuid), Where("revoked_at", None), revoked_at=at, why=why)
    tx.remove(WorkloadRecord, Where("uuid", uuid))
    details = {"name": known.name, "labels": known.labels, "why": why}
    audit.record(tx, at=at, actor=by.name, action="workload.retire", subject=uuid, details=details)


def _remember(tx: Change, change: WorkloadChange, why: str) -> WorkloadChange:
    numbered = msgspec.structs.replace(change, revision=tx.next(REVISION))
    tx.add(numbered)
    details = {"revision": numbered.revision, "before": change.before, "after": change.after, "why": why}
    action = f"workload.{change.what}"
    audit.record(tx, at=change.at, actor=change.actor, action=action, subject=change.uuid, details=details)
    return numbered


def _workload(tx: Change, uuid: str) -> WorkloadRecord:
    known = tx.get(WorkloadRecord, uuid)
    if known is None:
        raise unknown_workload(uuid)
    return known


def _json(value: object) -> str:
    return msgspec.json.encode(value, order="deterministic").decode()
