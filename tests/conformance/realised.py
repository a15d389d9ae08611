"""What a realised nftables table says to a hearing: the program run on the packet, and the read-back intent read.

Two readings of one table. The machine runs the kernel's expressions; `cell_of` looks the packet up in the intent parsed
back from them, which also knows the rule's name. They must say the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import msgspec
from conformance.hearings import Hearing, is_mld

from ringfence.core.engine.engine import Engine
from ringfence.core.errors import errors_among
from ringfence.core.identity.workload import Workload
from ringfence.core.intent.compile import IntentCompiler
from ringfence.core.intent.model import UNKNOWN_CLASS, Cell, Intent
from ringfence.core.net.service import ICMP, ICMPV6
from ringfence.core.world import EndVerdict, VerdictName, World
from ringfence.targets.nftables import NftablesTarget
from ringfence.targets.nftables.areas import CgroupRef, areas_of, units_of
from ringfence.targets.nftables.cgroups import resolve_units
from ringfence.targets.nftables.evaluate import Machine, Outcome, Packet
from ringfence.targets.nftables.expressions import Verdict
from ringfence.targets.nftables.layout import Hash, Layout
from ringfence.targets.nftables.readback import parse
from ringfence.targets.nftables.render import render
from ringfence.targets.nftables.support import refused

LOOPBACK_DEVICE, OTHER_DEVICE = 1, 2
EFFECTS: Mapping[str, VerdictName] = {"allowed": "allowed", "would": "would-block"}
"""The last word of the counter that a packet ends at; any other blocks."""
STRANGER = CgroupRef("stranger", 1, 7)
"""The control group of a process that no rule names."""


class Realised(NamedTuple):
    """One host's table, ready to be asked."""

    machine: Machine
    intent: Intent
    groups: Mapping[str, CgroupRef]


Realise = Callable[[Intent], Realised]


class Ruling(NamedTuple):
    """What a table says: the verdict, the step that made it (`outright` for what passes uncounted), and the rule."""

    verdict: VerdictName
    step: str
    rule: str | None


class Estate:
    """The hosts of one world at one time, each realised when first asked."""

    def __init__(self, world: World, realise: Realise) -> None:
        self.compiler = IntentCompiler(Engine.compile(world))
        self._realise = realise
        self._realised: dict[str, Realised] = {}
        self._intents: dict[str, Intent] = {}

    def intent(self, host: Workload) -> Intent:
        if host.uuid not in self._intents:
            self._intents[host.uuid] = self.compiler.compile(host)
        return self._intents[host.uuid]

    def rule_on(self, hearing: Hearing) -> Ruling:
        host = hearing.host
        if host.uuid not in self._realised:
            self._realised[host.uuid] = self._realise(self.intent(host))
        return ruling(self._realised[host.uuid], hearing)


def on_paper(intent: Intent) -> Realised:
    """Rendered and parsed again, without a kernel."""
    groups = {unit: CgroupRef(unit, 1, 1 << 33 | crc32(unit.encode())) for unit in units_of(intent)}
    layout = render(intent, 1, groups)
    assert chains_gone_to(layout) <= layout.chains.keys(), "a rule goes to a chain that the table lacks"
    return Realised(Machine(layout), parse(layout, groups), groups)


def accepted(intent: Intent) -> Intent:
    """The intent as if its refusals had never been: what the rest of it does is asked all the same."""
    return msgspec.structs.replace(intent, refusals=())


def is_accepted(intent: Intent) -> bool:
    """Whether the table may be applied at all (`REFUSED_WHOLE`)."""
    return not errors_among(refused(intent, tuple(units_of(intent)), ()))


def chains_gone_to(layout: Layout) -> set[str]:
    """Every chain that a rule or a map's element goes to; a kernel refuses a table that lacks one."""
    rules = (rule for chain in layout.chains.values() for rule in chain.rules)
    named = {e.chain for rule in rules for e in rule.expressions if isinstance(e, Verdict) and e.chain}
    intervals = (e for elements in layout.elements.values() if not isinstance(elements, Hash) for e in elements)
    return named | {interval.value for interval in intervals if isinstance(interval.value, str)}


class InKernel:
    """One namespace's table that turns into one intent after another, each proven by read-back."""

    def __init__(self, namespace: str, cgroup_root: Path) -> None:
        self.target = NftablesTarget(namespace, cgroup_root=cgroup_root)
        self._cgroup_root = cgroup_root

    def __call__(self, intent: Intent) -> Realised:
        units = tuple(units_of(intent))
        for unit in units:
            (self._cgroup_root / unit.strip("/")).mkdir(parents=True, exist_ok=True)
        found = self.target.converge(accepted(intent))
        assert found.state == "realised", found.differences
        assert found.layout is not None
        assert found.intent is not None
        groups = resolve_units(units, self._cgroup_root)[0]
        return Realised(Machine(found.layout), parse(found.layout, groups), groups)


def ruling(realised: Realised, hearing: Hearing) -> Ruling:
    """Both readings of the table. Raises AssertionError where they differ."""
    outcome = realised.machine.run(packet_of(hearing, realised.groups))
    verdict, step = _step(outcome, hearing)
    cell = cell_of(realised.intent, hearing)
    if step in ("allow", "deny", "forbid", "default"):
        assert step == (cell.action if cell else "default"), f"run: {step}; read: {cell}"
    return Ruling(verdict, step, cell.rule if cell and step == cell.action else None)


def packet_of(hearing: Hearing, groups: Mapping[str, CgroupRef]) -> Packet:
    """The first packet, at the hook of this end."""
    detail = hearing.point & 0xFFFF
    group = groups.get(hearing.unit, STRANGER) if hearing.unit else STRANGER
    is_icmp = hearing.point >> 16 in (ICMP, ICMPV6)
    return Packet(
        "output" if hearing.direction == "out" else "input",
        hearing.source,
        hearing.destination,
        hearing.point >> 16,
        (0, 0) if is_icmp else (hearing.source_port, detail),
        detail if is_icmp else 0,
        device=LOOPBACK_DEVICE if hearing.is_inside else OTHER_DEVICE,
        hop_limit=1 if is_mld(hearing.point) else 255,
        cgroups=(*[0] * (group.level - 1), group.id),
    )


def _step(outcome: Outcome, hearing: Hearing) -> tuple[VerdictName, str]:
    assert outcome.ending != "unknown", "the table holds what the evaluator does not know"
    passes = outcome.ending == "accept"
    if not outcome.counters:
        assert passes, "dropped without being counted"
        return "allowed", "outright"
    direction, _, word = outcome.counters[-1].partition("_")
    assert direction == hearing.direction
    step, _, effect = word.partition("_")
    verdict = EFFECTS.get(effect or step, "blocked")
    assert passes == (verdict != "blocked"), outcome
    return verdict, "allow" if step == "allowed" else step


def cell_of(intent: Intent, hearing: Hearing) -> Cell | None:
    """The cell of a read-back intent that is about this hearing."""
    area = next(area for area in areas_of(intent, hearing.direction) if hearing.local in area.local)
    part = area.part_of(hearing.unit)
    peer = _class_of(intent, hearing.remote)
    cells = part.cells if part else ()
    return next((c for c in cells if c.peer == peer and hearing.point in c.services), None)


def _class_of(intent: Intent, address: int) -> int:
    """Exact addresses before ranges; else nobody in particular."""
    exact = (p.id for p in intent.peers if address in p.addresses)
    ranged = (p.id for p in intent.peers if any(lo <= address <= hi for lo, hi in p.ranges))
    return next(exact, None) or next(ranged, UNKNOWN_CLASS)


def disagreement(hearing: Hearing, said: Ruling) -> str | None:
    """How a ruling differs from what the oracle wants of this end; the reason where only one is possible."""
    if said.verdict != hearing.verdict:
        return f"{said} is not {hearing.verdict}"
    if len(hearing.wanted) > 1:
        return None
    want = hearing.wanted[0]
    wanted = Ruling(want.verdict, _wanted_step(want), want.rule)
    return None if said == wanted else f"{said} is not {wanted}"


def is_half_isolated(hearing: Hearing, said: Ruling) -> bool:
    """Some of the address's holders are isolated, others judged by policy: an exception of the one closes, to be safe,
    as no passage says both."""
    is_stricter = said.verdict == "blocked" != hearing.verdict
    return (
        is_stricter and said.step == "quarantine" and len({want.reason == "quarantine" for want in hearing.wanted}) > 1
    )


def _wanted_step(want: EndVerdict) -> str:
    is_excepted = want.reason == "quarantine" and want.verdict == "allowed"
    return "outright" if want.reason == "essential" or is_excepted else want.reason
