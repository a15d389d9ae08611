"""The subjects of the bus. What an agent may say and hear follows from its UUID alone.

rf.down.UUID          to one agent                       rf.up.UUID.beat     heartbeats, answered with Expected
rf.isolations         quarantine, to every agent         rf.up.UUID.ask      Fetch, answered with Pieces
                                                         rf.up.UUID.done     Realised
                                                         rf.keep.UUID.events   durable: Events
                                                         rf.keep.UUID.flows    durable: columnar flow batches
                                                         rf.keep.UUID.evidence durable: parts of evidence bundles
rf.inbox.UUID.>       answers to its requests
"""

from __future__ import annotations

from typing import NamedTuple

ISOLATIONS = "rf.isolations"
UP_EVERYONE = "rf.up.*.{}"
KEPT = "rf.keep.>"


class Permissions(NamedTuple):
    """What one connection may publish to and subscribe to (NATS subject patterns)."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


def down(uuid: str) -> str:
    return f"rf.down.{uuid}"


def up(uuid: str, what: str) -> str:
    """`what`: beat, ask or done."""
    return f"rf.up.{uuid}.{what}"


def kept(uuid: str, what: str) -> str:
    """`what`: events, flows or evidence."""
    return f"rf.keep.{uuid}.{what}"


def inbox(uuid: str) -> str:
    """The prefix of an agent's reply subjects."""
    return f"rf.inbox.{uuid}"


def sender(subject: str) -> str:
    """The UUID in an upward subject: who sent it, as the bus made sure."""
    return subject.split(".")[2]


def permissions_of(uuid: str) -> Permissions:
    """What an agent may do on the bus, and nothing else."""
    return Permissions(
        publish=(f"rf.up.{uuid}.>", f"rf.keep.{uuid}.>"),
        subscribe=(down(uuid), ISOLATIONS, f"{inbox(uuid)}.>"),
    )
