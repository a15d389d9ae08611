"""Does it still work: TCP handshakes from this host, made as new connections under the rules of the moment."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable
from functools import partial

from ringfence.targets.nftables.netlink import in_namespace
from ringfence.wire.messages import Probe

TIMEOUT_S = 3.0


async def failures(probes: Iterable[Probe], *, netns: str | None = None) -> tuple[str, ...]:
    """What does not answer, each in words; empty when all do. At most TIMEOUT_S for all of them together."""
    said = await asyncio.gather(*(_failure(probe, netns) for probe in probes))
    return tuple(text for text in said if text)


async def _failure(probe: Probe, netns: str | None) -> str:
    attempt: Callable[[], None] = partial(_shake, probe)
    try:
        async with asyncio.timeout(2 * TIMEOUT_S):
            await asyncio.to_thread(in_namespace, netns, attempt)
    except (OSError, TimeoutError) as error:
        why = getattr(error, "strerror", None) or str(error) or "no answer"
        return f"{probe.host} tcp/{probe.port}: {why.lower()}"
    return ""


def _shake(probe: Probe) -> None:
    socket.create_connection((probe.host, probe.port), timeout=TIMEOUT_S).close()
