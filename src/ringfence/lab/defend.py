"""Enforcement in a lab: each managed host's intent, realised in its namespace and read back.

Called from the process that owns the `Lab`; each host has a target of its own, as each real host has an agent.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

import msgspec

from ringfence.core.engine import Engine
from ringfence.core.intent.compile import IntentCompiler
from ringfence.core.intent.model import Intent
from ringfence.lab.lab import Lab
from ringfence.ports.target import State
from ringfence.targets.nftables import NftablesTarget


class Defended(msgspec.Struct, frozen=True):
    """One host after its intent was applied: the state is what was read back, never what was sent."""

    host: str
    state: State
    classes: int
    """Distinct kinds of peers this host tells apart."""
    cells: int
    """Verdicts it holds."""
    digest: str
    seconds: float
    """From the intent to the proof."""
    differences: tuple[str, ...] = ()


def intents(lab: Lab, engine: Engine, hosts: Iterable[str] | None = None) -> dict[str, Intent]:
    """The intent of each managed host, by name."""
    compiler = IntentCompiler(engine)
    names = [host.name for host in lab.world.managed] if hosts is None else hosts
    return {name: compiler.compile(engine.world.inventory.by_name[name]) for name in names}


def defend(lab: Lab, wanted: dict[str, Intent]) -> tuple[Defended, ...]:
    """Realise each intent and prove it. Raises TargetError, FindingsError; hosts before the failing one stay
    defended."""
    return tuple(_defend(lab, name, intent) for name, intent in wanted.items())


def _defend(lab: Lab, name: str, intent: Intent) -> Defended:
    begin = time.perf_counter()
    realised = NftablesTarget(netns=lab.namespace(name)).converge(intent)
    return _outcome(name, intent, realised.state, realised.differences, time.perf_counter() - begin)


def audit(lab: Lab, wanted: dict[str, Intent]) -> tuple[Defended, ...]:
    """Read every host's rules back and compare; changes nothing."""
    out: list[Defended] = []
    for name, intent in wanted.items():
        begin = time.perf_counter()
        found = NftablesTarget(netns=lab.namespace(name)).verify(intent)
        out.append(_outcome(name, intent, found.state, found.differences, time.perf_counter() - begin))
    return tuple(out)


def _outcome(name: str, intent: Intent, state: State, differences: tuple[str, ...], seconds: float) -> Defended:
    cells = sum(len(part.cells) for part in intent.parts)
    return Defended(name, state, len(intent.peers), cells, intent.digest, seconds, differences)
