"""The probes of all case files as hearings, and those that no packet can ask."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import NamedTuple

from cases.load import Case, Probe, load_cases
from conformance.hearings import Hearing, Unheard, at_its_time, hearings, worst
from conformance.realised import Estate, Realise, Ruling, disagreement

from ringfence.core.errors import RingfenceError
from ringfence.core.world import Flow, World

_LAPSES = "the process may do less than its host, which would lapse when it starts anew: `process-part-narrower`"
REFUSED_WHOLE = {
    "processes/its own labels override its host's [1]": _LAPSES,
    "processes/its own labels override its host's [2]": _LAPSES,
    "processes/a forbid on a process holds at its own host [1]": _LAPSES,
    "processes/a forbid on a process holds at its own host [2]": _LAPSES,
}
"""Probes of hosts whose intent the nftables target writes and reads, but does not apply. No others are left out."""


class Heard(NamedTuple):
    """One probe with what each controlled end sees of it."""

    about: str
    case: Case
    probe: Probe
    world: World
    flow: Flow
    hearings: tuple[Hearing, ...]


class Silent(NamedTuple):
    """One probe that cannot be put to an address firewall."""

    about: str
    world: World
    flow: Flow
    unheard: Unheard


@cache
def case_hearings() -> tuple[tuple[Heard, ...], tuple[Silent, ...]]:
    """Every probe of every case: heard, or silent with its reason."""
    heard: list[Heard] = []
    silent: list[Silent] = []
    for case in load_cases():
        for number, probe in enumerate(case.probes, 1):
            about, flow = f"{case.note} [{number}]", case.flow_of(probe)
            world = at_its_time(case.world_of(probe), flow)
            try:
                heard.append(Heard(about, case, probe, world, flow, hearings(world, flow)))
            except Unheard as unheard:
                silent.append(Silent(about, world, flow, unheard))
    return tuple(heard), tuple(silent)


def disagreements(heard: Iterable[Heard], realise: Realise) -> Iterator[str]:
    """Every probe for which the realised tables of its controlled ends do not add up to what the case wants."""
    estate: Estate | None = None
    asked: World | None = None
    for question in heard:
        if estate is None or question.world != asked:
            estate, asked = Estate(question.world, realise), question.world
        try:
            differs = " / ".join(_differences(question, estate.rule_on))
        except (AssertionError, RingfenceError) as refusal:
            differs = str(refusal)
        if differs:
            yield f"{question.about}: {differs}"


def _differences(question: Heard, rule_on: Callable[[Hearing], Ruling]) -> Iterator[str]:
    rulings = [(hearing, rule_on(hearing)) for hearing in question.hearings]
    for hearing, said in rulings:
        if differs := disagreement(hearing, said):
            yield f"{hearing.end} {hearing.host.name}: {differs}"
    together = worst(said.verdict for _, said in rulings)
    if together != question.probe.want:
        yield f"together {together}, wanted {question.probe.want}"
    for end, want in (question.probe.ends or {}).items():
        there = worst(said.verdict for hearing, said in rulings if hearing.end == end)
        if there != want:
            yield f"{end} says {there}, wanted {want}"
