"""A change of labels is a change of policy: planned with tests and traffic, and refused when a test would break."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from test_running import DB, WEB, estate, with_controller

from ringfence.controller.access.access import Principal
from ringfence.controller.controller import Controller
from ringfence.core.errors import FindingsError
from ringfence.wire.api import Relabel

ROOT = Principal("root", ("administrator",))
POLICY = """\
policy: p
owner: o
rules:
  - allow: {from: role=web, to: role=db, service: tcp/5432}
tests:
  - {from: role=web, to: role=db, service: tcp/5432, expect: allowed}
  - {from: role=gone, to: role=db, expect: blocked}
"""


def planned(asked: Relabel) -> Callable[[Controller], Awaitable[Any]]:
    async def work(controller: Controller) -> Any:
        return controller.workloads.plan_labels(asked)

    return work


def relabelled(asked: Relabel) -> Callable[[Controller], Awaitable[Any]]:
    async def work(controller: Controller) -> Any:
        return await controller.workloads.relabel(asked, by=ROOT)

    return work


async def labels(controller: Controller) -> dict[str, str]:
    return {w.uuid: w.labels["role"] for w in controller.workloads.inventory.workloads}


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (Relabel(("web",), {"role": "cache"}, why="x"), "test-unmatched"),
        (Relabel(("web",), {"role": "gone"}, why="x"), "test-unmatched"),
    ],
    ids=["nobody is left", "another is meant"],
)
def test_a_test_that_would_break_refuses_the_labels(tmp_path: Path, asked: Relabel, code: str) -> None:
    """The plan names it, with what closes and what stored traffic says; putting the labels changes nothing."""
    filled = estate({"p.yaml": POLICY}, "", "done", ())
    plan, refused, now = with_controller(tmp_path, filled, planned(asked), relabelled(asked), labels)

    assert code in [one.code for one in plan.findings]
    assert plan.closed == 1
    assert plan.impact.connections == 0
    assert isinstance(refused, FindingsError)
    assert now == {WEB: "web", DB: "db"}


def test_a_test_that_fails_already_refuses_nothing(tmp_path: Path) -> None:
    """Only what the labels would break counts: a test about nobody is no reason against another label."""
    asked = Relabel(("web",), {"tier": "front"}, why="x")
    plan, changed = with_controller(
        tmp_path, estate({"p.yaml": POLICY}, "", "done", ()), planned(asked), relabelled(asked)
    )

    assert plan.findings == ()
    assert [one.outcome for one in plan.proofs] == ["proven", "unmatched"]
    assert changed == 1
