"""What questions are asked against: one slow draft keeps nobody else waiting."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ringfence.controller.study.grounds import Grounds, Texts
from ringfence.core.engine import Engine
from ringfence.core.identity.inventory import Inventory
from ringfence.core.world import World
from ringfence.stores.duckdb import DuckFlowStore
from ringfence.wire.explore import Pen

WORLD = World(Inventory(()), (), at=datetime(2026, 3, 3, tzinfo=UTC))
PATIENCE_S = 60.0


def test_what_is_in_force_does_not_wait_for_a_draft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a draft is compiled, however long that takes, a changed world is there at once; each has its number."""
    begun, may_end = threading.Event(), threading.Event()
    worlds = [WORLD, World(Inventory(()), (), at=WORLD.at)]
    grounds = Grounds(DuckFlowStore(tmp_path / "flows.duckdb"), lambda: worlds[0], lambda: 0, lambda _: WORLD)
    now, found, plain = grounds.now(), [], Engine.compile

    def slow(world: World) -> Engine:
        if world.policies:
            begun.set()
            may_end.wait(PATIENCE_S)
        return plain(world)

    monkeypatch.setattr(Engine, "compile", slow)
    draft = Pen({"a.yaml": "policy: a\nrules:\n  - allow: {from: role=a, to: role=b, service: ssh}\n"})
    drafting = threading.Thread(target=lambda: found.append(grounds.drafted(now, draft, Texts(0, {}, ""))))
    drafting.start()
    assert begun.wait(PATIENCE_S)
    worlds.pop(0)
    asking = threading.Thread(target=lambda: found.append(grounds.now()), daemon=True)
    asking.start()
    asking.join(PATIENCE_S)
    assert [ground.world for ground in found] == [worlds[0]]
    may_end.set()
    drafting.join(PATIENCE_S)
    assert len({now.number, *(ground.number for ground in found)}) == 3
