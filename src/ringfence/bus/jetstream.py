"""The bus over NATS JetStream: one connection with mutual TLS that comes back by itself.

INVARIANT: nothing is said before the server has proven its name to this end's roots (TLS comes first, there is no
plaintext greeting to strip), and an answer to an agent's request goes to that agent's own inbox or nowhere: who asks
names the subject the answer is published to, with the rights of who answers.
INVARIANT: what the server says to acknowledge a kept message is nobody's word: its sender chose where it went, be it
where another agent speaks.

A lost connection, for whatever reason (the server died, the rights expired, the path went silent), is replaced by a
fresh one with fresh credentials, after a random pause; subscriptions and consumers are taken up again.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import ssl
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, Final, NamedTuple, TypeVar

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DiscardPolicy, RetentionPolicy, StorageType, StreamConfig

from ringfence.bus.backoff import Backoff
from ringfence.bus.lanes import Lanes
from ringfence.bus.transport import abort, certificate_ends, client_over_tls, local_address
from ringfence.core.errors import RingfenceError
from ringfence.core.net.address import format_address, is_loopback
from ringfence.ports.bus import Answer, BusError, Handler
from ringfence.wire import subjects

_log = logging.getLogger(__name__)
T = TypeVar("T")

STREAM: Final = "RF_KEPT"
KEPT: Final = tuple(f"rf.keep.*.{what}" for what in ("events", "flows", "evidence"))
"""Listed, not `rf.keep.>`: a compromised agent may not open a thousand subjects, each with a share of the store."""
MAX_KEPT_BYTES: Final = 1 << 20
"""Of one kept message."""
CONTROLLER_INBOX: Final = "rf.inbox.controller"

_CONNECT_S = 10
_PING_S = 20
_LOOK_S = 1.0
"""How often to see whether a connection is still one."""
_LINGER_S = 5.0
_ACK_WAIT_S = 60.0
_AT_ONCE = 32
"""Kept messages that are handed out and not acknowledged."""
_IN_HAND = 1024
"""Messages of one subscription that are being answered or wait for those before them; others wait in the connection."""
_RETRY_S = (1.0, 5.0, 30.0)
"""Before a message that could not be handled is handed out again; after these it goes behind all others, for while it
waits it takes one of the few places (_AT_ONCE) of everybody's."""
_ACKNOWLEDGEMENTS = (f'{{"stream":"{STREAM}",'.encode(), b'{"error":{"code":')
"""How they begin (nats-server, `JSPubAckResponse`). The server makes the text: no sender has a say in it, and nothing
an agent sends begins so."""
_STREAM_THERE = 10058
"""With other limits (nats-server, errors.json: JSStreamNameExistErr)."""
_NO_PEERS = 10005
"""Too few servers are known to be there (nats-server, errors.json: JSClusterNoPeersErrF)."""
_PEERS_S, _PEERS_POLL_S = 30.0, 0.25
"""How long servers that come up together may take to know each other."""
_OF_THE_HOUSE = (OSError, MemoryError, RingfenceError, BusError)
"""Faults of ours, whichever message there is: a disk, a database, a connection."""
_LOST = (OSError, nats.errors.Error, asyncio.TimeoutError, ValueError)


class Options(NamedTuple):
    """How to connect."""

    servers: tuple[str, ...]
    """`tls://host:port`; the host is the name the server must prove."""
    context: Callable[[], ssl.SSLContext]
    """Asked before every connection, so that a renewed certificate is used from then on."""
    inbox: str
    """Prefix of the reply subjects: `subjects.inbox(uuid)`, or CONTROLLER_INBOX."""
    name: str = ""
    nkey_seed: str = ""
    """For the controller, which the callout does not decide about."""
    secret: bytes = b""
    """Up to 64 bytes nobody else knows: keeps others from spending the ids of this end's kept messages."""
    backoff: Backoff = Backoff()
    on_connected: Callable[[], Awaitable[None]] | None = None
    """Done after every connect, beside everything else."""


class JetStreamBus:
    """One connection, kept up until `close`."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._client: Client | None = None
        self._subscriptions: list[tuple[str, Answer, Lanes]] = []
        self._consumers: list[tuple[str, str, Handler, Lanes]] = []
        self._store: StreamConfig | None = None
        self._work: set[asyncio.Task[None]] = set()
        self._connected = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._lost = asyncio.Event()
        """The connection of now is."""
        self._changing = asyncio.Lock()
        """INVARIANT: whoever makes or drops a connection holds it."""
        self._is_closing = False
        self.last_error = ""
        """Why there is no connection, in the words of who refused it."""

    # ---- the connection ---------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Connect in the background, for as long as it takes."""
        if self._keeper is None:
            self._keeper = asyncio.get_running_loop().create_task(self._stay_connected())

    async def connected(self, *, timeout_s: float) -> None:
        """Return once there is a connection."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._connected.wait()
        except TimeoutError:
            why = self.last_error or "no answer"
            raise BusError(f"no connection to the bus within {timeout_s:g} s: {why}") from None

    @property
    def is_connected(self) -> bool:
        return self._connected.is_set() and self._client is not None and self._client.is_connected

    @property
    def certificate_ends(self) -> datetime | None:
        """When that of the server does, that this is connected to."""
        return certificate_ends(self._client) if self._client is not None else None

    def come_from(self, own: Collection[int]) -> None:
        if self._client is None:
            return
        there = local_address(self._client)
        if there is not None and there not in own and not is_loopback(there):
            self.last_error = f"{format_address(there)} is no address of this host any more"
            abort(self._client)

    async def close(self) -> None:
        self._is_closing = True  # the library swallows some cancellations: the loop must see it, too
        keeper, self._keeper = self._keeper, None
        if keeper:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)
        await self._drop()
        at_work = self._work - {asyncio.current_task()}
        if at_work:
            _, late = await asyncio.wait(at_work, timeout=_LINGER_S)
            for work in late:
                work.cancel()

    async def _stay_connected(self) -> None:
        failures = 0
        while not self._is_closing:
            try:
                async with self._changing:
                    if not self.is_connected:
                        await self._connect()
                failures = 0
                await self._ended()
                _log.warning("the connection to the bus is lost: %s", self.last_error or "closed")
            except (BusError, RingfenceError) as error:  # the latter: there is no certificate to connect with
                self.last_error = str(error)
                _log.info("no connection to the bus: %s", error)
            except Exception:
                self.last_error = "a fault of our own"
                _log.exception("no connection to the bus")
            async with self._changing:
                if not self.is_connected:
                    await self._drop()
            if self._is_closing:
                return
            await asyncio.sleep(self._options.backoff.pause_s(failures))
            failures += 1

    async def _ended(self) -> None:
        """Until the connection of now is lost, whichever that is by then. The library does not always say so: where
        writing what still waited fails, too, it forgets to."""
        lost = None
        while lost is not self._lost:
            lost = self._lost
            while not lost.is_set() and self.is_connected:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_S):
                        await lost.wait()

    async def renew(self, *, linger_s: float = _LINGER_S) -> None:
        """Go over to a new connection, made with the credentials of now, and then end the old one: whatever comes is
        heard, some of it twice. `linger_s`: for what was asked over the old one. Without a connection there is nothing
        to do. Raises BusError, RingfenceError: the old one stays."""
        async with self._changing:
            before, lost = self._client, self._lost
            if before is None or not self.is_connected:
                return
            try:
                await self._connect()
            except BaseException:
                self._client, self._lost = before, lost
                raise
        try:
            await asyncio.sleep(linger_s)
        finally:
            await _close(before)

    async def _connect(self) -> None:
        options, lost = self._options, asyncio.Event()
        client = client_over_tls(options.context())
        try:
            await client.connect(
                list(options.servers),
                name=options.name or None,
                tls_handshake_first=True,
                inbox_prefix=options.inbox,
                nkeys_seed_str=options.nkey_seed or None,
                allow_reconnect=False,
                max_reconnect_attempts=1,
                reconnect_time_wait=0,
                connect_timeout=_CONNECT_S,
                ping_interval=_PING_S,
                max_outstanding_pings=2,
                error_cb=self._note,
                closed_cb=_setter(lost),
            )
            if not client.is_connected:
                raise BusError(self.last_error or "the server closed the connection")
            self._client, self._lost = client, lost
            await self._take_up(client)
        except _LOST as error:
            await _close(client)
            raise BusError(self._why(error)) from error
        except BaseException:
            await _close(client)
            raise
        self.last_error = ""
        self._connected.set()
        if self._options.on_connected:
            self._start_work(_logged(self._options.on_connected))

    async def _take_up(self, client: Client) -> None:
        """INVARIANT: when this returns, everything that was subscribed or is consumed is heard on this connection, what
        was added meanwhile included."""
        if self._store:
            await _open_store(client, self._store)
        heard = bound = 0
        while True:
            for subscription in self._subscriptions[heard:]:
                await self._hear(client, *subscription)
                heard += 1
            for consumer in self._consumers[bound:]:
                await self._bind(client, *consumer)
                bound += 1
            await _flush(client)
            if heard == len(self._subscriptions) and bound == len(self._consumers):
                return

    def _start_work(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Something that outlives a lost connection: what handles a message may be in the middle of a change."""
        task = asyncio.get_running_loop().create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)
        return task

    async def _drop(self) -> None:
        self._connected.clear()
        client, self._client = self._client, None
        if client:
            await _close(client)

    def _why(self, error: BaseException) -> str:
        """`no servers available` hides what was wrong with the last of them."""
        is_hidden = isinstance(error, nats.errors.NoServersError) and self.last_error
        return self.last_error if is_hidden else _words(error)

    async def _note(self, error: Exception) -> None:
        self.last_error = _words(error)
        _log.info("the bus says: %s", self.last_error)

    def _live(self) -> Client:
        if self._client is None or not self._client.is_connected:
            raise BusError(f"there is no connection to the bus{self.last_error and ': '}{self.last_error}")
        return self._client

    # ---- messages ---------------------------------------------------------------------------------------------------

    async def publish(self, subject: str, data: bytes) -> None:
        try:
            await _heeding(self._live().publish(subject, data))
        except _LOST as error:
            raise BusError(_words(error)) from error

    async def request(self, subject: str, data: bytes, *, timeout_s: float = 5.0) -> bytes:
        try:
            return (await _heeding(self._live().request(subject, data, timeout=timeout_s))).data
        except nats.errors.NoRespondersError as error:
            raise BusError(f"nobody answers `{subject}`") from error
        except TimeoutError as error:
            raise BusError(f"no answer on `{subject}` within {timeout_s:g} s") from error
        except _LOST as error:
            raise BusError(_words(error)) from error

    async def ask_all(self, subject: str, data: bytes, *, wait_s: float) -> list[bytes]:
        """Every answer that comes in time: of all the servers of a cluster, for one."""
        client, answers = self._live(), []
        inbox = client.new_inbox()
        try:
            subscription = await client.subscribe(inbox)
            await client.publish(subject, data, reply=inbox)
            deadline = asyncio.get_running_loop().time() + wait_s
            while (rest := deadline - asyncio.get_running_loop().time()) > 0:
                try:
                    answers.append((await _heeding(subscription.next_msg(timeout=rest))).data)
                except TimeoutError:
                    break
            await subscription.unsubscribe()
        except _LOST as error:
            raise BusError(_words(error)) from error
        return [answer for answer in answers if answer]

    async def subscribe(self, subject: str, answer: Answer) -> None:
        """Without a connection it takes effect with the next one."""
        subscription = (subject, answer, Lanes())
        self._subscriptions.append(subscription)
        if self.is_connected:
            try:
                await self._hear(self._live(), *subscription)
            except _LOST as error:
                raise BusError(_words(error)) from error

    async def flush(self) -> None:
        try:
            await _flush(self._live())
        except _LOST as error:
            raise BusError(_words(error)) from error

    async def _hear(self, client: Client, subject: str, answer: Answer, lanes: Lanes) -> None:
        places = asyncio.Semaphore(_IN_HAND)

        async def heard(message: Msg, lane: asyncio.Lock) -> None:
            try:
                async with lane:
                    await _answer(client, message, answer)
            finally:
                places.release()

        async def given(message: Msg) -> None:
            if is_acknowledgement(message.data):
                return
            await places.acquire()
            self._start_work(heard(message, lanes.of(message.subject)))

        await client.subscribe(subject, cb=given)

    # ---- kept messages ----------------------------------------------------------------------------------------------

    async def open_store(self, *, max_bytes: int, max_per_subject: int = 256, replicas: int = 1) -> None:
        """Make the store of kept messages, or bring it to these limits, now and after every reconnect. When it is full,
        `keep` refuses: the sender has the message still, and nobody's message makes room for another's."""
        config = StreamConfig(
            name=STREAM,
            subjects=list(KEPT),
            retention=RetentionPolicy.WORK_QUEUE,
            discard=DiscardPolicy.NEW,
            discard_new_per_subject=True,
            max_msgs_per_subject=max_per_subject,
            max_bytes=max_bytes,
            max_msg_size=MAX_KEPT_BYTES,
            storage=StorageType.FILE,
            num_replicas=replicas,
            duplicate_window=600,
        )
        deadline = asyncio.get_running_loop().time() + _PEERS_S
        while True:
            try:
                await _open_store(self._live(), config)
                break
            except _LOST as error:
                is_early = isinstance(error, nats.js.errors.APIError) and error.err_code == _NO_PEERS
                if not is_early or asyncio.get_running_loop().time() > deadline:
                    raise BusError(_words(error)) from error
            await asyncio.sleep(_PEERS_POLL_S)
        self._store = config

    async def keep(self, subject: str, data: bytes, *, id: str) -> None:
        if len(data) > MAX_KEPT_BYTES:
            raise BusError(f"a message of {len(data)} bytes is longer than any that is kept ({MAX_KEPT_BYTES})")
        name = f"{subject} {id}".encode()
        token = hashlib.blake2b(name, key=self._options.secret[:64], digest_size=16).hexdigest()
        try:
            asked = self._live().request(subject, data, timeout=_CONNECT_S, headers={"Nats-Msg-Id": token})
            answer = await _heeding(asked)
            _check_kept(json.loads(answer.data))
        except nats.errors.NoRespondersError as error:
            raise BusError(f"nothing keeps `{subject}`") from error
        except _LOST as error:
            raise BusError(_words(error)) from error

    async def consume(self, name: str, subject: str, handler: Handler) -> None:
        """Needs the store. Several connections that consume under one name share the messages; another name may not
        want messages of the same subject (BusError): each is handled once."""
        consumer = (name, subject, handler, Lanes())
        self._consumers.append(consumer)
        if self.is_connected:
            try:
                await self._bind(self._live(), *consumer)
            except _LOST as error:
                self._consumers.pop()
                raise BusError(_words(error)) from error

    async def _bind(self, client: Client, name: str, subject: str, handler: Handler, lanes: Lanes) -> None:
        deliver = f"rf.deliver.{name}"
        config = ConsumerConfig(
            durable_name=name,
            deliver_subject=deliver,
            deliver_group=name,
            filter_subject=subject,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=_ACK_WAIT_S,
            max_deliver=-1,
            max_ack_pending=_AT_ONCE,
        )
        await client.jetstream().add_consumer(STREAM, config)

        async def handed(message: Msg, lane: asyncio.Lock) -> None:
            async with lane:
                await _hand_over(client, message, handler)

        async def given(message: Msg) -> None:
            if message.subject.startswith("rf.keep.") and message.reply.startswith("$JS.ACK."):
                self._start_work(handed(message, lanes.of(message.subject)))
            else:  # an agent named this subject for its acknowledgements
                _log.warning("what came to `%s` from `%s` is no kept message", deliver, message.subject)

        await client.subscribe(deliver, queue=name, cb=given)


async def _open_store(client: Client, config: StreamConfig) -> None:
    jetstream = client.jetstream()
    try:
        await jetstream.add_stream(config)
    except nats.js.errors.BadRequestError as error:
        if error.err_code != _STREAM_THERE:
            raise
        await jetstream.update_stream(config)


def is_acknowledgement(data: bytes) -> bool:
    """Whether the server wrote this about a message that somebody asked to be kept."""
    return data.startswith(_ACKNOWLEDGEMENTS)


def may_answer(subject: str, reply: str) -> bool:
    """Whether an answer to this subject may go there. What agents ask is answered to their own inbox only."""
    if not subject.startswith("rf.up."):
        return True
    return reply.startswith(f"{subjects.inbox(subjects.sender(subject))}.")


async def _answer(client: Client, message: Msg, answer: Answer) -> None:
    try:
        reply = await answer(message.subject, message.data)
    except Exception:
        _log.exception("a message on `%s` could not be answered", message.subject)
        return
    if reply is None or not message.reply:
        return
    if not may_answer(message.subject, message.reply):
        _log.warning("`%s` asked for an answer to `%s`, which is not its own", message.subject, message.reply)
        return
    try:
        await client.publish(message.reply, reply)
    except _LOST as error:
        _log.info("an answer to `%s` is lost: %s", message.subject, _words(error))


async def _hand_over(client: Client, message: Msg, handler: Handler) -> None:
    """INVARIANT: acknowledged after the handler returned, or after it was stored anew, never before.
    INVARIANT: what cannot be handled, be there ever so much of it from one sender, keeps others waiting for a while
    and not for ever. It goes behind them; a sender whose whole share is such messages loses some that are at fault
    themselves (not for want of a disk, say)."""
    at_work = asyncio.get_running_loop().create_task(_say_at_work(message))
    try:
        tries = message.metadata.num_delivered or 1
        fault = await _fault(message, handler)
        if fault is None or (tries > len(_RETRY_S) and await _is_over(client, message, fault)):
            await message.ack()
        else:
            await message.nak(delay=_RETRY_S[min(tries, len(_RETRY_S)) - 1])
    except _LOST as error:
        _log.info("a kept message on `%s` will come again: %s", message.subject, _words(error))
    finally:
        at_work.cancel()


async def _is_over(client: Client, message: Msg, fault: Exception) -> bool:
    """Whether a message that failed often may be forgotten where it is: it is stored once more, behind all that is kept
    by now, or it is given up."""
    try:
        answer = await client.request(message.subject, message.data, timeout=_CONNECT_S)
        _check_kept(json.loads(answer.data))
    except BusError as error:  # its sender's share is full
        if isinstance(fault, _OF_THE_HOUSE):
            return False
        _log.error("a kept message on `%s` is given up: %s; %s", message.subject, fault, error)
    return True


async def _fault(message: Msg, handler: Handler) -> Exception | None:
    """Why it was not handled."""
    if is_acknowledgement(message.data):
        return None
    try:
        await handler(message.subject, message.data)
    except Exception as error:
        _log.exception("a kept message on `%s` could not be handled; it stays", message.subject)
        return error
    return None


async def _say_at_work(message: Msg) -> None:
    """A slow handler is no dead one."""
    with suppress(*_LOST):
        while True:
            await asyncio.sleep(_ACK_WAIT_S / 3)
            await message.in_progress()


async def _logged(call: Callable[[], Awaitable[None]]) -> None:
    try:
        await call()
    except Exception:
        _log.exception("what was to be done with a new connection failed")


def _check_kept(answer: dict[str, Any]) -> None:
    if error := answer.get("error"):
        raise BusError(f"the message is not kept: {error.get('description', error)}")
    if answer.get("stream") != STREAM:
        raise BusError("the message is not kept: another than the store answered")


async def _flush(client: Client) -> None:
    """Twice: the library's ping overtakes what waits to be written, the second cannot."""
    await _heeding(client.flush(timeout=_CONNECT_S))
    await _heeding(client.flush(timeout=_CONNECT_S))


async def _heeding(asked: Awaitable[T]) -> T:
    """The library loses a cancellation that comes together with the answer (`asyncio.wait_for` before Python 3.12)."""
    task = asyncio.current_task()
    assert task is not None
    before = task.cancelling()
    try:
        return await asked
    finally:
        if task.cancelling() > before:
            raise asyncio.CancelledError


def _setter(event: asyncio.Event) -> Callable[[], Awaitable[None]]:
    async def closed() -> None:
        event.set()

    return closed


async def _close(client: Client) -> None:
    try:
        async with asyncio.timeout(_LINGER_S):
            await client.close()
    except _LOST as error:
        _log.debug("a connection did not close in order: %s", error)


def _words(error: BaseException) -> str:
    """What went wrong, without the library's name before it."""
    return str(error).removeprefix("nats: ").strip("'") or type(error).__name__


def options_for_agent(
    uuid: str, servers: Sequence[str], context: Callable[[], ssl.SSLContext], secret: bytes, **more: Any
) -> Options:
    """An agent's connection: it is known by its certificate alone."""
    return Options(tuple(servers), context, subjects.inbox(uuid), name=uuid, secret=secret, **more)
