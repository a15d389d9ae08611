"""What is made of a host's facts, on paper."""

from __future__ import annotations

import msgspec
import pytest

from ringfence.codes import AREAS
from ringfence.targets.nftables.preflight import FEATURES, Facts, Neighbour, check, owner_of

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
