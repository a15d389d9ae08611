"""Bus servers that somebody else runs, before they are relied on: can they be entered, do they keep, who else gets in?

INVARIANT: no host is told of a server that lets in whom the controller did not judge.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import ssl
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from ringfence.bus.backoff import Backoff
from ringfence.bus.jetstream import JetStreamBus, Options
from ringfence.bus.nodes import Node
from ringfence.controller.bus.callout import Callout, Door
from ringfence.core.errors import RingfenceError
from ringfence.ports.bus import BusError

_log = logging.getLogger(__name__)
PATIENCE_S: Final = 30.0
"""How long servers may take to come up beside the controller."""
_POLL_S: Final = 0.05
_ENTER_S: Final = 12.0
_ASK_S: Final = 3.0
_OWN_WORDS: Final = "write its configuration with `ringfence nats-config`"
_NOT_OURS: Final = (
    "certificate verify failed",
    "certificate_verify_failed",
    "hostname mismatch",
    "wrong_version_number",
)
_NOT_LET_IN: Final = ("authorization violation", "authentication timeout", "user authentication")


class _Told(msgspec.Struct):
    """What JetStream says of itself, as far as it matters."""

    error: dict[str, Any] = {}


def replicas_on(servers: int) -> int:
    """How many servers keep each message: what one that dies had is still there with three."""
    return 3 if servers >= 3 else 1


class ExistingBus:
    """What is asked of the servers at a start. `proven`: those that refused a stranger, on the controller's word."""

    def __init__(
        self,
        nodes: Sequence[Node],
        context: Callable[[], ssl.SSLContext],
        bus: JetStreamBus,
        system: JetStreamBus,
        callout: Callout,
    ) -> None:
        self._nodes, self._context, self._bus, self._system, self._callout = nodes, context, bus, system, callout
        self.proven: tuple[Node, ...] = ()

    async def enter(self) -> None:
        """Return once the controller is in, with both of its keys. Raises RingfenceError `bus-unreachable`,
        `bus-not-ours`, `bus-refused`, `bus-not-keeping`."""
        await self._entered(self._bus)
        await self._entered(self._system)
        await self._keeps()

    async def _entered(self, bus: JetStreamBus) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        while not bus.is_connected:
            waited, why = loop.time() - began, bus.last_error
            is_refused = any(word in why.lower() for word in _NOT_LET_IN)
            if is_refused or waited > min(_ENTER_S, PATIENCE_S):
                self._judge([await self._met(node) for node in self._nodes], why, is_late=waited > PATIENCE_S)
            elif any(word in why.lower() for word in _NOT_OURS):
                raise self._error("bus-not-ours", "has no certificate that this controller issued", why)
            await asyncio.sleep(_POLL_S)

    async def _met(self, node: Node) -> str:
        """Whether there is a server of this controller's CA; empty: there is, else why not."""
        try:
            async with asyncio.timeout(_ENTER_S):
                _, writer = await asyncio.open_connection(node.host, node.port, ssl=self._context())
            writer.transport.abort()
        except (OSError, TimeoutError) as error:
            return str(error) or "no answer"
        return ""

    def _judge(self, met: Sequence[str], why: str, *, is_late: bool) -> None:
        """Raises what there is no use in waiting for; `is_late`: everything."""
        if "" in met:
            raise self._error("bus-refused", "does not let the controller in", why or "no answer")
        if is_late:
            help_ = "check the address, that it runs, and that no firewall is between"
            raise self._error("bus-unreachable", "does not answer", met[0], help_)

    async def _keeps(self) -> None:
        """Whether JetStream is there, for the controller's account. Servers that lost one of theirs agree first."""
        deadline = asyncio.get_running_loop().time() + PATIENCE_S
        while True:
            told = await self._told()
            if not told.error:
                return
            if told.error.get("code") or asyncio.get_running_loop().time() > deadline:
                help_ = f"turn JetStream on, for the account FLEET: {_OWN_WORDS}"
                why = str(told.error.get("description", "no reason given"))
                raise self._error("bus-not-keeping", "keeps no messages", why, help_)

    async def _told(self) -> _Told:
        try:
            return msgspec.json.decode(await self._bus.request("$JS.API.INFO", b"", timeout_s=_ASK_S), type=_Told)
        except (BusError, msgspec.DecodeError) as error:
            return _Told({"description": str(error)})

    async def prove(self) -> None:
        """Once the callout is answered: whoever it refuses stays outside, at each server that is up. Raises
        RingfenceError `bus-open`, `bus-not-judged`, `bus-refused`, `bus-unreachable`."""
        await self.prove_others()
        if not self.proven:
            raise self._error("bus-unreachable", "does not answer", "it was in reach a moment ago", "start again")
        try:
            await Door(self._system).sweep(lambda uuid: False)
        except BusError as error:
            raise self._error("bus-refused", "does not say who is connected", str(error)) from error

    async def prove_others(self) -> None:
        """Those that were not up before, looked at again. Raises RingfenceError `bus-open`, `bus-not-judged`."""
        for node in self._nodes:
            if node not in self.proven and await self._is_guarded(node):
                self.proven = tuple(one for one in self._nodes if one in self.proven or one == node)

    async def _is_guarded(self, node: Node) -> bool:
        """The controller's certificate alone names no workload: it must be refused, and by the callout. False: the
        server is not up."""
        name = f"stranger {secrets.token_hex(8)}"
        self._callout.awaited.add(name)
        stranger = JetStreamBus(
            Options((node.url,), self._context, "_INBOX", name=name, backoff=Backoff(_ENTER_S, _ENTER_S))
        )
        stranger.start()
        try:
            await self._tried(stranger)
            if stranger.is_connected:
                raise self._error("bus-open", f"lets in who has no right to, at `{node.url}`", "no callout decides")
            if name not in self._callout.awaited:
                return True
            if any(word in stranger.last_error.lower() for word in _NOT_LET_IN):
                message = f"does not ask the controller who may enter, at `{node.url}`"
                raise self._error("bus-not-judged", message, stranger.last_error)
            _log.info("`%s` is not up, and no host is told of it yet: %s", node.url, stranger.last_error)
            return False
        finally:
            self._callout.awaited.discard(name)
            await stranger.close()

    async def _tried(self, stranger: JetStreamBus) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _ENTER_S
        while not stranger.is_connected and not stranger.last_error and loop.time() < deadline:
            await asyncio.sleep(_POLL_S)

    def _error(self, code: str, what: str, why: str, help_: str = _OWN_WORDS) -> RingfenceError:
        urls = ", ".join(node.url for node in self._nodes)
        return RingfenceError(code, f"the bus at {urls} {what}: {why.lower()}", help=help_)
