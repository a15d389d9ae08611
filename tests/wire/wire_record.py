"""Writes down what this version says, for later versions to prove that they understand it and are understood.

    python tests/wire/wire_record.py        -> tests/wire/recorded/VERSION/

Run it once for each released minor version, before anything of the next is merged; what is recorded is never changed.
Every field of every message is there with another value than its default.
"""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from nacl.signing import SigningKey

from ringfence import __version__
from ringfence.agent.held.disk import HELD, Disk, Record
from ringfence.agent.held.held import Snapshot
from ringfence.agent.held.journal import Journal
from ringfence.core.errors import Finding, Location
from ringfence.core.identity.workload import Mode
from ringfence.core.intent.model import Cell, Part, Passage
from ringfence.core.intent.pieces import Body, ClassPlan, Group, Isolation, IsolationException, Station
from ringfence.core.net.intervals import IntervalSet
from ringfence.wire import messages as m
from ringfence.wire.envelope import seal

RECORDED = Path(__file__).parent / "recorded"
KEY = SigningKey(bytes(32))
UUID, OTHER = "aaaaaaaa-0000-4000-8000-000000000001", "bbbbbbbb-0000-4000-8000-000000000002"
AT = datetime(2026, 11, 22, 12, tzinfo=UTC)
SOME = IntervalSet.of([(5, 9), (20, 20)])
PASSAGE = Passage("in", SOME, SOME, SOME)
BODY = Body(
    (ClassPlan(1, "role=web", ("app=shop,role=web",), ((40, 50),)),),
    (Part("in", (Cell(1, SOME, "allow", "shop/web"),), SOME, "nginx.service"),),
)
GROUP = m.GroupState(Group("app=shop,role=web", (7, 8)), 3)
ASSIGNMENT = m.Assignment(
    5,
    Station(
        UUID,
        "web-1",
        Mode("enforce", "selective"),
        (7,),
        BODY.digest,
        (PASSAGE,),
        AT,
        (Finding("refused", "no", "warning", Location("p.yaml", 3, 1), "text", "help", "shop/web"),),
        4,
    ),
    2,
    ("main", "blue"),
    "cut",
    30,
    m.Trial(60, (m.Probe("10.0.0.1", 443),)),
    (m.Upcoming(AT, BODY.digest),),
)
CHANGE = m.Change(6, (m.GroupChange("app=shop,role=web", 3, 6, (9,), (7,)),), 1.5)
ISOLATIONS = m.Isolations(
    4,
    ("blue",),
    (Isolation(OTHER, (11,), (IsolationException("in", SOME, SOME, (UUID,), ((UUID, SOME),)),), AT, SOME, SOME),),
    adds=True,
    ended=(UUID,),
)
DOWN: tuple[m.Down, ...] = (
    ASSIGNMENT,
    CHANGE,
    ISOLATIONS,
    m.Pieces(ASSIGNMENT, ISOLATIONS, (BODY,), (GROUP,), ("gone",), UUID),
    m.Expected("state", 2.5, is_cloned=True, workload=UUID, nonce="n"),
    m.Order("o1", "evidence", "argument", 3.5, UUID),
)
REALISED = m.Realised(
    "drifted", 1, 2, 3, "digest", ("why",), on_trial=True, is_reverted=True, rejected=6, policy_version=4, at=5.5
)
UP: tuple[m.Up, ...] = (
    m.Fetch(assignment=True, isolations=True, bodies=("b",), groups=("g",), held={"g": 2}),
    REALISED,
    m.Heartbeat(
        *(1.5, "instance", "machine", __version__, 1, "state", REALISED, Mode("enforce", "selective")),
        *((m.Interface("eth0", (7,)),), 1, 2, 3, 4.5, 5, 6, 7.5, "n"),
        is_blind=True,
        forwards=True,
    ),
    m.Events(
        "s1",
        (m.Violation(1.5, "in", 6, 7, 8, 9, 10, "blocked", "forbid", "shop/web", 2, "nginx", "nginx.service"),),
        (m.Event(1.5, "tampering", "somebody", ("a",)),),
        3,
    ),
)
RECORD = Record(UUID, Snapshot(ASSIGNMENT, ASSIGNMENT, (BODY,), (GROUP,), ISOLATIONS, AT), 9, ("why",), (PASSAGE,))


def main() -> None:
    folder = RECORDED / __version__
    folder.mkdir(parents=True)
    for down in DOWN:
        (folder / f"{type(down).__name__}.sealed").write_bytes(seal(down, KEY))
    for up in UP:
        (folder / f"{type(up).__name__}.json").write_bytes(msgspec.json.encode(up))
    with tempfile.TemporaryDirectory() as place:
        Disk(Path(place)).save(RECORD)
        (folder / HELD).write_bytes((Path(place) / HELD).read_bytes())
        journal = Journal(Path(place), UUID)
        journal.turn()
        journal.append([CHANGE, ISOLATIONS])
        journal.close()
        (segment,) = Path(place).glob("heard*")
        (folder / "journal").write_bytes(segment.read_bytes())


if __name__ == "__main__":
    main()
