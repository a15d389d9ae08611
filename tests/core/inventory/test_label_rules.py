"""Label rules: what follows from addresses, names and attributes, and why."""

from __future__ import annotations

from pathlib import Path

import pytest

from ringfence.inventory.files import Loaded, load_paths

HOSTS = """\
- {name: shop-web-01, addresses: [10.1.0.5]}
- {name: shop-db-01, addresses: [10.2.0.5], labels: {env: dev}}
- {name: press, kind: device, addresses: [10.1.9.9]}
- {name: nginx, kind: process, host: shop-web-01, unit: nginx.service}
"""


def load(tmp_path: Path, rules: str, hosts: str = HOSTS) -> Loaded:
    (tmp_path / "hosts.yaml").write_text(hosts)
    (tmp_path / "label-rules.yaml").write_text(rules)
    return load_paths([tmp_path])


def labels(loaded: Loaded, name: str) -> dict[str, str]:
    return next(w.labels for w in loaded.workloads if w.name == name)


RULES = """\
- when: {cidr: [10.1.0.0/16, 10.2.0.0/16]}
  set: {env: prod}
  because: the production networks
- when: {name: '(?P<app>[a-z]+)-(?P<role>[a-z]+)-\\d+'}
  set: {app: "{app}", role: "{role}"}
- when: {attribute: kind, equals: unmanaged}
  set: {role: appliance}
- when: {attribute: unit, matches: '(?P<unit>.+)\\.service'}
  set: {role: "{unit}"}
"""


def test_rules_label_by_address_name_and_attribute(tmp_path: Path) -> None:
    """Each kind of condition gives its labels, groups fill them, and kinds may be written by their other words."""
    loaded = load(tmp_path, RULES).raise_if_errors()
    assert labels(loaded, "shop-web-01") == {"env": "prod", "app": "shop", "role": "web"}
    assert labels(loaded, "press") == {"env": "prod", "role": "appliance"}
    assert labels(loaded, "nginx") == {"role": "nginx"}


def test_a_label_in_the_inventory_beats_every_rule(tmp_path: Path) -> None:
    """What a person wrote for one workload stands."""
    assert labels(load(tmp_path, RULES), "shop-db-01") == {"env": "dev", "app": "shop", "role": "db"}


def test_why_names_the_line_or_the_rule(tmp_path: Path) -> None:
    """Every label can be traced to the entry, the rule with its reason, or the host it comes from."""
    loaded = load(tmp_path, RULES)
    file, rules = tmp_path / "hosts.yaml", tmp_path / "label-rules.yaml"
    assert loaded.why("shop-db-01", "env") == f"`env=dev` is written at {file}:2:59"
    assert (
        loaded.why("shop-web-01", "env") == f"`env=prod` is set by the label rule at {rules}:1:3"
        " (because the production networks)"
    )
    assert loaded.why("nginx", "env").startswith("`nginx` has what its host has: `env=prod` is set by")
    assert loaded.why("press", "app") == "`press` has no `app`: neither its entry nor a label rule gives one"
    assert loaded.why("nobody", "app") == "no inventory file names `nobody`"


CONFLICT = """\
- {when: {cidr: 10.1.0.0/16}, set: {env: prod, zone: a}}
- {when: {name: 'shop-.*'}, set: {env: dev, zone: a}}
"""


@pytest.mark.parametrize("rules", [CONFLICT, "".join(CONFLICT.splitlines(keepends=True)[::-1])])
def test_rules_that_disagree_set_nothing(tmp_path: Path, rules: str) -> None:
    """Two values for one key set no value, whichever rule stands first; both rules are named; the rest still counts."""
    loaded = load(tmp_path, rules)
    assert labels(loaded, "shop-web-01") == {"zone": "a"}
    (finding,) = [f for f in loaded.findings if f.code == "label-conflict"]
    assert (finding.subject, finding.severity) == ("shop-web-01", "warning")
    assert "label-rules.yaml:1:3" in finding.message
    assert "label-rules.yaml:2:3" in finding.message
    assert loaded.why("shop-web-01", "env").endswith("disagree")


def test_a_pattern_matches_the_whole_name_or_nothing(tmp_path: Path) -> None:
    """`shop` does not match `shop-web-01`: patterns are never searched for inside a text."""
    loaded = load(tmp_path, "- {when: {name: shop}, set: {app: shop}}")
    assert all("app" not in w.labels for w in loaded.workloads)
    assert "unmatched-label-rule" in [f.code for f in loaded.findings]


def test_all_conditions_of_a_rule_must_hold(tmp_path: Path) -> None:
    """A rule with a CIDR and a name labels only what has both."""
    loaded = load(tmp_path, "- {when: {cidr: 10.1.0.0/16, name: 'shop-.*'}, set: {app: shop}}")
    assert [w.name for w in loaded.workloads if "app" in w.labels] == ["shop-web-01"]


def test_a_cidr_asks_for_its_network_and_a_lasting_address(tmp_path: Path) -> None:
    """The same range in another network, or an address with an end, gives no label."""
    hosts = """\
- {name: a, addresses: [10.1.0.1]}
- {name: b, addresses: [{address: 10.1.0.2, network: site-b}]}
- {name: c, addresses: [{address: 10.1.0.3, to: 2027-01-01}]}
"""
    rules = (
        "- {when: {cidr: 10.1.0.0/16}, set: {env: x}}\n- {when: {cidr: 10.1.0.0/16, network: site-b}, set: {env: y}}\n"
    )
    loaded = load(tmp_path, rules, hosts)
    assert [w.labels for w in loaded.workloads] == [{"env": "x"}, {"env": "y"}, {}]


def test_a_group_that_took_no_part_sets_nothing(tmp_path: Path) -> None:
    """An optional group that did not match leaves the key unset, never empty."""
    rules = "- {when: {name: '(?P<app>shop|press)(-(?P<role>[a-z]+)-\\d+)?'}, set: {app: '{app}', role: '{role}'}}"
    loaded = load(tmp_path, rules)
    assert labels(loaded, "press") == {"app": "press"}
    assert labels(loaded, "shop-web-01") == {"app": "shop", "role": "web"}


FAULTS = {
    "empty-rule": ("- {when: {network: main}, set: {a: b}}", 1, 3),
    "bad-regex": ("- {when: {name: '('}, set: {a: b}}", 1, 17),
    "bad-cidr": ("- {when: {cidr: 10.0.0.1/8}, set: {a: b}}", 1, 17),
    "unknown-attribute": ("- {when: {attribute: knid, equals: host}, set: {a: b}}", 1, 22),
    "missing-key": ("- {when: {name: '.*', equals: host}, set: {a: b}}", 1, 31),
    "unknown-group": ("- {when: {name: '(?P<app>.*)'}, set: {a: '{apps}'}}", 1, 42),
    "bad-label-key": ("- {when: {name: '.*'}, set: {-a: b}}", 1, 30),
    "bad-label-value": ("- {when: {name: '.*'}, set: {a: b c}}", 1, 33),
    "unknown-key": ("- {when: {name: '.*'}, sets: {a: b}, set: {a: b}}", 1, 24),
}


@pytest.mark.parametrize("code", FAULTS)
def test_every_fault_of_a_rule_has_its_code_and_place(tmp_path: Path, code: str) -> None:
    """Each fault is an error with its code, line and column, and the rule labels nobody."""
    rule, line, column = FAULTS[code]
    loaded = load(tmp_path, rule)
    found = [(f.code, f.where.line, f.where.column) for f in loaded.findings if f.severity == "error"]
    assert found == [(code, line, column)]
    assert all(w.labels.keys() <= {"env"} for w in loaded.workloads)


def test_a_value_that_a_pattern_spoils_is_an_error(tmp_path: Path) -> None:
    """A group that yields no label value is reported with the rule and the workload, and sets nothing."""
    hosts = "- {name: 'web 1', labels: {x: y}}"
    loaded = load(tmp_path, "- {when: {name: '(?P<all>.*)'}, set: {a: '{all}'}}", hosts)
    (finding,) = loaded.findings
    assert (finding.code, finding.subject, labels(loaded, "web 1")) == ("bad-label-value", "web 1", {"x": "y"})
