"""The semantic diff: every box is real, nothing is left out, and what means the same differs in nothing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta
from random import Random

import pytest
from strategies import NOW, POINTS, UNITS, flip, random_policy, random_rule
from worlds import ALWAYS, ENFORCE, host, peer, present_ends, provable_world, replace, rule, world_of

from ringfence.core.decide import decide
from ringfence.core.engine.diff import Diff, diff
from ringfence.core.net.address import is_v4, parse_address
from ringfence.core.net.intervals import IntervalSet
from ringfence.core.net.service import format_services
from ringfence.core.policy.model import Cidr, Conditions, Fqdn, Peer, Policy, Rule, Within
from ringfence.core.world import Answer, Endpoint, Flow, World

SEEDS = range(8000, 8040)
Policies = tuple[Policy, ...]
Names = dict[str, tuple[Answer, ...]]


def edited(rng: Random, policies: Policies) -> Policies:
    """A few rules gone, changed or new."""
    out = []
    for policy in policies:
        rules = [r for r in policy.rules if flip(rng, 0.8)]
        rules = [_changed(rng, policy, r) if flip(rng, 0.3) else r for r in rules]
        rules += [random_rule(rng, policy.scope, f"new{n}") for n in range(rng.randint(0, 2))]
        out.append(replace(policy, rules=tuple(rules)))
    return tuple(out)


def _changed(rng: Random, policy: Policy, old: Rule) -> Rule:
    new = random_rule(rng, policy.scope, old.name)
    field = rng.choice(("services", "sources", "destinations", "conditions"))
    if field == "conditions" and old.action != "allow":
        return old
    if field == "conditions":
        return replace(old, conditions=Conditions(mutual_tls=flip(rng, 0.5), from_process=rng.choice((None, *UNITS))))
    return replace(old, **{field: getattr(new, field)})


def judged(world: World, policies: Policies, flow: Flow) -> str:
    return decide(replace(world, policies=policies, as_mode=ENFORCE), flow).verdict


def sampled(rng: Random, world: World, count: int) -> list[Flow]:
    """Connections between different present ends, with any facts stated; DHCP from its own ports is left out."""
    ends = present_ends(world)
    pairs = [(s, d) for s in ends for d in ends if _may_connect(s.address, d.address) and not _is_same(s, d)]
    units = (None, *UNITS, "other.service")
    return [
        Flow(*rng.choice(pairs), rng.choice(POINTS), 1024, flip(rng, 0.5), rng.choice(units), rng.choice(units))
        for _ in range(count if pairs else 0)
    ]


def _may_connect(source: int | None, destination: int | None) -> bool:
    return source is not None and destination is not None and is_v4(source) == is_v4(destination)


def _is_same(source: object, destination: object) -> bool:
    workloads = [getattr(end, "workload", None) for end in (source, destination)]
    return workloads[0] is not None and workloads[0] is workloads[1]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_witness_passes_in_exactly_one_of_the_two(seed: int) -> None:
    """What a box shows opened is allowed by the new set and not by the old one, and the other way round for closed."""
    rng = Random(seed)
    world = provable_world(rng)
    old, new = world.policies, edited(rng, world.policies)
    for box in diff(world, old, new).boxes:
        verdicts = (judged(world, old, box.witness.flow), judged(world, new, box.witness.flow))
        expected = ("blocked", "allowed") if box.change == "opened" else ("allowed", "blocked")
        assert verdicts == expected, box
        assert box.workload_pairs > 0
        assert box.witness.verdict.verdict == "allowed"


@pytest.mark.parametrize("seed", SEEDS)
def test_an_empty_diff_means_nothing_differs(seed: int) -> None:
    """Where no box is shown, the oracle finds no connection, under any facts, that the two sets judge differently."""
    rng = Random(seed)
    world = provable_world(rng)
    old, new = world.policies, edited(rng, world.policies)
    differing = [f for f in sampled(rng, world, 150) if judged(world, old, f) != judged(world, new, f)]
    assert not differing or diff(world, old, new).boxes, differing[:1]


@pytest.mark.parametrize("seed", SEEDS)
def test_every_difference_is_in_a_box(seed: int) -> None:
    """A connection that opens or closes is counted: its kind of change is among the boxes, on its service."""
    rng = Random(seed)
    world = provable_world(rng)
    old, new = world.policies, edited(rng, world.policies)
    found = diff(world, old, new)
    for flow in sampled(rng, world, 80):
        verdicts = (judged(world, old, flow), judged(world, new, flow))
        if verdicts[0] != verdicts[1]:
            change = "opened" if verdicts[1] == "allowed" else "closed"
            assert any(box.change == change and _stated_by(flow, box.when) for box in found.boxes), flow


def _stated_by(flow: Flow, when: tuple[str, ...]) -> bool:
    stated = {"mutual-tls"} if flow.mutual_tls else set()
    stated |= {f"from_process={flow.from_process}", f"to_process={flow.to_process}"}
    return {word for word in when if not word.startswith(("within", "until", "outside", "after"))} <= stated


@pytest.mark.parametrize("seed", SEEDS)
def test_the_way_back_is_the_mirror(seed: int) -> None:
    """Swapping the two sets swaps opened and closed and changes nothing else."""
    rng = Random(seed)
    world = provable_world(rng)
    old, new = world.policies, edited(rng, world.policies)
    there, back = diff(world, old, new), diff(world, new, old)
    assert (there.opened, there.closed) == (back.closed, back.opened)
    mirrored = {"opened": "closed", "closed": "opened"}
    assert _shapes(there) == sorted((mirrored[c], *rest) for c, *rest in _shapes(back))


def _shapes(found: Diff) -> list[tuple[object, ...]]:
    return sorted((b.change, b.sources, b.destinations, b.services, b.workload_pairs, b.when) for b in found.boxes)


# ---- rewrites that mean the same -------------------------------------------------------------------------------------


def split_services(policy: Policy) -> Policy:
    """Each rule once per half of each range of its services."""
    rules: list[Rule] = []
    for one in policy.rules:
        for number, (lo, hi) in enumerate(one.services):
            middle = (lo + hi) // 2
            halves = [(lo, middle), (middle + 1, hi)] if lo < hi else [(lo, hi)]
            rules += [_with_services(one, f"{number}.{i}", IntervalSet((half,))) for i, half in enumerate(halves)]
    return replace(policy, rules=tuple(rules))


def _with_services(one: Rule, suffix: str, services: IntervalSet) -> Rule:
    words = tuple(format_services(services))
    return replace(one, name=f"{one.name}~{suffix}", services=services, service_words=words)


def split_peers(policy: Policy) -> Policy:
    """Each rule once per pair of its peers."""
    rules = [
        replace(one, name=f"{one.name}~{i}.{j}", sources=(source,), destinations=(destination,))
        for one in policy.rules
        for i, source in enumerate(one.sources)
        for j, destination in enumerate(one.destinations)
    ]
    return replace(policy, rules=tuple(rules))


def split_cidrs(policy: Policy) -> Policy:
    """Each CIDR as its two halves."""
    return replace(policy, rules=tuple(_halved(one) for one in policy.rules))


def _halved(one: Rule) -> Rule:
    sides = (one.sources, one.destinations)
    return replace(one, **dict(zip(("sources", "destinations"), (_halves_of(side) for side in sides), strict=True)))


def _halves_of(side: tuple[Peer, ...]) -> tuple[Peer, ...]:
    out: list[Peer] = []
    for one in side:
        if not isinstance(one, Cidr) or one.addresses.size < 2:
            out.append(one)
            continue
        (lo, hi), *more = one.addresses.ranges
        parts = (((lo, (lo + hi) // 2),), (((lo + hi) // 2 + 1, hi), *more))
        out += [Cidr(f"{one.text}~{i}", IntervalSet(part)) for i, part in enumerate(parts)]
    return tuple(out)


def reversed_order(policy: Policy) -> Policy:
    return replace(policy, rules=policy.rules[::-1])


def duplicated(policy: Policy) -> Policy:
    again = tuple(replace(one, name=f"{one.name}~again") for one in policy.rules)
    return replace(policy, rules=(*again, *policy.rules))


def renamed(policy: Policy) -> Policy:
    rules = tuple(replace(one, name=f"z{n}", because="said anew") for n, one in enumerate(policy.rules))
    return replace(policy, name=f"{policy.name}-renamed", rules=rules)


def without_denies(policy: Policy) -> Policy:
    """Where every end enforces, a deny decides what the default decides anyway."""
    return replace(policy, rules=tuple(one for one in policy.rules if one.action != "deny"))


REWRITES: dict[str, Callable[[Policy], Policy]] = {
    f.__name__: f
    for f in (split_services, split_peers, split_cidrs, reversed_order, duplicated, renamed, without_denies)
}


@pytest.mark.parametrize("rewrite", REWRITES)
@pytest.mark.parametrize("seed", range(8100, 8115))
def test_a_rewrite_that_means_the_same_differs_in_nothing(seed: int, rewrite: str) -> None:
    """Splitting ports, peers or CIDRs, order, duplicates, names and idle denies give an empty diff."""
    rng = Random(seed)
    world = provable_world(rng)
    policies = (*world.policies, random_policy(rng, "more"))
    assert diff(world, policies, tuple(map(REWRITES[rewrite], policies))) == Diff()


# ---- planted changes -------------------------------------------------------------------------------------------------

WEB, DB = host("web", "role=web", "10.0.0.1"), host("db", "role=db", "10.0.0.2")
SQL = rule("sql", "allow", "role=web", "role=db", "tcp/5432")


def changes(old: Rule, new: Rule, at: str = "") -> list[tuple[str, str, str, tuple[str, ...], tuple[str, ...]]]:
    world = world_of([WEB, DB], old)
    world = replace(world, at=datetime.fromisoformat(at)) if at else world
    found = diff(world, world.policies, world_of([WEB, DB], new).policies)
    return [(b.change, b.sources, b.destinations, b.services, b.when) for b in found.boxes]


def test_a_new_service_opens_that_service() -> None:
    """One box, in the words of the labels, with the service that was added and no other."""
    wider = rule("sql", "allow", "role=web", "role=db", "tcp/5432", "udp/53")
    assert changes(SQL, wider) == [("opened", "role=web", "role=db", ("udp/53",), ())]


def test_a_condition_taken_away_opens_what_it_kept_shut() -> None:
    """Without `require: mutual-tls` the connection passes when nothing is stated, and the diff says so."""
    guarded = replace(SQL, conditions=Conditions(mutual_tls=True))
    assert changes(guarded, SQL) == [("opened", "role=web", "role=db", ("tcp/5432",), ())]
    assert changes(SQL, guarded) == [("closed", "role=web", "role=db", ("tcp/5432",), ())]


def test_a_conditional_rule_opens_where_its_condition_holds() -> None:
    """A new allow that requires mutual TLS opens with it stated, not without."""
    elsewhere = rule("sql", "allow", "role=db", "role=web", "tcp/1")
    guarded = replace(SQL, conditions=Conditions(mutual_tls=True))
    boxes = changes(elsewhere, guarded)
    assert ("opened", "role=web", "role=db", ("tcp/5432",), ("mutual-tls",)) in boxes
    assert ("closed", "role=db", "role=web", ("tcp/1",), ()) in boxes
    assert len(boxes) == 2


def test_a_process_condition_is_shown_with_its_unit() -> None:
    """`from_process` narrows: what closes without it is shown without it; the unit itself keeps its passage."""
    narrowed = replace(SQL, conditions=Conditions(from_process="app.service"))
    assert changes(SQL, narrowed) == [("closed", "role=web", "role=db", ("tcp/5432",), ())]


def test_an_expired_rule_is_no_rule() -> None:
    """A rule that ended before the world's time opens nothing."""
    ended = replace(SQL, conditions=Conditions(until=date(2026, 3, 1)))
    assert changes(SQL, ended) == [("closed", "role=web", "role=db", ("tcp/5432",), ())]


# ---- dates and hours -------------------------------------------------------------------------------------------------

OFFICE, NIGHT = "mon-fri 08:00-18:00 UTC", "mon-fri 22:00-06:00 UTC"


def hours(start: int, end: int, text: str) -> Conditions:
    return Conditions(within=Within((0, 1, 2, 3, 4), start * 60, end * 60, "UTC", text))


def timed(conditions: Conditions, name: str = "sql") -> Rule:
    return replace(SQL, name=name, conditions=conditions)


IN_OFFICE, AT_NIGHT = hours(8, 18, OFFICE), hours(22, 6, NIGHT)
PATH = ("role=web", "role=db", ("tcp/5432",))


@pytest.mark.parametrize("at", ["2026-03-02T12:00:00+00:00", "2026-03-07T03:00:00+00:00"])
def test_a_window_opened_is_an_opening_at_any_hour_it_is_asked(at: str) -> None:
    """A rule with `within` opens, in its hours, whether the diff is run inside or outside of them."""
    elsewhere = rule("sql", "allow", "role=db", "role=web", "tcp/1")
    assert ("opened", *PATH, (f"within {OFFICE}",)) in changes(elsewhere, timed(IN_OFFICE), at=at)


def test_a_window_taken_away_opens_the_rest_of_the_week() -> None:
    """Without its window the rule opens outside of it; with one it closes there, and nowhere else."""
    assert changes(timed(IN_OFFICE), SQL) == [("opened", *PATH, (f"outside {OFFICE}",))]
    assert changes(SQL, timed(IN_OFFICE)) == [("closed", *PATH, (f"outside {OFFICE}",))]


def test_another_window_opens_its_hours_and_closes_the_old_ones() -> None:
    """Two windows that never meet are an opening and a closing, each in its own hours."""
    assert set(changes(timed(IN_OFFICE), timed(AT_NIGHT))) == {
        ("opened", *PATH, (f"within {NIGHT}", f"outside {OFFICE}")),
        ("closed", *PATH, (f"within {OFFICE}", f"outside {NIGHT}")),
    }


def test_a_window_inside_another_opens_nothing() -> None:
    """Narrower hours only close: there is no moment at which the narrow window holds and the wide one does not."""
    lunch = timed(hours(12, 13, "mon-fri 12:00-13:00 UTC"))
    assert [box[0] for box in changes(timed(IN_OFFICE), lunch)] == ["closed"]


def test_a_later_last_day_opens_the_days_between() -> None:
    """Moving `until` opens from the day after the old one, through the new one, and changes nothing today."""
    old, new = (timed(Conditions(until=day)) for day in (date(2027, 3, 1), date(2027, 9, 1)))
    assert changes(old, new) == [("opened", *PATH, ("until 2027-09-01", "after 2027-03-01"))]
    assert changes(new, old) == [("closed", *PATH, ("until 2027-09-01", "after 2027-03-01"))]


def test_a_rule_for_good_is_no_news_while_the_passing_one_lasts() -> None:
    """An allow without an end beside one that ends opens from the day after that."""
    assert changes(timed(Conditions(until=date(2027, 3, 1))), SQL) == [("opened", *PATH, ("after 2027-03-01",))]


def test_two_ways_in_time_are_told_as_one_or_the_other() -> None:
    """Two new rules on one path with their own windows are one opening in either."""
    world = world_of([WEB, DB])
    new = world_of([], timed(IN_OFFICE), timed(AT_NIGHT, "night")).policies
    boxes = diff(world, world.policies, new).boxes
    assert {box.when for box in boxes} == {(f"within {OFFICE} or within {NIGHT}",)}


@pytest.mark.parametrize("seed", range(8200, 8230))
def test_whatever_ever_opens_or_closes_is_in_a_box(seed: int) -> None:
    """At any moment of the weeks to come, a connection that the two sets judge differently has a box of its change."""
    rng = Random(seed)
    spans = [ALWAYS, IN_OFFICE, AT_NIGHT, hours(12, 13, "lunch"), *map(_until, (3, 5, 20))]
    sets = [[timed(rng.choice(spans), f"r{n}") for n in range(rng.randint(0, 3))] for _ in range(2)]
    world = world_of([WEB, DB], *sets[0])
    new = world_of([], *sets[1]).policies
    found = {box.change for box in diff(world, world.policies, new).boxes}
    ends = [Endpoint(w, w.addresses[0].address) for w in (WEB, DB)]
    seen = set()
    for hour in range(24 * 30):
        flow = Flow(*ends, SQL.services.ranges[0][0], at=world.at + timedelta(hours=hour))
        verdicts = judged(world, world.policies, flow), judged(world, new, flow)
        if verdicts[0] != verdicts[1]:
            seen.add("opened" if verdicts[1] == "allowed" else "closed")
    assert found == seen


def _until(days: int) -> Conditions:
    return Conditions(until=(NOW + timedelta(days=days)).date())


# ---- names and addresses ---------------------------------------------------------------------------------------------


def test_a_name_without_an_address_opens_as_the_name() -> None:
    """A rule to a DNS name nobody resolved opens that name, not the internet and not nothing."""
    assert opened_to(Fqdn("api.example.com")) == ["api.example.com"]
    assert opened_to(Fqdn("*.example.com")) == ["*.example.com"]


def test_a_resolved_name_opens_as_the_name() -> None:
    """With an answer the addresses it has are called by the name, even where some rule names the internet."""
    answers = {"api.example.com": (Answer((parse_address("203.0.113.9"),)),)}
    assert opened_to(Fqdn("api.example.com"), names=answers) == ["api.example.com"]


def test_the_internet_is_shown_by_an_address_that_everybody_reads_as_that() -> None:
    """One of documentation's, where nobody holds it and no rule takes it out; else the first that nobody holds."""
    web = host("web", "role=web", "10.0.0.1")
    held = host("odd", "role=odd", "203.0.113.9")
    keep = rule("keep", "forbid", "internet", "203.0.113.0/24", "any")
    added = rule("in", "allow", "internet", "role=web", "tcp/443")

    def shown(world: World) -> str:
        policies = (replace(world.policies[0], rules=(*world.policies[0].rules, added)),)
        (box,) = diff(world, world.policies, policies).boxes
        return box.witness.source

    assert shown(world_of([web])) == "203.0.113.9"
    assert shown(world_of([web, held])) == "1.0.0.0"
    assert shown(world_of([web], keep)) == "1.0.0.0"


def test_a_range_is_not_told_as_the_word_around_it() -> None:
    """A CIDR within `internet` or `private` opens as the CIDR; the whole word as the word; the rest says less what."""
    assert opened_to(peer("203.0.113.0/24")) == ["203.0.113.0/24"]
    assert opened_to(peer("10.9.0.0/16")) == ["10.9.0.0/16"]
    assert opened_to(peer("internet")) == ["internet"]
    rest = rule("keep", "forbid", "role=web", "203.0.113.0/24", "any")
    assert opened_to(peer("internet"), rest) == ["internet but 203.0.113.0/24"]


def opened_to(end: Peer, *more: Rule, names: Names | None = None) -> list[str]:
    """What a new allow to an end is told as opening, beside rules that name the words around it."""
    beside = [
        rule("i", "allow", "role=db", "internet", "tcp/1"),
        rule("p", "allow", "role=db", "private", "tcp/1"),
        *more,
    ]
    world = replace(world_of([WEB, DB], *beside), names=names or {})
    new = replace(rule("new", "allow", "role=web", "anyone", "tcp/443"), destinations=(end,))
    return [b.destinations for b in diff(world, world.policies, world_of([], *beside, new).policies).boxes]


def test_a_workload_and_itself_are_no_pair() -> None:
    """An allow within an identity of one workload opens nothing: its way to itself is loopback."""
    lone = rule("sql", "allow", "role=web", "role=web", "tcp/1")
    assert [box[0] for box in changes(SQL, lone)] == ["closed"]


def test_boxes_count_workload_pairs() -> None:
    """Three web servers by two databases are six pairs in one box."""
    web = [host(f"web{n}", "role=web", f"10.0.0.{n}") for n in range(1, 4)]
    db = [host(f"db{n}", "role=db", f"10.0.1.{n}") for n in range(1, 3)]
    world = world_of([*web, *db])
    found = diff(world, world.policies, world_of([], SQL).policies)
    assert (len(found.boxes), found.opened, found.closed) == (1, 6, 0)
