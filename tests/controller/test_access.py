"""Roles grant what their table says and no more; tokens open what they were made for, as often and as long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from databases import opened
from hypothesis import given, settings
from hypothesis import strategies as st

from ringfence.controller.access import access
from ringfence.controller.access.access import AccessError, Principal
from ringfence.core.errors import InputError, RingfenceError
from ringfence.core.identity.workload import Mode
from ringfence.core.labels.selector import Requirement, Selector, parse_selector
from ringfence.ports.state import ApiToken, AuditEntry, Change, JoinTokenRecord, PairingProfile
from ringfence.wire.join import Join, parse_join

NOW = datetime(2026, 3, 3, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
URL, CA = "https://ringfence.example:8443", "ab" * 32


def run(place: str | Path, *works: Callable[[Change], Any]) -> list[Any]:
    async def go() -> list[Any]:
        async with opened(place) as state:
            return [await state.write(work) for work in works]

    return asyncio.run(go())


def code_of(place: str | Path, work: Callable[[Change], Any]) -> str:
    with pytest.raises(RingfenceError) as raised:
        run(place, work)
    return raised.value.code


def granting(**how: Any) -> Callable[[Change], str]:
    how = {"name": "ann", "roles": ["author"], "by": "root", "at": NOW} | how
    return lambda tx: access.grant(tx, how.pop("name"), how.pop("roles"), **how)


# ---- roles ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", access.ROLES)
def test_a_role_may_what_its_table_says(role: access.Role) -> None:
    """Every right is granted or refused as the table has it, and a refusal names who could."""
    principal = Principal("ann", (role,))
    for right in access.RIGHTS:
        if right in access.MAY[role]:
            principal.demand(right)
            continue
        with pytest.raises(AccessError) as raised:
            principal.demand(right)
        assert raised.value.code == "not-allowed"
        assert "`administrator`" in raised.value.help


def test_who_writes_policies_may_not_lift_guardrails_or_make_tokens() -> None:
    """The separations the product promises: each of these hands is another's."""
    assert not access.MAY["author"] & {"guardrail", "approve", "tokens", "quarantine", "enrol"}
    assert not access.MAY["approver"] & {"publish", "propose", "label", "tokens"}
    assert not access.MAY["responder"] & {"publish", "label", "tokens", "guardrail"}
    assert access.MAY["viewer"] == {"read"}
    assert set().union(*access.MAY.values()) == set(access.RIGHTS)


def test_roles_add_up() -> None:
    """Two roles may what either may."""
    assert Principal("ann", ("author", "responder")).rights == access.MAY["author"] | access.MAY["responder"]


# ---- scopes ---------------------------------------------------------------------------------------------------------


def test_a_scope_confines_labels_before_and_after() -> None:
    """A workload is relabelled only from inside the scope to inside it: it is neither taken in nor let go."""
    ann = Principal("ann", ("author",), parse_selector("app=shop"))
    inside, outside = {"app": "shop"}, {"app": "crm"}

    ann.demand_workload("label", inside, inside | {"role": "web"})
    for before, after in ((inside, outside), (outside, inside), (outside, outside), (inside, {})):
        with pytest.raises(AccessError) as raised:
            ann.demand_workload("label", before, after)
        assert raised.value.code == "outside-scope"


@pytest.mark.parametrize(
    ("scope", "is_inside"),
    [
        ("app=shop", True), ("app=shop,env=prod", True), ("app in (shop)", True), ("app in (shop,crm)", False),
        ("env=prod", False), ("app", False), ("app!=crm", False), (None, False),
    ],
)  # fmt: skip
def test_a_scope_confines_policies(scope: str | None, is_inside: bool) -> None:
    """A policy is inside when whatever it can ever pick is; one without a scope is inside no scope."""
    ann = Principal("ann", ("author",), parse_selector("app=shop"))
    selector = parse_selector(scope) if scope else None
    if is_inside:
        ann.demand_scope("publish", selector, "the policy")
        return
    with pytest.raises(AccessError) as raised:
        ann.demand_scope("publish", selector, "the policy")
    assert raised.value.code == "outside-scope"


_REQUIREMENTS = st.builds(
    lambda key, op, values: Requirement(key, op, tuple(sorted(values)) if op in ("in", "notin") else ()),
    st.sampled_from("ab"), st.sampled_from(["in", "notin", "exists", "absent"]),
    st.sets(st.sampled_from("xyz"), min_size=1),
)  # fmt: skip
_SELECTORS = st.sets(_REQUIREMENTS, min_size=1, max_size=3).map(lambda rs: Selector(tuple(sorted(rs))))
_WORLDS = [
    {key: value for key, value in (("a", a), ("b", b)) if value}
    for a in (None, "x", "y", "z", "other") for b in (None, "x", "y", "z", "other")
]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(_SELECTORS, _SELECTORS)
def test_within_means_whoever_matches_one_matches_the_other(inner: Selector, outer: Selector) -> None:
    """`is_within` agrees with trying every set of labels there can be."""
    wanted = all(outer.matches(labels) for labels in _WORLDS if inner.matches(labels))

    assert access.is_within(inner, outer) == wanted


# ---- API tokens -----------------------------------------------------------------------------------------------------


def test_a_token_opens_what_it_was_made_for(place: str | Path) -> None:
    """Whoever shows it is who it was made for, with its roles and scope; the state does not hold it."""
    (token,) = run(place, granting(roles=["viewer", "author"], scope="app=shop", expires=LATER))

    who, kept, entries = run(
        place,
        lambda tx: access.authenticate(tx, f" {token}\n", at=NOW),
        lambda tx: tx.find(ApiToken),
        lambda tx: tx.find(AuditEntry),
    )

    assert who == Principal("ann", ("viewer", "author"), parse_selector("app=shop"), kept[0].id)
    secret = token.removeprefix(f"rf_{kept[0].id}_")
    assert len(secret) >= 43
    assert secret not in repr((kept, entries))
    assert [(e.actor, e.action, e.subject) for e in entries] == [("root", "token.grant", kept[0].id)]


def test_a_token_that_is_not_right_is_refused(place: str | Path) -> None:
    """Expired to the second, revoked, altered, cut, another's secret, empty: all are refused alike."""
    one, two, dead = run(place, granting(expires=LATER), granting(name="bob"), granting(name="eve"))
    ids = [token.split("_")[1] for token in (one, two, dead)]
    run(place, lambda tx: access.revoke(tx, ids[2], by="root", at=NOW))
    run(place, lambda tx: access.authenticate(tx, one, at=LATER - timedelta(microseconds=1)))
    wrong = [
        (one, LATER), (dead, NOW), (one[:-1], NOW), (one + "x", NOW), (one.removeprefix("rf_"), NOW), ("", NOW),
        ("rf_", NOW), (f"rf_{ids[0]}_", NOW), (f"rf_{ids[0]}_{two.split('_', 2)[2]}", NOW), ("rf_nobody_x", NOW),
    ]  # fmt: skip

    for token, at in wrong:
        assert code_of(place, lambda tx, token=token, at=at: access.authenticate(tx, token, at=at)) == "token-refused"


@pytest.mark.parametrize(
    "how",
    [
        {"roles": []}, {"roles": ["king"]}, {"scope": ""}, {"scope": "a=1,a=2"}, {"expires": NOW},
        {"roles": ["administrator"], "scope": "app=shop"},
    ],
    ids=str,
)  # fmt: skip
def test_a_token_that_makes_no_sense_is_not_made(place: str | Path, how: dict[str, Any]) -> None:
    """No roles, unknown ones, a scope of nobody, a time that passed, a confined administrator: nothing is kept."""
    assert code_of(place, granting(**how)) == "bad-grant"
    assert run(place, lambda tx: tx.count(ApiToken)) == [0]


def test_only_a_token_in_use_is_revoked(place: str | Path) -> None:
    """Revoking what is unknown or revoked already is an error, and leaves no entry."""
    (token,) = run(place, granting())
    id_ = token.split("_")[1]
    run(place, lambda tx: access.revoke(tx, id_, by="root", at=NOW))

    assert code_of(place, lambda tx: access.revoke(tx, id_, by="root", at=NOW)) == "record-missing"
    assert run(place, lambda tx: tx.count(AuditEntry)) == [2]


# ---- joining --------------------------------------------------------------------------------------------------------


def profile(**how: Any) -> PairingProfile:
    return PairingProfile("web", {"role": "web"}, NOW, "root", Mode("enforce", "observe"), **how)


def inviting(**how: Any) -> Callable[[Change], str]:
    return lambda tx: access.invite(tx, "web", url=URL, ca=CA, by="root", at=NOW, **how)


def joining(token: str, at: datetime = NOW) -> Callable[[Change], access.Welcome]:
    join = parse_join(token)
    return lambda tx: access.redeem(tx, join.id, join.secret, by="host-1", at=at)


def test_a_join_token_says_all_a_new_host_needs(place: str | Path) -> None:
    """It names the controller, pins its CA and lets a host in as its profile says; the state does not hold it."""
    _, token = run(place, lambda tx: access.make_profile(tx, profile()), inviting())

    join = parse_join(f"{token}\n")
    welcome, kept = run(place, joining(token), lambda tx: tx.find(JoinTokenRecord))

    assert token.startswith("rfj_")
    assert (join.url, join.ca) == (URL, CA)
    assert welcome == access.Welcome("web", {"role": "web"}, Mode("enforce", "observe"), join.id)
    assert join.secret not in repr(kept)


@pytest.mark.parametrize("limited", ["token", "profile"])
def test_of_many_that_race_for_the_last_use_one_wins(place: str | Path, limited: str) -> None:
    """However many hosts show the token at once, as many are let in as it has uses; the others took nothing."""
    on_profile = {"uses_left": 3} if limited == "profile" else {}
    on_token = {"uses": 3} if limited == "token" else {"uses": 50}
    _, token = run(place, lambda tx: access.make_profile(tx, profile(**on_profile)), inviting(**on_token))

    async def race() -> tuple[list[Any], list[JoinTokenRecord]]:
        async with opened(place) as state:
            answers = await asyncio.gather(*(state.write(joining(token)) for _ in range(20)), return_exceptions=True)
            return answers, await state.read(lambda view: view.find(JoinTokenRecord))

    answers, (kept,) = asyncio.run(race())

    assert sum(isinstance(answer, access.Welcome) for answer in answers) == 3
    assert {a.code for a in answers if isinstance(a, AccessError)} == {"join-refused"}
    assert kept.uses_left == on_token["uses"] - 3


def test_a_use_that_was_seen_by_two_is_taken_once(place: str | Path) -> None:
    """Even who read the last use before somebody took it cannot take it again."""
    _, token = run(place, lambda tx: access.make_profile(tx, profile()), inviting(uses=1))
    join = parse_join(token)

    def late(tx: Change) -> None:
        stale = tx.get(JoinTokenRecord, join.id)
        joining(token)(tx)
        assert stale is not None
        access._take_use(tx, stale, access.Where("id", join.id), NOW)

    assert code_of(place, late) == "join-refused"


def test_a_join_token_that_is_not_right_is_refused(place: str | Path) -> None:
    """Expired (the token or its profile), taken back, or with another secret: nobody is let in."""
    _, short, dead, good = run(
        place, lambda tx: access.make_profile(tx, profile(expires=LATER + timedelta(hours=1))),
        inviting(expires=LATER), inviting(), inviting(),
    )  # fmt: skip
    run(place, lambda tx: access.disinvite(tx, parse_join(dead).id, by="root", at=NOW))
    swapped = Join(URL, CA, parse_join(good).id, parse_join(short).secret).token
    unknown = Join(URL, CA, "nobody", "x").token

    cases = [(short, LATER), (dead, NOW), (good, LATER + timedelta(hours=1)), (swapped, NOW), (unknown, NOW)]
    assert {code_of(place, joining(token, at)) for token, at in cases} == {"join-refused"}
    assert run(place, joining(short), joining(good))[0].profile == "web"


def test_an_invitation_nobody_could_follow_is_not_made(place: str | Path) -> None:
    """No profile, no uses, a time that passed, plain HTTP, no fingerprint: refused, and nothing is kept."""
    run(place, lambda tx: access.make_profile(tx, profile()))
    ways: dict[str, list[Callable[[Change], Any]]] = {
        "record-missing": [lambda tx: access.invite(tx, "nix", url=URL, ca=CA, by="root", at=NOW)],
        "bad-grant": [inviting(uses=0), inviting(expires=NOW)],
        "bad-token": [
            lambda tx: access.invite(tx, "web", url="http://plain", ca=CA, by="root", at=NOW),
            lambda tx: access.invite(tx, "web", url=URL, ca="ab", by="root", at=NOW),
        ],
    }

    for code, works in ways.items():
        assert {code_of(place, work) for work in works} == {code}
    assert run(place, lambda tx: tx.count(JoinTokenRecord)) == [0]


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=80) | st.binary(max_size=80).map(lambda b: "rfj_" + b.hex()))
def test_what_is_no_join_token_is_refused_with_a_code(text: str) -> None:
    """Whatever is pasted, the answer is a join token or `bad-token`."""
    with pytest.raises(InputError) as raised:
        parse_join(text)

    assert raised.value.code == "bad-token"
