"""What people ask and are told: endpoints and services by name, the nearest rule, names for sets of classes."""

from __future__ import annotations

from random import Random

import pytest
from strategies import random_flow, random_world
from worlds import host, present_ends, replace, rule, world_of

from ringfence.core.engine import ask
from ringfence.core.engine.engine import Engine
from ringfence.core.engine.naming import Naming, describe_labels, name_classes
from ringfence.core.engine.nearest import nearest
from ringfence.core.errors import InputError
from ringfence.core.labels.selector import parse_selector
from ringfence.core.net.address import INTERNET_RANGE, PRIVATE, parse_address
from ringfence.core.net.service import ANY, parse_service
from ringfence.core.policy.model import Conditions, Named, Workloads
from ringfence.core.world import Endpoint

WEB, DB = host("web-1", "app=shop,role=web", "10.0.0.1"), host("db-1", "app=shop,role=db", "10.0.0.2", "fd00::2")
MAIL = host("mail", "app=mail,role=web", "10.0.9.1")
SQL = rule("sql", "allow", "role=web", "role=db", "tcp/5432")
WORLD = world_of([WEB, DB, MAIL], SQL)
ENGINE = Engine.compile(WORLD)


# ---- asking ----------------------------------------------------------------------------------------------------------


def test_a_name_or_uuid_is_its_workload() -> None:
    """Either finds the workload itself."""
    assert ask.endpoints(ENGINE, "web-1") == ask.endpoints(ENGINE, WEB.uuid) == (Endpoint(WEB),)


def test_an_address_is_that_address_in_its_network() -> None:
    """Both families; who holds it is for the decision to say."""
    assert ask.endpoints(ENGINE, "10.0.0.9") == (Endpoint(address=parse_address("10.0.0.9")),)
    assert ask.endpoints(ENGINE, "fd00::1", network="b") == (Endpoint(address=parse_address("fd00::1"), network="b"),)


def test_a_dns_name_is_a_name() -> None:
    """Lower case, without the final dot."""
    assert ask.endpoints(ENGINE, "API.example.com.") == (Endpoint(name="api.example.com"),)


@pytest.mark.parametrize("seed", range(13000, 13020))
def test_a_selector_stands_for_every_class_and_mode_in_it(seed: int) -> None:
    """One endpoint for each class and mode of the workloads it picks, each a member of it."""
    world = random_world(Random(seed))
    engine = Engine.compile(world)
    text = "role in (web,db)"
    picked = [w for w in world.inventory.workloads if w.kind != "process"]
    picked = [w for w in picked if parse_selector(text).matches(w.labels)]
    wanted = {(engine.class_of(w, a), str(w.mode)) for w in picked for a in engine.addresses_of(w, world.at)}
    if not wanted:
        with pytest.raises(InputError, match="picks no workload"):
            ask.endpoints(engine, text)
        return
    found = ask.endpoints(engine, text)
    assert len(found) == len(wanted)
    assert {(engine.class_of(e.workload, e.address), str(e.workload.mode)) for e in found if e.workload} == wanted


@pytest.mark.parametrize("seed", range(13000, 13020))
@pytest.mark.parametrize("word", ["internet", "private"])
def test_a_word_stands_for_addresses_of_it_that_nobody_holds(seed: int, word: str) -> None:
    """Each endpoint is in the word and free; no class that meets the word is left out."""
    world = random_world(Random(seed))
    engine = Engine.compile(world)
    network = "vpc-b" if seed % 2 else "main"
    found = ask.endpoints(engine, word, network=network)
    reach = {"internet": INTERNET_RANGE, "private": PRIVATE}[word]
    leases = [lease for w in world.inventory.workloads for lease in w.live_addresses(world.at)]
    held = {lease.address for lease in leases if lease.network == network}
    assert all(e.address in reach and e.address not in held for e in found if e.address is not None)
    assert all(e.network == network for e in found)
    classes = {engine.class_of(None, e.address) for e in found}
    sampled = {
        engine.class_of(None, e.address) for e in present_ends(world) if e.workload is None and e.address in reach
    }
    assert sampled <= classes


@pytest.mark.parametrize(
    ("text", "code"),
    [("web-2", "unknown-endpoint"), ("role=nobody", "unmatched"), ("role in (", "bad-selector")],
)
def test_what_stands_for_nothing_is_refused(text: str, code: str) -> None:
    """With a code, and a guess where there is one."""
    with pytest.raises(InputError) as refused:
        ask.endpoints(ENGINE, text)
    assert refused.value.code == code
    assert refused.value.help or code == "bad-selector"


def test_services_are_the_policys_own_before_the_dictionary() -> None:
    """A policy's `https` shadows the built-in one; `p.https` names it; unknown words are refused with a guess."""
    own = Named("https", "tcp/8443", services=parse_service("tcp/8443"))
    policy = replace(WORLD.policies[0], services=(own,))
    engine = Engine.compile(replace(WORLD, policies=(policy,)))
    assert ask.services(engine, "https") == ask.services(engine, "p.https") == own.services
    assert ask.services(ENGINE, "https") == parse_service("tcp/443")
    assert ask.services(ENGINE, "any") == ANY
    with pytest.raises(InputError) as refused:
        ask.services(ENGINE, "postgress")
    assert (refused.value.code, "`postgres`" in refused.value.help) == ("unknown-service", True)


def test_points_are_one_of_every_atom_of_a_service() -> None:
    """An answer for each is an answer for the whole service."""
    points = ask.points(ENGINE, parse_service("tcp"))
    assert sorted({ENGINE.atoms.atom(point) for point in points}) == sorted(ENGINE.atoms.atom(p) for p in points)
    inside = {atom for lo, hi, atom in ENGINE.atoms.segments if parse_service("tcp").ranges[0][0] <= hi}
    assert {ENGINE.atoms.atom(point) for point in points} <= inside
    assert parse_service("tcp/5432").ranges[0][0] in points


# ---- the nearest rule ------------------------------------------------------------------------------------------------


def close(source: object, destination: object, service: str, *rules: object) -> tuple[str, tuple[str, ...]] | None:
    engine = Engine.compile(world_of([WEB, DB, MAIL], *rules))  # type: ignore[arg-type]
    classes = [engine.class_of(w, w.addresses[0].address) for w in (source, destination)]  # type: ignore[attr-defined]
    found = nearest(engine, *classes, parse_service(service).ranges[0][0])
    return None if found is None else (found.rule, found.missing)


def test_the_one_part_that_is_missing_is_named() -> None:
    """Another source, destination or service: in the rule's own words."""
    assert close(DB, DB, "tcp/5432", SQL) == ("p/sql", ("from `role=web`",))
    assert close(WEB, MAIL, "tcp/5432", SQL) == ("p/sql", ("to `role=db`",))
    assert close(WEB, DB, "tcp/22", SQL) == ("p/sql", ("on tcp/5432",))


def test_a_condition_that_did_not_hold_is_named() -> None:
    """An allow that matches but for its condition says which."""
    guarded = replace(SQL, conditions=Conditions(mutual_tls=True, from_process="app.service"))
    assert close(WEB, DB, "tcp/5432", guarded) == ("p/sql", ("mutual-tls", "from process app.service"))


def test_of_two_the_closer_then_the_earlier_name_is_shown() -> None:
    """Fewer missing parts first; at a tie the least name."""
    other = rule("a", "allow", "role=web", "role=db", "tcp/1")
    assert close(WEB, DB, "tcp/22", SQL, other) == ("p/a", ("on tcp/1",))
    assert close(MAIL, DB, "tcp/5432", rule("z", "allow", "app=shop", "role=db", "tcp/5432")) == (
        "p/z",
        ("from `app=shop`",),
    )


def test_nothing_close_is_nothing() -> None:
    """A rule that shares one part only is no help; denies and forbids never are."""
    assert close(DB, WEB, "tcp/22", SQL) is None
    assert close(WEB, DB, "tcp/22", rule("no", "deny", "role=web", "role=db", "tcp/1")) is None


# ---- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(13100, 13130))
def test_a_selector_that_names_classes_picks_exactly_those(seed: int) -> None:
    """A name that is one selector matches the labels of every named class and of no other present one."""
    rng = Random(seed)
    engine = Engine.compile(random_world(rng))
    present = [c for c, count in enumerate(engine.classes.workloads) if count]
    naming = Naming(engine)
    for _ in range(10):
        wanted = set(rng.sample(present, rng.randint(1, len(present))))
        said = naming.name(wanted)
        assert said == name_classes(engine, wanted)
        labels = [engine.classes.labels[c] for c in wanted]
        is_mixed = any(engine.classes.labels[c] in labels for c in present if c not in wanted)
        if "|" not in said and not is_mixed and said != "unlabelled":
            assert {c for c in present if parse_selector(said).matches(engine.classes.labels[c] or {})} == wanted, said


def test_a_key_that_is_absent_may_tell_apart() -> None:
    """Where other classes carry all the same labels and more, the name says which key these lack."""
    plain, marked = host("a", "role=web", "10.3.0.1"), host("b", "role=web,legacy=yes", "10.3.0.2")
    engine = Engine.compile(world_of([plain, marked]))
    assert name_classes(engine, [engine.class_of(plain, plain.addresses[0].address)]) == "!legacy"
    both = [*[engine.class_of(w, w.addresses[0].address) for w in (plain, marked)]]
    assert name_classes(engine, both) == "role=web"


def test_equal_labels_are_told_apart_by_where_they_are() -> None:
    """Two classes of the same labels, one inside a named CIDR: the name says so."""
    inside, outside = host("a", "role=web", "10.3.0.1"), host("b", "role=web", "10.4.0.1")
    engine = Engine.compile(world_of([inside, outside], rule("r", "allow", "10.3.0.0/16", "role=web")))
    assert name_classes(engine, [engine.class_of(inside, inside.addresses[0].address)]) == "role=web in 10.3.0.0/16"


def test_names_are_short_and_in_the_usual_order() -> None:
    """The fewest labels that do; app before env before role; a long list is cut and counted."""
    shop = [ENGINE.class_of(w, w.addresses[0].address) for w in (WEB, DB)]
    assert name_classes(ENGINE, shop) == "app=shop"
    assert name_classes(ENGINE, shop[:1]) == "app=shop,role=web"
    assert describe_labels(ENGINE.classes, shop[0]) == "app=shop,role=web"
    many = [host(f"h{n}", f"role=r{n}", f"10.2.0.{n}") for n in range(1, 9)]
    engine = Engine.compile(world_of(many))
    some = [engine.class_of(w, w.addresses[0].address) for w in many[:6]]
    assert name_classes(engine, some) == "role=r1 | role=r2 | role=r3 | 3 more"


def test_address_classes_are_named_by_their_words_and_cidrs() -> None:
    """`internet` and `private` before ranges, the narrowest CIDR by its text."""
    world = world_of([WEB], rule("a", "allow", "internet", "role=web"), rule("b", "allow", "10.9.0.0/16", "role=web"))
    engine = Engine.compile(world)
    named = {"8.8.8.8": "internet", "10.9.1.1": "10.9.0.0/16", "10.8.0.1": "addresses that no rule names"}
    for text, name in named.items():
        assert name_classes(engine, [engine.class_of(None, parse_address(text))]) == name


@pytest.mark.parametrize("seed", range(13200, 13215))
def test_a_blocked_connection_never_has_a_nearest_rule_that_allows_it(seed: int) -> None:
    """What is named lacks something, or the connection was not blocked for want of an allow."""
    rng = Random(seed)
    world = random_world(rng)
    engine = Engine.compile(world)
    for _ in range(20):
        flow = random_flow(rng, world)
        if flow.source.address is None or flow.destination.address is None or flow.source.name or flow.destination.name:
            continue
        verdict = engine.decide(flow)
        classes = [engine.class_of(e.workload, e.address) for e in (flow.source, flow.destination)]
        is_plain = all(e.workload is None or e.workload.kind != "process" for e in (flow.source, flow.destination))
        unheld = all(e.workload or not world.inventory.holders(e.address or 0, world.at, e.network)
                     for e in (flow.source, flow.destination))  # fmt: skip
        found = nearest(engine, classes[0], classes[1], flow.point)
        if verdict.reason == "default" and is_plain and unheld and found is not None and not verdict.unless:
            assert found.missing or not all(end.reason == "default" for end in verdict.ends), (flow, found)


def test_workloads_may_be_peers_by_several_selectors() -> None:
    """A peer joined of a selector and a scope picks what both pick."""
    both = Workloads((parse_selector("app=shop"), parse_selector("role=web")), "web of shop")
    engine = Engine.compile(world_of([WEB, DB, MAIL], replace(SQL, sources=(both,))))
    number = engine.peers.id(both)
    assert number is not None
    assert engine.classes.of_peer(number).tolist() == [engine.class_of(WEB, WEB.addresses[0].address)]
