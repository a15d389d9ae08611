"""Intent -> Layout: the whole table that realises an intent, as a value. Pure.

    input/output     let pass what this generation has judged; send the rest to be judged
    judge_*          essential traffic, failsafe, quarantine, then the policy: the steps of the semantics in order
    look_*           address -> class, (class, service) -> code: allow, deny, forbid, or none of them
    allow/deny/...   what the mode makes of the code: count, log, let pass (`remember`) or not (`block`)
    pickup_*         TCP in mid-stream, whose beginning nobody saw: passes only if either side may have begun it
    forward          what this host passes on for others: no policy judges it, quarantine stops it

INVARIANT: maps hold the verdicts of `enforce`; the mode is in the rules of `allow`, `deny`, `forbid` and `default`
alone.
INVARIANT: nothing of the host's own passes but by `lo`, an essential match, or `remember`.
INVARIANT: of an isolated host nothing passes by its mark, which others may write too: each packet is judged.
Packets that conntrack was told not to track are judged one by one, each as a beginning.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Mapping

import msgspec

from ringfence.core.identity.workload import Direction, ModeName
from ringfence.core.intent.model import Intent, Passage
from ringfence.core.net.address import is_v4
from ringfence.core.net.intervals import IntervalSet
from ringfence.core.net.service import DHCP_PORTS, ESSENTIAL_ICMP, ICMP, ICMPV6, PORTED, TCP
from ringfence.targets.nftables import statements as s
from ringfence.targets.nftables.areas import CgroupRef
from ringfence.targets.nftables.draft import Draft
from ringfence.targets.nftables.elements import (
    address_set,
    addresses,
    comment_of,
    exact_peers,
    labelled,
    range_peers,
)
from ringfence.targets.nftables.layout import (
    CLASS,
    HOOKS,
    ICMP_TYPE,
    ICMPV6_TYPE,
    IPV4,
    IPV6,
    MARK,
    PORT,
    PRIORITY,
    Chain,
    Field,
    Hash,
    Hook,
    Layout,
    Rule,
    SetSpec,
    digest_of,
    hash_of,
    sorted_hash,
)
from ringfence.targets.nftables.lookups import Ranged, look_chains
from ringfence.targets.nftables.marks import ALLOW_CODE, DENY_CODE, FORBID_CODE, GENERATIONS, MASK, PICKED_UP, mark_of
from ringfence.targets.nftables.prefixes import arrange
from ringfence.targets.nftables.services import REPLY_TYPES, Span, spans_of
from ringfence.targets.nftables.statements import FAMILIES, Family, Statement, rule
from ringfence.targets.nftables.views import ANSWER, FORWARD, VIEWS, HookName, View

ABOUT = "about"
"""The set that tells what is realised; nothing looks it up."""
SEAL = 3
"""Which of its lines is the seal."""
LASTING, DEPARTED = "lasting", "departed"
"""Sets whose elements have a time: generations that still pass, and addresses of which none does."""
ISOLATED, PASSAGE = "isolated", "passage"
"""How the names begin of the sets of isolated addresses, and of those of what passes a quarantine."""
PASSED_ON = "forward"
"""The base chain of packets that are neither from nor for this host."""
DIRECTIONS: tuple[Direction, ...] = ("in", "out")
STEPS = ("forbid", "deny", "default")
ADDRESS_FIELDS: Mapping[Family, Field] = {"ip": IPV4, "ip6": IPV6}
SUFFIX: Mapping[Family, str] = {"ip": "4", "ip6": "6"}
_KEEP_MARK = ~(MASK ^ PICKED_UP) & 0xFFFFFFFF
_TCP_BEGINNING = 0x17
"""FIN, SYN, RST and ACK: a beginning has SYN alone (RFC 9293 section 3.5)."""
_SYN = 0x02
_ICMP_REDIRECT = 5
DISCOVERY, MLD = frozenset(range(133, 138)), frozenset((130, 131, 132, 143))
"""ICMPv6 types of RFC 4861 (redirects, which are among them, are policy), and of RFC 2710 and RFC 3810."""
COUNTERS = tuple(
    f"{direction}_{name}"
    for direction in DIRECTIONS
    for name in (
        "allowed", "forbid_blocked", "forbid_would", "deny_blocked", "deny_would", "default_blocked", "default_would",
        "quarantine", "invalid",
    )
)  # fmt: skip


def render(
    intent: Intent,
    generation: int,
    cgroups: Mapping[str, CgroupRef] | None = None,
    words: Mapping[int, str] | None = None,
) -> Layout:
    """The table for one intent, under one generation number (1..127).

    `cgroups` resolves the unit of every process part; `words` are lines that the table says of itself besides those
    about the intent, by number above SEAL. Raises ValueError for an intent that breaks its own invariants;
    `support` says beforehand and with a code what cannot be expressed.
    """
    draft = Draft()
    draft.put(SetSpec(ABOUT, (MARK,)), labelled({}))
    draft.put(SetSpec("classes", (CLASS,), comment="what each class is, for people"), _class_texts(intent))
    ranged = _peers(draft, intent)
    draft.chains |= marked_chains(intent, generation)
    _lasting(draft)
    for view in VIEWS:
        draft.chain(f"judge_{view.name}", *_judge(view, intent))
    _essential(draft)
    for view in VIEWS:
        if has_failsafe(view, intent):
            draft.chain(f"failsafe_{view.name}", *_passage_rules(draft, "failsafe", view, intent.failsafe))
        _quarantine(draft, view, intent)
    look_chains(draft, intent, ranged, cgroups or {})
    for direction in DIRECTIONS:
        _verdicts(draft, direction, intent.mode.of(direction))
    _block(draft)
    for hook in FORWARD:
        draft.chain(f"midstream_{hook}", *_midstream(draft, hook, intent))
        draft.chain(f"invalid_{FORWARD[hook].direction}", *_invalid(hook, intent))
        direction = FORWARD[hook].direction
        stray = (rule(s.count(f"{direction}_invalid")), rule(s.goto("block")))
        draft.chain(f"stray_forbid_{direction}", *stray)
        draft.chain(f"stray_{direction}", _lasts(), *stray)
    draft.chains[PASSED_ON] = _passed_on(intent)
    said = {1: f"intent {intent.digest}", 2: comment_of(f"revision {intent.revision} of {intent.workload}")}
    layout = Layout(COUNTERS, draft.sets, draft.elements, draft.chains, services=draft.services)
    return sealed(layout, {**said, **(words or {})})


def quarantined(intent: Intent) -> Draft:
    """All of a table that a quarantine is in: who is isolated, what passes, and the chains that ask for either."""
    draft = Draft()
    for family in FAMILIES:
        _isolated(draft, family, intent)
    for view in VIEWS:
        draft.chain(f"judge_{view.name}", *_judge(view, intent))
        _quarantine(draft, view, intent)
    for hook in FORWARD:
        draft.chain(f"midstream_{hook}", *_midstream(draft, hook, intent))
    draft.chains[PASSED_ON] = _passed_on(intent)
    return draft


def sealed(layout: Layout, said: Mapping[int, str]) -> Layout:
    """The layout, saying this of itself, and a seal over everything that is in the kernel."""
    said = {n: text for n, text in said.items() if n != SEAL}
    unsealed = msgspec.structs.replace(layout, elements={**layout.elements, ABOUT: labelled(said)})
    about = {**said, SEAL: f"seal {seal_of(unsealed)}"}
    return msgspec.structs.replace(layout, elements={**layout.elements, ABOUT: labelled(about)})


def seal_of(layout: Layout) -> str:
    """SHA-256 over all that is in the table and all that it says of itself but the seal: any change breaks it."""
    said = [(n, text) for n, text in said_in(layout).items() if n != SEAL]
    return hashlib.sha256(repr((digest_of(layout, without=(ABOUT,)), said)).encode()).hexdigest()


def said_in(layout: Layout) -> dict[int, str]:
    """Every line the table says of itself, by number."""
    elements = layout.elements.get(ABOUT)
    if not isinstance(elements, Hash):
        return {}
    comments = elements.comments or ("",) * len(elements)
    numbers = (struct.unpack("=I", key.tobytes())[0] for key in elements.keys)
    return dict(sorted(zip(numbers, comments, strict=True)))


def _class_texts(intent: Intent) -> Hash:
    return labelled({peer.id: peer.text for peer in intent.peers})


# -- peers and essential traffic -------------------------------------------------------------------------------------


def _peers(draft: Draft, intent: Intent) -> Mapping[Family, Ranged]:
    """Returns which maps of ranges there are to look up."""
    ranged: dict[Family, Ranged] = {}
    exact, ranges = exact_peers(intent.peers), range_peers(intent.peers)
    for family in FAMILIES:
        key, suffix = (ADDRESS_FIELDS[family],), SUFFIX[family]
        draft.put(SetSpec(f"peer{suffix}", key, "class"), exact[family])
        arranged = arrange(ranges[family], 8 * key[0].length)
        for length, elements in arranged.prefixes.items():
            draft.put(SetSpec(f"prefix{suffix}_{length}", key, "class"), elements)
        rest = draft.put_ranges(f"range{suffix}", key[0], "class", arranged.rest) if arranged.rest else None
        ranged[family] = Ranged(tuple(arranged.prefixes), rest)
        _isolated(draft, family, intent)
    return ranged


def _isolated(draft: Draft, family: Family, intent: Intent) -> None:
    keys = addresses(intent.isolated)[family]
    draft.put(SetSpec(f"{ISOLATED}{SUFFIX[family]}", (ADDRESS_FIELDS[family],)), sorted_hash(keys, keys[:, :0]))


def _essential(draft: Draft) -> None:
    """What passes ahead of everything: ICMP by type, discovery and MLD only as their standards send them, DHCP.

    Discovery has hop limit 255, which no packet from beyond the link has (RFC 4861 sections 4 and 7.1). MLD has hop
    limit 1 and a link-local source (RFC 2710 section 3), or none before there is one (RFC 3590 section 4, RFC 3810
    section 5.2.13). What only looks like them is plain traffic, which policy judges.
    """
    for name, (protocol, types) in _essential_types().items():
        field = ICMP_TYPE if protocol == ICMP else ICMPV6_TYPE
        draft.put(SetSpec(name, (field,)), hash_of([bytes((t,)) for t in types], [b""] * len(types), 1))
    pairs = [(source, port) for port, sources in DHCP_PORTS.items() for source in sources]
    keys = [source.to_bytes(2, "big") + bytes(2) + port.to_bytes(2, "big") + bytes(2) for source, port in pairs]
    draft.put(SetSpec("dhcp", (PORT, PORT)), hash_of(keys, [b""] * len(keys), 8))
    mld = (s.icmp_in(ICMPV6, "essential_mld"), s.hop_limit_is(1))
    draft.chain(
        "essential",
        rule(s.icmp_in(ICMP, "essential_icmp"), s.accept()),
        rule(s.icmp_in(ICMPV6, "essential_icmpv6"), s.accept()),
        rule(s.icmp_in(ICMPV6, "essential_discovery"), s.hop_limit_is(255), s.accept()),
        rule(*mld, s.is_link_local_source(), s.accept()),
        rule(*mld, s.is_no_source(), s.accept()),
        rule(s.state("related"), s.icmp_is_not(ICMP, _ICMP_REDIRECT), s.accept()),
        rule(s.state("related"), s.icmp_is(ICMPV6, 0, 127), s.accept()),
        rule(s.udp_ports_in("dhcp"), s.accept()),
    )


def _essential_types() -> Mapping[str, tuple[int, list[int]]]:
    """The sets of essential ICMP types: name -> (protocol, types)."""
    types: dict[int, list[int]] = {ICMP: [], ICMPV6: []}
    for span in spans_of(ESSENTIAL_ICMP):
        types[span.protocol] += range(span.lo, span.hi + 1)
    return {
        "essential_icmp": (ICMP, types[ICMP]),
        "essential_icmpv6": (ICMPV6, [t for t in types[ICMPV6] if t not in DISCOVERY | MLD]),
        "essential_discovery": (ICMPV6, [t for t in types[ICMPV6] if t in DISCOVERY]),
        "essential_mld": (ICMPV6, [t for t in types[ICMPV6] if t in MLD]),
    }


# -- live connections ------------------------------------------------------------------------------------------------


def _lasting(draft: Draft) -> None:
    """What remembers connections that lost their permission and may go on for a while: by the generation they bear.

    An address that lost its class is not among them: its connections forget their generation, whichever it is.
    """
    draft.put(SetSpec(LASTING, (MARK,), has_timeout=True), labelled({}))
    for family in FAMILIES:
        key = (ADDRESS_FIELDS[family],)
        empty = hash_of([], [], key[0].length)
        draft.put(SetSpec(f"{DEPARTED}{SUFFIX[family]}", key, has_timeout=True), empty)
    for view in VIEWS:
        matches = [s.address_in(family, view.remote, f"{DEPARTED}{SUFFIX[family]}") for family in FAMILIES]
        draft.chain(f"{DEPARTED}_{view.name}", *(rule(match, s.set_mark(_KEEP_MARK, 0)) for match in matches))
    draft.chain(LASTING, rule(s.set_register(0)), rule(s.accept()))


def _lasts() -> Rule:
    """What policy refuses passes once more, if it began when it was allowed and is to end by and by."""
    return rule(s.state("established", "new"), s.mark_in(GENERATIONS, LASTING), s.goto(LASTING))


# -- passages --------------------------------------------------------------------------------------------------------


def has_failsafe(view: View, intent: Intent) -> bool:
    """Whether there is a chain `failsafe_<view>`; it is empty where no answer can be told (ICMP redirects)."""
    return any(p.direction == view.direction and p.remote and p.services for p in intent.failsafe)


def _quarantine(draft: Draft, view: View, intent: Intent) -> None:
    """What passes a quarantine, then nothing: dropped in silence, in every mode."""
    draft.chain(
        f"quarantine_{view.name}",
        *_passage_rules(draft, PASSAGE, view, intent.quarantine_passages),
        rule(s.count(f"{view.direction}_quarantine")),
        rule(s.log(f"ringfence {view.direction} quarantine blocked ")),
        rule(s.drop()),
    )


def _passage_rules(draft: Draft, kind: str, view: View, passages: tuple[Passage, ...]) -> list[Rule]:
    rules: list[Rule] = []
    for index, passage in enumerate(passages):
        if passage.direction != view.direction:
            continue
        for family in FAMILIES:
            ends = _ends(draft, f"{kind}_{index}", family, view, passage)
            rules += [rule(*ends, *match, s.goto("remember")) for match in service_matches(passage.services, view)
                      if ends is not None]  # fmt: skip
    return rules


def _ends(draft: Draft, name: str, family: Family, view: View, passage: Passage) -> tuple[Statement, ...] | None:
    """Match the remote address, and the host's own where not all are meant; None when there are none of this family."""
    matches: list[Statement] = []
    for field, which, ranges in ((view.remote, "", passage.remote), (view.local, "own", passage.local)):
        elements = address_set(ranges)[family]
        if elements:
            set_name = draft.put_ranges(f"{name}_{which}{SUFFIX[family]}", ADDRESS_FIELDS[family], "none", elements)
            matches.append(s.address_in(family, field, set_name))
        elif ranges or not which:
            return None
    return tuple(matches)


def service_matches(services: IntervalSet, view: View) -> Iterator[tuple[Statement, ...]]:
    """Statements, one alternative each, that match the services as this view sees them."""
    whole: list[int] = []
    for span in spans_of(services):
        if span.is_whole:
            whole.append(span.protocol)
        elif span.protocol in PORTED:
            yield s.protocol_is(span.protocol), s.port_between(view.port, span.lo, span.hi)
        else:
            yield from ((match,) for match in _icmp_matches(span, view))
    for lo, hi in IntervalSet.of((p, p) for p in whole):
        yield (s.protocol_is(lo) if lo == hi else s.protocol_between(lo, hi),)


def _icmp_matches(span: Span, view: View) -> Iterator[Statement]:
    if not view.is_reply:
        yield s.icmp_is(span.protocol, span.lo, span.hi)
        return
    for request, reply in REPLY_TYPES[span.protocol].items():
        if span.lo <= request <= span.hi:
            yield s.icmp_is(span.protocol, reply, reply)


# -- judging ---------------------------------------------------------------------------------------------------------


def _judge(view: View, intent: Intent) -> Iterator[Rule]:
    yield rule(s.protocol_is_not(TCP), s.jump("essential"))
    yield from _barriers(view, intent)
    yield rule(s.state("established"), s.jump(f"{DEPARTED}_{view.name}"))
    yield rule(s.jump(f"look_{view.name}"))
    yield rule(s.goto(f"verdict_{view.direction}"))


def _barriers(view: View, intent: Intent) -> Iterator[Rule]:
    """Failsafe passes, quarantine ends."""
    if has_failsafe(view, intent):
        yield rule(s.jump(f"failsafe_{view.name}"))
    if intent.is_quarantined:
        yield rule(s.goto(f"quarantine_{view.name}"))
        return
    for family in FAMILIES:
        if any(is_v4(address) == (family == "ip") for address in intent.isolated):
            isolated = s.address_in(family, view.remote, f"{ISOLATED}{SUFFIX[family]}")
            yield rule(isolated, s.goto(f"quarantine_{view.name}"))


def _verdicts(draft: Draft, direction: Direction, mode: ModeName) -> None:
    draft.chain(
        f"verdict_{direction}",
        rule(s.register_is(ALLOW_CODE), s.goto(f"allow_{direction}")),
        rule(s.register_is(DENY_CODE), s.goto(f"deny_{direction}")),
        rule(s.register_is(FORBID_CODE), s.goto(f"forbid_{direction}")),
        rule(s.goto(f"default_{direction}")),
    )
    draft.chain(f"allow_{direction}", rule(s.count(f"{direction}_allowed")), rule(s.goto("remember")))
    for step in STEPS:
        draft.chain(f"{step}_{direction}", *_outcome(direction, step, is_blocking(mode, step)))


def is_blocking(mode: ModeName, step: str) -> bool:
    return mode == "enforce" or (mode == "selective" and step != "default")


def _outcome(direction: Direction, step: str, blocks: bool) -> Iterator[Rule]:
    word = "blocked" if blocks else "would"
    if step == "default" and not blocks:
        yield rule(s.protocol_is(TCP), s.state("invalid"), s.goto("remember"))
    if blocks and step != "forbid":
        yield _lasts()
    yield rule(s.count(f"{direction}_{step}_{word}"))
    yield rule(s.log(f"ringfence {direction} {step} {word} "))
    yield rule(s.goto("block" if blocks else "remember"))


def marked_chains(intent: Intent, generation: int) -> dict[str, Chain]:
    """The chains that depend on the generation; on the intent only by its mode, failsafe and quarantine."""
    found: dict[str, Chain] = {hook: _base(hook, intent, generation) for hook in FORWARD}
    pickups = {f"pickup_{hook}": tuple(_pickup(hook, intent, generation)) for hook in FORWARD}
    remember = (
        rule(s.set_register(0)),
        rule(s.state("related"), s.accept()),
        rule(s.set_mark(_KEEP_MARK, mark_of(generation))),
        rule(s.accept()),
    )
    return {**found, **{name: Chain(name, rules) for name, rules in (*pickups.items(), ("remember", remember))}}


def _block(draft: Draft) -> None:
    draft.chain(
        "block",
        rule(s.leaves_host(), s.reject_tcp()),
        rule(s.leaves_host(), s.reject()),
        rule(s.drop()),
    )


# -- the hooks -------------------------------------------------------------------------------------------------------


def _base(hook: HookName, intent: Intent, generation: int) -> Chain:
    forward, answer = FORWARD[hook], ANSWER[hook]
    is_enforced = intent.mode.of(forward.direction) == "enforce"
    counted = s.goto(f"invalid_{forward.direction}") if is_enforced else s.count(f"{forward.direction}_invalid")
    is_judged = rule(s.state("established", "new"), s.mark_is(MASK, mark_of(generation)), s.accept())
    rules = (
        *(() if intent.is_quarantined else (is_judged,)),
        rule(s.loopback(hook), s.accept()),
        rule(s.protocol_is(TCP), s.mark_is(PICKED_UP, PICKED_UP), s.goto(f"pickup_{hook}")),
        rule(s.state("established"), s.is_reply(), s.goto(f"judge_{answer.name}")),
        rule(s.protocol_is(TCP), s.state("invalid"), counted),
        rule(s.state("new"), s.tcp_flags(_TCP_BEGINNING, _SYN, is_equal=False), s.goto(f"pickup_{hook}")),
        rule(s.goto(f"judge_{forward.name}")),
    )
    return Chain(hook, rules, Hook(HOOKS[hook], PRIORITY, "drop" if is_enforced else "accept"))


def _passed_on(intent: Intent) -> Chain:
    """What this host passes on: all of it ends while the host is isolated.

    Of an isolated peer what ends is what this host translates: a port it publishes for a container is its own to the
    peer, and so is a container that goes out under its address. What it merely routes has other ends, which judge it.
    """
    ends = (rule(s.count("in_quarantine")), rule(s.drop())) if intent.is_quarantined else tuple(_isolated_ends(intent))
    return Chain(PASSED_ON, ends, Hook(HOOKS[PASSED_ON], PRIORITY, "accept"))


def _isolated_ends(intent: Intent) -> Iterator[Rule]:
    for family in FAMILIES:
        if not any(is_v4(address) == (family == "ip") for address in intent.isolated):
            continue
        name, last = f"{ISOLATED}{SUFFIX[family]}", (s.count("in_quarantine"), s.drop())
        source, destination = s.address_in(family, "saddr", name), s.address_in(family, "daddr", name)
        yield rule(source, s.translated("dnat"), *last)
        yield rule(destination, s.translated("dnat"), *last)
        yield rule(source, s.is_reply(), s.translated("snat"), *last)
        yield rule(destination, s.is_original(), s.translated("snat"), *last)


def _invalid(hook: HookName, intent: Intent) -> Iterator[Rule]:
    """TCP segments of no connection, in `enforce`: a failsafe passage holds for them too, all else is dropped.

    Of other protocols conntrack calls whatever it does not track invalid; that is plain traffic, which policy judges.
    """
    for view in (FORWARD[hook], ANSWER[hook]):
        if has_failsafe(view, intent):
            yield rule(s.jump(f"failsafe_{view.name}"))
    yield rule(s.count(f"{FORWARD[hook].direction}_invalid"))
    yield rule(s.drop())


def _pickup(hook: HookName, intent: Intent, generation: int) -> Iterator[Rule]:
    """TCP whose beginning was not seen, unless this is one, or this generation has let it pass."""
    yield rule(s.tcp_flags(_TCP_BEGINNING, _SYN, is_equal=True), s.goto(f"judge_{FORWARD[hook].name}"))
    if not intent.is_quarantined:
        yield rule(s.state("established"), s.mark_is(MASK, PICKED_UP | mark_of(generation)), s.accept())
    yield rule(s.goto(f"midstream_{hook}"))


def _midstream(draft: Draft, hook: HookName, intent: Intent) -> Iterator[Rule]:
    """It passes only if it may, whichever side began it.

    INVARIANT: a connection that was cut and forgotten never revives as the one it would be the other way round.
    """
    forward, answer = FORWARD[hook], ANSWER[hook]
    yield rule(s.set_mark(~PICKED_UP & 0xFFFFFFFF, PICKED_UP))
    if has_failsafe(answer, intent):
        yield rule(s.jump(f"failsafe_{answer.name}"))
    if intent.is_quarantined:
        yield from _passage_rules(draft, PASSAGE, answer, intent.quarantine_passages)
    yield from _barriers(forward, intent)
    yield rule(s.jump(f"{DEPARTED}_{forward.name}"))
    yield from _forbidden(forward, answer, intent)
    for view in (answer, forward):
        yield rule(s.jump(f"look_{view.name}"))
        yield from _strays(f"stray_{forward.direction}", intent.mode.of(view.direction))
    yield rule(s.goto(f"verdict_{forward.direction}"))


def _forbidden(forward: View, answer: View, intent: Intent) -> Iterator[Rule]:
    """Ahead of all else: what is forbidden either way round does not last, whatever it is the other way."""
    for view in (answer, forward):
        if is_blocking(intent.mode.of(view.direction), "forbid"):
            yield rule(s.jump(f"look_{view.name}"))
            yield rule(s.register_is(FORBID_CODE), s.goto(f"stray_forbid_{forward.direction}"))


def _strays(chain: str, mode: ModeName) -> Iterator[Rule]:
    codes = {"deny": DENY_CODE, "default": 0}
    yield from (rule(s.register_is(code), s.goto(chain)) for step, code in codes.items() if is_blocking(mode, step))
