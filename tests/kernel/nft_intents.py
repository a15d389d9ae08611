"""Random intents, what they say of a flow in fifteen lines, and probes that tell their verdicts apart."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import NamedTuple

from ringfence.core.identity.workload import MODES, Direction, Mode
from ringfence.core.intent.model import Cell, Intent, Part, Passage, PeerClass
from ringfence.core.net.address import is_v4, parse_address, parse_cidr
from ringfence.core.net.intervals import EMPTY, IntervalSet, union
from ringfence.core.net.service import ESSENTIAL_ICMP, ICMP, ICMPV6, PORTED, parse_service
from ringfence.core.policy.model import Action

OWN = tuple(sorted(map(parse_address, ("172.20.0.2", "172.20.0.3", "fd20::2", "fd20::3"))))
REMOTE = tuple(map(parse_address, (
    "10.1.0.1", "10.1.0.2", "10.1.0.3", "10.2.0.1", "10.2.3.4", "10.3.255.255", "203.0.113.9",
    "fd00::1", "fd00::2", "fd00:1::1", "fd00:2::ffff", "2001:db8::9",
)))  # fmt: skip
CIDRS = ("10.2.0.0/16", "10.3.0.0/17", "10.3.128.0/17", "fd00:1::/32", "fd00:2::/48", "2001:db8::/64")
SERVICES = (
    "tcp/80", "tcp/443", "tcp/8000-8100", "tcp/8050-9000", "tcp/1-1023", "tcp", "udp/53", "udp/100-200", "udp",
    "icmp/echo", "icmp", "proto/47", "sctp/5000", "proto/50", "any", "tcp/65535", "udp/1-5",
)  # fmt: skip
ACTIONS: tuple[Action, ...] = ("allow", "deny", "forbid")
_EXTENSION_HEADERS = frozenset((0, 43, 44, 51, 60, 135, 139, 140, 253, 254))
"""IANA IPv6 extension header types."""
MLD = frozenset((130, 131, 132, 143))
"""ICMPv6 types that no address of `REMOTE` or `OWN` may send (RFC 2710 section 3, RFC 3810 section 5)."""
DIRECTIONS: tuple[Direction, ...] = ("in", "out")


class Probe(NamedTuple):
    direction: Direction
    remote: int
    local: int
    point: int
    unit: str | None = None


class Expected(NamedTuple):
    passes: bool
    step: str


def judge(intent: Intent, p: Probe) -> Expected:
    """The semantics of an intent, read aloud."""
    if p.point in ESSENTIAL_ICMP or _passes(intent.failsafe, p):
        return Expected(True, "essential")
    if intent.is_quarantined or p.remote in intent.isolated:
        excepted = _passes(intent.quarantine_passages, p)
        return Expected(True, "essential") if excepted else Expected(False, "quarantine")
    here = [x for x in intent.parts if x.direction == p.direction and (not x.local or p.local in x.local)]
    part = next((x for x in here if x.unit == p.unit), None) or next((x for x in here if x.unit is None), None)
    exact = [c.id for c in intent.peers if p.remote in c.addresses]
    ranged = [c.id for c in intent.peers for lo, hi in c.ranges if lo <= p.remote <= hi]
    class_ = [*exact, *ranged, 0][0]
    steps = [c.action for c in (part.cells if part else ()) if c.peer == class_ and p.point in c.services]
    step = steps[0] if steps else "default"
    mode = intent.mode.of(p.direction)
    blocks = step != "allow" and (mode == "enforce" or (mode == "selective" and step != "default"))
    return Expected(not blocks, step)


def _passes(passages: tuple[Passage, ...], p: Probe) -> bool:
    return any(
        x.direction == p.direction
        and p.remote in x.remote
        and p.point in x.services
        and (not x.local or p.local in x.local)
        for x in passages
    )


def random_intent(seed: int, *, units: tuple[str, ...] = ()) -> Intent:
    """An intent with every feature at random; the same for the same seed."""
    rng = random.Random(seed)
    peers = _peers(rng)
    parts = [part for direction in DIRECTIONS for part in _parts(rng, direction, peers, units)]
    isolated = tuple(sorted(rng.sample(REMOTE, 2))) if rng.random() < 0.4 else ()
    return Intent(
        workload=f"uuid-{seed}",
        name=f"host-{seed}",
        mode=Mode(rng.choice(MODES), rng.choice(MODES)),
        own=OWN,
        peers=peers,
        parts=tuple(parts),
        failsafe=tuple(_passages(rng, rng.choice((0, 0, 1, 2)))),
        is_quarantined=rng.random() < 0.1,
        isolated=isolated,
        quarantine_passages=tuple(_passages(rng, rng.choice((0, 1, 2)))),
        revision=seed,
    )


def _peers(rng: random.Random) -> tuple[PeerClass, ...]:
    numbers = sorted(rng.sample((1, 2, 3, 7, 65_535, 70_000, 0x7FFFFFFE), rng.randint(2, 5)))
    remote = rng.sample(REMOTE, len(REMOTE) - 3)
    exact = {n: tuple(sorted(remote[i :: len(numbers) + 1])) for i, n in enumerate(numbers)}
    ranges: dict[int, list[tuple[int, int]]] = {}
    for cidr in rng.sample(CIDRS, rng.randint(0, len(CIDRS))):
        ranges.setdefault(rng.choice(numbers), []).extend(parse_cidr(cidr).ranges)
    return tuple(PeerClass(n, f"class {n}", exact[n], tuple(sorted(ranges.get(n, ())))) for n in numbers)


def _parts(
    rng: random.Random, direction: Direction, peers: tuple[PeerClass, ...], units: tuple[str, ...]
) -> Iterator[Part]:
    locals_ = rng.choice(([EMPTY], [EMPTY], [_points(OWN[::2]), _points(OWN[1::2])], [_points(OWN[:1])]))
    for local in locals_:
        for unit in (None, *units):
            classes = [0, *(peer.id for peer in peers)]
            cells = [cell for number in classes for cell in _cells(rng, number)]
            yield Part(direction, tuple(cells), local, unit)


def _points(values: tuple[int, ...]) -> IntervalSet:
    return IntervalSet.of((v, v) for v in values)


def _cells(rng: random.Random, peer: int) -> Iterator[Cell]:
    """Some services with one action each; what an earlier cell took, a later one leaves."""
    taken = EMPTY
    for text in rng.sample(SERVICES, rng.randint(0, 4)):
        services = parse_service(text) - taken
        taken = taken | services
        if services:
            yield Cell(peer, services, rng.choice(ACTIONS), f"policy/{text.replace('/', '-')}")


def _passages(rng: random.Random, count: int) -> Iterator[Passage]:
    for _ in range(count):
        remote = union(parse_cidr(c) for c in rng.sample(CIDRS, 2)) | _points(tuple(rng.sample(REMOTE, 1)))
        services = union(parse_service(s) for s in rng.sample(SERVICES, 2))
        local = _points(tuple(rng.sample(OWN, rng.randint(1, 2)))) if rng.random() < 0.4 else EMPTY
        yield Passage(rng.choice(DIRECTIONS), remote, services, local)


def probes(intent: Intent, seed: int, count: int) -> list[Probe]:
    """Flows at and around every boundary of the intent's services, from all kinds of addresses."""
    rng = random.Random(seed)
    points = sorted({p for p in _boundary_points(intent) if _is_real(p)})
    out: list[Probe] = []
    while len(out) < count:
        remote, local, service = rng.choice(REMOTE), rng.choice(OWN), rng.choice(points)
        if is_v4(remote) == is_v4(local) and _fits(service, remote):
            out.append(Probe(rng.choice(DIRECTIONS), remote, local, service))
    return out


def _boundary_points(intent: Intent) -> Iterator[int]:
    services = [c.services for part in intent.parts for c in part.cells]
    services += [p.services for p in (*intent.failsafe, *intent.quarantine_passages)]
    services += [parse_service(s) for s in SERVICES]
    for lo, hi in {r for s in services for r in s}:
        yield from (lo - 1, lo, lo + 1, hi - 1, hi, hi + 1)
    yield from (p << 16 | x for p in (ICMP, ICMPV6) for x in (0, 3, 5, 8, 13, 128, 129, 135, 139))


def _is_real(service: int) -> bool:
    """A packet can have this point."""
    protocol, x = service >> 16, service & 0xFFFF
    if not 1 <= protocol <= 255:
        return False
    last = 0xFFFF if protocol in PORTED else 0xFF if protocol in (ICMP, ICMPV6) else 0
    return x <= last and (protocol not in PORTED or x > 0)


def _fits(service: int, remote: int) -> bool:
    """ICMP belongs to one family each, to IPv6 some numbers are extension headers, and MLD comes from link-local."""
    protocol = service >> 16
    if protocol == ICMPV6 and service & 0xFFFF in MLD:
        return False
    return protocol != ICMPV6 if is_v4(remote) else protocol != ICMP and protocol not in _EXTENSION_HEADERS
