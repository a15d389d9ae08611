"""`controller.toml` in the controller's directory: how it runs, where the command line does not say otherwise.

INVARIANT: an unknown key is an error: what somebody wrote is meant.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Annotated

import msgspec

from ringfence.controller.access.group_roles import Oidc
from ringfence.controller.access.rates import Rates
from ringfence.controller.controller import Settings
from ringfence.core.errors import InputError, Location
from ringfence.durable import read_secret, write_secret
from ringfence.notify.sinks import Sink

FILE = "controller.toml"
NAMES = "names.json"
"""The names an option said last: hosts and people know the controller by them."""
_ORIGIN = r"^https://[^/?#\s]+$"
_Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Everything that can be said about a controller. None: as it is by default."""

    names: tuple[str, ...] | None = None
    """DNS names and addresses agents and people reach it by; the first is told to agents."""
    host: str | None = None
    """The address to listen on."""
    port: _Port | None = None
    bus_port: _Port | None = None
    trust_domain: str | None = None
    database: str | None = None
    nats: str | None = None
    needs_approval: bool | None = None
    """Policies take a second person."""
    evidence_count: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """So many bundles of evidence are kept at most; 500."""
    evidence_bytes: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """They take so much of the disk at most; 20 GB. The newest always stays."""
    public_url: Annotated[str, msgspec.Meta(pattern=_ORIGIN)] | None = None
    """Where browsers reach it, as in `https://ringfence.example.com`, if not at the first name and the port."""
    session_s: Annotated[int, msgspec.Meta(ge=60, le=30 * 86_400)] | None = None
    """A session of a browser lasts no longer; 12 hours."""
    session_idle_s: Annotated[int, msgspec.Meta(ge=60, le=86_400)] | None = None
    """It ends when nobody used it for so long; 30 minutes."""
    oidc: Oidc | None = None
    """A provider of identities that people sign in through."""
    limits: Rates | None = None
    """How many requests the API takes."""
    flows_s: Annotated[int, msgspec.Meta(ge=1, le=3600)] | None = None
    """How often agents tell their flows (`flows_s` of theirs), which is how soon they are stored; 60."""
    notify: tuple[Sink, ...] | None = None


def read_config(directory: Path) -> Config:
    """Raises InputError `bad-controller-config`."""
    path = directory / FILE
    if not path.exists():
        return Config()
    try:
        return msgspec.toml.decode(path.read_bytes(), type=Config)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        message = f"`{path}` cannot be meant as it is: {error}"
        help_ = "correct the key or value that is named"
        raise InputError("bad-controller-config", message, help=help_, where=Location(str(path))) from error


def remember_names(directory: Path, names: tuple[str, ...]) -> None:
    """From now on they are its names where nothing else is said; a backup takes them along."""
    write_secret(directory / NAMES, msgspec.json.encode(names))


def _remembered(directory: Path) -> tuple[str, ...]:
    """Raises InputError `bad-controller-config`."""
    path = directory / NAMES
    try:
        return msgspec.json.decode(read_secret(path) or b"[]", type=tuple[str, ...])
    except msgspec.DecodeError as error:
        message = f"`{path}` does not hold the controller's names: {error}"
        help_ = "remove it, and say them with --name"
        raise InputError("bad-controller-config", message, help=help_, where=Location(str(path))) from error


def settings_of(directory: Path, said: Config) -> Settings:
    """How to run: what was said, else what the file says, else (names) what was said last, else the defaults. Raises
    InputError `bad-controller-config`."""
    merged = msgspec.structs.asdict(read_config(directory))
    merged |= {key: value for key, value in msgspec.structs.asdict(said).items() if value is not None}
    merged["sinks"] = merged.pop("notify")
    merged["names"] = merged["names"] or _remembered(directory) or (socket.gethostname(),)
    return Settings(directory, **{key: value for key, value in merged.items() if value is not None})
