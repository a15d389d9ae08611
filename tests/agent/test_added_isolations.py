"""Quarantines that a restored controller adds: beside those a host holds of workloads that nobody ended."""

from __future__ import annotations

from random import Random

import msgspec
import pytest
from nacl.signing import SigningKey

from ringfence.agent.held.held import Held
from ringfence.core.identity.workload import Mode
from ringfence.core.intent.pieces import Body, Isolation, Station
from ringfence.wire.envelope import Reader, seal
from ringfence.wire.messages import Assignment, Isolations, Pieces

NAMES = ("a", "b", "c", "d")


def isolation(name: str, *addresses: int) -> Isolation:
    return Isolation(name, addresses or (ord(name),))


def held(*known: str) -> Held:
    """A host that holds these quarantines, at revision 10."""
    host, body = Held("me"), Body()
    station = Station("me", "me", Mode(), body=body.digest)
    whole = Isolations(10, ("main",), tuple(map(isolation, known)))
    host.take(Pieces(Assignment(1, station), whole, (body,), (), workload="me"))
    assert isolated(host) == set(known)
    return host


def isolated(host: Held) -> set[str]:
    assert host.isolations is not None
    return {one.workload for one in host.isolations.isolations}


def test_what_is_added_replaces_nothing() -> None:
    """The quarantines that the restored state does not know of stay, in what is held and in what goes to disk."""
    host = held("a", "b")
    assert host.take(Isolations(11, ("main",), (isolation("c"),), adds=True))
    assert isolated(host) == {"a", "b", "c"}
    snapshot = host.snapshot()
    assert snapshot.isolations is not None
    assert ({one.workload for one in snapshot.isolations.isolations}, snapshot.isolations.adds) == (
        {"a", "b", "c"}, False,
    )  # fmt: skip
    assert isolated(Held.restore("me", snapshot)) == {"a", "b", "c"}


def test_what_somebody_ended_ends() -> None:
    """And what is begun anew is as it is told anew."""
    host = held("a", "b")
    host.take(Isolations(11, ("main",), (isolation("b", 7),), adds=True, ended=("a",)))
    assert host.isolations is not None
    assert host.isolations.isolations == (isolation("b", 7),)


def test_the_whole_list_replaces() -> None:
    """Once the restore is confirmed, what the controller knows is all there is."""
    host = held("a")
    host.take(Isolations(11, ("main",), (isolation("c"),), adds=True))
    host.take(Isolations(12, ("main",), (isolation("d"),)))
    assert isolated(host) == {"d"}


def test_an_agent_that_does_not_know_the_flag_takes_nothing() -> None:
    """As ADR 5 has it: a message with more than an agent knows is refused, never taken for the whole list; without
    the flag nothing of it is written, so that every agent understands it."""
    key = SigningKey.generate()
    reader = Reader([bytes(key.verify_key)])
    plain, added = Isolations(1, ("main",)), Isolations(1, ("main",), adds=True)
    assert reader.open(seal(plain, key)) == plain
    assert reader.open(seal(added, key)) == added
    assert b"adds" not in msgspec.json.encode(plain)
    older = msgspec.defstruct(
        "Isolations", [("revision", int), ("networks", tuple[str, ...])], forbid_unknown_fields=True, frozen=True
    )
    with pytest.raises(msgspec.ValidationError, match="adds"):
        msgspec.json.decode(msgspec.json.encode(added), type=older)


@pytest.mark.parametrize("seed", range(40))
def test_lost_repeated_and_reordered_they_come_to_the_same(seed: int) -> None:
    """Whatever arrives of the messages and in whichever order, a host never lets go of a quarantine that nobody ended,
    and once the last has arrived it holds exactly what it held, less what ended, and what began."""
    random = Random(seed)
    kept = set(random.sample(NAMES, random.randint(0, 4)))
    host, begun, ended = held(*sorted(kept)), set[str](), set[str]()
    sent: list[Isolations] = []
    for revision in range(11, 11 + random.randint(1, 6)):
        name = random.choice(NAMES)
        is_end = random.random() < 0.4 and name in kept | begun
        begun, ended = (begun - {name}, ended | {name}) if is_end else (begun | {name}, ended - {name})
        some = tuple(isolation(one, revision) for one in sorted(begun))
        sent.append(Isolations(revision, ("main",), some, adds=True, ended=tuple(sorted(ended))))
    ever_ended = {name for message in sent for name in message.ended}
    for message in random.choices(sent, k=len(sent)):
        host.take(message)
        assert kept - ever_ended <= isolated(host)
    host.take(sent[-1])
    assert isolated(host) == (kept - ended) | begun
