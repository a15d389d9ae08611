"""Every code of the policy language: what it means and what to do. Scripts match codes; people read the rest.

INVARIANT: a code, once published, keeps its meaning. A code used anywhere in `core.policy` is in this table.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import NamedTuple


class Code(NamedTuple):
    meaning: str
    advice: str


CODES = MappingProxyType(
    {
        # the text
        "not-utf8": Code("the file is not UTF-8 text", "save the file as UTF-8"),
        "yaml-syntax": Code("the text is not YAML", "check quotes, brackets and indentation near this place"),
        "yaml-character": Code(
            "a control character, an invisible line break or a bidirectional override",
            "delete the character; it would hide from a reviewer what the parser reads",
        ),
        "yaml-anchor": Code(
            "anchors and aliases are not part of the language",
            "write the value out; quote text that starts with `&` or `*`",
        ),
        "yaml-tag": Code("tags are not part of the language", 'quote text that starts with `!`, as in "!legacy"'),
        "yaml-depth": Code("the text is nested too deeply", "write the policy in the shape the documentation shows"),
        "yaml-key": Code("a key is not text", "write the key as a word"),
        "duplicate-key": Code("a key is given twice in one mapping", "keep one of the two, or merge their values"),
        # the shape
        "expected-mapping": Code("a mapping belongs here", "write `key: value` pairs"),
        "expected-list": Code("a list belongs here", "write one `- item` a line"),
        "expected-text": Code("text belongs here", "write one word or quoted text"),
        "expected-boolean": Code("`true` or `false` belongs here", "write `true` or `false`, without quotes"),
        "empty-list": Code(
            "a list has no items", "name at least one item; `anyone` means every peer and `any` every service"
        ),
        "unknown-key": Code("the key is not part of the language", "correct the key or delete it"),
        "missing-key": Code("a key that must be given is missing", "add the key"),
        # names
        "bad-name": Code(
            "a name breaks the grammar of names",
            "use lower-case letters, digits, `-` and `_`, starting with a letter or digit",
        ),
        "duplicate-name": Code("two things of one kind have the same name", "rename or delete one of them"),
        # selectors and scope
        "empty-selector": Code(
            "a selector picks nobody because it is empty",
            "name labels as in `role=web`, or write `anyone` if you mean everyone",
        ),
        "bad-selector": Code("the text is not a label selector", "write it as in `env=prod,role in (web,api),!legacy`"),
        "impossible-selector": Code(
            "no workload could ever match the selector",
            "remove one of the requirements that contradict each other, or prefix `global:` to leave the scope",
        ),
        "ignored-label-key": Code(
            "the selector tests a label key that `identity.ignore` lists",
            "select on another key, or take the key off `identity.ignore`",
        ),
        "scope-escape": Code(
            "no end of the rule can lie in the policy's scope",
            "name an end inside the scope, or write the rule in the policy that owns one of its ends",
        ),
        # peers
        "unknown-segment": Code(
            "no segment of that name exists", "define the segment, or write a selector as in `role=web`"
        ),
        "bad-global": Code(
            "`global:` stands before something that is never scoped",
            "delete `global:`; words, addresses and names are not scoped",
        ),
        "bad-address": Code(
            "the text is neither an address nor a CIDR",
            "write an address as in `10.0.0.1` or a CIDR as in `10.0.0.0/8`",
        ),
        "host-bits": Code(
            "the CIDR has bits set behind its prefix",
            "write the network's first address, or the single address without a prefix",
        ),
        "bad-fqdn": Code("the text is not a DNS name", "write a DNS name as in `api.example.com` or `*.example.com`"),
        "fqdn-place": Code("a DNS name stands where none is possible", "use DNS names only as `to` of an `allow`"),
        # services
        "unknown-service": Code(
            "no service of that name exists", "define it under `services`, or write it as in `tcp/8080`"
        ),
        "bad-service": Code(
            "the text is not a protocol, port or range",
            "write a service as in `tcp/5432`, `tcp/8000-8100`, `icmp/echo` or `proto/47`",
        ),
        "process-conflict": Code(
            "the services of a rule do not agree on one process", "write one rule for each process"
        ),
        # rules and tests
        "missing-action": Code("a rule has no action", "write one of `allow`, `deny` or `forbid`"),
        "two-actions": Code("a rule has more than one action", "write one rule for each action"),
        "condition-on-deny": Code(
            "a condition stands on a `deny` or `forbid`",
            "conditions belong to `allow`; narrow the rule by its ends or services",
        ),
        "duplicate-condition": Code("a condition is given inside the rule's body and beside it", "keep one of the two"),
        "bad-require": Code("the requirement is unknown", "write `require: mutual-tls`"),
        "bad-until": Code("the text is not a date", "write the last day as in `until: 2027-03-01`"),
        "bad-within": Code(
            "the text is not a time window", "write it as in `within: mon-fri 08:00-18:00 Europe/Berlin`"
        ),
        "unknown-zone": Code(
            "the time zone is unknown", "use a name of the IANA time zone database, as in `Europe/Berlin`"
        ),
        "bad-process": Code(
            "the text is neither a systemd unit nor an absolute path",
            "write a unit as in `nginx.service` or a path as in `/usr/sbin/nginx`",
        ),
        "bad-time": Code("the text is not a time", "write RFC 3339 with an offset, as in `2027-03-01T12:00:00Z`"),
        "bad-expect": Code("the expectation is unknown", "write `expect: allowed` or `expect: blocked`"),
        # with an inventory
        "unmatched": Code(
            "a selector or segment picks no workload", "correct the label, or label the workloads it is meant for"
        ),
        "expired": Code("a rule's last day has passed", "delete the rule, or move its `until`"),
        "expires-soon": Code("a rule's last day is near", "renew its `until`, or plan for it to end"),
        "over-broad": Code(
            "an allow opens more than anyone can review", "name the peers and the services that need it"
        ),
        "unlabelled-escape": Code(
            "a deny or forbid misses workloads that lack the label it tests", "label these workloads"
        ),
        "unused-segment": Code("no rule or test names the segment", "use the segment or delete it"),
        "unused-service": Code("no rule or test names the service", "use the service or delete it"),
        "fqdn-unresolved": Code(
            "a DNS name has no answer yet and matches nothing", "check the name, or let an enforcement point resolve it"
        ),
    }
)


def help_of(code: str) -> str:
    """What to do about the code, where the place knows nothing better."""
    return CODES[code].advice
