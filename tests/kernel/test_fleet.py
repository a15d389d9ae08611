"""A controller and agents, each a process of its own, over real TLS and real kernels: what packets do is what is meant.

How long things took is printed (`pytest -s`), and asserted nowhere.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest
from fleet_ground import ADMIN, SHOP, STORE, TIME, Way, aim, estate, eventually, last_words

from ringfence.controller.desired.inputs import Manner
from ringfence.core.errors import RingfenceError
from ringfence.lab.fleet import Fleet
from ringfence.wire.messages import Probe, Trial

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs root on Linux"),
]
CLOSED = """\
policy: shop
scope: app=shop
segments: {web: role=web, db: role=db}
rules:
  - allow: {from: web, to: db, service: tcp/5433}
"""


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("fleet")
    with Fleet.up(estate(), folder=folder) as fleet:
        for name in ("web", "laptop", "db"):
            fleet.join(name)
        yield fleet
    print(last_words(folder))


@pytest.fixture
def fleet(up: Fleet) -> Fleet:
    """Everything as at the beginning: the policy, the labels, the modes, nobody isolated."""
    looked = up.look(proves=False)
    for name in ("web", "laptop", "db"):
        labels = up.lab.world.by_name[name].labels
        if looked.labels[name] != labels:
            up.relabel(name, labels)
        up.set_mode(name, "enforce")
    for name in looked.quarantined:
        up.release(name, "the test is over")
    if up.policy != {"shop.yaml": SHOP}:
        up.publish({"shop.yaml": SHOP})
    up.settle()
    return up


def told(what: str, seconds: float) -> None:
    print(f"\n  {what}: {1000 * seconds:.0f} ms")


def test_hosts_that_joined_enforce_what_was_published(fleet: Fleet) -> None:
    """Allowed paths pass and others do not, over TCP and UDP; what was read back is what compiling anew gives."""
    ways = {
        ("web", STORE, "tcp"): True, ("web", TIME, "udp"): True, ("web", ADMIN, "tcp"): False,
        ("laptop", STORE, "tcp"): False, ("laptop", TIME, "udp"): False,
    }  # fmt: skip
    for (host, port, kind), passes in ways.items():
        with Way(fleet, host, aim(fleet, "db", port, kind)) as way:  # type: ignore[arg-type]
            assert set(way.outcomes(0.5)) == {passes}, (host, port)


def test_joining_is_no_alarm(fleet: Fleet) -> None:
    """A host that has nothing to enforce yet did not drift."""
    assert [alert for alert in fleet.look(proves=False).alerts if alert.kind == "drift"] == []


def test_a_label_opens_and_closes_at_once(fleet: Fleet) -> None:
    """A label is the permission: it comes with it, and goes with it, on every host."""
    labels = fleet.lab.world.by_name["laptop"].labels
    with Way(fleet, "laptop", aim(fleet, "db", STORE, every_s=0.005, timeout_s=0.1)) as way:
        way.became(False)
        asked = time.monotonic()
        fleet.relabel("laptop", labels | {"role": "web"})
        way.became(True)
        told("label given -> the first connection", time.monotonic() - asked)
        fleet.settle()
        asked = time.monotonic()
        fleet.relabel("laptop", labels)
        way.became(False)
        told("label taken -> the first refusal", time.monotonic() - asked)
        fleet.settle()
        assert not any(way.outcomes(0.3))


def test_a_new_host_inherits_the_policy(fleet: Fleet) -> None:
    """Nothing is published for it: its labels are enough."""
    version = fleet.look(proves=False).policy_version
    with Way(fleet, "late", aim(fleet, "db", STORE)) as way, Way(fleet, "late", aim(fleet, "db", ADMIN)) as other:
        way.became(False)
        asked = time.monotonic()
        fleet.join("late")
        way.became(True)
        told("join asked -> the first connection", time.monotonic() - asked)
        fleet.settle()
        assert not any(other.outcomes(0.3))
    assert fleet.look(proves=False).policy_version == version


def test_an_address_hands_nothing_down(fleet: Fleet) -> None:
    """A host that gets the address of one that is gone gets none of its permissions: not for one packet, before
    and after the address is its own, and not from the other end when its own rules are thrown away."""
    fleet.join("old")
    fleet.join("heir")
    fleet.settle()
    (address,) = fleet.addresses("old")
    with Way(fleet, "old", aim(fleet, "db", STORE)) as way:
        way.became(True)
    fleet.crash("old")
    with Way(fleet, "heir", aim(fleet, "db", STORE, every_s=0.005, source=address)) as way:
        fleet.readdress("heir", [*fleet.addresses("heir"), address])
        assert not any(way.outcomes(2.0))
        fleet.retire("old", "its hardware is gone")
        eventually(lambda: _holds(fleet, "heir", address))
        fleet.settle()
        assert not any(way.outcomes(1.0))
        fleet.kill_agent("heir")
        fleet.lab.command("heir", "nft", "flush", "ruleset")
        assert not any(way.outcomes(1.0))
        fleet.start_agent("heir")
        fleet.settle()
        assert not any(way.all_since())


def _holds(fleet: Fleet, name: str, address: str) -> bool:
    found = fleet.look(proves=False).host(name)
    return found is not None and address in found.addresses


def test_a_quarantine_cuts_what_lives_and_the_peers_see_to_it(fleet: Fleet) -> None:
    """Established TCP and UDP end though the isolated host's own agent stands still; with the release they return."""
    with (
        Way(fleet, "web", aim(fleet, "db", STORE, "held-tcp", timeout_s=1.0)) as tcp,
        Way(fleet, "web", aim(fleet, "db", TIME, "held-udp", timeout_s=1.0)) as udp,
    ):
        for way in (tcp, udp):
            way.became(True)
        fleet.freeze("web")
        asked = time.monotonic()
        fleet.quarantine("web", "it behaves strangely")
        for way in (tcp, udp):
            way.became(False)
        told("quarantine -> live connections are dead at the peer", time.monotonic() - asked)
        assert not any((*tcp.outcomes(0.5), *udp.outcomes(0.5)))
        eventually(lambda: (found := fleet.look().host("db")) is not None and found.is_settled)
        fleet.thaw("web")
        fleet.settle()
        fleet.release("web", "it was the test")
        for way in (tcp, udp):
            way.became(True)
        fleet.settle()


def test_a_policy_that_cuts_a_probe_takes_itself_back(fleet: Fleet) -> None:
    """The canary goes back to the version before, though the controller is dead by then; the rollout stops, and the
    other hosts never had it."""
    trial = Trial(seconds=4, probes=(Probe(fleet.addresses("db")[0], STORE),))
    with Way(fleet, "web", aim(fleet, "db", STORE)) as way:
        version = fleet.look(proves=False).policy_version
        way.became(True)
        fleet.publish({"shop.yaml": CLOSED}, manner=Manner(trial=trial), canary="role=web")
        way.became(False)
        fleet.kill_controller()
        way.became(True)
        fleet.start_controller()
        eventually(lambda: fleet.look(proves=False).rollout.stage == "stopped")
        looked = fleet.settle()
        assert {one.realised.policy_version for one in looked.hosts if one.name != "old" and one.realised} == {version}
        assert all(way.outcomes(0.5))


def test_root_cannot_open_what_an_agent_holds(fleet: Fleet) -> None:
    """While the agent lives its rules outlast a flush of all of them, and nothing passes meanwhile; with the agent
    killed first they go, and are back with the next one."""
    fleet.set_mode("laptop", "observe")
    fleet.settle()
    with Way(fleet, "laptop", aim(fleet, "db", STORE, every_s=0.005, timeout_s=0.1)) as way:
        way.became(False)
        fleet.lab.command("db", "nft", "flush", "ruleset")
        with pytest.raises(RingfenceError, match="lab-command-failed"):
            fleet.lab.command("db", "nft", "insert", "rule", "inet", "ringfence", "input", "accept")
        assert not any(way.outcomes(1.0))
        fleet.kill_agent("db")
        assert not any(way.outcomes(0.5))
        fleet.lab.command("db", "nft", "flush", "ruleset")
        way.became(True)
        started = time.monotonic()
        fleet.start_agent("db")
        way.became(False)
        told("agent started -> rules are back", time.monotonic() - started)
        fleet.settle()
        assert not any(way.outcomes(0.3))


def test_what_was_changed_without_the_agent_is_taken_out(fleet: Fleet) -> None:
    """A rule that somebody added while no agent ran is gone when the next one is there."""
    fleet.kill_agent("db")
    fleet.lab.command("db", "nft", "insert", "rule", "inet", "ringfence", "input", "accept")
    added = _input(fleet, "db")
    fleet.start_agent("db")
    eventually(lambda: _input(fleet, "db") != added)
    fleet.settle()


def _input(fleet: Fleet, host: str) -> str:
    return fleet.lab.command(host, "nft", "list", "chain", "inet", "ringfence", "input").stdout


def _alerts(fleet: Fleet, kind: str, host: str) -> list[object]:
    return [alert for alert in fleet.look(proves=False).alerts if alert.kind == kind and alert.subject == host]


def test_break_glass_opens_for_a_while_and_is_told(fleet: Fleet) -> None:
    """Root on the host switches enforcement off, with a reason; a quarantine stands all the same."""
    fleet.set_mode("laptop", "observe")
    fleet.settle()
    with Way(fleet, "laptop", aim(fleet, "db", STORE)) as way:
        way.became(False)
        fleet.command("db", "disable", "--for", "30m", "--why", "ticket 4711")
        way.became(True)
        eventually(lambda: _alerts(fleet, "disabled", "db"))
        fleet.quarantine("laptop", "it behaves strangely")
        way.became(False)
        fleet.release("laptop", "it was the test")
        way.became(True)
        fleet.command("db", "enable")
        way.became(False)
    fleet.settle()


def test_hosts_need_no_controller_and_no_bus(fleet: Fleet) -> None:
    """Killed, both: what was allowed goes on, what was not stays out, over a reboot too; back up, nothing is lost."""
    with (
        Way(fleet, "web", aim(fleet, "db", STORE, timeout_s=2.0)) as allowed,
        Way(fleet, "laptop", aim(fleet, "db", STORE)) as forbidden,
    ):
        fleet.kill_bus()
        fleet.settle()
        fleet.kill_controller()
        assert all(allowed.outcomes(1.0))
        fleet.reboot("db")
        allowed.became(True)
        fleet.start_controller()
        fleet.relabel("web", fleet.lab.world.by_name["web"].labels | {"tier": "front"})
        looked = fleet.settle()
        assert looked.labels["web"]["tier"] == "front"
        assert not any(forbidden.all_since())
    assert fleet.check_audit().problem == ""
