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

from ringfence.agent import host
from ringfence.agent.config import Config
from ringfence.agent.enrol import keys
from ringfence.agent.held.disk import Disk
from ringfence.core.errors import Finding, RingfenceError
from ringfence.targets.nftables import NftablesTarget
from ringfence.targets.nftables import preflight as nft

FREE_BYTES: Final = 512 << 20
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
    kernel_facts: nft.Facts | None
    """Features as probed, and other firewalls; None: not to be known."""
    is_clock_disciplined: bool
    is_enrolled: bool
    interfaces: int


def look(config: Config) -> tuple[Facts, tuple[Finding, ...]]:
    table, kernel_facts, kernel_findings = _kernel(config)
    folder = _existing(config.directory)
    facts = Facts(
        host=socket.gethostname(),
        kernel=platform.release(),
        machine=host.machine(),
        table=table,
        free_bytes=shutil.disk_usage(folder).free,
        kernel_facts=kernel_facts,
        is_clock_disciplined=_is_clock_disciplined(),
        is_enrolled=(config.directory / keys.IDENTITY).exists(),
        interfaces=len(host.interfaces(config.netns) or ()),
    )
    found = (*kernel_findings, *judge(facts, is_writable=os.access(folder, os.W_OK)), *_controller(config))
    return facts, found


def lines(facts: Facts) -> Iterator[tuple[str, object]]:
    """For people."""
    for name, value in msgspec.structs.asdict(facts).items():
        if name != "kernel_facts":
            yield name.replace("_", " "), value
    if facts.kernel_facts is None:
        return
    there = [name for name, is_there in facts.kernel_facts.features.items() if is_there]
    yield "kernel features", ", ".join(there) or "none"
    beside = [f"{one.family} {one.table} ({one.owner or 'unknown'})" for one in facts.kernel_facts.neighbours]
    yield "other firewalls", ", ".join(beside) or "none"
    yield "connections tracked", f"{facts.kernel_facts.conntrack_used} of {facts.kernel_facts.conntrack_max}"


def judge(facts: Facts, *, is_writable: bool) -> Iterator[Finding]:
    """What the facts mean."""
    if not is_writable:
        yield Finding("state-not-writable", "the state directory cannot be written", help="run as root")
    if facts.free_bytes < FREE_BYTES:
        message = f"{facts.free_bytes >> 20} MiB are free where the agent keeps its state"
        yield Finding(
            "disk-nearly-full", message, "warning", help="enforcement goes on without a disk; telemetry may be lost"
        )
    if not facts.is_clock_disciplined:
        yield Finding("clock-not-disciplined", "nobody keeps this host's clock right", "warning",
                      help="run an NTP client: dates of policies and certificates depend on it")  # fmt: skip
    if not facts.interfaces:
        yield Finding("no-addresses", "no interface has an address", "warning", help="enrol when the network is up")


def _kernel(config: Config) -> tuple[str, nft.Facts | None, tuple[Finding, ...]]:
    """What is in the kernel of ours, what it can, and who else judges packets there."""
    try:
        facts = nft.observe_facts(config.netns)
        return NftablesTarget(config.netns).observe().state, facts, nft.check(facts)
    except RingfenceError as error:
        return "unreachable", None, (error.as_finding(),)


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
