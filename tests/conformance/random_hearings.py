"""Generated worlds and the questions about them that packets can ask."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from random import Random
from typing import NamedTuple

from conformance.hearings import Hearing, Unheard, at_its_time, hearings, worst
from conformance.realised import Estate, Realise, disagreement, is_accepted, is_half_isolated
from core.strategies import random_flow, random_world, smallest

from ringfence.core.decide import decide
from ringfence.core.world import Flow, World

DRAWS = 120
"""Questions drawn of one world at most: most random ones are about names, nobody, or two families."""


class Question(NamedTuple):
    seed: int
    world: World
    flow: Flow
    hearings: tuple[Hearing, ...]


def questions(seed: int, most: int, unheard: Counter[str]) -> Iterator[Question]:
    """Up to so many questions of one world that concern a controlled end; the others are counted by reason."""
    rng = Random(seed)
    world = random_world(rng)
    for _ in range(DRAWS):
        flow = random_flow(rng, world)
        now = at_its_time(world, flow)
        try:
            heard = hearings(now, flow)
        except Unheard as why:
            unheard[why.reason] += 1
            continue
        if heard:
            most -= 1
            yield Question(seed, now, flow, heard)
        if not most:
            return


def differences(asked: list[Question], realise: Realise) -> Iterator[tuple[Question, str]]:
    """The questions of one world to which its realised tables give another answer than the oracle."""
    estates: dict[object, Estate] = {}
    for question in asked:
        if question.world.at not in estates:
            estates[question.world.at] = Estate(question.world, realise)
        if differs := difference(question, estates[question.world.at]):
            yield question, differs


def difference(question: Question, estate: Estate) -> str:
    """How the tables differ from the oracle; nothing where a host's intent may not be applied at all, or an
    address is half isolated."""
    if not all(is_accepted(estate.intent(hearing.host)) for hearing in question.hearings):
        return ""
    rulings = [(hearing, estate.rule_on(hearing)) for hearing in question.hearings]
    if any(is_half_isolated(hearing, said) for hearing, said in rulings):
        return ""
    found = [f"{h.end} {h.host.name}: {text}" for h, said in rulings if (text := disagreement(h, said))]
    together, wanted = worst(said.verdict for _, said in rulings), decide(question.world, question.flow).verdict
    return " / ".join([*found, *([f"together {together}, wanted {wanted}"] if together != wanted else [])])


def shown(question: Question, differs: str, realise: Realise) -> str:
    """The failure as a person needs it: the seed, the least world, the flow and what differs."""

    def still_differs(world: World) -> bool:
        try:
            heard = hearings(world, question.flow)
        except Unheard:
            return False
        return bool(difference(question._replace(world=world, hearings=heard), Estate(world, realise)))

    least = smallest(question.world, still_differs)
    return "\n".join(
        [f"seed {question.seed}: {differs}", str(question.flow), *map(str, least.inventory.workloads), str(least)]
    )
