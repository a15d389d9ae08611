"""Connections that were there before anybody looked: who began them is what the host's sockets say. Real packets."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from nft_ground import Connection, Ground, passes
from nft_intents import OWN

from ringfence.agent.observe.observe import Observer, ObserverStats
from ringfence.agent.observe.spool import Spool
from ringfence.core.identity.workload import Mode
from ringfence.core.intent.model import Cell, Intent, Part, PeerClass
from ringfence.core.net.address import parse_address
from ringfence.core.net.service import TCP, parse_service, point
from ringfence.flows.conntrack.ledger import IN, OUT
from ringfence.targets.nftables import target
from ringfence.targets.nftables.conntrack import tcp_marks
from ringfence.targets.nftables.netlink import Netlink
from ringfence.targets.nftables.sockets import Connected, connections
from ringfence.wire.columns import VERDICTS, decode
from ringfence.wire.messages import Events, Violation

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs root on Linux"),
]
HOST, PEER, PORT = parse_address("172.20.0.2"), parse_address("10.1.0.1"), 5432
ALLOWED = Intent(
    "uuid",
    "host",
    Mode.both("enforce"),
    OWN,
    (PeerClass(1, "app=one", (PEER,)),),
    (Part("in", (Cell(1, parse_service(f"tcp/{PORT}"), "allow", "shop/db"),)), Part("out", ())),
)
CLOSED = msgspec.structs.replace(ALLOWED, parts=(Part("in", ()), Part("out", ())))


@pytest.fixture
def ground() -> Iterator[Ground]:
    with Ground() as made:
        yield made


def connected(ground: Ground) -> Connection:
    return ground.connection(server=ground.host, client=ground.peer, client_address=PEER, address=HOST, port=PORT)


@pytest.mark.parametrize("speaks_first", ["client", "server"])
def test_what_began_while_the_first_rules_came_is_judged_as_it_began(
    ground: Ground, monkeypatch: pytest.MonkeyPatch, speaks_first: str
) -> None:
    """It was not there when the host's connections were listed, and the first segment that the rules see is of either
    side: it is entered as the connection it is. Allowed, it goes on when the host enforces; withdrawn, it is cut."""
    live, listed = connected(ground), []

    def listing(netns: str | None) -> tuple[Connected, ...]:
        """Nobody was there at first; at the second look the connection has been picked up."""
        listed.append(netns)
        if len(listed) == 1:
            return ()
        sender, receiver = (live.server, live.client) if speaks_first == "server" else (live.client, live.server)
        assert passes(sender, receiver)
        with Netlink(ground.host) as netlink:
            assert set(tcp_marks(netlink)) & {(here, there), (there, here)}
        return connections(netns)

    here, there = (HOST, PORT), (PEER, live.client.getsockname()[1])
    monkeypatch.setattr(target, "connections", listing)
    ground.target.converge(msgspec.structs.replace(ALLOWED, mode=Mode()))

    with Netlink(ground.host) as netlink:
        ways = {way for way in tcp_marks(netlink) if set(way) == {here, there}}
    assert ways == {(there, here)}
    ground.target.converge(ALLOWED)
    assert live.works()
    assert live.works()
    ground.target.converge(CLOSED)
    assert not passes(live.server, live.client, within_s=0.3)
    assert not passes(live.client, live.server, within_s=0.3)


Row = tuple[int, int, int, int, str, int]
"""(direction, source, destination, service, verdict, connections)."""


def observed(ground: Ground, folder: Path, intent: Intent, sender: str, live: Connection) -> list[Violation | Row]:
    """What an observer tells of a connection whose next segment is the first that anybody sees of it, and of as many
    again the other way."""
    spool = Spool(folder)

    async def run() -> ObserverStats:
        observer = Observer(ground.target, spool, netns=ground.host, interval_s=3600)
        observer.intent = intent
        running = asyncio.create_task(observer.run())
        await observer.ready.wait()
        ground.forget_connections()
        ends = (live.server, live.client) if sender == "server" else (live.client, live.server)
        for pair in (ends, ends[::-1]):
            assert await asyncio.to_thread(passes, *pair)
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        return observer.stats()

    stats = asyncio.run(asyncio.wait_for(run(), 60))
    assert stats.suppressed == 0
    told: list[Violation | Row] = []
    for kept in spool.pending(1000):
        if kept.kind == "events":
            told += msgspec.json.decode(kept.data, type=Events).violations
        elif kept.kind == "flows":
            rows = decode(kept.data)
            for n in range(len(rows)):
                ends = [int(getattr(rows, f"{end}_hi")[n]) << 64 | int(getattr(rows, f"{end}_lo")[n])
                        for end in ("source", "destination")]  # fmt: skip
                verdict = VERDICTS[int(rows.verdict[n])]
                told.append((int(rows.direction[n]), *ends, int(rows.point[n]), verdict, int(rows.connections[n])))  # type: ignore[arg-type]
    return told


@pytest.mark.parametrize("speaks_first", ["client", "server"])
@pytest.mark.parametrize("is_allowed", [True, False])
@pytest.mark.parametrize("began", ["in", "out"])
def test_an_answer_is_no_new_connection(
    ground: Ground, tmp_path: Path, began: str, is_allowed: bool, speaks_first: str
) -> None:
    """Of a connection that is older than what conntrack knows, whoever speaks first: allowed, it is no violation, and
    traffic from its client to its server; not allowed, that is what would be blocked, and nothing the other way."""
    service = parse_service(f"tcp/{PORT}")
    cells = (Cell(1, service, "allow", "shop/db"),) if is_allowed else ()
    intent = msgspec.structs.replace(
        ALLOWED,
        mode=Mode(),
        parts=tuple(Part(way, cells if way == began else ()) for way in ("in", "out")),  # type: ignore[arg-type]
    )
    ground.target.converge(intent)
    here, there = (ground.host, HOST), (ground.peer, PEER)
    (client, source), (server, destination) = (there, here) if began == "in" else (here, there)
    listening = ground.socket_in(server, 2, 1)
    listening.bind(("0.0.0.0", PORT))
    listening.listen(8)
    calling = ground.socket_in(client, 2, 1)
    if client == ground.peer:
        calling.bind(("10.1.0.1", 0))
    calling.connect(("172.20.0.2" if server == ground.host else "10.1.0.1", PORT))
    live = Connection(calling, listening.accept()[0])
    told = observed(ground, tmp_path, intent, speaks_first, live)

    rows = {one[:5] for one in told if isinstance(one, tuple)}
    verdict = "allowed" if is_allowed else "would-block"
    ways = (IN if began == "in" else OUT, source, destination, point(TCP, PORT))
    assert (*ways, verdict) in rows
    assert {row[:4] for row in rows} == {ways}
    violations = {(v.direction, v.source, v.destination, v.port, v.verdict) for v in told if isinstance(v, Violation)}
    assert violations == (set() if is_allowed else {(began, source, destination, PORT, "would-block")})
    for opened in (listening, *live):
        opened.close()


@pytest.mark.parametrize("speaks_first", ["client", "server"])
def test_what_conntrack_forgot_while_the_host_observed_is_enforced_as_it_began(
    ground: Ground, speaks_first: str
) -> None:
    """The rules saw it in mid-stream, from whichever side: what is allowed goes on when the host turns to enforce, what
    is not goes on for the time of grace, and what is forbidden ends."""
    observing = msgspec.structs.replace(ALLOWED, mode=Mode())
    forbidden = Part("in", (Cell(1, parse_service(f"tcp/{PORT}"), "forbid", "guard/db"),))
    for enforced, how, goes_on in (
        (ALLOWED, {"live": "cut"}, True),
        (CLOSED, {"live": "drain", "grace_s": 600.0}, True),
        (CLOSED, {"live": "cut"}, False),
        (msgspec.structs.replace(ALLOWED, parts=(forbidden, Part("out", ()))), {"live": "keep"}, False),
    ):
        ground.target.converge(observing)
        live = connected(ground)
        ground.forget_connections()
        ends = (live.server, live.client) if speaks_first == "server" else (live.client, live.server)
        assert passes(*ends)
        ground.target.converge(enforced, **how)  # type: ignore[arg-type]
        for way in (ends, ends[::-1]):
            assert passes(*way, **({} if goes_on else {"within_s": 0.3})) is goes_on, (how, goes_on)
        live.close()
