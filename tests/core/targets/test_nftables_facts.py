"""What is made of a host's facts, on paper."""

from __future__ import annotations

import struct

import msgspec
import pytest

from ringfence.codes import AREAS
from ringfence.targets.nftables.foreign import overwrites_marks
from ringfence.targets.nftables.preflight import FEATURES, Facts, Neighbour, check, owner_of
from ringfence.targets.nftables.wire import attribute, be32, nested, string

GOOD = Facts("6.18.0", "x86_64", dict.fromkeys(FEATURES, True), (), 100, 1000, 1.8e9, False)


def test_a_good_host_has_no_findings() -> None:
    """Nothing is said where nothing is wrong."""
    assert check(GOOD) == ()


@pytest.mark.parametrize("feature", FEATURES)
def test_each_missing_feature_is_a_finding_of_its_own(feature: str) -> None:
    """Each has a registered code, its severity, and what to do."""
    (found,) = check(msgspec.structs.replace(GOOD, features={**GOOD.features, feature: False}))

    assert found.code in AREAS["Enforcement"]
    assert found.severity == FEATURES[feature][0]
    assert found.help
    assert found.subject == feature


@pytest.mark.parametrize(
    ("facts", "code", "severity"),
    [
        ({"neighbours": (Neighbour("ip", "filter", "ufw", ("input drop",)),)}, "firewall-beside", "warning"),
        ({"neighbours": (Neighbour("ip", "nat", "docker", ()),)}, "firewall-beside", "info"),
        ({"conntrack_used": 801}, "conntrack-nearly-full", "warning"),
        ({"now": 1000.0}, "clock-not-set", "error"),
        ({"is_legacy": True}, "firewall-legacy", "info"),
        ({"forwards": True}, "forwarded-uncontrolled", "warning"),
    ],
    ids=["a blocking firewall", "a firewall", "connections", "clock", "legacy", "forwarding"],
)
def test_each_circumstance_is_told_by_its_code(facts: dict[str, object], code: str, severity: str) -> None:
    """One fact, one finding."""
    (found,) = check(msgspec.structs.replace(GOOD, **facts))

    assert (found.code, found.severity) == (code, severity)
    assert found.code in AREAS["Enforcement"]


@pytest.mark.parametrize(
    ("names", "owner"),
    [
        ("nat\nDOCKER", "docker"), ("filter\nufw-user-input", "ufw"), ("firewalld\nfilter_INPUT", "firewalld"),
        ("kube-proxy\nservices", "kube-proxy"), ("nat\nKUBE-SERVICES", "kube-proxy"), ("filter\ncali-INPUT", "calico"),
        ("calico\nfilter-cali-INPUT", "calico"), ("mangle\nCILIUM_PRE_mangle\ncilium", "cilium"), ("mine\ninput", ""),
    ],
)  # fmt: skip
def test_a_table_is_known_by_its_names(names: str, owner: str) -> None:
    """A guess from names, and none where nothing fits."""
    assert owner_of(names) == owner


def test_who_overwrites_our_byte_of_a_mark_is_named() -> None:
    """Beside that it judges at all: the one is information, the other a warning."""
    facts = msgspec.structs.replace(GOOD, neighbours=(Neighbour("ip", "mangle", "", (), overwrites_marks=True),))

    beside, marks = check(facts)

    assert (beside.severity, marks.code, marks.severity) == ("info", "marks-overwritten", "warning")
    assert marks.subject == "ip mangle"
    assert marks.code in AREAS["Enforcement"]


CONNMARK = {
    "save": (1, (0, 0xFFFFFFFF, 0xFFFFFFFF), (1,), True),
    "save with our byte left out": (1, (0, 0x00FFFFFF, 0x00FFFFFF), (1,), False),
    "save, shifted into our byte": (2, (0, 0x00FFFFFF, 0x0000FFFF), (0, 16, 1), True),
    "save, shifted beside it": (2, (0, 0x00FFFFFF, 0x0000FFFF), (0, 8, 1), False),
    "set": (1, (0x05000000, 0xFFFFFFFF, 0), (0,), True),
    "set other bits": (1, (0x4000, 0x4000, 0), (0,), False),
    "restore": (1, (0, 0xFFFFFFFF, 0xFFFFFFFF), (2,), False),
}
"""Revision, (value, bits of the connection's mark, bits of the packet's), shift and mode (xt_connmark.h)."""


@pytest.mark.parametrize("name", CONNMARK)
def test_what_iptables_does_to_our_byte_of_a_mark_is_known(name: str) -> None:
    """CONNMARK in each of its modes, with and without a mask."""
    revision, words, modes, overwrites = CONNMARK[name]
    info = struct.pack("=III", *words) + bytes(modes)
    target = string(1, "target") + nested(2, string(1, "CONNMARK") + be32(2, revision) + attribute(3, info))

    assert overwrites_marks(nested(1, target)) == overwrites


def test_a_rule_about_marks_that_cannot_be_followed_counts_as_writing_them() -> None:
    """Nothing is taken for harmless because it was not understood."""
    torn = string(1, "target") + nested(2, string(1, "CONNMARK") + be32(2, 1) + attribute(3, b"short"))

    assert overwrites_marks(nested(1, torn))
    assert not overwrites_marks(nested(1, string(1, "target") + nested(2, string(1, "MASQUERADE"))))
