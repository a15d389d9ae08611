"""Hears of addresses that come to this host and leave it, as it happens: policy for a host follows them.

INVARIANT: which addresses there are is read from the kernel (`host.interfaces`), a notification only says when. Lost
notifications are a change; what the kernel does not say is asked again, and changes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Final

from ringfence.agent import host
from ringfence.targets.nftables.netlink import in_namespace
from ringfence.wire.messages import Interface

_IPV4_ADDRESSES, _IPV6_ADDRESSES = 0x10, 0x100
"""RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR (linux/rtnetlink.h)."""
GATHER_S: Final = 0.05
"""An interface that comes up brings several at once."""
AGAIN_S: Final = 1.0
"""Before asking a kernel again that did not say."""


class Addresses:
    """Of one network namespace."""

    def __init__(self, netns: str | None, changed: Callable[[tuple[Interface, ...]], None]) -> None:
        """`changed` is told what there is by now."""
        self._netns, self._changed = netns, changed
        self._news = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled. Raises OSError where the kernel does not say."""
        opened = in_namespace(self._netns, _open)
        loop = asyncio.get_running_loop()
        try:
            loop.add_reader(opened.fileno(), self._read, opened)
            await self._follow()
        finally:
            loop.remove_reader(opened.fileno())
            opened.close()

    async def _follow(self) -> None:
        """A lease that is renewed changes nothing."""
        known = host.interfaces(self._netns)
        while True:
            await self._news.wait()
            await asyncio.sleep(GATHER_S)
            self._news.clear()
            found = host.interfaces(self._netns)
            if found is None:
                asyncio.get_running_loop().call_later(AGAIN_S, self._news.set)
            elif found != known:
                known = found
                self._changed(found)

    def _read(self, opened: socket.socket) -> None:
        with contextlib.suppress(OSError):  # nothing more to read, or ENOBUFS: some were lost
            while opened.recv(1 << 16):
                pass
        self._news.set()


def _open() -> socket.socket:
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    opened.setblocking(False)
    opened.bind((0, _IPV4_ADDRESSES | _IPV6_ADDRESSES))
    return opened
