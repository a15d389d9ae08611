"""What an agent says of its host's addresses, and what it does when the kernel does not say."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Iterator

import pytest

from ringfence.agent import host
from ringfence.agent.enforce import addresses
from ringfence.agent.enforce.addresses import Addresses
from ringfence.core.net.address import parse_address
from ringfence.flows.conntrack import netlink
from ringfence.wire.messages import Interface

ETH0 = Interface("eth0", (parse_address("10.0.0.1"),))
ETH1 = Interface("eth1", (parse_address("10.0.0.2"),))


def test_a_kernel_that_does_not_say_is_no_kernel_without_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be read is unknown; what can be read the next time is what there is."""
    tries = 0

    def refuses() -> Iterator[tuple[str, int]]:
        nonlocal tries
        tries += 1
        if tries <= failures:
            raise OSError(errno.EAGAIN, "on purpose")
        yield "eth0", ETH0.addresses[0]

    monkeypatch.setattr(host, "_addresses", refuses)
    failures = 2
    assert host.interfaces() == (ETH0,)
    tries, failures = 0, 100
    assert host.interfaces() is None


def test_a_dump_that_was_interrupted_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel says that it is no picture of one moment: half of the addresses are not all of them."""
    read = netlink.messages
    interrupted = 0

    def messages(data: bytes) -> Iterator[tuple[int, bytes, int, int]]:
        nonlocal interrupted
        if interrupted < 1:
            interrupted += 1
            data = data[:6] + (int.from_bytes(data[6:8], "little") | 0x10).to_bytes(2, "little") + data[8:]
        return read(data)

    expected = host.interfaces()
    monkeypatch.setattr(netlink, "messages", messages)
    assert host.interfaces() == expected
    assert interrupted == 1


def test_what_is_not_known_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the kernel does not say, nobody is told; it is asked again, and only what is other than before is news."""
    answers = iter([(ETH0,), None, (ETH0,), None, (ETH0, ETH1)])
    monkeypatch.setattr(host, "interfaces", lambda _: next(answers))
    monkeypatch.setattr(addresses, "GATHER_S", 0.0)
    monkeypatch.setattr(addresses, "AGAIN_S", 0.0)
    told: list[tuple[Interface, ...]] = []

    async def story() -> None:
        found = asyncio.Event()

        def changed(interfaces: tuple[Interface, ...]) -> None:
            told.append(interfaces)
            found.set()

        watched = Addresses(None, changed)
        task = asyncio.create_task(watched._follow())
        watched._news.set()
        while not found.is_set():
            watched._news.set()
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(story())
    assert told == [(ETH0, ETH1)]


def test_every_interface_of_this_machine_but_the_loopback() -> None:
    """The real kernel's answer, by name."""
    found = host.interfaces()
    assert found is not None
    names = {one.name for one in found}
    assert names <= {name for _, name in socket.if_nameindex()} - {"lo"}
