"""The constitution (DESIGN section 3) as theorems: sentences that hold of every world and every connection.

The oracle is asked, because it is the reading of the constitution that everything else is checked against.
"""

from __future__ import annotations

from datetime import timedelta
from random import Random

import msgspec
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from strategies import NOW, questions, random_rule, random_world

from ringfence.core.decide import decide
from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import MODES, Lease, Mode, Workload
from ringfence.core.labels.selector import parse_selector
from ringfence.core.net.address import EVERYWHERE, parse_address, parse_cidr
from ringfence.core.net.service import ANY, parse_service
from ringfence.core.policy.model import Action, Cidr, Conditions, Everywhere, Peer, Policy, Rule, Workloads
from ringfence.core.world import VERDICTS, Endpoint, EndVerdict, Failsafe, Flow, Quarantine, QuarantineException, World

settings.register_profile(
    "laws", deadline=None, derandomize=True, max_examples=150, suppress_health_check=list(HealthCheck)
)
law = settings(settings.get_profile("laws"))
replace = msgspec.structs.replace
ANYONE = Everywhere("anyone")
Question = tuple[World, Flow]
seeds = st.integers(0, 2**32)


def everything(action: Action, name: str = "everything") -> Policy:
    """One rule about everyone and every service, in a policy of its own."""
    return Policy("law", rules=(Rule(name, action, (ANYONE,), (ANYONE,), ANY, ("any",)),))


def with_policy(world: World, policy: Policy) -> World:
    return replace(world, policies=(*world.policies, policy))


def badness(world: World, flow: Flow) -> int:
    return VERDICTS.index(decide(world, flow).verdict)


def ends(world: World, flow: Flow) -> dict[str, EndVerdict]:
    return {end.end: end for end in decide(world, flow).ends}


def is_one_pair(world: World, flow: Flow) -> bool:
    """Whether the ends stand for one thing each, so that an end's own words can be compared between worlds."""
    at = flow.at or world.at
    for end in (flow.source, flow.destination):
        if end.workload is not None and end.address is None:
            return False
        is_bare = end.workload is None and end.address is not None
        if is_bare and len(world.inventory.holders(end.address or 0, at, end.network)) > 1:
            return False
    return True


def has_processes(world: World) -> bool:
    return any(w.kind == "process" for w in world.inventory.workloads)


# ---- the steps -------------------------------------------------------------------------------------------------------


@law
@given(questions())
def test_no_allow_lifts_a_forbid(question: Question) -> None:
    """An end that forbids still forbids, by the same rule, when everything is allowed."""
    world, flow = question
    assume(is_one_pair(world, flow))
    before, after = ends(world, flow), ends(with_policy(world, everything("allow")), flow)
    for name, end in before.items():
        if end.reason == "forbid":
            assert (after[name].reason, after[name].rule) == ("forbid", end.rule)


@law
@given(questions())
def test_an_allow_lifts_a_deny_and_the_default(question: Question) -> None:
    """Where everything is allowed, no end denies or falls to its default."""
    world, flow = question
    for end in ends(with_policy(world, everything("allow")), flow).values():
        assert end.reason not in ("deny", "default")


@law
@given(questions())
def test_a_forbid_of_everything_leaves_essential_traffic_and_exceptions(question: Question) -> None:
    """Only what is essential, excepted from a quarantine, or under no control passes a forbid of everything."""
    world, flow = question
    closed = replace(with_policy(world, everything("forbid")), as_mode=Mode.both("enforce"))
    verdict = decide(closed, flow)
    if verdict.verdict == "allowed":
        assert verdict.reason in ("essential", "quarantine", "uncontrolled")


@law
@given(questions())
def test_essential_traffic_asks_no_rule(question: Question) -> None:
    """An end that says essential says so under any policy at all."""
    world, flow = question
    assume(is_one_pair(world, flow))
    for policies in ((), (everything("forbid"),), (everything("allow"),)):
        before, after = ends(world, flow), ends(replace(world, policies=policies), flow)
        assert {n for n, e in before.items() if e.reason == "essential"} == {
            n for n, e in after.items() if e.reason == "essential"
        }


@law
@given(questions())
def test_without_policy_nothing_is_allowed(question: Question) -> None:
    """No end allows, denies or forbids where no rule does; labels alone, equal or not, open nothing."""
    world, flow = question
    for end in ends(replace(world, policies=()), flow).values():
        assert end.reason in ("essential", "quarantine", "default")


@law
@given(questions())
def test_the_rule_that_is_named_has_the_least_name(question: Question) -> None:
    """A copy of the deciding rule under an earlier name is named instead; under a later name it is not."""
    world, flow = question
    assume(is_one_pair(world, flow))
    verdict = decide(world, flow)
    assume(verdict.rule is not None)
    for suffix, name in (("!", f"{verdict.rule}"[:-1] + "!"), ("~", f"{verdict.rule}~")):
        copied = decide(replace(world, policies=tuple(_copied(p, verdict.rule, suffix) for p in world.policies)), flow)
        assert copied.rule == (name if suffix == "!" else verdict.rule)
        assert copied.verdict == verdict.verdict


def _copied(policy: Policy, ref: str | None, suffix: str) -> Policy:
    """`!` sorts before every letter of the name's end, `~` after."""
    copies = []
    for rule in (r for r in policy.rules if policy.ref(r) == ref):
        copies.append(replace(rule, name=rule.name[:-1] + "!" if suffix == "!" else rule.name + "~"))
    return replace(policy, rules=(*policy.rules, *copies))


# ---- modes -----------------------------------------------------------------------------------------------------------


@law
@given(questions())
def test_a_stricter_mode_is_never_kinder(question: Question) -> None:
    """Everyone observing <= selective <= enforcing, less the belief in processes that enforcement alone earns."""
    world, flow = question
    unconditional = replace(world, policies=tuple(map(_without_processes, world.policies)))
    order = [badness(replace(unconditional, as_mode=Mode.both(mode)), flow) for mode in MODES]
    assert order == sorted(order)


def _without_processes(policy: Policy) -> Policy:
    rules = (replace(r, conditions=replace(r.conditions, from_process=None, to_process=None)) for r in policy.rules)
    return replace(policy, rules=tuple(rules))


@law
@given(questions())
def test_an_observing_estate_blocks_by_quarantine_only(question: Question) -> None:
    """In observe nothing else is dropped; what would be is said with the rule that would have."""
    world, flow = question
    verdict = decide(replace(world, as_mode=Mode.both("observe")), flow)
    assert verdict.verdict != "blocked" or verdict.reason == "quarantine"
    for end in verdict.ends:
        assert end.reason not in ("forbid", "deny") or (end.verdict == "would-block" and end.rule is not None)


@law
@given(questions())
def test_selective_blocks_what_a_rule_names(question: Question) -> None:
    """In selective, forbid and deny are enforced and the default passes as would-block."""
    world, flow = question
    for end in ends(replace(world, as_mode=Mode.both("selective")), flow).values():
        expected = {"forbid": "blocked", "deny": "blocked", "default": "would-block"}.get(end.reason, end.verdict)
        assert end.verdict == expected


@law
@given(questions())
def test_enforce_knows_no_would_block(question: Question) -> None:
    """Where every end enforces, a verdict is allowed or blocked."""
    world, flow = question
    assert decide(replace(world, as_mode=Mode.both("enforce")), flow).verdict != "would-block"


@law
@given(questions())
def test_quarantine_does_not_ask_the_mode(question: Question) -> None:
    """An end that answers for a quarantine answers alike in every mode."""
    world, flow = question
    assume(is_one_pair(world, flow))
    by_mode = [ends(replace(world, as_mode=Mode.both(mode)), flow) for mode in MODES]
    for name, end in by_mode[0].items():
        if end.reason == "quarantine":
            assert all(other[name].verdict == end.verdict in ("allowed", "blocked") for other in by_mode)


@law
@given(questions(), st.sampled_from(MODES))
def test_only_the_direction_of_travel_is_asked(question: Question, mode: str) -> None:
    """How a source holds what comes in, and a destination what goes out, changes no verdict."""
    world, flow = question
    assume(not has_processes(world) and is_one_pair(world, flow) and world.as_mode is None)
    assume(flow.source.workload is not flow.destination.workload or flow.source.workload is None)
    before = decide(world, flow)
    by_end = {end.end: end.workload for end in before.ends}
    assume(by_end.get("source") != by_end.get("destination"))

    def turned(w: Workload) -> Workload:
        if w.name == by_end.get("source"):
            return replace(w, mode=Mode(mode, w.mode.outbound))
        return replace(w, mode=Mode(w.mode.inbound, mode)) if w.name == by_end.get("destination") else w

    after = decide(*_everywhere(world, flow, turned))
    assert [(e.verdict, e.reason, e.rule) for e in after.ends] == [(e.verdict, e.reason, e.rule) for e in before.ends]


def _everywhere(world: World, flow: Flow, change: object) -> tuple[World, Flow]:
    """A change of workloads, in the inventory and in the question."""
    changed = [change(w) for w in world.inventory.workloads]  # type: ignore[operator]
    by_uuid = {w.uuid: w for w in changed}
    sides = [
        replace(e, workload=by_uuid[e.workload.uuid]) if e.workload else e for e in (flow.source, flow.destination)
    ]
    inventory = Inventory(changed, ignore=world.inventory.ignore)
    return replace(world, inventory=inventory), replace(flow, source=sides[0], destination=sides[1])


# ---- ends ------------------------------------------------------------------------------------------------------------


@law
@given(questions())
def test_the_worst_end_counts_and_at_a_tie_the_destination(question: Question) -> None:
    """The overall verdict, reason and rule are those of one end, none is worse, and the destination wins a tie."""
    world, flow = question
    verdict = decide(world, flow)
    if not verdict.ends:
        assert (verdict.verdict, verdict.reason, verdict.rule) == ("allowed", "uncontrolled", None)
        return
    worst = max(VERDICTS.index(end.verdict) for end in verdict.ends)
    chosen = [end for end in verdict.ends if VERDICTS.index(end.verdict) == worst][-1]
    assert (verdict.verdict, verdict.reason, verdict.rule) == (chosen.verdict, chosen.reason, chosen.rule)


@law
@given(questions())
def test_only_enforcement_points_speak(question: Question) -> None:
    """A device, a managed service and a bare address decide nothing."""
    world, flow = question
    for end in decide(world, flow).ends:
        workload = world.inventory.by_name[end.workload]
        assert workload.kind not in ("device", "service")


@law
@given(questions())
def test_a_forbid_is_said_at_both_ends(question: Question) -> None:
    """One owner's forbid counts at every controlled end, whoever wrote the policy."""
    world, flow = question
    assume(is_one_pair(world, flow) and not has_processes(world))
    said = ends(world, flow)
    if any(end.reason == "forbid" for end in said.values()):
        rules = {end.rule for end in said.values() if end.reason not in ("essential", "quarantine")}
        assert len(rules) == 1


@law
@given(questions())
def test_nobody_is_let_in_without_consent(question: Question) -> None:
    """A destination's end allows by a scoped rule only if the destination is in that policy's scope."""
    world, flow = question
    end = ends(world, flow).get("destination")
    if end is not None and end.reason == "allow":
        policy = next(p for p in world.policies if any(p.ref(r) == end.rule for r in p.rules))
        labels = world.inventory.labels_of(world.inventory.by_name[end.workload])
        assert policy.scope is None or policy.scope.matches(labels)


@law
@given(questions(), seeds)
def test_an_address_of_several_passes_what_would_pass_for_each(question: Question, seed: int) -> None:
    """The verdict about an address is the worst of the verdicts about its holders."""
    world, _ = question
    rng = Random(seed)
    shared = [lease for w in world.inventory.workloads for lease in w.live_addresses(world.at)]
    assume(shared)
    lease = rng.choice(shared)
    holders = world.inventory.holders(lease.address, world.at, lease.network)
    stranger = Endpoint(address=parse_address("198.18.0.1"), network="elsewhere")
    flow = Flow(stranger, Endpoint(address=lease.address, network=lease.network), parse_service("tcp/443").ranges[0][0])
    apart = [badness(world, replace(flow, destination=Endpoint(w, lease.address, lease.network))) for w in holders]
    assert badness(world, flow) == max(apart)


@law
@given(questions())
def test_names_of_workloads_decide_nothing(question: Question) -> None:
    """Renaming every workload changes no verdict, reason or rule; labels and addresses are all that counts."""
    world, flow = question

    def renamed(w: Workload) -> Workload:
        return replace(w, name=f"renamed-{w.name}", host=f"renamed-{w.host}" if w.host else None)

    before, after = decide(world, flow), decide(*_everywhere(world, flow, renamed))
    assert (after.verdict, after.reason, after.rule) == (before.verdict, before.reason, before.rule)


# ---- conditions and time ---------------------------------------------------------------------------------------------


@law
@given(questions())
def test_proving_an_identity_closes_nothing(question: Question) -> None:
    """With mutual TLS stated a connection fares no worse than without."""
    world, flow = question
    assert badness(world, replace(flow, mutual_tls=True)) <= badness(world, replace(flow, mutual_tls=False))


@law
@given(questions())
def test_unless_is_true(question: Question) -> None:
    """Where an end says only mutual TLS was missing, stating it makes that end allow."""
    world, flow = question
    assume(is_one_pair(world, flow))
    for name, end in ends(world, flow).items():
        if end.unless == ("mutual-tls",):
            assert ends(world, replace(flow, mutual_tls=True))[name].reason == "allow"


@law
@given(questions(), st.integers(-3, 3))
def test_a_rule_that_ended_is_no_rule_and_until_then_it_is_one(question: Question, days: int) -> None:
    """`until` a day is the rule itself through that day, and its absence from the next on."""
    world, flow = question
    rule = everything("allow").rules[0]
    until = (NOW + timedelta(days=days)).date()
    dated = Policy("law", rules=(replace(rule, conditions=Conditions(until=until)),))
    at = flow.at or world.at
    expected = with_policy(world, everything("allow")) if at.date() <= until else world
    got = decide(with_policy(world, dated), flow)
    assert (got.verdict, got.reason) == (decide(expected, flow).verdict, decide(expected, flow).reason)


# ---- emptiness, addresses, failsafe ----------------------------------------------------------------------------------


@law
@given(questions(), seeds)
def test_who_picks_nobody_opens_and_closes_nothing(question: Question, seed: int) -> None:
    """A rule whose source or destination is in nobody's labels changes nothing (law 3)."""
    world, flow = question
    rng = Random(seed)
    nobody = Workloads((parse_selector("role=nobody"),), "role=nobody")
    rule = replace(random_rule(rng, None, "0"), **{rng.choice(("sources", "destinations")): (nobody,)})
    assert decide(with_policy(world, Policy("0", rules=(rule,))), flow) == decide(world, flow)


@law
@given(questions(), st.sampled_from(["!app", "env!=prod", "role notin (web)", "app,env"]))
def test_an_address_that_is_no_workload_is_in_no_selector(question: Question, text: str) -> None:
    """Negative selectors included: a forbid from any selector leaves a bare source as it was."""
    world, flow = question
    at = flow.at or world.at
    source = flow.source
    assume(source.workload is None and source.address is not None)
    assume(not world.inventory.holders(source.address or 0, at, source.network))
    peer: Peer = Workloads((parse_selector(text),), text)
    rule = Rule("no", "forbid", (peer,), (ANYONE,), ANY, ("any",))
    assert decide(with_policy(world, Policy("law", rules=(rule,))), flow) == decide(world, flow)


@law
@given(questions())
def test_a_cidr_means_its_addresses_whoever_holds_them(question: Question) -> None:
    """A rule about all of both families is the rule about anyone, for every end whose address is known."""
    world, flow = question
    assume(is_one_pair(world, flow) and all(e.address is not None for e in (flow.source, flow.destination)))
    whole = Cidr("everything", EVERYWHERE)
    rule = Rule("everything", "forbid", (whole,), (whole,), ANY, ("any",))
    by_cidr = decide(with_policy(world, Policy("law", rules=(rule,))), flow)
    assert by_cidr == decide(with_policy(world, everything("forbid")), flow)


@law
@given(questions())
def test_failsafe_passes_through_everything(question: Question) -> None:
    """A passage for all addresses and services passes ahead of forbid and quarantine, at every end that knows an
    address.
    """
    world, flow = question
    assume(is_one_pair(world, flow) and all(e.address is not None for e in (flow.source, flow.destination)))
    passages = tuple(Failsafe(direction, EVERYWHERE, ANY) for direction in ("in", "out"))
    closed = replace(with_policy(world, everything("forbid")), failsafe=passages)
    assert decide(closed, flow).verdict == "allowed"


# ---- quarantine ------------------------------------------------------------------------------------------------------

HOSTS = [
    Workload(name, name, {"role": name}, (Lease(parse_address(address)),), mode=Mode.both("observe"))
    for name, address in (("web", "10.0.0.1"), ("db", "10.0.0.2"))
]
WEB, DB = HOSTS
SQL = parse_service("tcp/5432")
CONNECTION = Flow(Endpoint(WEB), Endpoint(DB), SQL.ranges[0][0])


def excepting(workload: str, direction: str, peer: Peer = ANYONE) -> Quarantine:
    return Quarantine(workload, (QuarantineException((peer,), SQL, direction),))  # type: ignore[arg-type]


def quarantined(*quarantines: Quarantine, policy: Policy | None = None) -> tuple[str, str]:
    policies = () if policy is None else (policy,)
    verdict = decide(World(Inventory(HOSTS), policies, quarantines), CONNECTION)
    return verdict.verdict, verdict.reason


@pytest.mark.parametrize("workload", ["web", "db"])
def test_quarantine_beats_every_allow_and_mode(workload: str) -> None:
    """Either end isolated, even observing and with everything allowed: blocked."""
    assert quarantined(Quarantine(workload), policy=everything("allow")) == ("blocked", "quarantine")


@pytest.mark.parametrize(("workload", "direction"), [("web", "out"), ("db", "in")])
def test_an_exception_passes_ahead_of_forbid(workload: str, direction: str) -> None:
    """Forensics reach an isolated workload whatever the rules say, in their direction only."""
    assert quarantined(excepting(workload, direction), policy=everything("forbid")) == ("allowed", "quarantine")
    other = {"in": "out", "out": "in"}[direction]
    assert quarantined(excepting(workload, other)) == ("blocked", "quarantine")


def test_two_isolated_ends_must_both_except() -> None:
    """One exception of two is none."""
    web, db = excepting("web", "out"), excepting("db", "in")
    assert quarantined(web, Quarantine("db")) == quarantined(Quarantine("web"), db) == ("blocked", "quarantine")
    assert quarantined(web, db) == ("allowed", "quarantine")


def test_an_exception_for_somebody_else_is_no_exception() -> None:
    """The peer of the exception must be the other end."""
    stranger = Cidr("10.9.0.0/16", parse_cidr("10.9.0.0/16"))
    assert quarantined(excepting("db", "in", stranger)) == ("blocked", "quarantine")


def test_a_quarantine_that_expired_binds_nobody() -> None:
    """From its expiry on, the rules decide again."""
    ended = Quarantine("db", until=World(Inventory(())).at)
    assert quarantined(ended, policy=everything("allow")) == ("allowed", "allow")


@law
@given(questions(), seeds)
def test_isolating_one_more_opens_nothing(question: Question, seed: int) -> None:
    """A further quarantine without exceptions makes no verdict kinder."""
    world, flow = question
    host = Random(seed).choice([w for w in world.inventory.workloads if w.kind != "process"])
    isolated = replace(world, quarantines=(*world.quarantines, Quarantine(host.uuid)))
    was_excepted = any(end.reason == "quarantine" and end.verdict == "allowed" for end in decide(isolated, flow).ends)
    assert badness(isolated, flow) >= badness(world, flow) or was_excepted


# ---- no hysteresis ---------------------------------------------------------------------------------------------------


@law
@given(seeds)
def test_the_same_inputs_are_the_same_verdicts(seed: int) -> None:
    """A verdict is a function of the world and the flow: built again from the same seed, it is the same."""
    first, second = (random_world(Random(seed)) for _ in range(2))
    source, destination = first.inventory.workloads[0], first.inventory.workloads[-1]
    flow = Flow(Endpoint(source), Endpoint(destination), SQL.ranges[0][0])
    assert decide(first, flow) == decide(second, flow)
