"""What people do about hosts' addresses, evidence and a restore: by the API and by commands."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fleet import Fleet, fleet_in
from serving import SHOP, Loop, eventually, refused, serving

from ringfence.cli.remote import _NOTICES
from ringfence.client.client import Client
from ringfence.client.login import Login
from ringfence.controller.containment.collecting import Keep
from ringfence.controller.controller import utcnow
from ringfence.controller.records.backing_up import restore_into
from ringfence.core.errors import RingfenceError
from ringfence.core.net.address import parse_address
from ringfence.wire import api
from ringfence.wire.messages import Realised

OPEN = SHOP.replace("tcp/5432}\ntests", "tcp/5432}\n  - allow: {from: role=web, to: role=db, service: tcp/22}\ntests")
UNCONFIRMED = _NOTICES[api.RESTORE_UNCONFIRMED].split(":")[0]


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with fleet_in(tmp_path) as made:
        yield made


def test_a_profile_is_widened_and_what_was_refused_is_leased(fleet: Fleet) -> None:
    """A claim outside the profile's ranges is shown with why; once the ranges hold it, it is the host's."""
    web = fleet.hosts["web"]
    web.address = parse_address("203.0.113.9")
    web.run(web.beat())
    (claim,) = eventually(lambda: fleet.client.workload("web").refused)
    assert (claim.address, claim.why) == ("203.0.113.9", "outside")
    assert "claims 203.0.113.9, outside the ranges of its pairing profile" in fleet.ring("agent", "show", "web").stdout
    assert "claims 203.0.113.9" in fleet.ring("agent", "list").stdout
    assert fleet.json("status", "web")["refused"][0]["why"] == "outside"

    web.address = parse_address("10.0.0.2")
    web.run(web.beat())
    held = eventually(lambda: [c for c in fleet.client.workload("web").refused if c.address == "10.0.0.2"])
    assert held[0].why in ("held", "contested")
    assert held[0].holder == "db"

    web.address = parse_address("203.0.113.9")
    web.run(web.beat())
    (shown,) = fleet.json("agent", "profile", "web", "--range", "10.0.0.0/8", "--range", "203.0.113.0/24")
    assert shown["ranges"] == ["10.0.0.0/8", "203.0.113.0/24"]
    assert eventually(lambda: "203.0.113.9" in fleet.client.workload("web").addresses)
    assert fleet.client.workload("web").refused == ()
    assert [e.action for e in fleet.client.audit(action="profile.ranges")] == ["profile.ranges"]
    assert "203.0.113.0/24" in fleet.ring("agent", "profile", "web").stdout
    bad = fleet.ring("agent", "profile", "web", "--range", "everywhere")
    assert (bad.exit_code, "bad-grant" in bad.output) == (2, True)
    assert refused(lambda: fleet.client.set_ranges("nobody", api.Ranges(("10.0.0.0/8",)))) == "record-missing"


def bundle_of(fleet: Fleet, size: int = 1000) -> str:
    asked = fleet.client.ask_evidence(api.AskEvidence("web", "incident 4711"))
    fleet.hosts["web"].send_evidence(b"\x1f\x8b" + b"x" * size, asked.id)
    eventually(lambda: {one.id: one.state for one in fleet.client.evidence()}.get(asked.id) == "here")
    return asked.id


def test_evidence_is_deleted_with_a_reason_and_a_trace(fleet: Fleet) -> None:
    """By an administrator, who says why; the audit log keeps the digest; it is gone from the disk."""
    id_ = bundle_of(fleet)
    digest = fleet.client.evidence()[0].digest
    mute = fleet.ring("evidence", "delete", id_)
    assert (mute.exit_code, "no-reason" in mute.output) == (2, True)
    responder = fleet.served.client(fleet.client.grant(api.Grant("rob", ("responder",))))
    assert refused_code(lambda: responder.erase(id_, "because")) == "not-allowed"

    done = fleet.ring("evidence", "delete", id_, "--why", "the case is closed", "--yes")
    assert (done.exit_code, id_ in done.stdout) == (0, True)
    assert fleet.client.evidence() == []
    assert list((fleet.folder / "controller" / "evidence").iterdir()) == []
    (entry,) = fleet.client.audit(action="evidence.delete")
    assert (entry.actor, digest in str(entry.details), "the case is closed" in str(entry.details)) == (
        "administrator", True, True,
    )  # fmt: skip
    again = fleet.ring("evidence", "delete", id_, "--why", "twice")
    assert (again.exit_code, "unknown-evidence" in again.output) == (2, True)
    wrong = fleet.ring("evidence", "smash", id_, "--why", "x")
    assert (wrong.exit_code, "bad-action" in wrong.output) == (2, True)
    responder.close()


def refused_code(work: Callable[[], object]) -> str:
    with pytest.raises(RingfenceError) as caught:
        work()
    return caught.value.code


@pytest.mark.parametrize("keep", [Keep(2, 1 << 30), Keep(100, 3200)], ids=["by count", "by bytes"])
def test_the_oldest_evidence_goes_when_there_is_too_much(fleet: Fleet, keep: Keep) -> None:
    """By count and by bytes (two of 1,002 bytes and what was asked are less than 3,200, three are more), the oldest
    first, never the newest; each in the audit log as the controller's doing."""
    fleet.served.controller.collecting._keeps = keep
    ids = [bundle_of(fleet) for _ in range(4)]
    eventually(lambda: [one.id for one in fleet.client.evidence()] == [ids[3], ids[2]])
    assert [entry.actor for entry in fleet.client.audit(action="evidence.delete")] == ["controller"] * 2


def test_evidence_that_comes_at_once_is_forgotten_once(fleet: Fleet) -> None:
    """Whoever looks what is too much while another forgets it waits: nothing fails, nothing is told twice."""
    collecting = fleet.served.controller.collecting
    ids = [bundle_of(fleet) for _ in range(4)]
    collecting._keeps = Keep(1, 1 << 30)

    async def at_once() -> list[int]:
        return await asyncio.gather(*(collecting.retain() for _ in range(4)))

    assert sorted(fleet.served.run(at_once())) == [0, 0, 0, 3]
    assert [one.id for one in fleet.client.evidence()] == [ids[3]]
    assert len(fleet.client.audit(action="evidence.delete")) == 3


def test_one_bundle_that_is_too_large_stays(fleet: Fleet) -> None:
    """What was asked for last is what somebody waits for."""
    fleet.served.controller.collecting._keeps = Keep(1, 10)
    id_ = bundle_of(fleet)
    fleet.served.run(fleet.served.controller.collecting.retain())
    assert [one.id for one in fleet.client.evidence()] == [id_]


def test_an_address_that_comes_to_an_isolated_host_is_an_alert(fleet: Fleet) -> None:
    """It is isolated with the host, written down, and told with the address."""
    fleet.client.quarantine(api.Contain(("web",), "it beacons"))
    assert not [a for a in fleet.client.alerts() if "quarantine-bound" in a.message]
    web = fleet.hosts["web"]
    web.address = parse_address("10.0.0.77")
    web.run(web.beat())

    (alert,) = eventually(lambda: [a for a in fleet.client.alerts() if "quarantine-bound" in a.message])
    assert "10.0.0.77" in alert.message
    assert (alert.subject, alert.severity) == ("web", "warning")
    assert fleet.client.audit(action="quarantine.bind")


def test_a_restore_says_so_everywhere_until_it_is_confirmed(fleet: Fleet, tmp_path: Path) -> None:
    """Every command tells it on stderr, the answers on stdout are as ever; confirming ends it."""
    fleet.publish()
    path = tmp_path / "backup"
    path.write_bytes(fleet.client.backup())
    loop = Loop()
    loop(restore_into(path, tmp_path / "restored", clock=utcnow))
    loop.close()
    for host in fleet.hosts.values():
        host.run(host.bus.close())
    with serving(tmp_path / "restored") as restored:
        login = ("--server", restored.controller.settings.url)
        fingerprint = restored.controller.authority.fingerprints[0]
        fleet.ring("login", login[1], "--ca-fingerprint", fingerprint, "--token", "-", stdin=fleet.served.token)
        for words in (("status",), ("versions",), ("audit",), ("quarantine",), ("agent", "list")):
            told = fleet.ring(*words, *login)
            assert UNCONFIRMED in told.stderr, words
            assert UNCONFIRMED not in told.stdout, words
        assert UNCONFIRMED in fleet.ring("reach", "role=db", *login).stderr
        quiet = fleet.ring("versions", "-q", *login)
        assert UNCONFIRMED not in quiet.output
        assert "ringfence confirm-restore" in fleet.ring("status", *login).stdout
        author = restored.client(Client(Login(login[1], fleet.served.token, restored.ca)).grant(author_grant()))
        assert refused_code(author.confirm_restore) == "not-allowed"
        author.close()

        done = fleet.ring("confirm-restore", "--yes", *login)
        assert (done.exit_code, "hosts are told what is in force" in done.stdout) == (0, True)
        assert UNCONFIRMED not in done.output.replace("hosts keep", "")
        assert UNCONFIRMED not in fleet.ring("versions", *login).output
        again = fleet.ring("confirm-restore", "--yes", *login)
        assert (again.exit_code, "not-restored" in again.output) == (2, True)
        assert "hosts go to version" not in again.output


def author_grant() -> api.Grant:
    return api.Grant("ann", ("author",))


def test_a_plan_shows_what_passes_whatever_it_says_and_is_applied_as_shown(fleet: Fleet) -> None:
    """The failsafe list and the digest in words and JSON; an apply that names another plan than would be done is
    refused and changes nothing, as is a change of labels."""
    settings = '[[failsafe]]\ndirection = "in"\ncidr = "192.0.2.0/28"\nservice = "ssh"\n'
    (fleet.estate / "ringfence.toml").write_text(settings)
    shown = fleet.ring("plan")
    document = fleet.json("plan")
    assert "always passes (failsafe): in 192.0.2.0/28 tcp/22" in shown.stdout
    assert document["failsafe"] == [{"direction": "in", "addresses": ["192.0.2.0/28"], "services": ["tcp/22"]}]
    assert document["sessions"] == {"seconds": 300, "in_use": 0, "cut": [], "more": 0}
    assert f"plan {document['digest']}" in shown.stdout

    fleet.write(OPEN)
    other = fleet.ring("apply", "--planned", document["digest"], "--trial", "none", "--note", "x", "--yes")
    assert (other.exit_code, "plan-changed" in other.output) == (2, True)
    assert fleet.client.versions() == []
    digest = fleet.json("plan")["digest"]
    assert fleet.ring("apply", "--planned", digest, "--trial", "none", "--note", "x", "--yes").exit_code == 0

    words = ("label", "role=web", "--put", "stage=one")
    plan = fleet.json(*words, "--plan")
    assert (plan["failsafe"], fleet.ring(*words, "--plan").stdout.count(plan["digest"])) == (document["failsafe"], 1)
    (fleet.estate / "ringfence.toml").unlink()
    moved = fleet.ring("label", "role=web", "--put", "stage=two", "--planned", plan["digest"], "--why", "x", "--yes")
    assert (moved.exit_code, "plan-changed" in moved.output) == (2, True)
    assert "stage" not in fleet.client.workload("web").labels
    assert fleet.ring(*words, "--planned", plan["digest"], "--why", "x", "--yes").exit_code == 0
    assert fleet.client.workload("web").labels["stage"] == "one"


def test_a_host_that_went_back_is_never_told_as_realised(fleet: Fleet) -> None:
    """INVARIANT: what a host has instead of what it was told is not taken for it, though the version is the same; it is
    told with its reason, everywhere, until the host has what it was told. So is one that has not got it yet."""
    web = fleet.hosts["web"]
    eventually(lambda: fleet.client.workload("web").state == "realised")
    before = web.assignment

    fleet.client.set_mode(api.SetMode(("web",), "observe", "observe", why="a test"))
    told = eventually(lambda: web.assignment > before and web.assignment)
    web.realised = Realised("realised", before, rejected=told, is_reverted=True, problems=("10.0.0.9 tcp/22: refused",))
    fleet.served.run(web.beat())
    seen = fleet.client.workload("web")
    assert seen.state == "reverted"
    assert seen.problems == ("it went back: version 0, observe, is in force", "10.0.0.9 tcp/22: refused")
    assert fleet.client.status().agents["reverted"] == 1
    assert "reverted" in {step.code for step in fleet.client.explore.posture().next}
    assert (fleet.ring("status").exit_code, fleet.ring("status", "web").exit_code) == (1, 1)
    assert "it went back" in fleet.ring("agent", "list").stdout
    asked = fleet.ring("explain", "web", "db", "tcp/22", "--fleet")
    assert "web is reverted: what it enforces may not be this" in asked.stdout
    assert fleet.json("explain", "web", "db", "tcp/22", "--fleet")["late"] == {"web": "reverted"}

    web.realised = Realised("realised", before)
    fleet.served.run(web.beat())
    assert fleet.client.workload("web").state == "pending"
    web.realised = None
    fleet.served.run(web.beat())
    assert fleet.client.workload("web").state == "realised"


def test_a_rollout_is_stopped_on_the_command_line(fleet: Fleet) -> None:
    """At its canary, by whoever sees something: not without a yes; then every host has the version before."""
    fleet.publish()
    text = SHOP.replace(
        "tcp/5432}\ntests", "tcp/5432}\n  - allow: {from: role=web, to: role=db, service: tcp/22}\ntests"
    )
    assert text != SHOP
    how = api.How(canary="role=web", trial_s=None)
    fleet.client.apply(api.Apply(api.Draft({"shop.yaml": text}, 1, note="a canary"), how))
    eventually(lambda: fleet.client.workload("web").policy_version == 2)

    unasked = fleet.ring("rollout", "--stop")
    assert (unasked.exit_code, "not-confirmed" in unasked.stderr) == (2, True)
    assert fleet.client.rollout().stage == "canary"
    done = fleet.ring("rollout", "--stop", "--why", "orders fail", "--yes")
    assert (done.exit_code, "orders fail" in done.stdout) == (1, True)
    assert fleet.client.rollout().stage == "stopped"
    eventually(lambda: fleet.client.workload("web").policy_version == 1)
