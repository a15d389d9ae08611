"""How a host joins its controller, and how it stays: a certificate for a token, and a new one at half its life.

    await enrol(disk, token)     ask who the controller is, check it against the token, then say the secret
    await renew(disk)            the request signed with the key of the certificate it replaces

INVARIANT: the token's secret is said to nobody but the controller whose CA the token names: the CA is fetched without
trust, compared by fingerprint, and only then is there a connection to say anything over.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import socket
import ssl
from typing import Final, NamedTuple, TypeVar
from urllib.parse import urlsplit

import msgspec

from ringfence.agent.enrol import keys
from ringfence.agent.held.disk import Disk, Trust
from ringfence.agent.host import interfaces, machine
from ringfence.core.errors import InputError, RingfenceError
from ringfence.wire.join import Admission, Join, Request, parse_join

_TIMEOUT_S: Final = 15.0
_MAX_BYTES: Final = 1 << 20
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
T = TypeVar("T")


class _Refusal(msgspec.Struct):
    code: str = ""
    message: str = ""
    help: str = ""


class Joined(NamedTuple):
    trust: Trust
    identity: keys.Identity


async def enrol(disk: Disk, token: str, *, netns: str | None = None) -> Joined:
    """Raises InputError `bad-token`, `controller-unknown`, `join-refused` and what else the controller says;
    RingfenceError `controller-unreachable`."""
    join = parse_join(token)
    context = await asyncio.to_thread(pinned, join)
    csr = (await keys.request(disk.folder)).decode()
    asked = Request(csr, token.strip(), machine(), socket.gethostname(), interfaces(netns) or ())
    answer = await asyncio.to_thread(post, f"{join.url.rstrip('/')}/v1/agents/enrol", asked, context)
    return await _install(disk, answer, join.url.rstrip("/"), is_enrolment=True)


async def renew(disk: Disk) -> Joined:
    """A new certificate, and whom to trust from now on. Raises as `enrol`, and InputError `renewal-refused`."""
    trust = disk.load_trust()
    csr = (await keys.request(disk.folder)).decode()
    proof = await keys.prove(disk.folder, csr)
    asked = Request(csr, certificate=proof.certificate, signature=proof.signature)
    answer = await asyncio.to_thread(post, f"{trust.controller}/v1/agents/renew", asked, keys.context(disk.folder))
    return await _install(disk, answer, trust.controller, is_enrolment=False)


async def _install(disk: Disk, answer: Admission, url: str, *, is_enrolment: bool) -> Joined:
    if not answer.message_keys or not answer.nats or any(len(key) != 32 for key in answer.message_keys):
        raise _unusable("it names no bus, or no key that signs messages")
    grant = keys.Grant(answer.certificate, answer.ca)
    identity = await keys.install(disk.folder, grant, is_enrolment=is_enrolment)
    if str(identity.uuid) != answer.workload:
        raise _unusable(f"the certificate is of {identity.uuid}, the answer of {answer.workload}")
    trust = Trust(answer.workload, answer.trust_domain, url, answer.nats, answer.message_keys)
    disk.save_trust(trust)
    return Joined(trust, identity)


# ---- HTTPS ----------------------------------------------------------------------------------------------------------


def pinned(join: Join) -> ssl.SSLContext:
    """Trust in the one CA that the token names. Raises InputError `controller-unknown`."""
    anybody = ssl.create_default_context()
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    text = _exchange("GET", f"{join.url.rstrip('/')}/v1/ca", b"", anybody).decode("ascii", "replace")
    for pem in _PEM.findall(text):
        if hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest() == join.ca:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            context.load_verify_locations(cadata=pem)
            return context
    raise InputError(
        "controller-unknown",
        f"who answers at `{join.url}` is not the controller that made the token",
        help="nothing was said to it; make a new token, or find out who answers there",
    )


def post(url: str, asked: Request, context: ssl.SSLContext) -> Admission:
    """Raises InputError with the controller's own code, RingfenceError `controller-unreachable`."""
    body = _exchange("POST", url, msgspec.json.encode(asked), context)
    try:
        return msgspec.json.decode(body, type=Admission)
    except ValueError as error:
        raise _unusable(str(error)) from error


def _exchange(method: str, url: str, body: bytes, context: ssl.SSLContext) -> bytes:
    import http.client  # with all of `email`: a resident agent needs it at half of a certificate's life, no sooner

    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname:
        raise InputError("controller-unreachable", f"`{url}` is no https address", help="make a new token")
    connection = http.client.HTTPSConnection(parts.hostname, parts.port or 443, timeout=_TIMEOUT_S, context=context)
    try:
        connection.request(method, parts.path, body or None, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        content = answer.read(_MAX_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise _unreachable(url, error) from error
    finally:
        connection.close()
    if answer.status >= 300:
        raise _refused(answer.status, content)
    return content


def _unreachable(url: str, error: Exception) -> RingfenceError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return InputError(
            "controller-unknown", f"`{url}` does not prove to be the controller: {error.verify_message}",
            help="check the name in the address, and both clocks",
        )  # fmt: skip
    why = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return RingfenceError(
        "controller-unreachable", f"`{url}` cannot be reached: {why}", help="check the way there, then try again"
    )


def _refused(status: int, content: bytes) -> RingfenceError:
    try:
        said = msgspec.json.decode(content, type=_Refusal)
    except ValueError:
        said = _Refusal()
    if status >= 500 or status == 429 or not said.code:
        return RingfenceError("controller-unreachable", f"the controller answers {status}", help="try again later")
    return InputError(said.code, said.message or f"the controller answers {status}", help=said.help)


def _unusable(why: str) -> InputError:
    return InputError(
        "grant-refused", f"the answer of the controller cannot be used: {why}", help="update the older end"
    )
