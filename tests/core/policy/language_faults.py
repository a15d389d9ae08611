"""Every fault the language knows, as data: note, code, line, what stands there, a word of the help, the text.

The place is in the file `case.yaml`; `others` are further files of the estate.
"""

# ruff: noqa: E501 - one case a line reads as a table

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple


class Fault(NamedTuple):
    note: str
    code: str
    line: int
    at: str
    """What stands where the finding points."""
    help: str
    source: str | bytes
    others: Mapping[str, str] = MappingProxyType({})
    ignore: tuple[str, ...] = ()


def rule(body: str, *, head: str = "") -> str:
    """A policy of one rule on line 3, or one more for each line of `head`."""
    return f"policy: p\n{head}rules:\n  - {body}\n"


SHOP = {
    "shop.yaml": "policy: shop\nscope: app=shop\nsegments: {db: role=db, web: role=web}\nservices: {pg: tcp/5432}\n"
}

FAULTS = [
    Fault("a byte that is not UTF-8", "not-utf8", 2, '', "UTF-8", b"policy: p\nowner: \xff\n"),
    Fault("a missing bracket", "yaml-syntax", 4, '', "close the `{`", rule("allow: {from: a, to: b")),
    Fault("an unquoted star", "yaml-syntax", 3, '*.x.org}', '"*.example.com"', rule("allow: {from: anyone, to: *.x.org}")),
    Fault("an unquoted colon in a flow", "yaml-syntax", 3, ': env=dev}', "quote", rule("allow: {from: global: env=dev}")),
    Fault("an unquoted colon in a block", "yaml-syntax", 4, ': a=b', "global", rule("allow:\n      from: global: a=b")),
    Fault("a tab as indentation", "yaml-syntax", 3, '\t- x', "spaces", "policy: p\nrules:\n\t- x\n"),
    Fault("an escape that does not exist", "yaml-syntax", 2, '\\q"', "backslash", 'policy: p\nowner: "\\q"\n'),
    Fault("a bidirectional override", "yaml-character", 2, '\u202ecd', "reviewer", "policy: p\nowner: ab\u202ecd\n"),
    Fault("a line break only YAML 1.1 knows", "yaml-character", 2, '\x85b: c', "reviewer", "policy: p\nowner: a\x85b: c\n"),
    Fault("a null character", "yaml-character", 1, '\x00', "delete", "policy: \x00\n"),
    Fault("an anchor", "yaml-anchor", 2, '&o team', "write the value out", "policy: p\nowner: &o team\n"),
    Fault("an alias", "yaml-anchor", 2, '&o team', "write the value out", "policy: p\nowner: &o team\nbecause: *o\n"),
    Fault("a tag", "yaml-tag", 2, '!!str team', "quote", "policy: p\nowner: !!str team\n"),
    Fault("an unquoted negation reads as a tag", "yaml-tag", 3, '!legacy, to: anyone}', "!legacy", rule("deny: {from: !legacy, to: anyone}")),
    Fault("nesting without end", "yaml-depth", 2, '[[[[[[[[[[[[[[[[[[[[[[[[', "shape", "policy: p\nowner: " + "[" * 100 + "]" * 100 + "\n"),
    Fault("a list as a key", "yaml-key", 2, '[a]', "word", "policy: p\n? [a]\n: b\n"),
    Fault("a key twice", "duplicate-key", 3, 'owner: b', "keep one", "policy: p\nowner: a\nowner: b\n"),
    Fault("a list as a document", "expected-mapping", 1, '- allow: {}', "key: value", "- allow: {}\n"),
    Fault("text as a section", "expected-mapping", 2, 'web', "key: value", "policy: p\nsegments: web\n"),
    Fault("text as a rule", "expected-mapping", 3, 'allow everything', "key: value", rule("allow everything")),
    Fault("text as a body", "expected-mapping", 3, 'web', "key: value", rule("allow: web")),
    Fault("a mapping as rules", "expected-list", 2, '{allow: {}}', "- item", "policy: p\nrules: {allow: {}}\n"),
    Fault("a list as an owner", "expected-text", 2, '[a, b]', "text", "policy: p\nowner: [a, b]\n"),
    Fault("no owner behind the key", "expected-text", 2, '', "text", "policy: p\nowner:\nrules: []\n"),
    Fault("a mapping as a peer", "expected-text", 3, '{env: dev}, to: anyone}', "`env=dev`", rule("deny: {from: {env: dev}, to: anyone}")),
    Fault("global without quotes in braces", "expected-text", 3, "{global: a=b}", '"global: a=b"', rule("deny: {from: {global: a=b}, to: anyone}")),
    Fault("a mapping of two as a peer", "expected-text", 3, "{a: b, c: d}", "text", rule("deny: {from: {a: b, c: d}, to: anyone}")),
    Fault("a nested list of peers", "expected-text", 3, '[anyone]], to: anyone}', "text", rule("deny: {from: [[anyone]], to: anyone}")),
    Fault("yes is no truth value", "expected-boolean", 2, 'yes}}', "true", "policy: p\nsegments: {db: {selector: a=b, crown_jewel: yes}}\n"),
    Fault("quoted true is text", "expected-boolean", 2, '"true"}]', "quotes", 'policy: p\ntests: [{from: a=b, to: a=c, expect: blocked, mutual_tls: "true"}]\n'),
    Fault("an empty list of peers", "empty-list", 3, '[], to: anyone}', "at least one", rule("deny: {from: [], to: anyone}")),
    Fault("an empty list of services", "empty-list", 3, '[]}', "at least one", rule("deny: {from: anyone, to: anyone, service: []}")),
    Fault("a misspelt key", "unknown-key", 2, 'segment: {}', "`segments`", "policy: p\nsegment: {}\n"),
    Fault("another product's key", "unknown-key", 3, 'source: x}', "`from`", rule("deny: {from: anyone, to: anyone, source: x}")),
    Fault("a misspelt action", "unknown-key", 3, 'alow: {from: anyone, to:', "`allow`", rule("alow: {from: anyone, to: anyone}")),
    Fault("a comma cuts a selector", "unknown-key", 3, 'role=web, to: anyone}', "quote", rule("deny: {from: env=dev, role=web, to: anyone}")),
    Fault("because belongs beside the body", "unknown-key", 3, 'because: x}', "known keys", rule("deny: {from: anyone, to: anyone, because: x}")),
    Fault("a policy without a name", "missing-key", 1, 'owner: a', "policy:", "owner: a\n"),
    Fault("a rule without a source", "missing-key", 3, '{to: anyone}', "from:", rule("deny: {to: anyone}")),
    Fault("an allow that names no service", "missing-key", 3, '{from: anyone, to: anyon', "service: any", rule("allow: {from: anyone, to: anyone}")),
    Fault("a test that expects nothing", "missing-key", 2, '{from: a=b, to: a=c}]', "expect", "policy: p\ntests: [{from: a=b, to: a=c}]\n"),
    Fault("a segment without a selector", "missing-key", 2, '{crown_jewel: true}}', "selector", "policy: p\nsegments: {db: {crown_jewel: true}}\n"),
    Fault("capitals in a policy's name", "bad-name", 1, 'Shop', "lower-case", "policy: Shop\n"),
    Fault("a dot in a segment's name", "bad-name", 2, 'a.b: x=y}', "lower-case", "policy: p\nsegments: {a.b: x=y}\n"),
    Fault("a segment called like a word", "bad-name", 2, 'internet: x=y}', "lower-case", "policy: p\nsegments: {internet: x=y}\n"),
    Fault("a service called like a protocol", "bad-name", 2, 'tcp: tcp/1}', "lower-case", "policy: p\nservices: {tcp: tcp/1}\n"),
    Fault("a slash in a rule's name", "bad-name", 3, 'a/b', "letters", rule("name: a/b\n    deny: {from: anyone, to: anyone}")),
    Fault("a name without end", "bad-name", 1, 'pppppppppppppppppppppppp', "lower-case", f"policy: {'p' * 129}\n"),
    Fault("two policies of one name", "duplicate-name", 3, 'p', "rename", "policy: p\n---\npolicy: p\n"),
    Fault("two rules of one name", "duplicate-name", 5, 'x', "rename", rule("name: x\n    deny: {from: anyone, to: anyone}\n  - name: x\n    deny: {from: private, to: anyone}")),
    Fault("the same rule twice, spelt differently", "duplicate-name", 4, 'deny: {from: "c=d, a=b",', "rename", rule('deny: {from: "a=b,c=d", to: [anyone, private]}\n  - deny: {from: "c=d, a=b", to: [private, anyone]}')),
    Fault("two tests of one name", "duplicate-name", 4, 't, from: a=b, to: a=d, e', "rename", "policy: p\ntests:\n  - {name: t, from: a=b, to: a=c, expect: blocked}\n  - {name: t, from: a=b, to: a=d, expect: blocked}\n"),
    Fault("an empty scope", "empty-selector", 2, '""', "anyone", 'policy: p\nscope: ""\n'),
    Fault("a scope of nothing", "empty-selector", 2, '', "anyone", "policy: p\nscope:\nowner: a\n"),
    Fault("an empty segment", "empty-selector", 2, '""}', "anyone", 'policy: p\nsegments: {db: ""}\n'),
    Fault("an empty peer", "empty-selector", 3, '"", to: anyone}', "anyone", rule('deny: {from: "", to: anyone}')),
    Fault("a null peer", "empty-selector", 3, 'null, to: anyone}', "anyone", rule("deny: {from: null, to: anyone}")),
    Fault("global and nothing else", "empty-selector", 3, '"global:", to: anyone}', "anyone", rule('deny: {from: "global:", to: anyone}')),
    Fault("half a requirement", "bad-selector", 3, '"env=prod,", to: anyone}', "did you mean `env=prod`", rule('deny: {from: "env=prod,", to: anyone}')),
    Fault("a list of no values", "bad-selector", 3, 'env in (), to: anyone}', "as in", rule("deny: {from: env in (), to: anyone}")),
    Fault("another grammar's equals", "bad-selector", 3, "env === 'prod', to: anyo", "as in", rule("deny: {from: env === 'prod', to: anyone}")),
    Fault("two values of one label", "impossible-selector", 3, '"env=dev,env=prod", to: ', "requirements", rule('deny: {from: "env=dev,env=prod", to: anyone}')),
    Fault("a label that is and is not", "impossible-selector", 2, '"a,!a"}', "requirements", 'policy: p\nsegments: {db: "a,!a"}\n'),
    Fault("the scope excludes a segment", "impossible-selector", 3, 'env=dev}', "global: env=dev", "policy: p\nscope: env=prod\nsegments: {db: env=dev}\n"),
    Fault("the scope excludes a peer", "impossible-selector", 4, 'env=dev, to: anyone}', "global: env=dev", rule("deny: {from: env=dev, to: anyone}", head="scope: env=prod\n")),
    Fault("our scope excludes their segment", "impossible-selector", 4, 'shop.db, to: anyone}', "global: shop.db", rule("deny: {from: shop.db, to: anyone}", head="scope: app=crm\n"), SHOP),
    Fault("an impossible scope", "impossible-selector", 2, 'a=b,a=c', "requirements", "policy: p\nscope: a=b,a=c\n"),
    Fault("a key that makes no identities", "ignored-label-key", 3, 'pod=x, to: anyone}', "identity.ignore", rule("deny: {from: pod=x, to: anyone}"), {}, ("pod",)),
    Fault("neither end in the scope", "scope-escape", 4, 'deny: {from: "global: en', "in the policy that owns", rule('deny: {from: "global: env=dev", to: "global: env=test"}', head="scope: env=prod\n")),
    Fault("the internet is in no scope", "scope-escape", 4, 'allow: {from: internet, ', "inside the scope", rule('allow: {from: internet, to: "global: env=dev", service: any}', head="scope: env=prod\n")),
    Fault("a DNS name is in no scope", "scope-escape", 4, 'allow: {from: "global: e', "inside the scope", rule('allow: {from: "global: env=dev", to: api.example.com, service: any}', head="scope: env=prod\n")),
    Fault("a misspelt segment", "unknown-segment", 4, 'wbe}', "`web`", rule("deny: {from: anyone, to: wbe}", head="segments: {web: role=web}\n")),
    Fault("a misspelt word", "unknown-segment", 3, 'anyonne, to: anyone}', "`anyone`", rule("deny: {from: anyonne, to: anyone}")),
    Fault("a segment of nobody", "unknown-segment", 3, 'database, to: anyone}', "role=database", rule("deny: {from: database, to: anyone}")),
    Fault("a segment of another policy, bare", "unknown-segment", 3, 'db, to: anyone}', "`shop.db`", rule("deny: {from: db, to: anyone}"), SHOP),
    Fault("no such segment over there", "unknown-segment", 3, 'shop.dbs, service: any}', "`shop.db`", rule("allow: {from: anyone, to: shop.dbs, service: any}"), SHOP),
    Fault("nearly another policy's segment", "unknown-segment", 3, 'shpo.db, service: any}', "`shop.db`", rule("allow: {from: anyone, to: shpo.db, service: any}"), SHOP),
    Fault("nothing known behind global", "unknown-segment", 3, '"global: databse", to: a', "define it", rule('deny: {from: "global: databse", to: anyone}')),
    Fault("a global word", "bad-global", 3, '"global: anyone", to: an', "`anyone`", rule('deny: {from: "global: anyone", to: anyone}')),
    Fault("a global address", "bad-global", 3, '"global: 10.0.0.1", to: ', "`10.0.0.1`", rule('deny: {from: "global: 10.0.0.1", to: anyone}')),
    Fault("a global scope", "bad-global", 2, '"global: a=b"', "delete", 'policy: p\nscope: "global: a=b"\n'),
    Fault("a number beyond the octet", "bad-address", 3, '10.0.0.256, to: anyone}', "10.0.0.0/8", rule("deny: {from: 10.0.0.256, to: anyone}")),
    Fault("a netmask", "bad-address", 3, '10.0.0.0/255.0.0.0, to: ', "10.0.0.0/8", rule("deny: {from: 10.0.0.0/255.0.0.0, to: anyone}")),
    Fault("a zone index", "bad-address", 3, '"fe80::1%eth0", to: anyo', "as in", rule('deny: {from: "fe80::1%eth0", to: anyone}')),
    Fault("bits behind the prefix", "host-bits", 3, '10.1.2.3/8, to: anyone}', "`10.0.0.0/8`", rule("deny: {from: 10.1.2.3/8, to: anyone}")),
    Fault("bits behind an IPv6 prefix", "host-bits", 3, '"fd00::1/8", to: anyone}', "`fd00::/8`", rule('deny: {from: "fd00::1/8", to: anyone}')),
    Fault("a dot and nothing behind", "bad-fqdn", 3, 'api..com, service: any}', "api.example.com", rule("allow: {from: anyone, to: api..com, service: any}")),
    Fault("a number as top-level domain", "bad-fqdn", 3, "api.123", "api.example.com", rule("allow: {from: anyone, to: api.123, service: any}")),
    Fault("a name beyond 253 characters", "bad-fqdn", 3, "aaaaaaaaa.", "api.example.com", rule(f"allow: {{from: anyone, to: {'aaaaaaaaa.' * 26}com, service: any}}")),
    Fault("a star in the middle", "bad-fqdn", 3, '"api.*.com", service: an', "example.com", rule('allow: {from: anyone, to: "api.*.com", service: any}')),
    Fault("an internationalised name", "bad-fqdn", 3, 'büro.example, service: a', "xn--bro-hoa.example", rule("allow: {from: anyone, to: büro.example, service: any}")),
    Fault("a DNS name as source", "fqdn-place", 3, 'api.example.com, to: any', "`to` of an `allow`", rule("allow: {from: api.example.com, to: anyone, service: any}")),
    Fault("a DNS name in a deny", "fqdn-place", 3, 'api.example.com}', "`to` of an `allow`", rule("deny: {from: anyone, to: api.example.com}")),
    Fault("a DNS name in a test", "fqdn-place", 2, 'api.example.com, expect:', "`to` of an `allow`", "policy: p\ntests: [{from: a=b, to: api.example.com, expect: blocked}]\n"),
    Fault("a misspelt service", "unknown-service", 3, 'htps}', "`https`", rule("deny: {from: anyone, to: anyone, service: htps}")),
    Fault("a bare port", "unknown-service", 3, '443}', "`tcp/443`", rule("deny: {from: anyone, to: anyone, service: 443}")),
    Fault("port before protocol", "unknown-service", 3, '443/tcp}', "`tcp/443`", rule("deny: {from: anyone, to: anyone, service: 443/tcp}")),
    Fault("a misspelt protocol", "unknown-service", 3, 'tpc/443}', "`tcp/443`", rule("deny: {from: anyone, to: anyone, service: tpc/443}")),
    Fault("a protocol in capitals", "unknown-service", 3, 'TCP/80}', "`tcp/80`", rule("deny: {from: anyone, to: anyone, service: TCP/80}")),
    Fault("two services in one text", "unknown-service", 3, 'http https}', "[http, https]", rule("deny: {from: anyone, to: anyone, service: http https}")),
    Fault("no such service over there", "unknown-service", 3, 'shop.gp}', "`shop.pg`", rule("deny: {from: anyone, to: anyone, service: shop.gp}"), SHOP),
    Fault("a service made of another", "unknown-service", 2, 'a, tcp/2]}', "as in", "policy: p\nservices: {a: tcp/1, b: [a, tcp/2]}\n"),
    Fault("a port beyond 65535", "bad-service", 3, 'tcp/70000}', "tcp/5432", rule("deny: {from: anyone, to: anyone, service: tcp/70000}")),
    Fault("ports backwards", "bad-service", 3, 'tcp/20-10}', "tcp/8000-8100", rule("deny: {from: anyone, to: anyone, service: tcp/20-10}")),
    Fault("an ICMP type nobody named", "bad-service", 3, 'icmp/pong}', "icmp/echo", rule("deny: {from: anyone, to: anyone, service: icmp/pong}")),
    Fault("two processes in one rule", "process-conflict", 4, '[a, b]}', "one rule for each", rule("allow: {from: anyone, to: anyone, service: [a, b]}", head="services: {a: {ports: tcp/1, process: x}, b: {ports: tcp/2, process: y}}\n")),
    Fault("a process for half a rule", "process-conflict", 4, '[a, ssh]}', "one rule for each", rule("allow: {from: anyone, to: anyone, service: [a, ssh]}", head="services: {a: {ports: tcp/1, process: x}}\n")),
    Fault("another process than the service's", "process-conflict", 4, 'a, to_process: y}', "one rule for each", rule("allow: {from: anyone, to: anyone, service: a, to_process: y}", head="services: {a: {ports: tcp/1, process: x}}\n")),
    Fault("a rule that does nothing", "missing-action", 3, 'because: I can', "`allow`, `deny` or `forbid`", rule("because: I can")),
    Fault("two actions", "two-actions", 4, 'deny: {from: anyone, to:', "one rule for each", rule("allow: {from: anyone, to: anyone, service: any}\n    deny: {from: anyone, to: anyone}")),
    Fault("a deny with an end", "condition-on-deny", 4, 'until: 2027-01-01', "allow", rule("deny: {from: anyone, to: anyone}\n    until: 2027-01-01")),
    Fault("a forbid with a condition inside", "condition-on-deny", 3, 'require: mutual-tls}', "allow", rule("forbid: {from: anyone, to: anyone, require: mutual-tls}")),
    Fault("a deny of a service with a process", "condition-on-deny", 4, 'a}', "allow", rule("deny: {from: anyone, to: anyone, service: a}", head="services: {a: {ports: tcp/1, process: x}}\n")),
    Fault("a condition twice", "duplicate-condition", 4, 'until: 2027-01-01', "keep one", rule("allow: {from: anyone, to: anyone, service: any, until: 2027-01-01}\n    until: 2027-01-01")),
    Fault("another requirement", "bad-require", 4, 'mtls', "mutual-tls", rule("allow: {from: anyone, to: anyone, service: any}\n    require: mtls")),
    Fault("another calendar", "bad-until", 4, '01.03.2027', "2027-03-01", rule("allow: {from: anyone, to: anyone, service: any}\n    until: 01.03.2027")),
    Fault("a day that is none", "bad-until", 4, '2027-02-30', "2027-03-01", rule("allow: {from: anyone, to: anyone, service: any}\n    until: 2027-02-30")),
    Fault("hours without minutes", "bad-within", 4, 'mon-fri 8-18 UTC', "08:00-18:00", rule("allow: {from: anyone, to: anyone, service: any}\n    within: mon-fri 8-18 UTC")),
    Fault("hours without a zone", "bad-within", 4, 'daily 08:00-18:00', "Europe/Berlin", rule("allow: {from: anyone, to: anyone, service: any}\n    within: daily 08:00-18:00")),
    Fault("days nobody knows", "bad-within", 4, 'mo-fr 08:00-18:00 UTC', "mon", rule("allow: {from: anyone, to: anyone, service: any}\n    within: mo-fr 08:00-18:00 UTC")),
    Fault("the 25th hour", "bad-within", 4, 'daily 08:00-25:00 UTC', "24:00", rule("allow: {from: anyone, to: anyone, service: any}\n    within: daily 08:00-25:00 UTC")),
    Fault("a misspelt zone", "unknown-zone", 4, 'daily 08:00-18:00 Europe', "`Europe/Berlin`", rule("allow: {from: anyone, to: anyone, service: any}\n    within: daily 08:00-18:00 Europe/Berlinn")),
    Fault("a folder of zones", "unknown-zone", 4, 'daily 08:00-18:00 Europe', "IANA", rule("allow: {from: anyone, to: anyone, service: any}\n    within: daily 08:00-18:00 Europe")),
    Fault("another zone on every machine", "unknown-zone", 4, 'daily 08:00-18:00 localt', "IANA", rule("allow: {from: anyone, to: anyone, service: any}\n    within: daily 08:00-18:00 localtime")),
    Fault("a command line as a process", "bad-process", 4, 'nginx -g daemon', "nginx.service", rule("allow: {from: anyone, to: anyone, service: any}\n    to_process: nginx -g daemon")),
    Fault("a path with a null character", "bad-process", 4, '"/bin/x', "nginx.service", rule('allow: {from: anyone, to: anyone, service: any}\n    to_process: "/bin/x\\0y"')),
    Fault("a time without an offset", "bad-time", 2, '2027-01-01 12:00}]', "RFC 3339", "policy: p\ntests: [{from: a=b, to: a=c, expect: blocked, at: 2027-01-01 12:00}]\n"),
    Fault("a time that is none", "bad-time", 2, '"2027-01-01T25:00:00Z"}]', "RFC 3339", 'policy: p\ntests: [{from: a=b, to: a=c, expect: blocked, at: "2027-01-01T25:00:00Z"}]\n'),
    Fault("another expectation", "bad-expect", 2, 'deny}]', "`blocked`", "policy: p\ntests: [{from: a=b, to: a=c, expect: deny}]\n"),
]  # fmt: skip
