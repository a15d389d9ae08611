"""The agent's key and certificate, from the side of the resident agent: asked for, installed, used for connections.

    csr = await request(directory)              -> POST it, with the token or over the connection one has
    identity = await install(directory, grant)  -> who one is, and when to renew
    context(directory)                          -> for HTTPS and the bus

INVARIANT: the resident agent never imports `cryptography` (it would cost it a quarter of its memory): `keys_child` does
that work and ends. Key, certificate and trust bundle change together: they are one file, replaced whole, after the
certificate was found to fit the key, the roots and the identity it had before. The key never leaves its host.

The transport, tokens and retries of enrolment are the caller's.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final
from uuid import UUID

import msgspec

from ringfence.core.errors import InputError, Location, RingfenceError
from ringfence.durable import read_secret

IDENTITY: Final = "identity.pem"
NEXT_KEY: Final = "next.key"
ROOTS_MARK: Final = b"# roots\n"
"""In the file, between the certificate and the roots. Readers of PEM pass over it."""
_CHILD_S = 30.0


class Grant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the controller answers to a request."""

    certificate: str
    """PEM."""
    bundle: str
    """Every root to trust from now on, PEM."""


class Identity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who this agent is, by its certificate."""

    uuid: UUID
    trust_domain: str
    serial: str
    not_before: datetime
    not_after: datetime
    secret: bytes
    """Derived from the private key: for `bus.jetstream.Options.secret`."""

    @property
    def renew_at(self) -> datetime:
        """Half of its life: there is time for many attempts before it ends."""
        return self.not_before + (self.not_after - self.not_before) / 2

    def renew_in(self, now: datetime) -> timedelta:
        """How long to wait. Never negative."""
        return max(timedelta(), self.renew_at - now)

    def is_expired(self, now: datetime) -> bool:
        return now >= self.not_after


class Proof(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """That a request comes from who has the key of a certificate."""

    certificate: str
    """The one in force, PEM."""
    signature: str
    """Over the request, as `wire.join.Request` says."""


class Failed(msgspec.Struct, frozen=True):
    """How the child says that it could not."""

    code: str
    message: str
    help: str = ""


async def request(directory: Path) -> bytes:
    """A new key, kept beside the one in force, and a request for it (PEM). Raises RingfenceError `keys-failed`."""
    return await _child("request", directory, b"")


async def prove(directory: Path, csr: str) -> Proof:
    """Sign a request with the key in force. Raises InputError `identity-missing`, `identity-damaged`."""
    return msgspec.json.decode(await _child("prove", directory, csr.encode()), type=Proof)


async def install(directory: Path, grant: Grant, *, is_enrolment: bool = False) -> Identity:
    """Put in force what the last request was answered with. What was in force stays if it does not fit.

    A renewal must be of the identity there was; an enrolment may give this host another. Raises InputError
    `grant-refused`: it is not of this key, these roots, that identity, or this time.
    """
    return _identity(await _child("enrol" if is_enrolment else "renew", directory, msgspec.json.encode(grant)))


async def describe(directory: Path) -> Identity | None:
    """Who is installed, if anybody. Raises InputError `identity-damaged`, `secret-exposed`."""
    if not (directory / IDENTITY).exists():
        return None
    return _identity(await _child("describe", directory, b""))


def context(directory: Path) -> ssl.SSLContext:
    """For every connection of the agent: proves who it is, believes only the roots it was given.

    Raises InputError `identity-missing`, `identity-damaged`, `secret-exposed`.
    """
    path = directory / IDENTITY
    content = read_secret(path)
    if content is None:
        raise InputError("identity-missing", "this host is not enrolled", help="`ringfence agent enrol` with a token")
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    made.verify_flags |= ssl.VerifyFlags.VERIFY_X509_STRICT
    try:
        made.load_verify_locations(cadata=content.partition(ROOTS_MARK)[2].decode())
        made.load_cert_chain(path)
    except (ssl.SSLError, ValueError) as error:
        raise damaged(path, str(error)) from error
    return made


async def _child(what: str, directory: Path, given: bytes) -> bytes:
    pipe = asyncio.subprocess.PIPE
    command = (sys.executable, "-m", "ringfence.agent.enrol.keys_child", what, str(directory))
    child = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe)
    try:
        async with asyncio.timeout(_CHILD_S):
            said, complained = await child.communicate(given)
    except TimeoutError:
        child.kill()
        await child.wait()
        raise RingfenceError("keys-failed", f"making keys took longer than {_CHILD_S:g} s") from None
    if child.returncode == 0:
        return said
    try:
        failed = msgspec.json.decode(said, type=Failed)
    except ValueError:
        last = complained.decode(errors="replace").strip().splitlines()[-1:]
        raise RingfenceError("keys-failed", f"keys cannot be made: {''.join(last) or child.returncode}") from None
    raise InputError(failed.code, failed.message, help=failed.help, where=Location(str(directory)))


def _identity(said: bytes) -> Identity:
    return msgspec.json.decode(said, type=Identity)


def damaged(path: Path, why: str) -> InputError:
    """The identity cannot be used."""
    return InputError(
        "identity-damaged",
        f"`{path}` does not hold an identity: {why}",
        help="enrol again; until then the last policy stays in force",
        where=Location(str(path)),
    )
