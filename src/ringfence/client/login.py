"""Where the controller is, who one is there, and whom to believe: from options, the environment, or what `login` kept.

    RINGFENCE_SERVER   https://...          RINGFENCE_TOKEN   rf_...          RINGFENCE_CA   a file with the CA (PEM)

INVARIANT: nothing is said to a server that does not prove to be of the CA one was given. The token is in a file of its
owner's alone.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import ssl
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from ringfence.client.errors import Unreachable
from ringfence.core.errors import InputError, Location
from ringfence.durable import read_secret, write_secret

SERVER, TOKEN, CA = "RINGFENCE_SERVER", "RINGFENCE_TOKEN", "RINGFENCE_CA"
_TIMEOUT_S = 15.0
_MAX_BYTES = 1 << 20
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")


class Login(msgspec.Struct, frozen=True):
    """All it takes to talk to a controller."""

    server: str
    token: str
    ca: str
    """PEM."""


class _Kept(msgspec.Struct, frozen=True):
    current: str
    servers: dict[str, Login] = {}


def place() -> Path:
    """The file that `login` keeps. Raises InputError `no-home`."""
    base = os.environ.get("XDG_CONFIG_HOME")
    try:
        return (Path(base) if base else Path.home() / ".config") / "ringfence" / "login.json"
    except RuntimeError as error:
        help_ = f"set HOME or XDG_CONFIG_HOME; or set {SERVER}, {TOKEN} and {CA}, and nothing is kept"
        raise InputError("no-home", "no home directory is known to keep a login in", help=help_) from error


def find(server: str = "") -> Login:
    """`server`: another than the usual one. Raises InputError `not-logged-in`, `login-damaged`, `unreadable-file`,
    `bad-token`."""
    wanted = (server or os.environ.get(SERVER, "")).rstrip("/")
    kept = _kept()
    known = kept.servers.get(wanted or kept.current)
    token = parse_token(os.environ.get(TOKEN, "")) or (known.token if known else "")
    ca = _read(os.environ[CA]) if os.environ.get(CA) else (known.ca if known else "")
    address = wanted or (known.server if known else "")
    lacking = [what for what, value in (("server", address), ("token", token), ("CA", ca)) if not value]
    if lacking:
        help_ = f"`ringfence login URL --ca-fingerprint F`, or set {SERVER}, {TOKEN} and {CA}"
        raise InputError("not-logged-in", f"no {' and no '.join(lacking)} is known", help=help_)
    return Login(_checked(address), token, ca)


def parse_token(text: str) -> str:
    """Without the line's end. Raises InputError `bad-token`: what could not even be sent."""
    token = text.strip()
    if not token.isascii() or not token.isprintable() or " " in token:
        help_ = "copy the whole of it, from `rf_` to the end, and nothing else"
        raise InputError("bad-token", "the token holds characters that no token has", help=help_)
    return token


def keep(login: Login) -> None:
    """From now on this is the usual server."""
    kept = _kept()
    made = _Kept(login.server, {**kept.servers, login.server: login})
    write_secret(place(), msgspec.json.format(msgspec.json.encode(made)))


def forget(server: str = "") -> str:
    """Whose token is not kept any more. Raises InputError `not-logged-in`."""
    kept = _kept()
    address = server.rstrip("/") or kept.current
    if not address:
        raise InputError("not-logged-in", "nobody is logged in", help="`ringfence login` keeps a controller")
    if address not in kept.servers:
        raise InputError("not-logged-in", f"nothing is kept of `{address}`", help="`ringfence login` keeps it")
    servers = {url: login for url, login in kept.servers.items() if url != address}
    write_secret(place(), msgspec.json.encode(_Kept(next(iter(servers), ""), servers)))
    return address


def fetch_ca(server: str, fingerprint: str) -> str:
    """The CA of a server, if it is the one with that fingerprint (SHA-256, hex). Raises InputError
    `controller-unknown`, `bad-fingerprint`, Unreachable."""
    wanted = fingerprint.replace(":", "").strip().lower()
    if not _FINGERPRINT.fullmatch(wanted):
        help_ = "`ringfence up` prints it: 64 hex digits"
        raise InputError("bad-fingerprint", f"`{fingerprint}` is no SHA-256 fingerprint", help=help_)
    for pem in _PEM.findall(_offered(_checked(server))):
        if hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest() == wanted:
            return str(pem)
    raise InputError(
        "controller-unknown",
        f"who answers at `{server}` does not have the CA with that fingerprint",
        help="nothing was said to it; compare the fingerprint, and find out who answers there",
    )


def _offered(server: str) -> str:
    """What a server says its CA is: believed only by its fingerprint."""
    anybody = ssl.create_default_context()
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    parts = urlsplit(server)
    connection = http.client.HTTPSConnection(
        parts.hostname or "", parts.port or 443, timeout=_TIMEOUT_S, context=anybody
    )
    try:
        connection.request("GET", "/v1/ca")
        return connection.getresponse().read(_MAX_BYTES).decode("ascii", "replace")
    except (OSError, http.client.HTTPException) as error:
        raise unreachable(server, error) from error
    finally:
        connection.close()


def unreachable(server: str, error: Exception) -> Unreachable:
    why = getattr(error, "strerror", None) or str(error) or type(error).__name__
    help_ = "check the address, and that `ringfence up` runs there"
    return Unreachable("controller-unreachable", f"`{server}` cannot be reached: {why}", help=help_)


def _is_address(server: str) -> bool:
    """`https`, a name that can be looked up, and a port that there is."""
    try:
        parts = urlsplit(server)
        host, _ = (parts.hostname or "").encode("idna"), parts.port
    except ValueError:
        return False
    return parts.scheme == "https" and bool(host) and not any(char.isspace() for char in server)


def _checked(server: str) -> str:
    if not _is_address(server):
        raise InputError("bad-server", f"`{server}` is no https address", help="write it like https://ringfence:8443")
    return server.rstrip("/")


def _has_place() -> bool:
    try:
        place()
    except InputError:
        return False
    return True


def _kept() -> _Kept:
    """Raises InputError `login-damaged`."""
    if not _has_place():
        return _Kept("")
    content = read_secret(place())
    if content is None:
        return _Kept("")
    try:
        return msgspec.json.decode(content, type=_Kept)
    except msgspec.DecodeError as error:
        where = Location(str(place()))
        message = f"`{place()}` cannot be read: {error}"
        raise InputError("login-damaged", message, help="remove it, and log in again", where=where) from error


def _read(path: str) -> str:
    try:
        return Path(path).read_text("ascii")
    except (OSError, UnicodeDecodeError) as error:
        message = f"cannot read `{path}`: {getattr(error, 'strerror', None) or 'it is no PEM file'}"
        help_ = "name a file with the CA's certificate (PEM)"
        raise InputError("unreadable-file", message, where=Location(path), help=help_) from error
