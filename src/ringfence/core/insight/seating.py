"""Traffic of the past under the inventory of today: each end's workload as it is labelled, and held, now.

A flow store keeps workloads as they were when their traffic was seen. What policy says of that traffic *now* is asked
of the workloads as they are: with the labels and the mode they have got meanwhile.

INVARIANT: rows stay as they are; only the endpoints change. A workload that is gone stays as it was.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import msgspec

from ringfence.core.flow.conversations import Conversations
from ringfence.core.identity.inventory import Inventory
from ringfence.core.world import Endpoint


def seated(conversations: Conversations, inventory: Inventory) -> Conversations:
    """The same rows; workloads of the inventory in place of what they were, and bare addresses as whoever held them
    alone when traffic was last seen."""
    at = last_seen(conversations)
    return replace(conversations, endpoints=tuple(seat(end, inventory, at) for end in conversations.endpoints))


def last_seen(conversations: Conversations) -> datetime:
    """When any of it was."""
    return datetime.fromtimestamp(int(conversations.last.max(initial=0)), UTC)


def as_now(conversations: Conversations, inventory: Inventory) -> Conversations:
    """The same rows; workloads of the inventory in place of what they were, and nothing else."""
    return replace(conversations, endpoints=tuple(_now(end, inventory) for end in conversations.endpoints))


def _now(end: Endpoint, inventory: Inventory) -> Endpoint:
    known = inventory.by_uuid.get(end.workload.uuid) if end.workload is not None else None
    return end if known is None or known is end.workload else msgspec.structs.replace(end, workload=known)


def seat(end: Endpoint, inventory: Inventory, at: datetime) -> Endpoint:
    """One end of traffic that was last seen then."""
    if end.workload is not None or end.address is None:
        return _now(end, inventory)
    holders = inventory.holders(end.address, at, end.network)
    return msgspec.structs.replace(end, workload=holders[0]) if len(holders) == 1 else end
