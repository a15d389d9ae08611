"""The whole way: a controller, a host that joins, policies, containment, alerts, evidence, the audit log, restarts."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from serving import SHOP, Host, Serving, eventually, refused, serving

from ringfence.api.run import LOCK
from ringfence.client.client import Client, _context
from ringfence.client.errors import Unreachable
from ringfence.client.login import Login
from ringfence.controller.controller import utcnow
from ringfence.controller.records.backing_up import restore_into
from ringfence.core.errors import FindingsError
from ringfence.core.identity.workload import Mode
from ringfence.ports.state import StateError
from ringfence.wire import api
from ringfence.wire.messages import Event

AT_ONCE = api.How(trial_s=None)


class Estate:
    """A controller with two hosts: `web` and `db`."""

    def __init__(self, served: Serving, folder: Path) -> None:
        self.served, self.client = served, served.client()
        self.web, self.db = (
            self._host(folder / name, name, address) for name, address in (("web", "10.0.0.1"), ("db", "10.0.0.2"))
        )

    def _host(self, folder: Path, role: str, address: str) -> Host:
        self.client.make_profile(api.NewProfile(role, {"app": "shop", "role": role}, Mode.both("enforce")))
        host = Host(folder, self.served.run, address)
        host.join(self.client.invite(api.Invite(role)).token)
        host.connect()
        return host

    def draft(self, base: int, text: str = SHOP) -> api.Draft:
        return api.Draft({"shop.yaml": text}, base, note="a test")

    def beat(self) -> None:
        for host in (self.web, self.db):
            self.served.run(host.beat())

    def close(self) -> None:
        self.web.close()
        self.db.close()
        self.client.close()


@pytest.fixture
def estate(tmp_path: Path) -> Iterator[Estate]:
    with serving(tmp_path / "controller") as served:
        made = Estate(served, tmp_path / "hosts")
        try:
            yield made
        finally:
            made.close()


def test_a_fleet_from_the_first_host_to_the_audit(estate: Estate) -> None:
    """Joined hosts are listed with their addresses; a version is planned, applied, read back; quarantine is verified
    by both and released; every step is in a log that verifies."""
    client = estate.client
    names = {one.uuid: one.name for one in client.workloads(agents=True)}
    web, db = names[estate.web.uuid], names[estate.db.uuid]
    assert eventually(lambda: client.workload(web).addresses) == ("10.0.0.1",)
    assert eventually(lambda: client.workload(db).addresses) == ("10.0.0.2",)

    planned = client.plan(api.Plan(estate.draft(0)))
    assert [(b.change, b.services) for b in planned.diff.boxes] == [("opened", ("tcp/5432",))]
    assert [(p.outcome, p.expect) for p in planned.proofs] == [("proven", "allowed")]
    assert (planned.hosts, planned.base) == (2, 0)

    applied = client.apply(api.Apply(estate.draft(0), AT_ONCE))
    assert applied.version.number == 1
    eventually(lambda: client.rollout().stage == "done")
    assert client.rollout().confirmed == 2
    assert {one.state for one in client.workloads()} == {"realised"}
    assert {one.policy_version for one in client.workloads()} == {1}

    (contained,) = client.quarantine(api.Contain((web,), "it beacons", "forensics", for_s=3600))
    assert contained.level == "forensics"
    eventually(lambda: client.quarantines()[0].is_verified)
    (contained,) = client.quarantines()
    assert (contained.verified_peers, contained.peers, contained.own and contained.own.state) == (1, 1, "verified")
    assert estate.db.isolated is not None
    assert len(estate.db.isolated.isolations) == 1
    assert client.workload(web).is_quarantined
    assert refused(lambda: client.retire(web, "gone")) == "workload-quarantined"
    assert client.release(api.Release((web,), "rebuilt")) == 1
    eventually(lambda: not estate.db.isolated.isolations)
    assert client.quarantines() == []

    actions = [entry.action for entry in reversed(client.audit(limit=100))]
    wanted = ["token.grant", "profile.make", "join.invite", "join.redeem", "agent.enrol", "policy.publish",
              "rollout.begin", "rollout.step", "quarantine.begin", "quarantine.end"]  # fmt: skip
    assert [action for action in wanted if action not in actions] == []
    assert [entry.actor for entry in client.audit(action="quarantine.end")] == ["administrator"]
    assert client.verify_audit().is_intact
    status = client.status()
    assert status.is_well, status.parts
    assert (status.agents, status.policy_version, status.quarantines) == ({"realised": 2}, 1, 0)


def test_a_change_of_labels_is_a_change_of_policy(estate: Estate) -> None:
    """It is planned like one: what it opens and closes is named; then it does; and it takes all or nothing."""
    client = estate.client
    client.apply(api.Apply(estate.draft(0), AT_ONCE))
    web = next(one.name for one in client.workloads("role=web"))
    db = next(one.name for one in client.workloads("role=db"))
    eventually(lambda: client.workload(db).addresses and client.workload(web).addresses)
    to_cache = api.Relabel((db,), {"role": "cache", "tier": "2"}, why="it is a cache")

    diff = client.plan_labels(to_cache)
    assert [(b.change, b.sources, b.destinations, b.services, b.workload_pairs) for b in diff.boxes] == [
        ("closed", "app=shop,role=web", db, ("tcp/5432",), 1)
    ]
    assert client.workload(db).labels["role"] == "db"
    with pytest.raises(FindingsError, match="test-unmatched"):
        client.relabel(to_cache)
    assert client.relabel(msgspec.structs.replace(to_cache, accept_failing=True)) == 1
    assert client.workload(db).labels == {"app": "shop", "role": "cache", "tier": "2"}
    back = api.Relabel((db,), {"role": "db"}, ("tier",), "back")
    assert [(b.change, b.workload_pairs) for b in client.plan_labels(back).boxes] == [("opened", 1)]
    assert (
        refused(lambda: client.relabel(api.Relabel(("app=shop",), {"role": "no spaces"}, why="x"))) == "bad-label-value"
    )
    assert refused(lambda: client.relabel(api.Relabel(("role=nobody",), {"a": "b"}, why="x"))) == "unmatched"
    assert refused(lambda: client.relabel(api.Relabel((), {"a": "b"}, why="x"))) == "unmatched"
    assert refused(lambda: client.relabel(api.Relabel((db,), why="x"))) == "nothing-changed"
    looser = api.SetMode(("app=shop",), inbound="observe", why="it is noisy")
    plan = client.plan_mode(looser)
    assert plan.impact is not None
    assert (plan.changed, plan.impact.broken) == (2, ())
    assert client.set_mode(looser) == 2
    assert client.plan_mode(looser).changed == 0
    assert client.workload(web).mode == Mode("observe", "enforce")


def test_what_is_refused_changes_nothing(estate: Estate) -> None:
    """A stale base, the same again, a failing test, a canary that picks nobody: each with its code, and no version."""
    client = estate.client
    failing = SHOP.replace("expect: allowed", "expect: blocked")
    with pytest.raises(FindingsError) as caught:
        client.apply(api.Apply(estate.draft(0, failing)))
    assert [finding.code for finding in caught.value.findings] == ["test-failed"]
    assert caught.value.findings[0].where.line == 8
    with pytest.raises(FindingsError) as caught:
        client.apply(api.Apply(estate.draft(0, "policy: shop\nowner: me\nrules: 1\n")))
    assert caught.value.findings[0].where.file == "shop.yaml"
    nobody = api.How(canary="role=nobody")
    assert refused(lambda: client.apply(api.Apply(estate.draft(0), nobody))) == "unmatched"
    assert client.versions() == []

    client.apply(api.Apply(estate.draft(0), AT_ONCE))
    assert refused(lambda: client.apply(api.Apply(estate.draft(0)))) == "version-conflict"
    assert refused(lambda: client.apply(api.Apply(estate.draft(1)))) == "nothing-changed"
    assert refused(lambda: client.rollback(api.Rollback(7, 1, "back"))) == "unknown-version"
    escape = api.Draft({"../ca.yaml": SHOP}, 1, note="x")
    assert refused(lambda: client.apply(api.Apply(escape))) == "not-a-policy"
    assert [one.number for one in client.versions()] == [1]


def test_a_scope_confines_what_its_holder_changes(estate: Estate) -> None:
    """An author of one application publishes it, and neither its neighbour nor a guardrail."""
    author = estate.served.client(estate.client.grant(api.Grant("ann", ("author",), scope="app=shop")))
    author.apply(api.Apply(estate.draft(0), AT_ONCE))
    other = api.Draft({"shop.yaml": SHOP, "bank.yaml": SHOP.replace("shop", "bank")}, 1, note="x")
    guard = "policy: g\nowner: s\nrules:\n  - forbid: {from: role=web, to: role=db}\n"

    assert refused(lambda: author.apply(api.Apply(other))) in ("outside-scope", "test-unmatched")
    guarded = api.Draft({"shop.yaml": SHOP, "g.yaml": guard}, 1, note="x")
    assert refused(lambda: author.apply(api.Apply(guarded))) == "not-allowed"
    assert author.relabel(api.Relabel(("role=web",), {"stage": "1"}, why="x")) == 1
    assert refused(lambda: author.relabel(api.Relabel(("role=web",), {"app": "bank"}, why="x"))) == "outside-scope"
    author.close()


def test_the_same_request_twice_is_done_once(estate: Estate) -> None:
    """One idempotency key: one token made, one answer; for another request or another token it is another."""
    served = estate.served
    http = httpx.Client(base_url=served.controller.settings.url, verify=_context(served.ca))

    def grant(name: str, key: str, token: str = served.token) -> httpx.Response:
        content = msgspec.json.encode(api.Grant(name, ("viewer",)))
        headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": key}
        return http.post("/v1/tokens", content=content, headers=headers)

    first, again = grant("ann", "k1"), grant("ann", "k1")
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    assert grant("bob", "k1").json()["code"] == "key-reused"
    assert grant("ann", "k2").json() != first.json()
    assert [t.name for t in estate.client.tokens()].count("ann") == 2
    assert grant("ann", "k1", first.json()["token"]).json()["code"] == "not-allowed"
    refusal = grant("", "k3")
    assert refusal.status_code == 400
    assert grant("eve", "k3").status_code == 201
    assert (
        "ringfence_http_request_seconds_count"
        in http.get("/v1/metrics", headers={"Authorization": f"Bearer {served.token}"}).text
    )


def test_alerts_are_told_handled_and_kept(estate: Estate) -> None:
    """What a host reports becomes an alert, is streamed as it comes, acknowledged and resolved by name, and audited."""
    client = estate.client
    with client._http.stream("GET", "/events", timeout=30) as stream:
        estate.web.say(Event(1.0, "tampering", "somebody removed a rule"))
        lines = (line for line in stream.iter_lines() if line.startswith("data:"))
        events = (msgspec.json.decode(line[5:], type=api.Event) for line in lines)
        seen = next(e.alert for e in events if e.kind == "alert" and e.alert and e.alert.kind == "tampering")
    (alert,) = [one for one in client.alerts() if one.kind == "tampering"]
    assert seen.id == alert.id
    assert client.acknowledge(alert.id, "looking at it").state == "acknowledged"
    assert client.resolve(alert.id, "it was me").state == "closed"
    assert refused(lambda: client.acknowledge(alert.id)) == "alert-closed"
    assert refused(lambda: client.acknowledge("nobody")) == "unknown-alert"
    assert [one for one in client.alerts() if one.kind == "tampering"] == []
    assert [e.action for e in client.audit(subject=alert.id)] == ["alert.resolve", "alert.acknowledge"]


def test_evidence_is_asked_for_sent_and_fetched(estate: Estate) -> None:
    """A bundle of several parts arrives whole with its digest; what nobody asked a host for is not kept."""
    client = estate.client
    bundle = os.urandom(2_000_000)
    asked = client.ask_evidence(api.AskEvidence(estate.web.uuid, "incident 7"))
    eventually(lambda: estate.web.orders)
    assert (estate.web.orders[0].id, estate.web.orders[0].what) == (asked.id, "evidence")
    assert refused(lambda: client.bundle(asked.id)) == "evidence-not-here"

    estate.db.send_evidence(b"forged", asked.id)
    estate.db.send_evidence(b"unasked", "0123456789abcdef")
    estate.web.send_evidence(bundle, asked.id)
    eventually(lambda: client.evidence()[0].state == "here")
    (view,) = client.evidence()
    assert client.bundle(asked.id) == bundle
    assert (view.size_bytes, view.workload) == (len(bundle), estate.web.uuid)
    assert refused(lambda: client.bundle("../../ca.json")) == "no-such-route"
    assert [e.action for e in client.audit(subject=estate.web.uuid)][:2] == ["evidence.here", "evidence.ask"]


def test_two_people_where_two_are_needed(tmp_path: Path) -> None:
    """Nobody publishes alone: one proposes, another approves, and the rollout begins."""
    with serving(tmp_path / "c", needs_approval=True) as served:
        admin = served.client()
        estate = Estate(served, tmp_path / "hosts")
        ann = served.client(admin.grant(api.Grant("ann", ("author",))))
        bob = served.client(admin.grant(api.Grant("bob", ("approver",))))
        assert refused(lambda: ann.apply(api.Apply(estate.draft(0)))) == "needs-approval"
        proposal = ann.propose(estate.draft(0))
        assert admin.status().needs_approval
        yes = api.Approve(bob.plan(api.Plan(estate.draft(0))).digest, AT_ONCE)
        assert refused(lambda: ann.approve(proposal.id, yes)) == "not-allowed"
        assert [one.id for one in bob.proposals()] == [proposal.id]
        assert bob.proposal(proposal.id).files == estate.draft(0).files
        assert refused(lambda: bob.proposal("nobody")) == "unknown-proposal"
        assert refused(lambda: bob.approve(proposal.id, api.Approve("", AT_ONCE))) == "bad-request"
        assert refused(lambda: bob.approve(proposal.id, api.Approve("another", AT_ONCE))) == "plan-changed"
        assert bob.approve(proposal.id, yes).version.actor == "ann"
        assert refused(lambda: bob.approve(proposal.id, yes)) == "proposal-decided"
        eventually(lambda: bob.rollout().stage == "done")
        estate.close()


def test_a_revoked_host_is_out_and_a_renewed_one_stays(estate: Estate) -> None:
    """Renewal is proven by the old key; after a revocation there is none, and the connection is ended."""
    before = estate.web.joined.identity.serial
    estate.web.renew()
    assert estate.web.joined.identity.serial != before
    assert str(estate.web.joined.identity.uuid) == estate.web.uuid
    assert estate.client.revoke(estate.web.uuid, "stolen") == 1
    eventually(lambda: not estate.web.bus.is_connected)
    assert refused(estate.web.renew) == "renewal-refused"
    assert estate.db.bus.is_connected
    estate.client.retire(estate.web.uuid, "gone")
    assert [one.uuid for one in estate.client.workloads()] == [estate.db.uuid]


def test_a_restart_in_between_loses_nothing(tmp_path: Path) -> None:
    """Tokens, versions, quarantines, alerts and hosts are there again; agents reconnect and are asked nothing new."""
    folder = tmp_path / "controller"
    with serving(folder) as served:
        estate = Estate(served, tmp_path / "hosts")
        estate.client.apply(api.Apply(estate.draft(0), AT_ONCE))
        eventually(lambda: estate.client.rollout().stage == "done")
        estate.client.quarantine(api.Contain((estate.web.uuid,), "it beacons"))
        token, entries = served.token, estate.client.verify_audit().entries
        estate.close()
    with serving(folder) as again:
        assert again.token == ""
        client = again.client(token)
        assert [one.number for one in client.versions()] == [1]
        assert [one.why for one in client.quarantines()] == ["it beacons"]
        assert {one.uuid for one in client.workloads(agents=True)} == {estate.web.uuid, estate.db.uuid}
        assert {one.policy_version for one in client.workloads()} == {1}
        assert client.rollout().stage == "done"
        checked = client.verify_audit()
        assert (checked.is_intact, checked.entries >= entries) == (True, True)
        assert "quarantine" in {one.kind for one in client.alerts()}
        client.close()


@pytest.mark.parametrize("passphrase", ["", "correct horse"])
def test_a_backup_makes_the_same_controller_elsewhere(estate: Estate, tmp_path: Path, passphrase: str) -> None:
    """CA, tokens, versions and hosts are those of the old one; a host it knew is let in without enrolling again."""
    client, run = estate.client, estate.served.run
    client.apply(api.Apply(estate.draft(0), AT_ONCE))
    path = tmp_path / "backup"
    path.write_bytes(client.backup(passphrase))
    if not passphrase:
        with tarfile.open(path) as tar:
            names = tar.getnames()
        assert {"files/keys/ca.json", "files/keys/signing.json", "files/keys/bus/bus.json"} <= set(names)
    assert not list((tmp_path / "controller").glob(".backup-*"))
    place = tmp_path / "restored"
    run(restore_into(path, place, passphrase=passphrase, clock=utcnow))
    estate.web.close()
    with serving(place) as restored:
        assert restored.ca == estate.served.ca
        again = restored.client(estate.served.token)
        assert [one.number for one in again.versions()] == [1]
        assert again.audit(limit=1)[0].action != ""
        assert again.verify_audit().is_intact
        assert {one.uuid for one in again.workloads()} == {estate.web.uuid, estate.db.uuid}
        again.close()
    estate.web.connect()
    with pytest.raises(StateError, match="not empty"):
        run(restore_into(path, place, passphrase=passphrase, clock=utcnow))


# ---- the program ----------------------------------------------------------------------------------------------------


class Program:
    """`ringfence up`, as its users run it."""

    def __init__(self, directory: Path, *, port: int = 0, names: tuple[str, ...] = ("localhost",)) -> None:
        command = [sys.executable, "-c", "from ringfence.cli.main import main; main()", "up", str(directory), "--json"]
        options = ["--port", str(port), "--bus-port", "0", "--listen", "127.0.0.1"]
        options += [word for name in names for word in ("--name", name)]
        self.log = (directory.parent / f"{directory.name}.log").open("ab")
        self.process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=self.log)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self.told = msgspec.json.decode(line if line.endswith(b"}\n") else line + self.process.stdout.read())

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()  # type: ignore[union-attr]
        self.log.close()


@pytest.fixture
def start() -> Iterator[Callable[..., Program]]:
    made: list[Program] = []

    def run(directory: Path, **how: Any) -> Program:
        made.append(Program(directory, **how))
        return made[-1]

    yield run
    for program in made:
        program.close()


def test_killed_and_started_again(tmp_path: Path, start: Callable[..., Program]) -> None:
    """`kill -9` in the middle loses nothing that was acknowledged; SIGTERM ends with 0; the token is told once."""
    folder = tmp_path / "controller"
    first = start(folder)
    token, ca = first.told["token"], first.told["ca_fingerprint"]
    bundle = _ca_of(first, ca)
    with Client(Login(first.told["url"], token, bundle)) as client:
        client.make_profile(api.NewProfile("web", {"role": "web"}))
        client.apply(api.Apply(api.Draft({"shop.yaml": "policy: shop\nowner: me\nrules: []\n"}, 0, note="x")))
    assert first.end(signal.SIGKILL) == -signal.SIGKILL

    second = start(folder)
    assert (second.told["token"], second.told["ca_fingerprint"]) == (None, ca)
    with Client(Login(second.told["url"], token, bundle)) as client:
        assert [one.name for one in client.profiles()] == ["web"]
        assert [one.number for one in client.versions()] == [1]
        assert client.verify_audit().is_intact
    third = start(folder)
    assert third.told["error"] == "controller-running"
    assert third.process.wait(30) == 3
    assert second.end(signal.SIGTERM) == 0
    assert (folder / LOCK).exists()
    content = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert token.encode() not in content + (tmp_path / "controller.log").read_bytes()
    with pytest.raises(Unreachable), Client(Login(second.told["url"], token, bundle)) as client:
        client.status()


def _ca_of(program: Program, fingerprint: str) -> str:
    from ringfence.client.login import fetch_ca

    assert refused(lambda: fetch_ca(program.told["url"], "0" * 64)) == "controller-unknown"
    return fetch_ca(program.told["url"], fingerprint)


def test_the_names_that_hosts_know_are_remembered(tmp_path: Path, start: Callable[..., Program]) -> None:
    """By a start that says none, and by the controller that a backup becomes; a file that is no list of names is bad
    input."""
    folder, path = tmp_path / "controller", tmp_path / "backup"
    first = start(folder, names=("localhost", "ringfence.test"))
    token, bundle = first.told["token"], _ca_of(first, first.told["ca_fingerprint"])
    with Client(Login(first.told["url"], token, bundle)) as client:
        path.write_bytes(client.backup())
    assert first.end(signal.SIGTERM) == 0
    asyncio.run(restore_into(path, tmp_path / "restored", clock=utcnow))

    for place in (folder, tmp_path / "restored"):
        again = start(place, names=())
        assert again.told["url"].startswith("https://localhost:")
        with Client(Login(again.told["url"].replace("localhost", "ringfence.test"), token, bundle)) as client:
            patched = pytest.MonkeyPatch()
            patched.setattr("socket.getaddrinfo", _at_home(socket.getaddrinfo))
            try:
                assert client.me().name == "administrator"  # its certificate bears the second name, too
            finally:
                patched.undo()
        assert again.end(signal.SIGTERM) == 0
    (folder / "names.json").write_text("nonsense")
    assert start(folder, names=()).told["error"] == "bad-controller-config"


def _at_home(resolve: Callable[..., Any]) -> Callable[..., Any]:
    return lambda host, *more, **how: resolve("localhost" if host == "ringfence.test" else host, *more, **how)
