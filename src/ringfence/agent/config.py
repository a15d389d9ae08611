"""Where an agent keeps what, and how often it does what: `/etc/ringfence/agent.toml`, every key optional.

INVARIANT: a key that is not known is refused: a misspelt limit is none.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Final

import msgspec

from ringfence.core.errors import InputError, Location

STATE: Final = Path("/var/lib/ringfence")
SOCKET: Final = Path("/run/ringfence/agent.sock")
FILE: Final = Path("/etc/ringfence/agent.toml")
Seconds = Annotated[float, msgspec.Meta(gt=0, le=86400)]


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything about an agent that is not the controller's to say."""

    directory: Path = STATE
    """Its state: identity, what it heard, what waits to be sent."""
    socket: Path = SOCKET
    """Where it answers `ringfence-agent status`; root only."""
    netns: str | None = None
    """The network namespace it enforces; None is its own."""
    heartbeat_s: Seconds = 10.0
    audit_s: Seconds = 300.0
    """How often all of the rules are compared with the intent, though nobody touched them."""
    watch_s: Seconds = 0.5
    """Between two repairs of rules that somebody keeps changing; the first is at once."""
    flows_s: Seconds = 60.0
    """How often flows are told."""
    metrics_file: Path | None = None
    """Where its own figures are written for the textfile collector of Prometheus' node_exporter; the name ends in
    `.prom`. None: nowhere."""
    spool_bytes: Annotated[int, msgspec.Meta(ge=1 << 20)] = 256 << 20


def read_config(path: Path = FILE, *, directory: Path | None = None) -> Config:
    """The file's, or the defaults where there is none; `directory` beats it. Raises InputError `bad-agent-config`."""
    try:
        config = msgspec.convert(tomllib.loads(path.read_text()), Config, dec_hook=_path)
    except FileNotFoundError:
        config = Config()
    except (OSError, ValueError) as error:
        raise InputError(
            "bad-agent-config",
            f"`{path}` cannot be used: {error}",
            help="correct it, or move it away for the defaults",
            where=Location(str(path)),
        ) from error
    if directory is None or directory == config.directory:
        return config
    return msgspec.structs.replace(config, directory=directory, socket=directory / "agent.sock")


def _path(_: type, value: object) -> Path:
    if not isinstance(value, str):
        raise ValueError(f"`{value}` is no path")
    return Path(value)
