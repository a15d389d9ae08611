"""What commands ask before they change who may talk to whom: on a terminal, and where nobody sits at one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fleet import Fleet, fleet_in
from serving import SHOP, eventually, refused

from ringfence.cli import publish
from ringfence.client.client import Client
from ringfence.controller.containment import containing
from ringfence.core.identity.workload import Mode
from ringfence.wire import api
from ringfence.wire.join import parse_join

PROGRAM = "from ringfence.cli.main import main; main()"
OPEN = SHOP.replace("tcp/5432}\ntests", "tcp/5432}\n  - allow: {from: role=web, to: role=db, service: tcp/22}\ntests")
WHY = ("--why", "a test")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with fleet_in(tmp_path_factory.mktemp("consent")) as made:
        made.publish()
        made.publish(OPEN)
        made.write(SHOP)
        yield made


def sit(*words: str, typed: str) -> subprocess.CompletedProcess[str]:
    """A command at a terminal, with what somebody types."""
    ours, theirs = os.openpty()
    os.write(ours, typed.encode())
    try:
        return subprocess.run(
            [sys.executable, "-c", PROGRAM, *words], stdin=theirs, capture_output=True, text=True, timeout=120,
            check=False,
        )  # fmt: skip
    finally:
        os.close(ours)
        os.close(theirs)


def state_of(fleet: Fleet) -> list[object]:
    """All that these commands could change."""
    client = fleet.client
    workloads = [(one.name, one.labels, one.mode, one.is_quarantined) for one in client.workloads()]
    tokens = [(one.id, one.revoked_at) for one in client.tokens()]
    invitations = [(one.id, one.revoked_at) for one in client.invitations()]
    return [
        workloads,
        tokens,
        invitations,
        [one.number for one in client.versions()],
        [q.id for q in client.quarantines()],
    ]


CHANGING = {
    "label": ["label", "web", "--put", "stage=one"],
    "mode": ["mode", "web", "--in", "observe"],
    "apply": ["apply"],
    "rollback": ["rollback", "1"],
    "quarantine by a selector": ["quarantine", "app=shop"],
    "release": ["release", "db"],
    "revoke": ["agent", "revoke", "web"],
    "retire": ["agent", "retire", "web"],
}


@pytest.mark.parametrize("words", CHANGING.values(), ids=CHANGING.keys())
def test_without_a_terminal_nobody_said_yes(fleet: Fleet, words: list[str]) -> None:
    """Exit 2 and `not-confirmed`, in words and in JSON, and all is as it was; without a reason it is `no-reason`."""
    fleet.client.quarantine(api.Contain(("db",), "something to release"))
    before = state_of(fleet)
    plain, document, mute = (fleet.ring(*words, *more) for more in (WHY, (*WHY, "--json"), ("--yes",)))

    assert (plain.exit_code, document.exit_code, mute.exit_code) == (2, 2, 2), plain.output
    assert "error[not-confirmed]" in plain.stderr
    assert json.loads(document.stdout)["error"] == "not-confirmed"
    assert "error[no-reason]" in mute.stderr
    assert state_of(fleet) == before
    fleet.client.release(api.Release(("db",), "a test"))


def test_a_release_is_asked_about_however_many_a_selector_picks(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is isolated is listed before who is not, so that nobody beyond the end of the list is released unasked."""
    monkeypatch.setattr(containing, "_MOST_HIT", 1)
    fleet.client.quarantine(api.Contain(("web",), "something to release"))
    before = state_of(fleet)

    done = fleet.ring("release", "app=shop", *WHY)

    assert (done.exit_code, "release 1 workload or more?" in done.stderr) == (2, True), done.output
    assert state_of(fleet) == before
    assert fleet.ring("release", "app=shop", *WHY, "--yes").exit_code == 0


def test_yes_is_no_yes_to_a_weaker_quarantine(fleet: Fleet) -> None:
    """Habit ends no quarantine earlier: the refusal names it, a plan says what becomes weaker, --replace means it and
    the answer says what it replaced. One that is no weaker needs nothing."""
    (old,) = fleet.client.quarantine(api.Contain(("web",), "for good"))
    shorter = ("quarantine", "web", "--no-wait", "--for", "1m", *WHY, "--yes")

    refused, document = fleet.ring(*shorter), fleet.ring(*shorter, "--json")
    assert (refused.exit_code, document.exit_code) == (2, 2), refused.output
    assert "error[weaker-than]" in refused.stderr
    assert old.id in " ".join(refused.stderr.split())
    assert json.loads(document.stdout)["error"] == "weaker-than"
    assert [one.id for one in fleet.client.quarantines()] == [old.id]
    plan = fleet.client.plan_quarantine(api.Contain(("web",), "", for_s=60))
    assert ([one.id for one in plan.replaces], plan.weakened) == ([old.id], 1)

    meant = fleet.ring(*shorter, "--replace", "--json")
    (new,) = json.loads(meant.stdout)
    assert [one["id"] for one in new["replaces"]] == [old.id]
    longer = fleet.ring("quarantine", "web", "--no-wait", *WHY)
    assert "weaker" not in longer.stderr
    assert new["id"] in longer.stderr
    fleet.client.release(api.Release(("web",), "a test"))


def test_an_invitation_lets_little_in_unless_it_is_said(fleet: Fleet) -> None:
    """Left out: one host, within a day, or what the profile limits; null: no limit but the profile's. What was made is
    told."""
    ends = datetime.now(UTC).replace(microsecond=0) + timedelta(days=9)
    fleet.client.make_profile(api.NewProfile("few", {}, uses=50, expires=ends))
    day = timedelta(hours=24)

    def made(**asked: object) -> tuple[int | None, timedelta | datetime | None]:
        said = fleet.client.post("/invitations", asked, api.Invited)
        (kept,) = [one for one in fleet.client.invitations() if one.id == parse_join(said.token).id]
        is_a_day = said.expires is not None and said.expires - kept.created == day
        return said.uses, day if is_a_day else said.expires

    assert made(profile="web") == (1, day)
    assert made(profile="web", uses=3) == (3, day)
    assert made(profile="web", uses=None) == (None, day)
    assert made(profile="web", uses=None, expires=None) == (None, None)
    assert made(profile="few") == (50, ends)
    assert made(profile="few", uses=None, expires=None) == (50, ends)
    assert made(profile="few", uses=200) == (50, ends)
    assert made(profile="few", uses=2) == (2, ends)


@pytest.mark.parametrize("what", ["token", "invitation"])
def test_what_lets_people_and_hosts_in_is_not_ended_by_accident(fleet: Fleet, what: str) -> None:
    """A token or an invitation: refused without --yes, ended with it."""
    if what == "token":
        fleet.client.grant(api.Grant("ann", ("viewer",)))
        words = ["token", "revoke", next(one.id for one in fleet.client.tokens() if one.name == "ann")]
    else:
        fleet.client.invite(api.Invite("web"))
        last = max(fleet.client.invitations(), key=lambda one: one.created)
        words = ["agent", "invitations", "--revoke", last.id]
    before = state_of(fleet)

    done = fleet.ring(*words)
    assert (done.exit_code, "not-confirmed" in done.stderr) == (2, True)
    assert state_of(fleet) == before
    assert fleet.ring(*words, "--yes").exit_code == 0
    assert state_of(fleet) != before


def test_at_a_terminal_they_are_asked(fleet: Fleet) -> None:
    """Why, and then whether: `n`, Ctrl-C and the end of input change nothing and end with 2; `y` is a yes."""
    words = ("mode", "web", "--out", "observe")
    before = state_of(fleet)
    for typed, code in (
        ("a test\nn\n", "not-confirmed"), ("a test\n\x04", "not-confirmed"), ("a test\n\n", "not-confirmed"),
        ("\n", "no-reason"), ("\x04", "no-reason"),
    ):  # fmt: skip
        done = sit(*words, typed=typed)
        assert (done.returncode, f"error[{code}]" in done.stderr) == (2, True), (typed, done.stderr)
        assert "Traceback" not in done.stderr
    assert state_of(fleet) == before

    done = sit(*words, typed="it is noisy\ny\n")
    assert (done.returncode, "1 host changed" in done.stdout) == (0, True), done.stderr
    assert fleet.client.workload("web").mode == Mode("enforce", "observe")
    assert "it is noisy" in fleet.client.audit(action="workload.mode")[0].details
    assert fleet.ring("mode", "web", "--out", "enforce", *WHY, "--yes").exit_code == 0


def test_a_mode_is_planned_before_it_is_set(fleet: Fleet) -> None:
    """Who turns and how, what always passes, and a digest that holds the command to what was looked at; a plan by
    itself changes nothing."""
    words = ("mode", "app=shop", "--in", "selective")
    shown, document = fleet.ring(*words, "--plan"), fleet.json(*words, "--plan")
    assert shown.exit_code == 0
    assert "web   enforce -> selective  enforce" in shown.stdout
    assert f"2 hosts in another mode than now; plan {document['digest']}" in shown.stdout
    assert "always passes (failsafe): nothing" in shown.stdout
    assert document["hosts"][0] == {
        "name": "db", "before": {"in": "enforce", "out": "enforce"}, "after": {"in": "selective", "out": "enforce"},
    }  # fmt: skip
    assert fleet.client.workload("web").mode == Mode.both("enforce")

    fleet.client.set_mode(api.SetMode(("db",), inbound="observe", why="somebody else"))
    stale = fleet.ring(*words, *WHY, "--planned", document["digest"], "--yes")
    assert (stale.exit_code, "plan-changed" in stale.stderr) == (2, True)
    assert fleet.client.workload("web").mode == Mode.both("enforce")
    held = fleet.json(*words, "--plan")["digest"]
    done = fleet.json(*words, *WHY, "--planned", held, "--yes")
    assert (done["changed"], done["plan"]["digest"]) == (2, held)
    assert fleet.json(*words, *WHY)["changed"] == 0
    fleet.client.set_mode(api.SetMode(("app=shop",), "enforce", "enforce", "as it was"))


def test_nothing_to_change_is_no_error(fleet: Fleet) -> None:
    """What is so already asks nobody, changes nothing, ends with 0, and says so: in words, and in JSON."""
    fleet.write(OPEN)
    before = state_of(fleet)
    mode, label = ("mode", "web", "--in", "enforce"), ("label", "web", "--put", "role=web")
    for words in (("apply",), ("rollback", "2"), label, mode):
        done = fleet.ring(*words)
        assert (done.exit_code, done.stdout) == (0, "nothing to change: it is so already\n"), (words, done.output)
    assert fleet.json("apply")["changed"] is False
    assert fleet.json("apply")["version"]["number"] == 2
    assert fleet.json("rollback", "2", *WHY, "--yes")["changed"] is False
    assert fleet.json("label", "web", "--put", "role=web")["changed"] == 0
    assert state_of(fleet) == before
    fleet.write(SHOP)


def test_going_back_shows_what_it_does_and_is_held_to_it(fleet: Fleet) -> None:
    """The plan of a rollback is that of what the old version says; another digest is refused."""
    plain = fleet.ring("rollback", "1", *WHY)
    assert "- closes" in plain.stderr
    assert "tcp/22" in plain.stderr
    other = fleet.ring("rollback", "1", *WHY, "--planned", "0123456789abcdef", "--yes")
    assert (other.exit_code, "plan-changed" in other.stderr) == (2, True)
    assert len(fleet.client.versions()) == 2
    there = api.Rollback(1, 2, "back", api.How(trial_s=None), "0123456789abcdef")
    assert refused(lambda: fleet.client.rollback(there)) == "plan-changed"


def test_going_back_with_yes_is_held_to_no_plan_that_nobody_looked_at(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In an estate where something changes all the while, going back is not refused for it; --planned is held."""
    shown = publish._shown

    def shown_before_a_change(*asked: Any) -> Any:
        found = shown(*asked)
        role = next(iter({"db", "web"} - {fleet.client.workload("db").labels["role"]}))
        fleet.client.relabel(api.Relabel(("db",), {"role": role}, why="it moves", accept_failing=True))
        return found

    monkeypatch.setattr(publish, "_shown", shown_before_a_change)
    digest = fleet.client.plan(api.Plan(api.Draft({"shop.yaml": SHOP}, 2))).digest
    stale = fleet.ring("rollback", "1", *WHY, "--planned", digest, "--yes")
    assert (stale.exit_code, "plan-changed" in stale.stderr) == (2, True)
    fleet.client.relabel(api.Relabel(("db",), {"role": "db"}, why="as it was", accept_failing=True))

    done = fleet.ring("rollback", "1", *WHY, "--yes")

    assert done.exit_code == 0, done.output
    monkeypatch.undo()
    fleet.client.relabel(api.Relabel(("db",), {"role": "db"}, why="as it was", accept_failing=True))
    fleet.publish(OPEN)


def test_who_is_named_is_isolated_without_a_question(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Containment of a named host waits for nobody, and for no plan (an older controller makes none); a selector says
    how many it hits, and is held to a yes."""
    with monkeypatch.context() as patch:
        patch.delattr(Client, "plan_quarantine")
        done = fleet.ring("quarantine", "web", "--why", "it beacons", "--no-wait")
    assert (done.exit_code in (0, 1), fleet.client.workload("web").is_quarantined) == (True, True)
    shown = fleet.ring("quarantine", "app=shop", "--plan")
    assert "2 workloads: web, db" in shown.stdout
    assert "1 of them isolated already" in shown.stdout
    assert fleet.json("quarantine", "app=shop", "--plan")["total"] == 2
    assert not fleet.client.workload("db").is_quarantined
    assert fleet.ring("quarantine", "app=shop", *WHY, "--yes", "--no-wait").exit_code in (0, 1)
    assert fleet.client.workload("db").is_quarantined
    released = sit("release", "app=shop", typed="rebuilt\ny\n")
    assert (released.returncode, "2 quarantines ended" in released.stdout) == (0, True), released.stderr
    nobody = fleet.ring("release", "app=shop", *WHY, "--yes")
    assert (nobody.exit_code, "not-quarantined" in nobody.stderr) == (2, True)
    eventually(lambda: not fleet.client.quarantines())


@pytest.mark.parametrize(
    "ask",
    [
        lambda c: c.apply(api.Apply(api.Draft({"shop.yaml": SHOP}, 2))),
        lambda c: c.propose(api.Draft({"shop.yaml": SHOP}, 2, note=" ")),
        lambda c: c.rollback(api.Rollback(1, 2)),
        lambda c: c.relabel(api.Relabel(("web",), {"stage": "one"})),
        lambda c: c.set_mode(api.SetMode(("web",), "observe")),
        lambda c: c.quarantine(api.Contain(("web",), "")),
        lambda c: c.release(api.Release(("web",))),
        lambda c: c.revoke("web"),
        lambda c: c.retire("web"),
    ],
)
def test_the_api_wants_a_reason_too(fleet: Fleet, ask: object) -> None:
    """Whatever changes who may talk to whom is refused without one, by whichever way it comes."""
    before = state_of(fleet)
    assert refused(lambda: ask(fleet.client)) == "no-reason"  # type: ignore[operator]
    assert state_of(fleet) == before


def test_labels_keep_their_reason(fleet: Fleet, tmp_path: Path) -> None:
    """It stands in the audit log."""
    assert fleet.ring("label", "web", "--put", "stage=one", "--note", "the first stage", "--yes").exit_code == 0
    assert "the first stage" in fleet.client.audit(action="workload.labels")[0].details
