"""Two policy generations in one table: the confirmed one, and one on trial beside it. Pure.

    input/output    first of all: while the packet's family is in the set `trial`, go to the trial's own hook rules
    trial_*         the chains and maps of the trial that differ from the confirmed ones; what is equal they share

The elements of `trial` have a timeout. While they stand the trial decides; when they are gone, whoever or whatever let
them go, the confirmed generation does: the kernel's own dead-man switch, which needs no program to run.

INVARIANT: `split(side_by_side(a, b, ...))` is `a` and `b` again, part by part, timers aside, and where only one has a
base chain, the other with an empty one.
INVARIANT: neither generation refers to a chain or map of the other that it would not have written itself.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

import msgspec
import numpy as np

from ringfence.targets.nftables import expressions as x
from ringfence.targets.nftables import statements as s
from ringfence.targets.nftables.layout import (
    HOOKS,
    NFPROTO,
    PRIORITY,
    Chain,
    Elements,
    Hash,
    Hook,
    Interval,
    Layout,
    Rule,
    SetSpec,
    hash_of,
)
from ringfence.targets.nftables.render import ABOUT, SEAL, said_in, sealed
from ringfence.targets.nftables.statements import rule

TRIAL = "trial"
_PREFIX = "trial_"
FAMILY_KEYS = (b"\x02", b"\x0a")
"""NFPROTO_IPV4 and NFPROTO_IPV6 (linux/netfilter.h)."""
POLICY = 4
"""The line that names the policy."""
_TRIAL_LINES = {1: 11, 2: 12, POLICY: 14}
"""What the trial says of itself, and where the table says it."""
FOR_ONE = frozenset((1, 2, SEAL, POLICY))
"""The lines that are about one generation; all others are about the table."""


class Generations(NamedTuple):
    confirmed: Layout
    trial: Layout | None
    words: Mapping[int, str]
    """The lines that are about neither alone."""


def side_by_side(confirmed: Layout, trial: Layout, words: Mapping[int, str]) -> Layout:
    """One table of two layouts that `render` or `split` made; `words` are the lines about neither alone."""
    confirmed, trial = _with_bases(confirmed, trial), _with_bases(trial, confirmed)
    shared = _shared(confirmed, trial)

    def name(old: str) -> str:
        return old if old in shared or old in timed else _PREFIX + old

    timed = {n for n, spec in trial.sets.items() if spec.has_timeout}
    sets = {name(n): msgspec.structs.replace(spec, name=name(n)) for n, spec in trial.sets.items() if n != ABOUT}
    elements = {name(n): _renamed_elements(trial.elements[n], name) for n in trial.sets if n != ABOUT}
    chains = {name(n): _renamed_chain(chain, name) for n, chain in trial.chains.items() if n not in shared}
    bases = {n: _switching(chain, trial.chains[n]) for n, chain in confirmed.chains.items() if chain.hook is not None}
    switch = SetSpec(TRIAL, (NFPROTO,), has_timeout=True)
    layout = Layout(
        confirmed.counters,
        {**confirmed.sets, **sets, TRIAL: switch},
        {**confirmed.elements, **elements, TRIAL: hash_of([], [], NFPROTO.length)},
        {**confirmed.chains, **bases, **chains},
        services={**confirmed.services, **{name(n): services for n, services in trial.services.items()}},
        flags=confirmed.flags,
    )
    said = {n: text for n, text in said_in(confirmed).items() if n in FOR_ONE}
    moved = {_TRIAL_LINES[n]: text for n, text in said_in(trial).items() if n in _TRIAL_LINES}
    return sealed(layout, {**words, **said, **moved})


def _with_bases(layout: Layout, other: Layout) -> Layout:
    """With the base chains the other has, empty and open: an earlier version of this target wrote fewer."""
    lacking = {n: chain for n, chain in other.chains.items() if chain.hook is not None and n not in layout.chains}
    added = {n: Chain(n, (), Hook(HOOKS[n], PRIORITY, "accept"), chain.flags) for n, chain in lacking.items()}
    return msgspec.structs.replace(layout, chains={**layout.chains, **added}) if added else layout


def _switching(confirmed: Chain, trial: Chain) -> Chain:
    """The base chain of both: it lets through by itself only where both would."""
    first = rule(s.family_in(TRIAL), s.goto(_PREFIX + confirmed.name))
    hooks = [chain.hook for chain in (confirmed, trial) if chain.hook is not None]
    strictest = next((hook for hook in hooks if hook.policy == "drop"), hooks[0])
    return Chain(confirmed.name, (first, *confirmed.rules), strictest, confirmed.flags)


def split(layout: Layout) -> Generations:
    """The generations of a table that was read; a table without a trial is its own confirmed one."""
    words = {n: text for n, text in said_in(layout).items() if n not in FOR_ONE and n not in _TRIAL_LINES.values()}
    if TRIAL not in layout.sets:
        return Generations(layout, None, words)
    own = {n: text for n, text in said_in(layout).items() if n in FOR_ONE}
    chains = {n: _without_switch(chain) for n, chain in layout.chains.items() if not _is_of_trial(n)}
    confirmed = _with_sets(layout, chains, lambda n: not _is_of_trial(n) and n != TRIAL)
    said = {n: said_in(layout)[at] for n, at in _TRIAL_LINES.items() if at in said_in(layout)}
    trial = sealed(_trial_of(layout), {**words, **said})
    return Generations(sealed(confirmed, {**words, **own}), trial, words)


def _is_of_trial(name: str) -> bool:
    return name.startswith(_PREFIX)


def _without_switch(chain: Chain) -> Chain:
    """A base chain as it was before the trial, in so far as that can be told; its policy follows its mode."""
    if chain.hook is None or not chain.rules or chain.rules[0].expressions[-1:] != _to_trial(chain.name):
        return chain
    return Chain(chain.name, chain.rules[1:], _hook_of(chain.hook, chain.rules[1:]), chain.flags)


def _to_trial(name: str) -> tuple[x.Expression, ...]:
    return (x.Verdict(x.GOTO, _PREFIX + name),)


def _hook_of(hook: Hook, rules: Iterable[Rule]) -> Hook:
    """The hook with the policy that `render` gives such rules: only where it is enforced are strays gone to."""
    targets = {e.chain or "" for r in rules for e in r.expressions if isinstance(e, x.Verdict)}
    is_enforced = any(target.startswith("invalid_") for target in targets)
    return msgspec.structs.replace(hook, policy="drop" if is_enforced else "accept")


def _trial_of(layout: Layout) -> Layout:
    """The trial under the names it will have when it is the only one."""

    def name(old: str) -> str:
        return old.removeprefix(_PREFIX)

    own = {name(n) for n in (*layout.chains, *layout.sets) if _is_of_trial(n)}
    roots = [n for n in layout.chains if _is_of_trial(n)]
    reached = {n for n in _reached(layout, roots) if not _is_of_trial(n)}
    chains = {name(n): _renamed_chain(c, name) for n, c in layout.chains.items() if _is_of_trial(n)}
    for hook in [n for n, chain in layout.chains.items() if chain.hook is not None and n in chains]:
        found = layout.chains[hook]
        assert found.hook is not None
        chains[hook] = Chain(hook, chains[hook].rules, _hook_of(found.hook, chains[hook].rules), found.flags)
    chains |= {n: layout.chains[n] for n in reached if n in layout.chains and n not in own}
    kept = {n for n, spec in layout.sets.items() if _is_of_trial(n) or (spec.has_timeout and n != TRIAL)}
    kept |= {n for n in reached if n in layout.sets and n not in own and n != TRIAL} | {ABOUT}
    return Layout(
        layout.counters,
        {name(n): msgspec.structs.replace(layout.sets[n], name=name(n)) for n in layout.sets if n in kept},
        {name(n): _renamed_elements(layout.elements[n], name) for n in layout.sets if n in kept},
        chains,
        flags=layout.flags,
    )


def _with_sets(layout: Layout, chains: Mapping[str, Chain], keeps: Callable[[str], bool]) -> Layout:
    sets = {n: spec for n, spec in layout.sets.items() if keeps(n)}
    elements = {n: layout.elements[n] for n in sets}
    return Layout(layout.counters, sets, elements, chains, layout.strangers, flags=layout.flags)


# -- what two layouts share ------------------------------------------------------------------------------------------


def _shared(confirmed: Layout, trial: Layout) -> frozenset[str]:
    """The chains and sets of the trial that are the confirmed ones, down to all they refer to."""
    reached = _reached(trial, [n for n, chain in trial.chains.items() if chain.hook is not None])
    equal = {n for n in reached if _is_equal(confirmed, trial, n)}
    while True:
        broken = {n for n in equal if any(to not in equal for to in _referred(trial, n))}
        if not broken:
            return frozenset(equal)
        equal -= broken


def _is_equal(confirmed: Layout, trial: Layout, name: str) -> bool:
    """As a chain and as a set: one name may be both, and goes by one name in either generation."""
    if name in trial.chains:
        mine, theirs = trial.chains[name], confirmed.chains.get(name)
        if theirs is None or mine.hook is not None or mine.flags != theirs.flags or not mine.is_same(theirs):
            return False
    if name not in trial.sets:
        return name in trial.chains
    if trial.sets[name] != confirmed.sets.get(name):
        return False
    return trial.sets[name].has_timeout or is_same(trial.elements[name], confirmed.elements[name])


def is_same(these: Elements, those: Elements) -> bool:
    if isinstance(these, Hash) and isinstance(those, Hash):
        return (
            np.array_equal(these.keys, those.keys)
            and np.array_equal(these.values, those.values)
            and these.comments == those.comments
        )
    return not isinstance(these, Hash) and not isinstance(those, Hash) and these == those


def _referred(layout: Layout, name: str) -> Iterator[str]:
    """The chains and sets a chain's rules, or a map's elements, lead to."""
    for r in layout.chains[name].rules if name in layout.chains else ():
        for e in r.expressions:
            if isinstance(e, x.Verdict) and e.chain:
                yield e.chain
            elif isinstance(e, x.Lookup):
                yield e.set_name
    elements = layout.elements.get(name, ())
    if not isinstance(elements, Hash):
        yield from {i.value for i in elements if isinstance(i.value, str)}


def _reached(layout: Layout, roots: Collection[str]) -> set[str]:
    found, waiting = set(roots), list(roots)
    while waiting:
        for name in _referred(layout, waiting.pop()):
            if name not in found:
                found.add(name)
                waiting.append(name)
    return found


# -- other names -----------------------------------------------------------------------------------------------------


def _renamed_chain(chain: Chain, name: Callable[[str], str]) -> Chain:
    return Chain(name(chain.name), tuple(_renamed_rule(r, name) for r in chain.rules), None, chain.flags)


def _renamed_rule(r: Rule, name: Callable[[str], str]) -> Rule:
    return Rule(tuple(_renamed(e, name) for e in r.expressions), r.comment)


def _renamed(e: x.Expression, name: Callable[[str], str]) -> x.Expression:
    if isinstance(e, x.Verdict) and e.chain:
        return x.Verdict(e.code, name(e.chain))
    return msgspec.structs.replace(e, set_name=name(e.set_name)) if isinstance(e, x.Lookup) else e


def _renamed_elements(elements: Elements, name: Callable[[str], str]) -> Elements:
    if isinstance(elements, Hash):
        return elements
    return tuple(Interval(i.lo, i.hi, name(i.value) if isinstance(i.value, str) else i.value) for i in elements)
