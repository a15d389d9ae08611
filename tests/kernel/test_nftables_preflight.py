"""Preflight on a real kernel: what is probed is true, and nothing is left behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest
from nft_ground import Ground
from test_nftables_trial import OLD
from test_nftables_watch import DOCKER, FIREWALLD, UFW

from ringfence.targets.nftables import preflight
from ringfence.targets.nftables.netlink import Netlink, Refused
from ringfence.targets.nftables.preflight import FEATURES, check, in_scratch, observe_facts

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(
        sys.platform != "linux" or os.geteuid() != 0, reason="namespaces and nftables need root on Linux"
    ),
    pytest.mark.skipif(shutil.which("nft") is None, reason="nft is not installed"),
]


@pytest.fixture
def ground() -> Iterator[Ground]:
    with Ground() as ground:
        yield ground


def test_a_host_that_enforces_has_what_it_takes(ground: Ground) -> None:
    """Where a trial can be run and confirmed, preflight finds no error."""
    ground.target.converge(OLD)

    facts = observe_facts(ground.host)

    assert facts.features.keys() == FEATURES.keys()
    assert not [finding for finding in check(facts) if finding.severity == "error"]
    assert facts.neighbours == ()
    assert facts.conntrack_max > 0


@pytest.mark.parametrize(
    ("tables", "owner", "found"),
    [(DOCKER, "docker", "ip filter"), (FIREWALLD, "firewalld", "inet firewalld"), (UFW, "ufw", "ip filter")],
    ids=["docker", "firewalld", "ufw"],
)
def test_neighbours_are_known_by_their_names(ground: Ground, tables: str, owner: str, found: str) -> None:
    """Other firewalls are named with what they do to packets of this host."""
    ground.nft(tables)

    facts = observe_facts(ground.host)

    assert owner in {n.owner for n in facts.neighbours if f"{n.family} {n.table}" == found}
    blocking = {f.subject for f in check(facts) if f.code == "firewall-beside" and f.severity == "warning"}
    assert blocking == ({"ip filter"} if owner == "ufw" else set())


@pytest.mark.parametrize("setting", ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"])
def test_a_host_that_forwards_is_told_that_this_is_not_judged(ground: Ground, setting: str) -> None:
    """Nobody takes a host of containers for protected, or for isolated."""
    assert "forwarded-uncontrolled" not in {finding.code for finding in check(observe_facts(ground.host))}

    ground.run(ground.host, f"sysctl -qw {setting}=1")

    assert "forwarded-uncontrolled" in {finding.code for finding in check(observe_facts(ground.host))}


def test_probing_changes_nothing(ground: Ground) -> None:
    """Neither the host's rules nor their generation move; the scratch namespace is gone."""
    ground.target.converge(OLD)
    before = ground.run(ground.host, "nft list ruleset"), generation(ground), namespaces()

    observe_facts(ground.host)

    assert (ground.run(ground.host, "nft list ruleset"), generation(ground), namespaces()) == before


def generation(ground: Ground) -> int:
    with Netlink(ground.host) as netlink:
        return netlink.generation()


def namespaces() -> list[str]:
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True, timeout=30).stdout
    return [line for line in listed.splitlines() if line.startswith(f"rfk{os.getpid()}x")]


def test_a_kernel_that_refuses_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A feature is what the kernel takes: one that refuses timeouts has none, whatever its version."""
    commit = Netlink.commit

    def without_timeouts(self: Netlink, messages: object, **more: object) -> None:
        if any(x.about.startswith("elements of") for x in messages):  # type: ignore[attr-defined]
            raise Refused(95, "elements")
        commit(self, messages, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Netlink, "commit", without_timeouts)
    features = in_scratch(preflight._features)

    assert {name for name, has in features.items() if not has} == {"timeouts", "timed-confirm"}


@pytest.mark.parametrize(
    ("rule", "is_told"),
    [
        ("ct mark set meta mark", True),
        ("ct mark set 0x05000001", True),
        ("ct mark set 0x1", True),
        ("ct mark set ct mark or 0x05000000", True),
        ("ct mark set ct mark and 0xff000000", False),
        ("ct mark set ct mark or 0x4000", False),
        ("ct mark set ct mark and 0xffff3fff or 0x4000", False),
        ("meta mark set ct mark", False),
        ("ct mark 0x05000000 accept", False),
    ],
)
def test_rules_that_write_our_byte_of_a_mark_are_told(ground: Ground, rule: str, is_told: bool) -> None:
    """Whoever may set it could pass for judged. Rules that keep it, or only read it, are nobody's concern."""
    ground.nft(f"table ip foreign {{ chain out {{ type filter hook output priority -150; {rule}; }}\n}}\n")

    (neighbour,) = observe_facts(ground.host).neighbours

    assert neighbour.overwrites_marks == is_told
