"""Layout as read from the kernel -> Intent again, and the proof that it is the one intended.

`parse` follows what the chains look up, not what `render` calls things; `differences` then compares cell by cell.

INVARIANT: equal means that every class, address, cell, passage and mode is the same, and that the rules which use them
are exactly those this target writes. Texts for people, rule names longer than a comment, the host's name and its own
addresses are not in the kernel and are not compared.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ringfence.core.identity.workload import Direction, Mode, ModeName
from ringfence.core.intent.model import Cell, Intent, Part, Passage, PeerClass
from ringfence.core.net.address import EVERYWHERE, LAST, V4_BASE, V4_LAST, is_v4
from ringfence.core.net.intervals import EMPTY, IntervalSet
from ringfence.core.policy.model import Action
from ringfence.targets.nftables import expressions as x
from ringfence.targets.nftables.areas import Area, CgroupRef, areas_of
from ringfence.targets.nftables.elements import comment_of
from ringfence.targets.nftables.layout import (
    CLASS,
    IPV4,
    IPV6,
    PORT,
    PROTOCOL,
    Chain,
    Hash,
    Interval,
    Layout,
    Rule,
)
from ringfence.targets.nftables.marks import ACTIONS, generation_of
from ringfence.targets.nftables.plan import difference
from ringfence.targets.nftables.render import DIRECTIONS, SEAL, render, said_in
from ringfence.targets.nftables.services import Span, last_point, spans_of

_LINES = {1: "intent ", 2: "revision ", SEAL: "seal "}
_EXACT_KEY = (CLASS, PROTOCOL, PORT)


class Unreadable(ValueError):
    """The table is not one this target could have written."""


class About(NamedTuple):
    """What the table says of itself."""

    digest: str = ""
    seal: str = ""
    revision: int = 0
    workload: str = ""


def about(layout: Layout) -> About:
    said = said_in(layout)
    digest, revision, seal = (said.get(n, "").removeprefix(word) for n, word in _LINES.items())
    number, _, workload = revision.partition(" of ")
    return About(digest, seal, int(number) if number.isdecimal() else 0, workload)


def generation_in(layout: Layout) -> int:
    """The policy generation connections are marked with; 0 when it cannot be told."""
    for rule in layout.chains.get("remember", Chain("")).rules:
        for expression in rule.expressions:
            if isinstance(expression, x.Bitwise) and len(expression.xor) == 4 and any(expression.xor):
                return generation_of(struct.unpack("=I", expression.xor)[0])
    return 0


# -- kernel -> Intent ------------------------------------------------------------------------------------------------


def parse(layout: Layout, cgroups: Mapping[str, CgroupRef]) -> Intent:
    """The intent the table realises, in canonical form. Raises Unreadable when it is not such a table."""
    try:
        told = about(layout)
        return Intent(
            workload=told.workload,
            name="",
            mode=Mode(*(_mode(layout, d) for d in DIRECTIONS)),
            own=(),
            peers=_peers(layout),
            parts=tuple(part for d in DIRECTIONS for part in _parts(layout, d, cgroups)),
            failsafe=tuple(p for d in DIRECTIONS for p in _passages(layout, f"failsafe_{d}", d)),
            is_quarantined=_is_quarantined(layout),
            isolated=_isolated(layout),
            quarantine_passages=tuple(p for d in DIRECTIONS for p in _passages(layout, f"quarantine_{d}", d)),
            revision=told.revision,
        )
    except (KeyError, IndexError, AttributeError, TypeError, struct.error) as error:
        raise Unreadable(f"the table lacks {error}") from error


def _mode(layout: Layout, direction: Direction) -> ModeName:
    blocks = {step: _last_target(layout.chains[f"{step}_{direction}"]) == "block" for step in ("deny", "default")}
    if blocks["default"]:
        return "enforce"
    return "selective" if blocks["deny"] else "observe"


def _last_target(chain: Chain) -> str | None:
    last = chain.rules[-1].expressions[-1]
    return last.chain if isinstance(last, x.Verdict) else None


def _is_quarantined(layout: Layout) -> bool:
    return any(r.expressions == (x.Verdict(x.GOTO, "quarantine_in"),) for r in layout.chains["judge_in"].rules)


def _peers(layout: Layout) -> tuple[PeerClass, ...]:
    addresses: dict[int, list[int]] = {}
    for name, base in (("peer6", 0), ("peer4", V4_BASE)):
        for number, keys in _by_class(_hash(layout, name)):
            addresses.setdefault(number, []).extend(base + key for key in keys)
    ranges: dict[int, list[tuple[int, int]]] = {}
    for name in _loaded_from(layout, "look_in"):
        if layout.sets[name].is_interval:
            base = V4_BASE if layout.sets[name].key == (IPV4,) else 0
            for lo, hi, held in _intervals(layout, name):
                ranges.setdefault(int(held or 0), []).append((base + lo, base + hi))
    for lo, hi, value in _prefixes(layout):
        ranges.setdefault(_class(value), []).append((lo, hi))
    described = {_class(key) for key, _ in _rows(layout, "classes")}
    return tuple(
        PeerClass(n, "", tuple(sorted(addresses.get(n, ()))), tuple(sorted(ranges.get(n, ()))))
        for n in sorted({*addresses, *ranges, *described})
    )


def _loaded_from(layout: Layout, chain: str) -> list[str]:
    """The maps a chain loads values from."""
    rules = layout.chains[chain].rules
    return [e.set_name for rule in rules for e in rule.expressions if isinstance(e, x.Lookup) and e.to == 1]


def _prefixes(layout: Layout) -> Iterator[tuple[int, int, bytes]]:
    """The ranges of the maps that `look_in` reads masked addresses from; the mask says how long the prefix is."""
    for rule in layout.chains["look_in"].rules:
        masks = [e.mask for e in rule.expressions if isinstance(e, x.Bitwise)]
        names = [e.set_name for e in rule.expressions if isinstance(e, x.Lookup) and e.to == 1]
        for mask, name in zip(masks, names, strict=bool(masks)):
            size = (1 << 8 * len(mask)) - int.from_bytes(mask, "big")
            base = V4_BASE if len(mask) == 4 else 0
            for key, value in _rows(layout, name):
                first = base + int.from_bytes(key, "big")
                yield first, first + size - 1, value


def _isolated(layout: Layout) -> tuple[int, ...]:
    found = [V4_BASE + int.from_bytes(key, "big") for key, _ in _rows(layout, "isolated4")]
    return tuple(sorted([*found, *(int.from_bytes(key, "big") for key, _ in _rows(layout, "isolated6"))]))


def _hash(layout: Layout, name: str) -> Hash:
    elements = layout.elements[name]
    if not isinstance(elements, Hash):
        raise Unreadable(f"`{name}` holds ranges")
    return elements


def _by_class(elements: Hash) -> Iterator[tuple[int, list[int]]]:
    """The keys of each class as integers."""
    if not len(elements):
        return
    classes = np.ascontiguousarray(elements.values).view("=u4").ravel()
    order = np.argsort(classes, kind="stable")
    keys, width = np.ascontiguousarray(elements.keys[order]), elements.keys.shape[1]
    numbers, firsts = np.unique(classes[order], return_index=True)
    raw = keys.tobytes()
    ints = (
        keys.view(">u4").ravel().tolist()
        if width == 4
        else [int.from_bytes(raw[at : at + width], "big") for at in range(0, len(raw), width)]
    )
    for number, first, last in zip(numbers.tolist(), firsts.tolist(), [*firsts[1:].tolist(), len(ints)], strict=True):
        yield number, ints[first:last]


def _rows(layout: Layout, name: str) -> Iterator[tuple[bytes, bytes]]:
    elements = _hash(layout, name)
    keys, values = elements.keys.tobytes(), elements.values.tobytes()
    width, value = elements.keys.shape[1], elements.values.shape[1]
    for n in range(len(elements)):
        yield keys[n * width : (n + 1) * width], values[n * value : (n + 1) * value]


def _intervals(layout: Layout, name: str) -> tuple[Interval, ...]:
    elements = layout.elements[name]
    if isinstance(elements, Hash):
        raise Unreadable(f"`{name}` holds no ranges")
    return elements


def _class(value: bytes) -> int:
    number: int = struct.unpack("=I", value)[0]
    return number


def _parts(layout: Layout, direction: Direction, cgroups: Mapping[str, CgroupRef]) -> Iterator[Part]:
    """Follow `look_<direction>`: a map from local addresses to areas, then in each area processes, then the rest."""
    units = {(ref.level, struct.pack("=Q", ref.id)): unit for unit, ref in cgroups.items()}
    chain = layout.chains[f"look_{direction}"]
    named: dict[str, list[tuple[int, int]]] = {}
    for rule in chain.rules:
        for set_name in _verdict_maps(layout, rule, (IPV4, IPV6)):
            base = V4_BASE if layout.sets[set_name].key == (IPV4,) else 0
            for lo, hi, target in _intervals(layout, set_name):
                named.setdefault(str(target), []).append((base + lo, base + hi))
    for target, ranges in named.items():
        yield from _area_parts(layout, direction, layout.chains[target], IntervalSet.of(ranges), units)
    taken = IntervalSet.of(r for ranges in named.values() for r in ranges)
    rest = IntervalSet(((0, (1 << 128) - 1),)) - taken if named else EMPTY
    yield from _area_parts(layout, direction, chain, rest, units)


def _verdict_maps(layout: Layout, rule: Rule, keys: Iterable[object]) -> Iterator[str]:
    for e in rule.expressions:
        if isinstance(e, x.Lookup) and e.to == x.VERDICT_REGISTER and layout.sets[e.set_name].key[0] in keys:
            yield e.set_name


def _area_parts(
    layout: Layout, direction: Direction, chain: Chain, local: IntervalSet, units: Mapping[tuple[int, bytes], str]
) -> Iterator[Part]:
    for rule in chain.rules:
        if rule.expressions and isinstance(rule.expressions[0], x.SocketGroup):
            unit, target = _process_match(rule, units)
            yield Part(direction, _cells(layout, layout.chains[target]), local, unit)
    cells = _cells(layout, chain)
    if cells:
        yield Part(direction, cells, local)


def _process_match(rule: Rule, units: Mapping[tuple[int, bytes], str]) -> tuple[str, str]:
    """The unit a rule matches and the chain it goes to."""
    match rule.expressions:
        case (x.SocketGroup(level=level), x.Cmp(value=value), x.Verdict(chain=str(target))):
            return units.get((level, value), f"cgroup {int.from_bytes(value, 'little')}"), target
    raise Unreadable("a control group is matched in an unknown way")


def _cells(layout: Layout, chain: Chain) -> tuple[Cell, ...]:
    """The cells a part's rules look up: exact services, and services by way of atoms."""
    found: dict[tuple[int, Action, str], list[tuple[int, int]]] = {}
    for rule in chain.rules:
        for e in rule.expressions:
            if not isinstance(e, x.Lookup):
                continue
            key = layout.sets[e.set_name].key
            if key == _EXACT_KEY:
                _read_exact(layout, e.set_name, found)
            elif key == (PROTOCOL,):
                _read_services(layout, e.set_name, found)
    return tuple(
        Cell(peer, IntervalSet.of(points), action, name) for (peer, action, name), points in sorted(found.items())
    )


Found = dict[tuple[int, Action, str], list[tuple[int, int]]]


def _rulings(layout: Layout, name: str) -> Iterator[tuple[bytes, Action, str]]:
    elements = _hash(layout, name)
    comments = elements.comments or ("",) * len(elements)
    for (key, value), comment in zip(_rows(layout, name), comments, strict=True):
        yield key, ACTIONS[_class(value)], comment


def _read_exact(layout: Layout, name: str, found: Found) -> None:
    for key, action, comment in _rulings(layout, name):
        peer, protocol, port = _class(key[:4]), key[4], int.from_bytes(key[8:10], "big")
        point = protocol << 16 | port
        found.setdefault((peer, action, comment), []).append((point, point))


def _read_services(layout: Layout, name: str, found: Found) -> None:
    for first, last, target in _intervals(layout, name):
        for protocol in range(first, last + 1):
            for span, atom in _protocol_spans(layout, protocol, str(target)):
                for key, action, comment in _rulings(layout, atom):
                    found.setdefault((_class(key), action, comment), []).append(span.points)


def _protocol_spans(layout: Layout, protocol: int, target: str) -> Iterator[tuple[Span, str]]:
    """Where one protocol's chain leads: to an atom's map at once, or by ports or ICMP types."""
    name = _first_lookup(layout.chains[target])
    if name is None:
        return
    if layout.sets[name].data == "class":
        yield Span(protocol, 0, last_point(protocol)), name
        return
    for lo, hi, chain in _intervals(layout, name):
        atom = _first_lookup(layout.chains[str(chain)])
        if atom is None:
            raise Unreadable(f"chain `{chain}` looks nothing up")
        yield Span(protocol, lo, hi), atom


def _first_lookup(chain: Chain) -> str | None:
    lookups = (e.set_name for rule in chain.rules for e in rule.expressions if isinstance(e, x.Lookup))
    return next(lookups, None)


def _passages(layout: Layout, chain: str, direction: Direction) -> Iterator[Passage]:
    for rule in layout.chains[chain].rules if chain in layout.chains else ():
        if rule.expressions[-1:] != (x.Verdict(x.GOTO, "remember"),):
            continue
        ends = [e.set_name for e in rule.expressions if isinstance(e, x.Lookup)]
        remote, *own = (_addresses(layout, name) for name in ends)
        yield Passage(direction, remote, _matched_services(rule), *own)


def _addresses(layout: Layout, name: str) -> IntervalSet:
    base = V4_BASE if layout.sets[name].key == (IPV4,) else 0
    return IntervalSet.of((base + lo, base + hi) for lo, hi, _ in _intervals(layout, name))


def _matched_services(rule: Rule) -> IntervalSet:
    """The service matches after the addresses: a run of protocols, or one protocol and a run of its ports or types."""
    at = max(i for i, e in enumerate(rule.expressions) if isinstance(e, x.Lookup))
    protocols, details = (0, 255), None
    loaded: x.Expression | None = None
    for e in rule.expressions[at + 1 : -1]:
        if isinstance(e, x.Meta | x.Payload):
            loaded = e
        elif isinstance(e, x.Cmp) and isinstance(loaded, x.Meta) and loaded.key == x.META_L4PROTO:
            protocols = _narrowed(protocols, e)
        elif isinstance(e, x.Cmp) and isinstance(loaded, x.Payload):
            details = _narrowed(details or (0, 0xFFFF), e)
        elif not (isinstance(e, x.Cmp) and isinstance(loaded, x.Meta) and loaded.key == x.META_NFPROTO):
            raise Unreadable("a passage matches in an unknown way")
    lo, hi = details or (0, 0xFFFF)
    return IntervalSet.of((p << 16 | lo, p << 16 | hi) for p in range(protocols[0], protocols[1] + 1))


def _narrowed(bounds: tuple[int, int], compare: x.Cmp) -> tuple[int, int]:
    value = int.from_bytes(compare.value, "big")
    lo, hi = bounds
    return {x.EQ: (value, value), x.GTE: (value, hi), x.LTE: (lo, value)}[compare.op]


# -- equality --------------------------------------------------------------------------------------------------------


def differences(
    intent: Intent, layout: Layout, cgroups: Mapping[str, CgroupRef], parsed: Intent | None = None
) -> tuple[str, ...]:
    """What differs between an intent and what is realised; nothing when they are proven equal.

    `parsed` is the layout's parse where it is at hand (and did not need the control groups).
    """
    try:
        realised = parsed or parse(layout, cgroups)
    except Unreadable as error:
        return (str(error),)
    out = [*_compare(normal(intent), normal(realised)), *_compare_peers(intent, realised)]
    words = {n: text for n, text in said_in(layout).items() if n > SEAL}
    out += _compare_program(render(intent, generation_in(layout) or 1, cgroups, words), layout)
    return tuple(out)


def _compare_program(wanted: Layout, found: Layout) -> Iterator[str]:
    """Every rule, hook, set and element, as the kernel holds it."""
    yield from (f"{stranger.kind} {stranger.name} is not ours" for stranger in found.strangers)
    yield from (f"to repair: {line}" for line in difference(wanted, found).summary)


def _compare(wanted: Mapping[object, object], found: Mapping[object, object]) -> Iterator[str]:
    for key in sorted({*wanted, *found}, key=repr):
        if wanted.get(key) != found.get(key):
            yield f"{key}: intended {wanted.get(key)}, found {found.get(key)}"


def _compare_peers(intent: Intent, realised: Intent) -> Iterator[str]:
    wanted, found = ({p.id: _members(p) for p in of.peers} for of in (intent, realised))
    for number in sorted({*wanted, *found}):
        if wanted.get(number) != found.get(number):
            yield f"class {number}: its addresses differ"
    if tuple(sorted(intent.isolated)) != realised.isolated:
        yield "the isolated addresses differ"


def _members(peer: PeerClass) -> tuple[tuple[int, ...], IntervalSet]:
    return tuple(sorted(peer.addresses)), IntervalSet.of(peer.ranges)


def normal(intent: Intent, *, with_rules: bool = True) -> dict[object, object]:
    """Everything an intent decides but for addresses of peers, in one comparable form."""
    out: dict[object, object] = {"mode": intent.mode, "quarantined": intent.is_quarantined}
    for direction in DIRECTIONS:
        for name, passages in (("failsafe", intent.failsafe), ("passages", intent.quarantine_passages)):
            out[name, direction] = normal_passages(passages, direction)
        for area in areas_of(intent, direction):
            for part in area.parts if area.local else ():
                for cell, points in _normal_cells(area, part, with_rules=with_rules):
                    out[direction, area.local.ranges, part.unit, *cell] = points
                if part.unit is not None:
                    out[direction, area.local.ranges, part.unit] = "judged"
    return out


def _normal_cells(
    area: Area, part: Part, *, with_rules: bool
) -> Iterator[tuple[tuple[int, str, str], tuple[Span, ...]]]:
    merged: dict[tuple[int, str, str], IntervalSet] = {}
    for cell in part.cells:
        key: tuple[int, str, str] = (cell.peer, cell.action, comment_of(cell.rule) if with_rules else "")
        merged[key] = merged[key] | cell.services if key in merged else cell.services
    for which, services in merged.items():
        if spans := tuple(spans_of(services)):
            yield which, spans


def normal_passages(passages: Iterable[Passage], direction: Direction) -> tuple[tuple[object, object], ...]:
    """The host's own addresses cut where any passage begins or ends, each run with all that passes there."""
    mine = [p for p in passages if p.direction == direction]
    edges = {edge for p in mine for lo, hi in p.local for edge in (lo, hi + 1)}
    found: dict[object, list[tuple[int, int]]] = {}
    for lo, following in pairwise(sorted({0, V4_BASE, V4_LAST + 1, LAST + 1} | edges)):
        family = _V4 if is_v4(lo) else EVERYWHERE - _V4
        if what := _normal_remotes([p for p in mine if not p.local or lo in p.local], family):
            found.setdefault(what, []).append((lo, following - 1))
    return tuple(sorted((IntervalSet.of(where).ranges, what) for what, where in found.items()))


def _normal_remotes(passages: list[Passage], family: IntervalSet) -> tuple[tuple[object, object], ...]:
    """Remote addresses of a family cut likewise, each run with all the services that pass there."""
    remotes = [(p.remote & family, p.services) for p in passages]
    edges = sorted({edge for remote, _ in remotes for lo, hi in remote for edge in (lo, hi + 1)})
    by_services: dict[tuple[Span, ...], list[tuple[int, int]]] = {}
    for lo, hi in pairwise(edges):
        ranges = IntervalSet.of(r for remote, services in remotes if lo in remote for r in services)
        if spans := tuple(spans_of(ranges)):
            by_services.setdefault(spans, []).append((lo, hi - 1))
    return tuple(sorted((IntervalSet.of(where).ranges, spans) for spans, where in by_services.items()))


_V4 = IntervalSet(((V4_BASE, V4_LAST),))
