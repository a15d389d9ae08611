"""What an agent may do on a real server, tried from outside: more than is allowed, under every kind of certificate."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from nats.aio.client import Client
from nats.errors import Error as NatsError
from real_bus import DOMAIN, PATIENCE_S, A, B, Fleet, connection, open_fleet

from ringfence.bus import jetstream
from ringfence.bus.accounts import open_seeds
from ringfence.bus.jetstream import STREAM, JetStreamBus
from ringfence.bus.transport import client_over_tls
from ringfence.controller.bus.callout import Callout, Door
from ringfence.controller.identity.ca import Authority, controller_uri, csr_of, key_pem, new_key, workload_uri
from ringfence.ports.bus import BusError
from ringfence.wire import subjects

Story = Callable[[Fleet, JetStreamBus], Awaitable[None]]


@pytest.fixture
def tell(tmp_path: Path) -> Callable[[Story], None]:
    """Runs a story with a server, its callout and the controller's connection."""

    async def told(story: Story) -> None:
        async with open_fleet(tmp_path) as (fleet, controller):
            await asyncio.wait_for(story(fleet, controller), 60)

    return lambda story: asyncio.run(told(story))


class Intruder:
    """A bare client of the library, with an agent's certificate and no manners."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.client = Client()

    async def enter(self, fleet: Fleet, certificate: Path | None, **credentials: str) -> Intruder:
        self.client = client_over_tls(fleet.context(certificate)())

        async def note(error: Exception) -> None:
            self.errors.append(str(error))

        await self.client.connect(
            fleet.url,
            tls_handshake_first=True,
            allow_reconnect=False,
            max_reconnect_attempts=1,
            reconnect_time_wait=0,
            connect_timeout=10,
            error_cb=note,
            **credentials,  # type: ignore[arg-type]
        )
        if not self.client.is_connected:
            raise NatsError("closed")
        return self

    async def complaints(self) -> list[str]:
        """What the server has complained about by now."""
        await self.client.flush()
        await self.client.flush()  # the library's first ping overtakes what waits to be written
        return self.errors

    async def leave(self) -> None:
        with suppress(NatsError, OSError):
            await self.client.close()


async def is_refused(fleet: Fleet, certificate: Path | None, **credentials: str) -> bool:
    """Whether one cannot enter like that."""
    intruder = Intruder()
    try:
        await intruder.enter(fleet, certificate, **credentials)
    except (NatsError, OSError):
        return True
    finally:
        await intruder.leave()
    return False


def others(uuid: str) -> tuple[str, ...]:
    return (
        f"rf.up.{uuid}.beat",
        f"rf.up.{uuid}.ask",
        f"rf.keep.{uuid}.events",
        f"rf.down.{uuid}",
        f"rf.inbox.{uuid}.x",
    )


FORBIDDEN_TO_SAY = (
    *others(str(B)),
    f"rf.down.{A}",
    f"rf.inbox.{A}.x",
    "rf.inbox.controller.x",
    "rf.isolations",
    "rf.deliver.events",
    "_INBOX.x",
    f"$JS.API.STREAM.DELETE.{STREAM}",
    f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.events",
    f"$JS.ACK.{STREAM}.events.1.1.1.1.1",
    "$SYS.REQ.USER.AUTH",
    "$SYS.REQ.SERVER.PING",
    "anything",
)
FORBIDDEN_TO_HEAR = (
    ">",
    "*.>",
    "rf.>",
    "rf.down.*",
    "rf.up.>",
    "rf.keep.>",
    f"rf.up.{A}.>",
    f"rf.keep.{A}.>",
    *others(str(B)),
    "rf.inbox.>",
    "rf.inbox.*.>",
    "rf.inbox.controller.>",
    "rf.deliver.>",
    "_INBOX.>",
    "$JS.>",
    "$JS.EVENT.>",
    "$SYS.>",
    "$SYS.REQ.USER.AUTH",
)


def test_an_agent_says_only_what_is_its_own(tell: Callable[[Story], None]) -> None:
    """Publishing as another agent, as the controller, into another's inbox, to the API of JetStream or to the system is
    refused by the server, and nobody hears it; what is its own passes."""

    async def story(fleet: Fleet, controller: JetStreamBus) -> None:
        heard: list[str] = []

        async def hear(subject: str, data: bytes) -> None:
            heard.append(subject)

        await controller.subscribe(">", hear)
        await controller.flush()
        agent = await Intruder().enter(fleet, fleet.svid(A)[0])
        for subject in FORBIDDEN_TO_SAY:
            await agent.client.publish(subject, b"evil")
        await agent.client.publish(subjects.up(str(A), "beat"), b"good")
        complaints = await agent.complaints()
        await agent.leave()
        await controller.flush()

        assert [f for f in FORBIDDEN_TO_SAY if not any(f'"{f.lower()}"' in c for c in complaints)] == []
        assert [subject for subject in heard if subject.startswith("rf.")] == [subjects.up(str(A), "beat")]

    tell(story)


def test_an_agent_hears_only_what_is_for_it(tell: Callable[[Story], None]) -> None:
    """Subscribing to another's messages, to what agents say, to everything, to JetStream or to the system is refused;
    its own messages and the isolations come."""

    async def story(fleet: Fleet, controller: JetStreamBus) -> None:
        agent = await Intruder().enter(fleet, fleet.svid(A)[0])
        heard: list[str] = []
        came = asyncio.Event()

        async def hear(message: object) -> None:
            heard.append(message.subject)  # type: ignore[attr-defined]
            if len(heard) == 2:
                came.set()

        for subject in (*FORBIDDEN_TO_HEAR, subjects.down(str(A)), subjects.ISOLATIONS):
            await agent.client.subscribe(subject, cb=hear)
        complaints = await agent.complaints()
        for subject in (subjects.down(str(B)), f"{subjects.inbox(str(B))}.x", subjects.up(str(B), "beat")):
            await controller.publish(subject, b"private")
        await controller.publish(subjects.down(str(A)), b"yours")
        await controller.publish(subjects.ISOLATIONS, b"everybody's")
        await asyncio.wait_for(came.wait(), PATIENCE_S)
        await agent.leave()

        assert [f for f in FORBIDDEN_TO_HEAR if not any(f'"{f.lower()}"' in c for c in complaints)] == []
        assert heard == [subjects.down(str(A)), subjects.ISOLATIONS]

    tell(story)


def test_an_agent_does_not_answer_for_the_controller(tell: Callable[[Story], None]) -> None:
    """What another agent asks cannot be heard, so it cannot be answered; a guessed inbox cannot be written to."""

    async def story(fleet: Fleet, controller: JetStreamBus) -> None:
        intruder = await Intruder().enter(fleet, fleet.svid(A)[0])
        asked = await intruder.client.subscribe(subjects.up(str(B), "ask"))
        async with connection(fleet.agent(B)) as victim:
            with pytest.raises(BusError, match="nobody answers"):
                await victim.request(subjects.up(str(B), "ask"), b"?")

        assert asked.pending_msgs == 0
        await intruder.leave()

    tell(story)


def test_the_controller_answers_an_agent_nowhere_but_in_its_inbox(
    tell: Callable[[Story], None], caplog: pytest.LogCaptureFixture
) -> None:
    """An agent names the subject its answer goes to. Another agent's messages, its inbox, the isolations or the API of
    JetStream are no such subject: the controller, which may publish there, does not."""

    async def story(fleet: Fleet, controller: JetStreamBus) -> None:
        heard: list[str] = []

        async def answer(subject: str, data: bytes) -> bytes:
            return b"{}"

        async def hear(subject: str, data: bytes) -> None:
            heard.append(subject)

        steered = [
            subjects.down(str(B)),
            f"{subjects.inbox(str(B))}.x",
            subjects.ISOLATIONS,
            f"$JS.API.STREAM.PURGE.{STREAM}",
            subjects.inbox(str(A)),
            f"{subjects.inbox(str(A))}x.y",
        ]
        await controller.subscribe(subjects.UP_EVERYONE.format("ask"), answer)
        for subject in steered:
            await controller.subscribe(subject, hear)
        await controller.flush()
        agent = await Intruder().enter(fleet, fleet.svid(A)[0])
        for subject in steered:
            await agent.client.publish(subjects.up(str(A), "ask"), b"?", reply=subject)
        await agent.leave()
        async with connection(fleet.agent(A)) as honest:
            assert await honest.request(subjects.up(str(A), "ask"), b"?") == b"{}"
        await controller.flush()

        assert heard == []

    with caplog.at_level(logging.WARNING):
        tell(story)
    assert sum("which is not its own" in record.message for record in caplog.records) == 6


def test_acknowledgements_steered_elsewhere_harm_nobody(tell: Callable[[Story], None]) -> None:
    """The server acknowledges a kept message to whatever subject its sender names. Steered to the API of JetStream or
    to the consumer it changes nothing: what is kept stays, and the consumer is given kept messages only."""

    async def story(fleet: Fleet, controller: JetStreamBus) -> None:
        given: list[tuple[str, bytes]] = []
        done = asyncio.Event()

        async def handle(subject: str, data: bytes) -> None:
            given.append((subject, data))
            if data == b"last":
                done.set()

        steered = (
            f"$JS.API.STREAM.PURGE.{STREAM}",
            f"$JS.API.STREAM.DELETE.{STREAM}",
            f"$JS.API.CONSUMER.DELETE.{STREAM}.events",
            "rf.deliver.events",
            f"$JS.ACK.{STREAM}.events.1.1.1.1.1",
        )
        await controller.consume("events", subjects.kept("*", "events"), handle)
        async with connection(fleet.agent(B)) as victim:
            agent = await Intruder().enter(fleet, fleet.svid(A)[0])
            for subject in steered:
                await agent.client.publish(subjects.kept(str(A), "flows"), b"evil", reply=subject)
            await agent.client.flush()
            await victim.keep(subjects.kept(str(B), "events"), b"last", id="1")
            await asyncio.wait_for(done.wait(), PATIENCE_S)
            await agent.leave()
        live = controller._client
        assert live
        state = (await live.jetstream().stream_info(STREAM)).state

        assert given == [(subjects.kept(str(B), "events"), b"last")]
        assert state.last_seq - state.messages == 1, "only what was handled is gone"

    tell(story)


def test_acknowledgements_steered_to_another_agents_subjects_are_not_its_word(
    tell: Callable[[Story], None],
) -> None:
    """Neither those of what was kept, nor the refusals of a sender at its share, which cost it nothing: nobody hears
    them as the other agent, whose every message is heard, nor as the controller."""

    async def story(fleet: Fleet, controller: JetStreamBus) -> None:
        heard: list[tuple[str, bytes]] = []
        done = asyncio.Event()

        async def hear(subject: str, data: bytes) -> None:
            heard.append((subject, data))
            if data == b"last":
                done.set()

        await controller.open_store(max_bytes=64 << 20, max_per_subject=20)
        for what in ("beat", "ask", "done"):
            await controller.subscribe(subjects.UP_EVERYONE.format(what), hear)
        for subject in (subjects.down(str(B)), subjects.ISOLATIONS):
            await controller.subscribe(subject, hear)
        await controller.flush()
        own = subjects.kept(str(A), "flows")
        more = (subjects.down(str(B)), subjects.ISOLATIONS, subjects.kept(str(B), "events"))
        steered = [*(subjects.up(str(B), what) for what in ("beat", "ask", "done")), *more]
        agent = await Intruder().enter(fleet, fleet.svid(A)[0])
        for number in range(60):
            await agent.client.publish(own, b"evil", reply=steered[number % len(steered)])
        await agent.complaints()
        await agent.leave()
        await controller.consume("events", subjects.kept("*", "events"), hear)
        async with connection(fleet.agent(B)) as honest:
            await honest.publish(subjects.up(str(B), "beat"), b"mine")
            await honest.keep(subjects.kept(str(B), "events"), b"last", id="1")
            await asyncio.wait_for(done.wait(), PATIENCE_S)
        assert sorted(heard) == [(subjects.kept(str(B), "events"), b"last"), (subjects.up(str(B), "beat"), b"mine")]

    tell(story)


def test_headers_give_no_more_rights(tell: Callable[[Story], None]) -> None:
    """Headers that JetStream and the server act on (rollup, traces, somebody else's message id) neither purge what
    others keep, nor write to their subjects, nor make the server drop their messages."""

    async def story(fleet: Fleet, controller: JetStreamBus) -> None:
        given: list[bytes] = []
        heard: list[str] = []
        done = asyncio.Event()

        async def handle(subject: str, data: bytes) -> None:
            given.append(data)
            if data == b"second":
                done.set()

        async def hear(subject: str, data: bytes) -> None:
            heard.append(subject)

        await controller.subscribe(subjects.down(str(B)), hear)
        await controller.flush()
        async with connection(fleet.agent(B)) as victim:
            await victim.keep(subjects.kept(str(B), "events"), b"first", id="1")
            agent = await Intruder().enter(fleet, fleet.svid(A)[0])
            own, others_next = subjects.kept(str(A), "flows"), f"{subjects.kept(str(B), 'events')} 2".encode()
            for headers in (
                {"Nats-Rollup": "all"},
                {"Nats-Trace-Dest": subjects.down(str(B))},
                {"Nats-Msg-Id": hashlib.blake2b(others_next, digest_size=16).hexdigest()},
                {"Nats-Schedule": "@every 1s", "Nats-Schedule-Target": subjects.down(str(B))},
            ):
                await agent.client.publish(own, b"evil", headers=headers)
            await agent.complaints()
            await victim.keep(subjects.kept(str(B), "events"), b"second", id="2")
            await agent.leave()
        await controller.consume("events", subjects.kept("*", "events"), handle)
        await asyncio.wait_for(done.wait(), PATIENCE_S)
        await controller.flush()

        assert given == [b"first", b"second"]
        assert heard == []

    tell(story)


def test_one_agent_cannot_fill_the_store(tell: Callable[[Story], None]) -> None:
    """An agent that floods is refused at its own share; another's messages are kept, and none makes room for it."""

    async def story(fleet: Fleet, controller: JetStreamBus) -> None:
        await controller.open_store(max_bytes=64 << 20, max_per_subject=5)
        async with connection(fleet.agent(A)) as loud, connection(fleet.agent(B)) as quiet:
            await quiet.keep(subjects.kept(str(B), "events"), b"mine", id="0")
            for number in range(5):
                await loud.keep(subjects.kept(str(A), "events"), b"x" * 1000, id=str(number))
            with pytest.raises(BusError, match="not kept"):
                await loud.keep(subjects.kept(str(A), "events"), b"x", id="6")
            with pytest.raises(BusError):
                await loud.keep(subjects.kept(str(A), "invented"), b"x", id="7")
            await quiet.keep(subjects.kept(str(B), "events"), b"mine too", id="8")

    tell(story)


@pytest.mark.parametrize(
    ("share", "fault", "least"),
    [(256, ValueError, 12), (256, OSError, 12), (12, ValueError, 8)],
    ids=["a message at fault", "a fault of ours", "a share full of them"],
)
def test_what_cannot_be_handled_keeps_others_waiting_for_a_while_only(
    tell: Callable[[Story], None], monkeypatch: pytest.MonkeyPatch, share: int, fault: type[Exception], least: int
) -> None:
    """An agent that found a message on which the handler fails sends more of it than are handed out at once: another's
    is handed out all the same. Nothing is lost, but some of an agent whose whole share cannot be handled: it makes room
    for the rest to go behind others."""
    monkeypatch.setattr(jetstream, "_RETRY_S", (0.05, 0.05))
    monkeypatch.setattr(jetstream, "_AT_ONCE", 4)

    async def story(fleet: Fleet, controller: JetStreamBus) -> None:
        done, failed = asyncio.Event(), set[bytes]()

        async def handle(subject: str, data: bytes) -> None:
            if subject == subjects.kept(str(B), "events"):
                done.set()
                return
            failed.add(data)
            raise fault("nobody foresaw this")

        await controller.open_store(max_bytes=64 << 20, max_per_subject=share)
        async with connection(fleet.agent(A)) as bad, connection(fleet.agent(B)) as good:
            for number in range(12):
                await bad.keep(subjects.kept(str(A), "events"), str(number).encode(), id=str(number))
            await controller.consume("events", subjects.kept("*", "events"), handle)
            await good.keep(subjects.kept(str(B), "events"), b"mine", id="1")
            await asyncio.wait_for(done.wait(), PATIENCE_S)
            while len(failed) < 12:
                await asyncio.sleep(0.05)
        live = controller._client
        assert live
        state = (await live.jetstream().stream_info(STREAM)).state
        assert state.messages >= least

    tell(story)


# ---- who enters -----------------------------------------------------------------------------------------------------


def odd_certificate(fleet: Fleet, names: list[x509.GeneralName], *, end: timedelta = timedelta(hours=1)) -> Path:
    """A certificate the authority would never issue, signed by its root."""
    key, root, now = new_key(), fleet.authority.roots[0], datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(root.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=2))
        .not_valid_after(now + end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=True)
    certificate = builder.sign(fleet.authority._signer, hashes.SHA256())
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    return fleet.hold(f"odd-{certificate.serial_number}", (key_pem(key), pem))


def uri(value: str) -> x509.UniformResourceIdentifier:
    return x509.UniformResourceIdentifier(value)


def test_only_a_certificate_of_a_workload_enters(tell: Callable[[Story], None], tmp_path: Path) -> None:
    """Without a certificate, with another authority's, an expired one, one without a name, with two, of another trust
    domain or of no workload, nobody enters; nor does the controller's certificate without its key."""

    async def story(fleet: Fleet, controller: JetStreamBus) -> None:
        stranger = Authority.open(tmp_path / "stranger.json", trust_domain=DOMAIN, now=datetime.now(UTC))
        good = workload_uri(DOMAIN, A)
        refused = {
            "none": None,
            "another authority": fleet.svid(A, authority=stranger)[0],
            "expired": odd_certificate(fleet, [uri(good)], end=timedelta(hours=-1)),
            "no name": odd_certificate(fleet, []),
            "a DNS name": odd_certificate(fleet, [x509.DNSName(str(A))]),
            "two workloads": odd_certificate(fleet, [uri(good), uri(workload_uri(DOMAIN, B))]),
            "a DNS name beside": odd_certificate(fleet, [uri(good), x509.DNSName("localhost")]),
            "another domain": odd_certificate(fleet, [uri(workload_uri("other.test", A))]),
            "no UUID": odd_certificate(fleet, [uri(f"spiffe://{DOMAIN}/workload/*")]),
            "a wildcard": odd_certificate(fleet, [uri(f"spiffe://{DOMAIN}/workload/{A}.>")]),
            "not canonical": odd_certificate(fleet, [uri(good.replace("-", ""))]),
            "the controller": odd_certificate(fleet, [uri(controller_uri(DOMAIN))]),
            "the controller's own": fleet.own,
        }

        assert {why for why, path in refused.items() if not await is_refused(fleet, path)} == set()
        assert not await is_refused(fleet, odd_certificate(fleet, [uri(good)])), "the odd ones differ in nothing else"

    tell(story)


def test_a_key_alone_does_not_enter(tell: Callable[[Story], None]) -> None:
    """The controller's key without a certificate, a forged key, and user names and passwords are refused."""

    async def story(fleet: Fleet, controller: JetStreamBus) -> None:
        own, forged = fleet.svid(A)[0], open_seeds(fleet.folder / "forged.json")

        assert await is_refused(fleet, None, nkeys_seed_str=fleet.seeds.controller)
        assert await is_refused(fleet, own, nkeys_seed_str=forged.controller)
        assert await is_refused(fleet, own, nkeys_seed_str=forged.system)
        assert await is_refused(fleet, own, user="controller", password="guessed")
        assert await is_refused(fleet, own, token="guessed")

    tell(story)


def test_plaintext_is_not_spoken(tell: Callable[[Story], None]) -> None:
    """The server says nothing to who does not begin with TLS, and a client says nothing to a server without it."""

    async def story(fleet: Fleet, controller: JetStreamBus) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", fleet.server.port)
        writer.write(b'CONNECT {"verbose":true}\r\nPING\r\n')
        said = await asyncio.wait_for(reader.read(100), PATIENCE_S)
        writer.close()
        assert b"INFO" not in said

        got: list[bytes] = []

        async def strip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b'INFO {"server_id":"X","version":"2.15.1","max_payload":1000,"tls_required":false}\r\n')
            got.append(await reader.read(1000))
            writer.close()

        stripper = await asyncio.start_server(strip, "127.0.0.1", 0)
        port = stripper.sockets[0].getsockname()[1]
        client = client_over_tls(fleet.context(fleet.svid(A)[0])())

        async def ignore(error: Exception) -> None:
            """The reason is not asked for."""

        with pytest.raises((NatsError, OSError)):
            await client.connect(
                f"tls://localhost:{port}", tls_handshake_first=True, allow_reconnect=False, error_cb=ignore,
                max_reconnect_attempts=1, reconnect_time_wait=0,
            )  # fmt: skip
        stripper.close()
        await client.close()
        assert got
        assert all(b"CONNECT" not in data for data in got)

    tell(story)


def test_an_agent_cannot_pose_as_the_server(tell: Callable[[Story], None]) -> None:
    """A workload's certificate, good for TLS servers too, proves no server's name: clients do not talk to it."""

    async def story(fleet: Fleet, controller: JetStreamBus) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(fleet.svid(A)[0])

        async def pose(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        poser = await asyncio.start_server(pose, "127.0.0.1", 0, ssl=context)
        port = poser.sockets[0].getsockname()[1]
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.open_connection("localhost", port, ssl=fleet.context(fleet.svid(B)[0])())
        poser.close()

    tell(story)


# ---- revocation -----------------------------------------------------------------------------------------------------


async def until_lost(bus: JetStreamBus) -> None:
    async def waiting() -> None:
        while bus.is_connected:
            await asyncio.sleep(0.005)

    await asyncio.wait_for(waiting(), PATIENCE_S)


def test_a_revoked_workload_is_shown_out_and_stays_out(tell: Callable[[Story], None]) -> None:
    """Revoked while it is connected, a workload loses its connection at once and gets no other, under this or any
    certificate; the others notice nothing."""

    async def story(fleet: Fleet, controller: JetStreamBus) -> None:
        async with (
            connection(fleet.system()) as system,
            connection(fleet.agent(A)) as revoked,
            connection(fleet.agent(B)) as other,
        ):
            fleet.revoked_workloads.add(A)
            assert await Door(system).close_to(A) == 1
            await until_lost(revoked)
            with pytest.raises(BusError, match="Authorization Violation"):
                await revoked.connected(timeout_s=1)

            assert await is_refused(fleet, fleet.svid(A)[0])
            assert other.is_connected
            await other.flush()

    tell(story)


def test_a_revoked_serial_is_only_that_certificate(tell: Callable[[Story], None]) -> None:
    """A single certificate is revoked by its serial; the same workload enters with another."""

    async def story(fleet: Fleet, controller: JetStreamBus) -> None:
        path, issued = fleet.svid(A)
        assert not await is_refused(fleet, path)
        fleet.revoked.add((issued.serial, A))

        assert await is_refused(fleet, path)
        assert not await is_refused(fleet, fleet.svid(A)[0])

    tell(story)


def test_who_was_revoked_while_nobody_watched_is_swept_out(tell: Callable[[Story], None]) -> None:
    """A controller that was away closes the connections of all that were revoked meanwhile."""

    async def story(fleet: Fleet, controller: JetStreamBus) -> None:
        async with (
            connection(fleet.system()) as system,
            connection(fleet.agent(A)) as revoked,
            connection(fleet.agent(B)) as other,
        ):
            fleet.revoked_workloads.add(A)
            assert await Door(system).sweep(fleet.revoked_workloads.__contains__) == 1
            await until_lost(revoked)
            assert other.is_connected

    tell(story)


def test_rights_end_with_the_certificate(tell: Callable[[Story], None]) -> None:
    """A connection does not outlive its certificate: the server ends it, without anybody's doing."""

    async def story(fleet: Fleet, controller: JetStreamBus) -> None:
        path, _ = fleet.svid(A, life=timedelta(seconds=3))
        async with connection(fleet.bus(path, subjects.inbox(str(A)))) as agent:
            await until_lost(agent)

    tell(story)


def test_a_renewed_certificate_is_used_for_the_next_connection(tell: Callable[[Story], None]) -> None:
    """The file is read before every connection: an agent that renewed comes back with the new certificate."""

    async def story(fleet: Fleet, controller: JetStreamBus) -> None:
        path, _ = fleet.svid(A, life=timedelta(seconds=3))
        async with connection(fleet.bus(path, subjects.inbox(str(A)))) as agent:
            path.write_bytes(fleet.svid(A)[0].read_bytes())
            await until_lost(agent)
            await agent.connected(timeout_s=PATIENCE_S)

    tell(story)


# ---- the callout itself ---------------------------------------------------------------------------------------------


def test_without_the_callout_agents_stay_and_new_ones_wait(tell: Callable[[Story], None]) -> None:
    """When the controller's connection is gone, connected agents keep theirs; who connects waits, and enters when the
    controller is back."""

    async def story(fleet: Fleet, controller: JetStreamBus) -> None:
        async with connection(fleet.agent(A)) as settled:
            await controller.close()
            newcomer = fleet.agent(B)
            newcomer.start()
            with pytest.raises(BusError):
                await newcomer.connected(timeout_s=1)
            await settled.flush()
            assert settled.is_connected

            async with connection(fleet.controller()) as again:
                await fleet.callout.serve(again)
                await newcomer.connected(timeout_s=PATIENCE_S)
            await newcomer.close()

    tell(story)


def test_a_callout_that_cannot_judge_refuses(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """When revocation cannot be looked up nobody enters: an error is a refusal, never a right."""

    async def story() -> None:
        async with open_fleet(tmp_path) as (fleet, _):

            def broken(serial: str, uuid: object) -> bool:
                raise RuntimeError("the database is away")

            fleet.callout._is_revoked = broken
            admitted = fleet.callout.admitted
            assert await is_refused(fleet, fleet.svid(A)[0])
            assert fleet.callout.admitted == admitted

    asyncio.run(story())
    assert "could not be judged" in caplog.text


@pytest.mark.parametrize("data", [b"", b"a.b.c", b"\xff", b"e30.e30.e30", b"." * 5])
def test_what_no_server_signed_is_not_answered(tmp_path: Path, data: bytes) -> None:
    """A question that is not a server's gets no rights, whatever it says."""
    fleet = Fleet(tmp_path)

    assert asyncio.run(Callout(fleet.seeds.issuer, fleet.authority, fleet.is_revoked).answer("", data)) is None


def test_a_forged_question_gets_no_rights(tell: Callable[[Story], None]) -> None:
    """A true question, altered by one letter or signed by somebody else, is not answered."""

    async def story(fleet: Fleet, controller: JetStreamBus) -> None:
        seen: list[bytes] = []
        asked = fleet.callout.answer

        async def listening(subject: str, data: bytes) -> None:
            seen.append(data)

        async with connection(fleet.controller()) as ear:
            await ear.subscribe("$SYS.REQ.USER.AUTH", listening)
            await ear.flush()
            assert not await is_refused(fleet, fleet.svid(A)[0])
            await ear.flush()
        head, body, signature = seen[0].split(b".")
        altered = body[:-6] + (b"A" if body[-6:-5] != b"A" else b"B") + body[-5:]

        assert await asked("", seen[0]) is not None
        assert await asked("", b".".join((head, altered, signature))) is None
        assert await asked("", b".".join((head, body, signature[::-1]))) is None

    tell(story)


def test_the_request_for_a_certificate_says_nothing_but_the_key(tmp_path: Path) -> None:
    """What stands in a request besides its key has no effect on what is issued."""
    fleet, key = Fleet(tmp_path), new_key()
    greedy = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "controller")]))
        .add_extension(x509.SubjectAlternativeName([uri(controller_uri(DOMAIN)), x509.DNSName("localhost")]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    now = datetime.now(UTC)
    issued = [
        x509.load_pem_x509_certificate(fleet.authority.issue_svid(csr, A, now=now).certificate)
        for csr in (greedy, csr_of(key))
    ]

    assert [e.value for e in issued[0].extensions] == [e.value for e in issued[1].extensions]
    assert issued[0].subject == issued[1].subject
