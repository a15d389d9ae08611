"""The ways a recommendation may name a party: label keys that people use, never by what a party lacks.

INVARIANT: a destination is always named inside its owner's scope, and no naming leaves out the environment of a
party that has one: a rule crosses environments only where the traffic did.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ringfence.core.insight.cover import LabelSpace, Naming, Shape
from ringfence.core.insight.parties import PEER, LabelKeys

MOST_EXTRAS = 3


def scope_of(labels: Mapping[str, str], keys: LabelKeys) -> tuple[tuple[str, str], ...]:
    """The scope labels a party has, as pairs; empty for bare addresses and unlabelled workloads."""
    return tuple((key, labels[key]) for key in keys.scope if key in labels)


def extra_keys(space: LabelSpace, keys: LabelKeys) -> tuple[str, ...]:
    """Further keys worth naming by: few values, on at least half of the labelled parties; the fewest values first."""
    labelled = sum(1 for labels in space.labels if scope_of(labels, keys))
    known = {*keys.scope, keys.role, PEER}
    found: list[tuple[int, str]] = []
    for key in sorted({key for labels in space.labels for key in labels} - known):
        carriers, values = int((space.codes(key) >= 0).sum()), space.values(key)
        if 2 <= values <= max(8, labelled // 8) and 2 * carriers >= labelled:
            found.append((values, key))
    return tuple(key for _, key in sorted(found)[:MOST_EXTRAS])


def shapes(space: LabelSpace, keys: LabelKeys, extras: Sequence[str]) -> list[Shape]:
    """Every way to name a pair of parties, narrowest vocabulary first."""
    sources, inside = _namings(space, keys, extras, is_global=True), _namings(space, keys, extras, is_global=False)
    bare = Naming((PEER,), np.array([PEER in labels for labels in space.labels], dtype=bool))
    return (
        [Shape(source, destination) for source in sources for destination in inside]
        + [Shape(bare, destination) for destination in inside]
        + [Shape(source, bare) for source in inside]
    )


def _namings(space: LabelSpace, keys: LabelKeys, extras: Sequence[str], *, is_global: bool) -> list[Naming]:
    out: list[Naming] = []
    patterns = [tuple(key for key, _ in scope_of(labels, keys)) for labels in space.labels]
    for pattern in sorted({p for p in patterns if p}, key=lambda p: (-len(p), p)):
        meant_for = np.array([p == pattern for p in patterns], dtype=bool)
        for chosen in _key_sets(space, keys, pattern, extras, is_global):
            dropped = tuple(k for k in (keys.role, keys.application) if k not in chosen and k in (*pattern, keys.role))
            out.append(Naming(chosen, meant_for, dropped))
    return out


def _key_sets(
    space: LabelSpace, keys: LabelKeys, pattern: tuple[str, ...], extras: Sequence[str], is_global: bool
) -> list[tuple[str, ...]]:
    bases = [(*pattern, keys.role), pattern]
    boundary = tuple(k for k in pattern if k != keys.application)
    if is_global and boundary and boundary != pattern:
        bases += [(*boundary, keys.role), boundary]
    own = [x for x in extras if not _determines(space, keys.application, x)]
    sets = list(bases)
    for base in bases:
        sets += [(*base, extra) for extra in (own if keys.application in base else extras)]
    if len(own) > 1:
        sets.append((*pattern, keys.role, *own))
    return sets


def _determines(space: LabelSpace, key: str, other: str) -> bool:
    """Every value of `key` goes with one value of `other`, so naming both says nothing more."""
    a, b = space.codes(key), space.codes(other)
    both = (a >= 0) & (b >= 0)
    pairs = np.unique(a[both] * (space.values(other) + 1) + b[both])
    return len(pairs) == len(np.unique(a[both]))
