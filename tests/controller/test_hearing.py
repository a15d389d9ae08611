"""A revoked workload is not heard, and is shown out until nothing of it is found."""

from __future__ import annotations

import asyncio
from uuid import UUID

import msgspec
import pytest

from ringfence.bus.memory import MemoryBroker, MemoryBus
from ringfence.controller.bus.callout import Door
from ringfence.controller.bus.fabric import Exit, Shown
from ringfence.controller.bus.hearing import Hearing
from ringfence.controller.identity.joining import Revoked
from ringfence.ports.bus import BusError
from ringfence.wire import subjects

A, B = UUID("11111111-1111-4111-8111-111111111111"), UUID("22222222-2222-4222-8222-222222222222")


class _Server:
    """The system account of a bus server, as `Door` asks it. A workload that is kicked may come back some times."""

    def __init__(self, *connected: UUID, comes_back: int = 0) -> None:
        self.connected = dict(enumerate(connected, 1))
        self.comes_back, self.is_mute = comes_back, False

    async def ask_all(self, subject: str, data: bytes, *, wait_s: float) -> list[bytes]:
        if self.is_mute:
            return []
        user = msgspec.json.decode(data)["user"]
        found = [{"cid": c, "authorized_user": str(u)} for c, u in self.connected.items() if user in ("", str(u))]
        return [msgspec.json.encode({"server": {"id": "N"}, "data": {"connections": found, "total": len(found)}})]

    async def request(self, subject: str, data: bytes, *, timeout_s: float = 5.0) -> bytes:
        uuid = self.connected.pop(msgspec.json.decode(data)["cid"])
        if self.comes_back:
            self.comes_back -= 1
            self.connected[max(self.connected, default=9) + 1] = uuid
        return b""


def test_who_is_revoked_is_shown_out_and_nobody_else() -> None:
    """The answer is how many connections ended, and that none was left when last looked for."""
    server = _Server(A, B, A)
    exit_ = Exit(Door(server))
    assert asyncio.run(exit_.show_out(A)) == Shown(2, is_out=True)
    assert list(server.connected.values()) == [B]


def test_a_connection_on_its_way_is_found_by_a_later_sweep() -> None:
    """A connection that was let in just before the revocation, and appears after everybody was shown out, ends."""
    server = _Server(B)
    exit_ = Exit(Door(server))

    async def story() -> list[int]:
        await exit_.show_out(A)
        ended = [await exit_.sweep()]
        server.connected[7] = A
        ended += [await exit_.sweep() for _ in range(4)]
        return ended

    assert asyncio.run(story()) == [0, 1, 0, 0, 0]
    assert exit_.leaving == {}
    assert list(server.connected.values()) == [B]


def test_who_keeps_coming_back_is_not_said_to_be_out() -> None:
    """The answer says so, and they stay on the list until they are gone."""
    server = _Server(A, comes_back=4)
    exit_ = Exit(Door(server))
    assert asyncio.run(exit_.show_out(A)) == Shown(3, is_out=False)
    asyncio.run(exit_.sweep())
    asyncio.run(exit_.sweep())
    assert server.connected == {}
    assert A in exit_.leaving


def test_a_server_that_does_not_answer_is_asked_again() -> None:
    """Nobody is said to be out whom nobody could look for."""
    server = _Server(A)
    server.is_mute = True
    exit_ = Exit(Door(server))
    assert asyncio.run(exit_.show_out(A)) == Shown(0, is_out=False)
    with pytest.raises(BusError):
        asyncio.run(exit_.sweep())
    server.is_mute = False
    assert asyncio.run(exit_.sweep()) == 1


@pytest.mark.parametrize("what", ["beat", "ask", "done"])
def test_a_revoked_workload_gets_no_answer(what: str) -> None:
    """Not one message is taken after the revocation; the others are answered as before."""

    async def story() -> list[str]:
        heard: list[str] = []
        revoked, bus = Revoked(), MemoryBus(MemoryBroker())

        async def answer(subject: str, data: bytes) -> bytes:
            heard.append(subjects.sender(subject))
            return b"yes"

        await Hearing(bus, revoked.is_gone).subscribe(subjects.UP_EVERYONE.format(what), answer)
        assert await bus.request(subjects.up(str(A), what), b"") == b"yes"
        revoked.add(str(A), ())
        with pytest.raises(BusError):
            await bus.request(subjects.up(str(A), what), b"", timeout_s=0.05)
        assert await bus.request(subjects.up(str(B), what), b"") == b"yes"
        await bus.close()
        return heard

    assert asyncio.run(story()) == [str(A), str(B)]


def test_what_a_revoked_workload_kept_is_dropped() -> None:
    """What it had stored on the bus is neither taken nor delivered for ever."""

    async def story() -> list[str]:
        taken: list[str] = []
        revoked, broker = Revoked(), MemoryBroker()
        bus = MemoryBus(broker)
        for uuid in (A, B):
            await bus.keep(subjects.kept(str(uuid), "flows"), b"rows", id="1")
        revoked.add(str(A), ())

        async def take(subject: str, data: bytes) -> None:
            taken.append(subjects.sender(subject))

        hearing = Hearing(bus, revoked.is_gone)
        await hearing.consume("flows", "rf.keep.*.flows", take)
        while broker._kept:
            await asyncio.sleep(0)
        assert hearing.dropped == 1
        await bus.close()
        return taken

    assert asyncio.run(asyncio.wait_for(story(), 10)) == [str(B)]
