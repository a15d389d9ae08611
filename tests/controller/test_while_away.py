"""What a controller does while its database does not answer."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ringfence.controller.access import access
from ringfence.controller.access.access import AccessError, Principal
from ringfence.controller.access.granting import Granting
from ringfence.controller.looping import Loops
from ringfence.core.errors import RingfenceError
from ringfence.ports.state import ApiToken, StateError
from ringfence.stores.sql import SqlState

NOW = datetime(2026, 3, 3, tzinfo=UTC)
ROOT = Principal("root", ("administrator",))


def recalled(granting: Granting, token: str) -> str:
    """Whose token it is taken for; else the code it is refused with."""
    try:
        return granting.recall(token).name
    except AccessError as error:
        return error.code


def test_who_was_known_is_known_and_nobody_else(tmp_path: Path) -> None:
    """Whose token was good last may ask how the controller is while the state does not answer: no stranger, nobody
    whose token expired meanwhile, and nobody after any token was revoked."""

    async def run() -> list[str]:
        state, now = SqlState(tmp_path / "state"), [NOW]
        granting = Granting(state, "https://c", lambda: "f", lambda: now[0])
        ends = NOW + timedelta(hours=1)
        tokens = [
            await state.write(lambda tx, n=name: access.grant(tx, n, ["viewer"], by="root", at=NOW, expires=ends))
            for name in ("ann", "bob", "eve")
        ]
        for token in tokens[:2]:
            await granting.recognise(token)
        found = [recalled(granting, token) for token in (*tokens, tokens[0][:-1] + "x")]
        (eve,) = [t.id for t in await state.read(lambda view: view.find(ApiToken)) if t.name == "eve"]
        await granting.revoke(eve, by=ROOT)
        found.append(recalled(granting, tokens[0]))
        await granting.recognise(tokens[0])
        await state.close()
        with pytest.raises(StateError):
            await granting.recognise(tokens[0])
        found.append(recalled(granting, tokens[0]))
        now[0] = ends
        found.append(recalled(granting, tokens[0]))
        return found

    refused = "token-refused"
    assert asyncio.run(run()) == ["ann", "bob", refused, refused, refused, "ann", refused]


def test_what_fails_over_and_over_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """When it begins to fail, when it fails otherwise, and when it goes on; a fault of our own with its place."""
    whys = iter(["away", "away", "full", None, "fault", None])
    loops, ended = Loops(), asyncio.Event()
    seen: list[dict[str, str]] = []

    async def work() -> None:
        seen.append(dict(loops.problems))
        why = next(whys, "end")
        if why == "end":
            ended.set()
        elif why == "fault":
            raise ZeroDivisionError("by zero")
        elif why is not None:
            raise RingfenceError("state-unreachable", why)

    async def run() -> None:
        task = asyncio.create_task(loops.every("a work", 0, work))
        await ended.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    caplog.set_level(logging.INFO)
    asyncio.run(run())

    told = [(r.levelname, bool(r.exc_info)) for r in caplog.records if r.name == "ringfence.controller.looping"]
    waits, goes_on, fault = ("WARNING", False), ("INFO", False), ("ERROR", True)
    assert told == [waits, waits, goes_on, fault, goes_on]
    assert [one.get("a work", "") for one in seen] == ["", "away", "away", "full", "", "by zero", ""]
