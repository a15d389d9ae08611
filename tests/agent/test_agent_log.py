"""An agent's log says what became of its host, a line each, and nothing of who is a member of what."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from scripted import OTHER, OWN, UUID, Controller, Host, Paper, body, trial, until

from ringfence.agent.clock import Clock
from ringfence.agent.enforce.telling import Telling
from ringfence.core.intent.pieces import Isolation
from ringfence.core.net.address import parse_address
from ringfence.wire.messages import Probe


def logged(caplog: pytest.LogCaptureFixture, test: Coroutine[Any, Any, None]) -> list[str]:
    """What is logged of it, from INFO on, without digests."""
    with caplog.at_level(logging.INFO, logger="ringfence.agent"):
        asyncio.run(asyncio.wait_for(test, 60))
    return [record.getMessage().partition(", digest")[0] for record in caplog.records]


def test_a_line_for_each_connection_version_and_quarantine(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Connected, a version, two quarantines and their end, the next version: a line each; members come and go in
    silence."""

    async def test() -> None:
        controller, point = Controller(), Paper()
        await controller.start()
        async with Host(controller, tmp_path, point) as agent:
            await agent.link.on_connected()
            await agent.link.on_connected()

            async def realised(revision: int) -> None:
                await until(
                    lambda: (
                        controller.realised
                        and controller.realised[-1].state == "realised"
                        and max(controller.realised[-1].assignment, controller.realised[-1].isolations) >= revision
                    )
                )

            await controller.say(controller.move(added=["10.0.0.1"]))
            first = controller.assign(body("tcp/80"))
            await controller.say(first)
            await realised(first.revision)
            for address in ("10.0.0.2", "10.0.0.3"):
                await controller.say(controller.move(added=[address]))
            both = controller.isolate(Isolation(OTHER, (parse_address("10.0.0.3"),)), Isolation(UUID, OWN))
            await controller.say(both)
            await realised(both.revision)
            none = controller.isolate()
            await controller.say(none)
            await realised(none.revision)
            second = controller.assign(body("tcp/81"), mode="observe")
            await controller.say(second)
            await realised(second.revision)
        await controller.bus.close()
        versions[:] = [first.policy_version, second.policy_version]

    versions: list[int] = []
    told = logged(caplog, test())
    assert told[-8:] == [
        "connected to the controller",
        "connected to the controller again",
        f"version {versions[0]} is in force: in enforce, out enforce",
        "a quarantine is in force: of this host",
        f"a quarantine is in force: of {OTHER}",
        "a quarantine ended: of this host",
        f"a quarantine ended: of {OTHER}",
        f"version {versions[1]} is in force: in observe, out observe",
    ]


def test_a_trial_is_told_from_begin_to_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """On trial, then confirmed; on trial, then taken back with the reason, and what is in force instead."""

    async def test() -> None:
        controller = Controller()
        await controller.start()
        async with Host(controller, tmp_path, Paper()) as agent:
            await controller.say(controller.move(added=["10.0.0.1"]))
            good = controller.assign(body("tcp/80"), trial=trial(60))
            await controller.say(good)
            await until(lambda: agent.held.confirmed is not None)
            bad = controller.assign(body("tcp/81"), trial=trial(1, Probe("127.0.0.1", 1)))
            await controller.say(bad)
            await until(lambda: controller.realised and controller.realised[-1].is_reverted)
        await controller.bus.close()

    told = "\n".join(logged(caplog, test()))
    for words in (
        "is on trial for 60 s",
        "proved itself and stays",
        "is on trial for 1 s",
        "did not prove itself and is taken back: ",
        "out enforce",
    ):
        before, found, told = told.partition(words)
        assert found, (words, before)


def test_many_quarantines_are_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """A thousand hosts isolated at once fill no journal; this host is named all the same."""
    telling = Telling(Clock(), lambda _: None, lambda _: None)
    with caplog.at_level(logging.INFO, logger="ringfence.agent"):
        telling.note_isolated([UUID, *map(str, range(1000))], UUID)
    words = [record.getMessage() for record in caplog.records]
    assert words == ["a quarantine is in force: of this host", "quarantines of 1000 other hosts: in force"]
