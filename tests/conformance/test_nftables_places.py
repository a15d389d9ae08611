"""Where a host is judged: at addresses nobody listed, and in several networks at once; on paper and by packets."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from conformance.hearings import EPHEMERAL, Hearing
from conformance.realised import on_paper, ruling
from conformance.test_nftables_with_packets import open_field
from conformance.test_nftables_with_packets import pytestmark as of_packets
from core.engine.worlds import host, replace, rule, world_of

from ringfence.core.engine.engine import Engine
from ringfence.core.identity.workload import Direction, Lease, Mode, Workload
from ringfence.core.intent.compile import IntentCompiler
from ringfence.core.intent.model import Intent
from ringfence.core.net.address import parse_address
from ringfence.core.net.service import parse_service
from ringfence.core.policy.model import Rule

LISTED, OTHER_LISTED, UNLISTED = "10.0.0.2", "fd00::2", "10.0.0.77"
WEB, DEV = "10.0.0.1", "10.0.0.9"


def held(workload: Workload, *leases: tuple[str, str]) -> Workload:
    """The workload at (address, network)."""
    return replace(workload, addresses=tuple(Lease(parse_address(a), network) for a, network in leases))


DB = host("db", "role=db", LISTED, OTHER_LISTED)
AT_ONE_ADDRESS = (
    rule("listed", "allow", "role=web", f"{LISTED}/32", "tcp/80"),
    rule("db", "allow", "role=web", "role=db", "tcp/81"),
    rule("out", "allow", f"{LISTED}/32", "role=web", "tcp/82"),
)
ROOMS = held(DB, (LISTED, "main"), (UNLISTED, "vpc-b"))
OUTSIDE = "198.51.100.2"
BY_RANGE = (
    rule("inside", "allow", "role=web", "10.0.0.0/8", "tcp/80"),
    rule("db", "allow", "role=web", "role=db", "tcp/81"),
    rule("no", "forbid", "role=web", "198.51.100.0/24", "tcp/81"),
    rule("out", "allow", "10.0.0.0/8", "role=web", "tcp/82"),
)
IN_RANGE = held(DB, (LISTED, "main"))
FROM_WEB = (rule("db", "allow", "role=web", "role=db", "tcp/81"), rule("no", "forbid", "role=dev", "role=db"))


class Place(NamedTuple):
    """A question to one host, and its answer."""

    note: str
    me: Workload
    others: tuple[Workload, ...]
    rules: tuple[Rule, ...]
    direction: Direction
    local: str
    remote: str
    service: str
    passes: bool


WEBS = (host("web", "role=web", WEB, "fd00::1"), host("dev", "role=dev", DEV))
IN_B = (held(WEBS[0], (WEB, "vpc-b")), held(WEBS[1], (DEV, "main")))
IN_C = (held(WEBS[0], (WEB, "vpc-c")),)
IN_BOTH = (held(WEBS[0], (WEB, "main")), held(WEBS[1], (WEB, "vpc-b")))
ALIKE = (held(WEBS[0], (WEB, "main")), held(replace(WEBS[0], name="web-2", uuid="web-2"), (WEB, "vpc-b")))
PLACES = (
    Place("an address a rule names has its rule", DB, WEBS, AT_ONE_ADDRESS, "in", LISTED, WEB, "tcp/80", True),
    Place("and the rules of its labels", DB, WEBS, AT_ONE_ADDRESS, "in", LISTED, WEB, "tcp/81", True),
    Place("another listed one has those of its labels", DB, WEBS, AT_ONE_ADDRESS, "in", OTHER_LISTED, "fd00::1",
          "tcp/81", True),
    Place("and not the other's", DB, WEBS, AT_ONE_ADDRESS, "in", OTHER_LISTED, "fd00::1", "tcp/80", False),
    Place("one that nobody listed has those of its labels", DB, WEBS, AT_ONE_ADDRESS, "in", UNLISTED, WEB, "tcp/81",
          True),
    Place("and none of a listed one's", DB, WEBS, AT_ONE_ADDRESS, "in", UNLISTED, WEB, "tcp/80", False),
    Place("a listed one sends by its rule", DB, WEBS, AT_ONE_ADDRESS, "out", LISTED, WEB, "tcp/82", True),
    Place("one that nobody listed does not", DB, WEBS, AT_ONE_ADDRESS, "out", UNLISTED, WEB, "tcp/82", False),
    Place("nobody else reaches it", DB, WEBS, AT_ONE_ADDRESS, "in", UNLISTED, DEV, "tcp/81", False),
    Place("a range that holds the listed ones has its rule at all of it", IN_RANGE, WEBS, BY_RANGE, "in", UNLISTED, WEB,
          "tcp/80", True),
    Place("and opens no other address of the host", IN_RANGE, WEBS, BY_RANGE, "in", OUTSIDE, WEB, "tcp/80", False),
    Place("which has the rules of its labels", IN_RANGE, WEBS, BY_RANGE[:2], "in", OUTSIDE, WEB, "tcp/81", True),
    Place("and the forbids of its own range", IN_RANGE, WEBS, BY_RANGE, "in", OUTSIDE, WEB, "tcp/81", False),
    Place("they hold nowhere else", IN_RANGE, WEBS, BY_RANGE, "in", LISTED, WEB, "tcp/81", True),
    Place("a range sends by its rule", IN_RANGE, WEBS, BY_RANGE, "out", UNLISTED, WEB, "tcp/82", True),
    Place("what is outside of it does not", IN_RANGE, WEBS, BY_RANGE, "out", OUTSIDE, WEB, "tcp/82", False),
    Place("a holder in the second network is seen", ROOMS, IN_B, FROM_WEB, "in", UNLISTED, WEB, "tcp/81", True),
    Place("at every address of the host", ROOMS, IN_B, FROM_WEB, "in", LISTED, WEB, "tcp/81", True),
    Place("a forbid from the first network holds in the second", ROOMS, IN_B, FROM_WEB, "in", UNLISTED, DEV, "tcp/81",
          False),
    Place("a holder in a network the host is not in is nobody", ROOMS, IN_C, FROM_WEB, "in", LISTED, WEB, "tcp/81",
          False),
    Place("two holders in two networks: what one may not, none may", ROOMS, IN_BOTH, FROM_WEB, "in", LISTED, WEB,
          "tcp/81", False),
    Place("what both may, passes", ROOMS, ALIKE, FROM_WEB, "in", UNLISTED, WEB, "tcp/81", True),
)  # fmt: skip


def asked(place: Place) -> tuple[Intent, Hearing]:
    world = replace(world_of([place.me, *place.others], *place.rules), as_mode=Mode.both("enforce"))
    intent = IntentCompiler(Engine.compile(world)).compile(place.me)
    ((point, _),) = parse_service(place.service).ranges
    end = "source" if place.direction == "out" else "destination"
    ends = (parse_address(place.local), parse_address(place.remote))
    return intent, Hearing(place.me, end, *ends, point, EPHEMERAL, None, (), is_inside=False)


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.note)
def test_a_table_judges_each_place_on_paper(place: Place) -> None:
    """The rendered table, read back and run, answers as stated."""
    intent, hearing = asked(place)

    assert (ruling(on_paper(intent), hearing).verdict == "allowed") == place.passes


@pytest.mark.kernel
@of_packets[1]
def test_packets_meet_the_same_answer_at_each_place() -> None:
    """By real packets, to and from every one of the places."""
    with open_field() as field:
        for place in PLACES:
            assert field.passes(*asked(place)) == place.passes, place.note
