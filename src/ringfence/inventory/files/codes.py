"""Every code that inventory files can raise: what it means and what to do about it. Stable; scripts match on them.

Faults of the YAML itself (`yaml-syntax` and its kin) keep the codes of `core.policy.codes`.
"""

from __future__ import annotations

from types import MappingProxyType

CODES = MappingProxyType(
    {
        "not-utf8": ("a file is not UTF-8 text", "save it as UTF-8"),
        "unknown-format": ("a file is none of CSV, JSON and YAML", "rename it, or convert it"),
        "missing-file": ("a path does not exist or cannot be read", "check the path"),
        "bad-csv": ("a table cannot be read as CSV", "mend the quoting or the number of cells at the place named"),
        "expected-text": ("text belongs here", "write one word or quoted text"),
        "expected-list": ("a list belongs here", "write one `- item` a line"),
        "expected-mapping": ("a mapping belongs here", "write `key: value` pairs"),
        "missing-key": ("a key that must be given is missing", "add the key"),
        "empty-inventory": ("a file names no workload", "add workloads, or delete the file"),
        "unknown-key": ("a key or a column that no workload or rule has", "use the key that is suggested"),
        "duplicate-key": ("a key or a column is written twice", "keep one of them"),
        "missing-name": ("a workload without a name", "give it a unique name"),
        "bad-name": ("a name that cannot be told from an address or a word of the language", "choose another name"),
        "duplicate-workload": ("two workloads share a name or a UUID", "rename one, or delete the copy"),
        "bad-uuid": ("a text that is no UUID", "delete it, and one is derived from the name"),
        "unknown-kind": ("a kind that is none of the kinds", "use the kind that is suggested"),
        "unknown-mode": ("a mode that is none of observe, selective and enforce", "use one of the three"),
        "mode-twice": ("a row gives both `mode` and a mode for one direction", "keep one of them"),
        "mode-without-control": (
            "a mode for a workload that has no enforcement point of ours",
            "delete the mode, or correct the kind",
        ),
        "bad-label-key": ("a text that is no label key", "use letters, digits, `.`, `_` and `-`"),
        "bad-label-value": ("a text that is no label value", "use letters, digits, `.`, `_` and `-`"),
        "unlabelled": (
            "a workload without labels: no selector but a negative one picks it",
            "label it, or write a label rule that does",
        ),
        "bad-address": ("a text that is no single address a workload can hold", "write one IPv4 or IPv6 address"),
        "bad-time": ("a text that is no RFC 3339 time", "write `2026-01-31T08:00:00Z`"),
        "backwards-lease": ("an address that belongs to its workload until before it does", "swap `from` and `to`"),
        "duplicate-address": ("one workload lists an address twice for the same time", "delete one of them"),
        "address-conflict": (
            "two workloads hold one address of one network at the same time",
            "end one lease, or name another network; until then a connection passes only if it would for both",
        ),
        "not-a-process": (
            "a key that only processes have, on another kind",
            "write `kind: process`, or delete the key",
        ),
        "process-without-host": ("a process that names no host, or no unit", "name both"),
        "unknown-host": ("a process on a host that no inventory file names", "use the name that is suggested"),
        "bad-host": ("a process on something that cannot run one", "name a host, VM, container or pod"),
        "process-address": (
            "a process with an address of its own",
            "delete it: a process is reached at its host's addresses",
        ),
        "bad-service": ("a text that is no service", "write `tcp/5432`, or a name such as `postgres`"),
        "service-owned-twice": ("two processes of one host own one unit or service", "give each its own"),
        "bad-spiffe-id": ("a text that is no SPIFFE ID", "write `spiffe://trust.domain/path`"),
        "bad-regex": ("a pattern that cannot be compiled", "mend the pattern"),
        "bad-cidr": ("a text that is no CIDR", "write a network's first address and its length, as in `10.0.0.0/8`"),
        "empty-rule": ("a label rule that asks nothing or sets nothing", "write both `when` and `set`"),
        "unknown-attribute": ("an attribute that no workload has", "use the attribute that is suggested"),
        "unknown-group": ("`{name}` in a label that no named group of the rule's patterns gives", "add the group"),
        "label-conflict": (
            "two label rules disagree on a key of a workload, so it is not set",
            "narrow one of the rules, or write the label in the inventory",
        ),
        "unmatched-label-rule": ("a label rule that no workload meets", "correct `when`, or delete the rule"),
    }
)
"""Code -> (what it means, what to do)."""
