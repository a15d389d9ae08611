"""What only the bus over NATS does: it comes back whatever goes wrong, and brings its store and consumers with it."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import socket
import ssl
from contextlib import suppress
from pathlib import Path

import pytest
from real_bus import PATIENCE_S, QUICK, A, connection, open_fleet

from ringfence.bus import jetstream
from ringfence.bus.backoff import Backoff
from ringfence.bus.jetstream import JetStreamBus, may_answer, options_for_agent
from ringfence.bus.transport import SILENCE_MS, local_address
from ringfence.core.errors import InputError
from ringfence.core.net.address import parse_address
from ringfence.ports.bus import BusError
from ringfence.wire import subjects


def test_a_store_that_was_lost_is_made_again(tmp_path: Path) -> None:
    """When the server comes back with an empty disk, the controller makes the store and its consumers anew, and what is
    kept from then on is handed over."""

    async def story() -> None:
        async with open_fleet(tmp_path) as (fleet, controller), connection(fleet.agent(A)) as agent:
            got = asyncio.Event()

            async def handle(subject: str, data: bytes) -> None:
                got.set()

            await controller.consume("events", subjects.kept("*", "events"), handle)
            pid = fleet.server.pid
            assert pid
            os.kill(pid, signal.SIGSTOP)
            shutil.rmtree(tmp_path / "nats" / "kept")
            os.kill(pid, signal.SIGKILL)
            while fleet.server.restarts == 0:
                await asyncio.sleep(0.02)
            await controller.connected(timeout_s=PATIENCE_S)
            await agent.connected(timeout_s=PATIENCE_S)
            await agent.keep(subjects.kept(str(A), "events"), b"new", id="1")
            await asyncio.wait_for(got.wait(), PATIENCE_S)

    asyncio.run(story())


def test_an_agent_without_a_certificate_waits_for_one(tmp_path: Path) -> None:
    """Where there is nothing to connect with yet, or what follows a connect fails, the connection is tried again."""

    async def story() -> None:
        async with open_fleet(tmp_path) as (fleet, _):
            path = fleet.svid(A)[0]
            asked = 0

            def context() -> ssl.SSLContext:
                nonlocal asked
                asked += 1
                if asked == 1:
                    raise InputError("identity-missing", "this host is not enrolled")
                if asked == 2:
                    raise RuntimeError("on purpose")
                return fleet.context(path)()

            async def fail() -> None:
                raise RuntimeError("on purpose")

            options = options_for_agent(str(A), [fleet.url], context, b"", backoff=QUICK, on_connected=fail)
            async with connection(JetStreamBus(options)) as agent:
                await agent.flush()
            assert asked == 3

    logging.disable(logging.ERROR)
    try:
        asyncio.run(story())
    finally:
        logging.disable(logging.NOTSET)


def test_no_server_is_an_error_that_says_so(tmp_path: Path) -> None:
    """Nobody there: connecting goes on in the background, and who asks is told why there is no connection."""

    async def story() -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            url = f"tls://127.0.0.1:{free.getsockname()[1]}"
            bus = JetStreamBus(options_for_agent(str(A), [url], ssl.create_default_context, b"", backoff=QUICK))
            bus.start()
            with pytest.raises(BusError, match="Connect call failed"):
                await bus.connected(timeout_s=1)
            assert not bus.is_connected
            await bus.close()

    asyncio.run(story())


def test_a_connection_from_an_address_that_is_gone_is_replaced_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without waiting for a silence that could last many seconds; one from an address that is there goes on."""

    async def story() -> None:
        async with open_fleet(tmp_path) as (fleet, _), connection(fleet.agent(A)) as agent:
            client = agent._client
            assert client
            assert local_address(client) == parse_address("127.0.0.1")
            agent.come_from(())  # the loopback is nobody's to lose
            monkeypatch.setattr(jetstream, "local_address", lambda _: parse_address("10.0.0.7"))
            agent.come_from({parse_address("10.0.0.7")})
            await agent.flush()
            assert agent._client is client

            agent.come_from({parse_address("10.0.0.8")})
            async with asyncio.timeout(PATIENCE_S):
                while agent._client is client:
                    await asyncio.sleep(0.005)
            await agent.connected(timeout_s=PATIENCE_S)
            await agent.flush()
            assert agent._client is not client

    asyncio.run(story())


def test_a_connection_that_is_lost_in_the_middle_of_writing_is_replaced(tmp_path: Path) -> None:
    """Also where the library fails to write what still waits, and tells nobody that it closed: who publishes much when
    the server dies is not deaf ever after."""

    async def story() -> None:
        async with open_fleet(tmp_path) as (fleet, _), connection(fleet.agent(A)) as agent:
            client = agent._client
            assert client

            async def fails() -> None:
                client._pending.append(b"x")
                client._pending_data_size += 1
                raise ConnectionResetError("on purpose")

            client._transport.drain = fails  # type: ignore[union-attr, method-assign]
            with suppress(BusError, ConnectionResetError):
                await agent.publish(subjects.up(str(A), "beat"), b"one")
            async with asyncio.timeout(PATIENCE_S):
                while agent._client is client or not agent.is_connected:
                    await asyncio.sleep(0.01)
            await agent.flush()

    asyncio.run(story())


def test_a_silent_peer_is_given_up(tmp_path: Path) -> None:
    """The kernel ends a connection whose other end acknowledges nothing, even behind a full send buffer."""

    async def story() -> None:
        async with open_fleet(tmp_path) as (_, controller):
            client = controller._client
            assert client
            raw = client._transport._io_writer.get_extra_info("socket")  # type: ignore[union-attr]
            assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == SILENCE_MS

    asyncio.run(story())


def test_what_is_too_long_to_keep_is_refused(tmp_path: Path) -> None:
    """A message above the limit is an error before it is sent, and the connection stays."""

    async def story() -> None:
        async with open_fleet(tmp_path) as (fleet, _), connection(fleet.agent(A)) as agent:
            with pytest.raises(BusError, match="longer"):
                await agent.keep(subjects.kept(str(A), "flows"), bytes(2 << 20), id="1")
            await agent.keep(subjects.kept(str(A), "flows"), bytes(1 << 19), id="2")

    asyncio.run(story())


def test_pauses_grow_and_differ() -> None:
    """A pause is random below a doubling limit that ends at the most: nobody comes back together with everybody."""
    backoff = Backoff(first_s=1.0, most_s=8.0)
    pauses = {n: [backoff.pause_s(n) for _ in range(500)] for n in range(6)}

    for failures, found in pauses.items():
        limit = min(8.0, 2.0**failures)
        assert all(0 <= pause <= limit for pause in found)
        assert max(found) > limit / 2 > min(found)
        assert len(set(found)) == 500


@pytest.mark.parametrize(
    ("subject", "reply", "expected"),
    [
        (subjects.up("a", "ask"), f"{subjects.inbox('a')}.1", True),
        (subjects.up("a", "ask"), f"{subjects.inbox('b')}.1", False),
        (subjects.up("a", "ask"), f"{subjects.inbox('ab')}.1", False),
        (subjects.up("a", "ask"), subjects.inbox("a"), False),
        (subjects.up("a", "ask"), "$JS.API.STREAM.DELETE.X", False),
        ("$SYS.REQ.USER.AUTH", "_INBOX.1", True),
    ],
)
def test_where_answers_go(subject: str, reply: str, expected: bool) -> None:
    """What an agent asks is answered in its own inbox and nowhere else; what the server asks, where it says."""
    assert may_answer(subject, reply) is expected
