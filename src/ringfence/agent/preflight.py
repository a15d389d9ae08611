"""What an operator should know before this host enforces anything: facts of this host, and findings about them.

INVARIANT: nothing is changed and nothing is guessed: what is called missing was tried.
"""

from __future__ import annotations

import os
import platform
import shutil
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from ringfence.agent import host, keys
from ringfence.agent.config import Config
from ringfence.agent.disk import Disk
from ringfence.core.errors import Finding, RingfenceError
from ringfence.targets.nftables import NftablesTarget

FREE_BYTES: Final = 512 << 20
CONNTRACK_SHARE: Final = 0.8
_TIMEOUT_S: Final = 5.0
_TIME_ERROR = 5
"""What adjtimex(2) returns while nobody disciplines the clock."""


class Facts(msgspec.Struct, frozen=True):
    """What was found."""

    host: str
    kernel: str
    machine: str
    table: str
    """What is in the kernel of ours."""
    free_bytes: int
    conntrack_used: int
    conntrack_max: int
    is_clock_disciplined: bool
    is_enrolled: bool
    interfaces: int


def look(config: Config) -> tuple[Facts, tuple[Finding, ...]]:
    table, kernel_finding = _table(config)
    folder = _existing(config.directory)
    used, most = host.conntrack_fill(config.netns)
    facts = Facts(
        host=socket.gethostname(),
        kernel=platform.release(),
        machine=host.machine(),
        table=table,
        free_bytes=shutil.disk_usage(folder).free,
        conntrack_used=used,
        conntrack_max=most,
        is_clock_disciplined=_is_clock_disciplined(),
        is_enrolled=(config.directory / keys.IDENTITY).exists(),
        interfaces=len(host.interfaces(config.netns)),
    )
    found = (*kernel_finding, *judge(facts, is_writable=os.access(folder, os.W_OK)), *_controller(config))
    return facts, found


def judge(facts: Facts, *, is_writable: bool) -> Iterator[Finding]:
    """What the facts mean."""
    if not is_writable:
        yield Finding("state-not-writable", "the state directory cannot be written", help="run as root")
    if facts.free_bytes < FREE_BYTES:
        message = f"{facts.free_bytes >> 20} MiB are free where the agent keeps its state"
        yield Finding(
            "disk-nearly-full", message, "warning", help="enforcement goes on without a disk; telemetry may be lost"
        )
    if facts.conntrack_max and facts.conntrack_used > CONNTRACK_SHARE * facts.conntrack_max:
        message = f"{facts.conntrack_used} of {facts.conntrack_max} connections are tracked"
        yield Finding("conntrack-nearly-full", message, "warning", help="raise net.netfilter.nf_conntrack_max")
    if not facts.is_clock_disciplined:
        yield Finding("clock-not-disciplined", "nobody keeps this host's clock right", "warning",
                      help="run an NTP client: dates of policies and certificates depend on it")  # fmt: skip
    if not facts.interfaces:
        yield Finding("no-addresses", "no interface has an address", "warning", help="enrol when the network is up")


def _table(config: Config) -> tuple[str, tuple[Finding, ...]]:
    try:
        return NftablesTarget(config.netns).observe().state, ()
    except RingfenceError as error:
        return "unreachable", (error.as_finding(),)


def _controller(config: Config) -> Iterator[Finding]:
    """Whether the controller answers and proves who it is; only where this host is enrolled."""
    try:
        trust = Disk(config.directory).load_trust()
        where = urlsplit(trust.controller)
        address = (where.hostname or "", where.port or 443)
        with (
            socket.create_connection(address, timeout=_TIMEOUT_S) as plain,
            keys.context(config.directory).wrap_socket(plain, server_hostname=where.hostname) as secure,
        ):
            secure.getpeercert()
    except RingfenceError as error:
        if error.code != "identity-missing":
            yield error.as_finding()
    except (OSError, ssl.SSLError) as error:
        yield Finding("controller-unreachable", f"the controller does not answer: {error}", help="check the way there")


def _is_clock_disciplined() -> bool:
    """As the kernel says (adjtimex(2), TIME_ERROR). Where it may not be asked, nobody is accused."""
    import ctypes

    try:
        return int(ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(512))) != _TIME_ERROR
    except (OSError, AttributeError):
        return True


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that there is."""
    return next(folder for folder in (path, *path.parents) if folder.exists())
