"""Reading policies: 10,000 rules parsed and checked, beside bare YAML loading of the same text.

The text is a hundred applications of a hundred rules each (one in four with a name, conditions, a reason and a
comment); the check has an inventory of 1,000 workloads. The peers load the text as YAML and do nothing else.

.venv/bin/python -m bench.bench_policy [--rules 10000] [--ruamel] [--json]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from datetime import UTC, datetime

import yaml

from bench.measure import Figure, cpu_s, show
from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import Workload, derived_uuid
from ringfence.core.policy.check import check
from ringfence.core.policy.parse import parse_policies
from ringfence.core.policy.printing import format_text
from ringfence.core.policy.yaml import read

PER_POLICY = 100
NOW = datetime(2026, 6, 1, tzinfo=UTC)


def policy_text(number: int) -> str:
    """One application's policy of PER_POLICY rules."""
    lines = [f"policy: app{number}", f"owner: team{number}", f"scope: app=app{number},env=prod", "segments:"]
    lines += [f"  s{i}: role=r{i}" for i in range(10)]
    lines += ["services:", "  pg: tcp/5432", "rules:"]
    return "\n".join(lines + [rule_text(i) for i in range(PER_POLICY)]) + "\n"


def rule_text(i: int) -> str:
    ends = f"from: s{i % 10}, to: s{i // 10}"
    if i % 4:
        return f"  - allow: {{{ends}, service: tcp/{8000 + i}}}"
    body = f"  - name: n{i}\n    allow: {{{ends}, service: pg, require: mutual-tls}}"
    return f"{body}\n    because: reason {i} # ticket {i}\n    until: 2027-03-01"


def workloads() -> Inventory:
    """Ten roles of a hundred applications."""
    labels = [{"app": f"app{i // 10}", "env": "prod", "role": f"r{i % 10}"} for i in range(1000)]
    return Inventory(Workload(f"w{i}", derived_uuid(f"w{i}"), found) for i, found in enumerate(labels))


def ruamel_load(texts: dict[str, str]) -> Callable[[], object]:
    """ruamel.yaml's round-trip loader, the one that knows lines and comments."""
    from ruamel.yaml import YAML  # a peer, not a dependency

    return lambda: [YAML(typ="rt").load(text) for text in texts.values()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rules", type=int, default=10_000)
    parser.add_argument("--ruamel", action="store_true", help="also measure ruamel.yaml (slow)")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    texts = {f"app{i}.yaml": policy_text(i) for i in range(asked.rules // PER_POLICY)}
    bare_s, _ = cpu_s(lambda: [yaml.load(text, yaml.CSafeLoader) for text in texts.values()])
    read_s, _ = cpu_s(lambda: [read(text) for text in texts.values()])
    parse_s, parsed = cpu_s(lambda: parse_policies(texts))
    inventory, policies = workloads(), parsed.raise_if_errors()
    check_s, findings = cpu_s(lambda: check(policies, inventory, NOW))
    format_s, _ = cpu_s(lambda: [format_text(text, file) for file, text in texts.items()])
    size = f"{sum(map(len, texts.values())) / 1e6:.1f} MB, {sum(len(p.rules) for p in policies):,} rules"
    figures = [
        Figure("bare yaml.CSafeLoader", bare_s, note=size),
        Figure("read (nodes with places and comments)", read_s, target=bare_s, note=f"{read_s / bare_s:.2f} x bare"),
        Figure("parse", parse_s, note=f"{parse_s / bare_s:.2f} x bare"),
        Figure("check", check_s, note=f"{len(findings)} findings"),
        Figure("parse + check", parse_s + check_s, target=2.0, note=f"{(parse_s + check_s) / bare_s:.2f} x bare"),
        Figure("format every file", format_s),
    ]
    if asked.ruamel:
        ruamel_s, _ = cpu_s(ruamel_load(texts), runs=1)
        figures.append(Figure("ruamel.yaml round-trip load", ruamel_s, note=f"{ruamel_s / read_s:.0f} x read"))
    show("policy language", figures, as_json=asked.json)


if __name__ == "__main__":
    main()
