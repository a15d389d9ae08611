"""Who may enter the bus, and with which rights: the answer to the server's auth callout.

    callout = Callout(seed, authority, is_revoked)
    await callout.serve(controller_bus)          answers $SYS.REQ.USER.AUTH
    await Door(system_bus).close_to(uuid)        ends the connections a workload has

INVARIANT: a right is given only for a certificate that this authority issued, that has not ended, names one workload
of this trust domain and is not revoked; the rights are `subjects.permissions_of` of that workload and nothing else, and
they end with the certificate. Whatever cannot be verified, an error in here included, is refused.

NATS ADR-26 (authorization callouts) and the claims of github.com/nats-io/jwt v2. While this does not run, connections
that exist stay, and new ones wait.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Protocol
from uuid import UUID

import msgspec
import nkeys  # type: ignore[import-untyped]
from cryptography import x509
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from ringfence.bus.accounts import FLEET, public_key
from ringfence.bus.jetstream import MAX_KEPT_BYTES
from ringfence.controller.identity.ca import Authority, is_issued_by, serial_of, workload_of
from ringfence.ports.bus import Bus, BusError
from ringfence.wire import subjects

_log = logging.getLogger(__name__)

SUBJECT: Final = "$SYS.REQ.USER.AUTH"
_AUDIENCE = "nats-authorization-request"
_MAX_SUBSCRIPTIONS = 32
_PAGE = 1024
_OTHER_PROOFS = ("jwt", "nkey", "user", "pass", "auth_token")
_SERVER_PREFIX = 13 << 3
"""Of an encoded key: the first byte says whose it is (nkeys)."""

IsRevoked = Callable[[str, UUID], bool]
"""(serial, workload) -> whether that certificate, or all of that workload's, may not be used any more."""


class Callout:
    """Answers what the server asks about everybody who connects."""

    def __init__(self, issuer_seed: str, authority: Authority, is_revoked: IsRevoked, *, account: str = FLEET) -> None:
        self._issuer = nkeys.from_seed(bytearray(issuer_seed.encode()))
        self._issuer_name = public_key(issuer_seed)
        self._authority = authority
        self._is_revoked = is_revoked
        self._account = account
        self.admitted = 0
        self.awaited: set[str] = set()
        """Names of connections that ought to be refused, and were not yet."""

    async def serve(self, bus: Bus) -> None:
        """Answer from now on."""
        await bus.subscribe(SUBJECT, self.answer)

    async def answer(self, subject: str, data: bytes) -> bytes | None:
        """The response to one request. None, which is a refusal after a while, to what no server wrote."""
        try:
            request = _verified(data)
        except ValueError as error:
            _log.warning("a question about a connection is not understood: %s", error)
            return None
        try:
            uuid, certificate = self._workload(request)
            given = {"jwt": self._rights(request["user_nkey"], uuid, certificate)}
            self.admitted += 1
        except ValueError as error:
            _log.warning("a connection from `%s` is refused: %s", _host(request), error)
            given = {"error": str(error)}
            self.awaited.discard(_name(request))
        except Exception:
            _log.exception("a connection is refused, because it could not be judged")
            given = {"error": "the controller cannot judge"}
        return self._response(request, given).encode()

    def _workload(self, request: dict[str, Any]) -> tuple[UUID, x509.Certificate]:
        """Whom the certificate of a connection names. Raises ValueError: why it may not enter."""
        if any((request.get("connect_opts") or {}).get(word) for word in _OTHER_PROOFS):
            raise ValueError("an agent is known by its certificate alone")
        certificate = _certificate(request)
        if not is_issued_by(certificate, self._authority.roots):
            raise ValueError("the certificate is of another authority")
        if not certificate.not_valid_before_utc <= datetime.now(UTC) < certificate.not_valid_after_utc:
            raise ValueError("the certificate has ended, or not begun")
        uuid = workload_of(certificate, self._authority.trust_domain)
        if uuid is None:
            raise ValueError("the certificate names no workload")
        if self._is_revoked(serial_of(certificate), uuid):
            raise ValueError("the certificate is revoked")
        return uuid, certificate

    def _rights(self, user: str, uuid: UUID, certificate: x509.Certificate) -> str:
        allowed = subjects.permissions_of(str(uuid))
        rights = {
            "type": "user",
            "version": 2,
            "pub": {"allow": list(allowed.publish)},
            "sub": {"allow": list(allowed.subscribe)},
            "subs": _MAX_SUBSCRIPTIONS,
            "data": -1,
            "payload": MAX_KEPT_BYTES,
            "allowed_connection_types": ["STANDARD"],
        }
        end = int(certificate.not_valid_after_utc.timestamp())
        return self._signed({"sub": user, "aud": self._account, "name": str(uuid), "exp": end, "nats": rights})

    def _response(self, request: dict[str, Any], given: dict[str, str]) -> str:
        body = {"type": "authorization_response", "version": 2, **given}
        return self._signed({"sub": request["user_nkey"], "aud": request["server_id"]["id"], "nats": body})

    def _signed(self, claims: dict[str, Any]) -> str:
        claims = {**claims, "iss": self._issuer_name, "iat": int(time.time())}
        claims["jti"] = base64.b32encode(hashlib.sha256(msgspec.json.encode(claims)).digest()).decode().rstrip("=")
        text = f"{_HEADER}.{_encoded(msgspec.json.encode(claims))}"
        return f"{text}.{_encoded(self._issuer.sign(text.encode()))}"


class AsksAll(Protocol):
    """A connection in the system account: `JetStreamBus`."""

    async def ask_all(self, subject: str, data: bytes, *, wait_s: float) -> list[bytes]: ...

    async def request(self, subject: str, data: bytes, *, timeout_s: float = 5.0) -> bytes: ...


class Door:
    """Shows workloads out. Needs the system account; without it a revoked connection ends with its certificate."""

    def __init__(self, system: AsksAll, *, wait_s: float = 0.5) -> None:
        """`wait_s`: how long the servers of a cluster may take to say who is connected."""
        self._system = system
        self._wait_s = wait_s

    async def close_to(self, uuid: UUID) -> int:
        """End every connection of a workload. Returns how many. Call it after the revocation is stored: whoever comes
        back is judged by it. Raises BusError."""
        return await self._close(await self._connected(str(uuid)), lambda _: True)

    async def sweep(self, is_unwanted: Callable[[UUID], bool]) -> int:
        """End the connections of every unwanted workload: what a controller does that was away meanwhile."""
        return await self._close(await self._connected(""), is_unwanted)

    async def _close(self, found: Sequence[_Connection], is_unwanted: Callable[[UUID], bool]) -> int:
        closed = 0
        for connection in found:
            if is_unwanted(connection.uuid):
                order = msgspec.json.encode({"cid": connection.cid})
                await self._system.request(f"$SYS.REQ.SERVER.{connection.server}.KICK", order)
                closed += 1
        return closed

    async def _connected(self, user: str) -> list[_Connection]:
        """Workloads' connections on every server, page by page."""
        found: list[_Connection] = []
        offset, more = 0, True
        while more:
            query = {"auth": True, "user": user, "limit": _PAGE, "offset": offset}
            subject = "$SYS.REQ.SERVER.PING.CONNZ"
            answers = await self._system.ask_all(subject, msgspec.json.encode(query), wait_s=self._wait_s)
            if not answers:
                raise BusError("the bus server does not say who is connected")
            pages = [_connections(answer) for answer in answers]
            found += [connection for page in pages for connection in page[0]]
            more = any(page[1] > offset + _PAGE for page in pages)
            offset += _PAGE
        return found


class _Connection(msgspec.Struct, frozen=True):
    server: str
    cid: int
    uuid: UUID


def _connections(answer: bytes) -> tuple[list[_Connection], int]:
    """The workloads' connections of one server's page, and how many connections it has in all."""
    document = msgspec.json.decode(answer)
    page, server = document.get("data") or {}, document["server"]["id"]
    found = []
    for entry in page.get("connections") or ():
        try:
            found.append(_Connection(server, entry["cid"], UUID(entry.get("authorized_user", ""))))
        except ValueError:
            continue  # the controller's own
    return found, page.get("total", 0)


# ---- the request ----------------------------------------------------------------------------------------------------

_HEADER = base64.urlsafe_b64encode(b'{"typ":"JWT","alg":"ed25519-nkey"}').decode().rstrip("=")


def _verified(data: bytes) -> dict[str, Any]:
    """The `nats` claim of a request, signed by the server that it names. Raises ValueError."""
    try:
        head, body, signature = data.decode().split(".")
        claims = msgspec.json.decode(_decoded(body))
        if msgspec.json.decode(_decoded(head))["alg"] != "ed25519-nkey":
            raise ValueError("it is signed in an unknown way")
        _server_key(claims["iss"]).verify(f"{head}.{body}".encode(), _decoded(signature))
        request: dict[str, Any] = claims["nats"]
        is_meant = claims["aud"] == _AUDIENCE and request["type"] == "authorization_request"
        if not is_meant or request["server_id"]["id"] != claims["iss"] or not request["user_nkey"].startswith("U"):
            raise ValueError("it is no question of the server that signed it")
    except (KeyError, TypeError, AttributeError, msgspec.DecodeError, BadSignatureError) as error:
        raise ValueError(str(error) or type(error).__name__) from error
    return request


def _server_key(name: str) -> VerifyKey:
    """The key in a server's name: prefix, 32 bytes, CRC-16."""
    raw = base64.b32decode(name + "=" * (-len(name) % 8))
    if len(raw) != 35 or raw[0] != _SERVER_PREFIX:
        raise ValueError("it is not signed by a server")
    return VerifyKey(raw[1:33])


def _certificate(request: dict[str, Any]) -> x509.Certificate:
    """The leaf of the chain that the server has verified."""
    chains = (request.get("client_tls") or {}).get("verified_chains") or []
    if not chains or not chains[0]:
        raise ValueError("there is no verified certificate")
    return x509.load_pem_x509_certificate(chains[0][0].encode())


def _host(request: dict[str, Any]) -> str:
    return str((request.get("client_info") or {}).get("host", "?"))


def _name(request: dict[str, Any]) -> str:
    return str((request.get("client_info") or {}).get("name", ""))


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
