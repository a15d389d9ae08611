"""What the language means: each text gives exactly this value."""

from __future__ import annotations

import hashlib
from datetime import date

import pytest

from ringfence.core.labels.selector import Selector, parse_selector
from ringfence.core.net.address import parse_cidr
from ringfence.core.net.intervals import IntervalSet, union
from ringfence.core.net.service import ANY, WELL_KNOWN, parse_service
from ringfence.core.policy.model import Cidr, Everywhere, Expectation, Fqdn, Peer, Policy, Rule, Workloads
from ringfence.core.policy.parse import parse_files, parse_policies

SHOP = """\
policy: shop
owner: team-shop
scope: app=shop,env=prod

segments:
  web: role=web
  api: role=api
  db:  role=db

services:
  postgres: tcp/5432

rules:
  - allow: {from: internet, to: web, service: https}
  - allow: {from: web, to: api, service: tcp/8080}
  - name: orders
    allow: {from: api, to: db, service: postgres, require: mutual-tls}
    because: orders are stored in PostgreSQL
    until: 2027-03-01
  - allow: {from: "global: role=backup", to: db, service: ssh}

tests:
  - {from: web, to: api, service: tcp/8080, expect: allowed}
  - {from: web, to: db, expect: blocked}            # all services; proven over every class, not sampled
  - {from: "global: env=dev", to: db, expect: blocked}
"""
GUARDRAILS = """\
policy: guardrails
owner: security
rules:
  - forbid: {from: env=dev, to: env=prod}
  - deny:   {from: anyone, to: anyone, service: [rdp, smb, telnet, winrm]}
"""
SCOPE = parse_selector("app=shop,env=prod")


def policies(*texts: str, ignore: tuple[str, ...] = ()) -> tuple[Policy, ...]:
    return parse_policies({f"{i}.yaml": text for i, text in enumerate(texts)}, ignore=ignore).raise_if_errors()


def policy(text: str, *others: str) -> Policy:
    return policies(text, *others)[0]


def rule(body: str, *, head: str = "", others: tuple[str, ...] = ()) -> Rule:
    return policy(f"policy: p\n{head}rules:\n  - {body}\n", *others).rules[0]


def source(peer: str, *, head: str = "", others: tuple[str, ...] = ()) -> Peer:
    return rule(f"deny: {{from: {peer}, to: anyone}}", head=head, others=others).sources[0]


def expectation(entry: str, head: str = "") -> Expectation:
    return policy(f"policy: p\n{head}tests:\n  - {entry}\n").tests[0]


def selectors(*texts: str) -> tuple[Selector, ...]:
    return tuple(parse_selector(text) for text in texts)


def test_the_design_examples() -> None:
    """Both policies of the design page parse without a finding and say what the page says they say."""
    shop, guardrails = policies(SHOP, GUARDRAILS)
    assert (shop.name, shop.owner, shop.scope) == ("shop", "team-shop", SCOPE)
    assert [s.name for s in shop.segments] == ["web", "api", "db"]
    orders = shop.rules[2]
    assert (orders.name, orders.is_named, orders.because) == ("orders", True, "orders are stored in PostgreSQL")
    assert (orders.conditions.mutual_tls, orders.conditions.until) == (True, date(2027, 3, 1))
    assert orders.sources == (Workloads((parse_selector("role=api"), SCOPE), "api"),)
    assert shop.rules[3].sources == (Workloads(selectors("role=backup"), "global: role=backup"),)
    assert [t.expect for t in shop.tests] == ["allowed", "blocked", "blocked"]
    assert shop.tests[1].services == ANY
    assert [r.action for r in guardrails.rules] == ["forbid", "deny"]
    assert guardrails.rules[0].services == ANY
    assert guardrails.scope is None
    assert (orders.where.file, orders.where.line, orders.where.column) == ("0.yaml", 16, 5)


@pytest.mark.parametrize("word", ["anyone", "internet", "private"])
def test_words(word: str) -> None:
    """The three words are peers of their own."""
    assert source(word) == Everywhere(word)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text", ["10.0.0.0/8", "10.1.2.3", "0.0.0.0/0", "fd00::/8", "fd00::1", "::1", "::ffff:10.0.0.1"]
)
def test_addresses(text: str) -> None:
    """An address or CIDR of either family is a peer, as written."""
    assert source(f'"{text}"') == Cidr(text, parse_cidr(text))


@pytest.mark.parametrize(
    "text", ["env=prod", "env==prod", "env!=prod", "!env", "env in (a,b)", "env notin (a)", "a=b,c"]
)
def test_selectors(text: str) -> None:
    """Whatever has a sign of the selector grammar is a selector."""
    assert source(f'"{text}"') == Workloads(selectors(text), text)


def test_a_word_in_a_segment_is_a_key() -> None:
    """A segment's value is always a selector: a bare word there tests that the key exists."""
    assert source("old", head="segments: {old: legacy}\n") == Workloads(selectors("legacy"), "old")


def test_a_segment_wins_over_a_dns_name_and_a_policy_over_both() -> None:
    """`shop.db` is the segment of policy shop if there is such a policy, and a DNS name only if there is none."""
    text = "allow: {from: anyone, to: shop.db, service: any}"
    assert rule(text).destinations == (Fqdn("shop.db"),)
    shop = "policy: shop\nsegments: {db: role=db}\n"
    assert rule(text, others=(shop,)).destinations == (Workloads(selectors("role=db"), "shop.db"),)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("api.example.com", "api.example.com"),
        ("API.Example.COM.", "api.example.com"),
        ("*.example.com", "*.example.com"),
    ],
)
def test_dns_names(text: str, name: str) -> None:
    """DNS names compare without case and without the final dot; a leading `*.` is kept."""
    assert rule(f'allow: {{from: anyone, to: "{text}", service: any}}').destinations == (Fqdn(name),)


def test_a_peer_twice_is_one_peer() -> None:
    """Lists are sets: repeated peers and services count once."""
    found = rule("deny: {from: [anyone, anyone], to: [private, anyone], service: [ssh, ssh, tcp/1]}")
    assert found.sources == (Everywhere("anyone"),)
    assert found.service_words == ("ssh", "tcp/1")


def test_scope_joins_every_selector_and_segment_tests_included() -> None:
    """Inline selectors, own segments and tests are joined with the scope; addresses and words are not."""
    text = (
        "policy: p\nscope: a=b\nsegments: {s: c=d}\nrules:\n  - deny: {from: [s, e=f, private, 10.0.0.1], to: anyone}\n"
    )
    found = policy(text + "tests: [{from: s, to: e=f, expect: blocked}]\n")
    scope = parse_selector("a=b")
    s, e = Workloads((parse_selector("c=d"), scope), "s"), Workloads((parse_selector("e=f"), scope), "e=f")
    assert found.rules[0].sources == (s, e, Everywhere("private"), Cidr("10.0.0.1", parse_cidr("10.0.0.1")))
    assert (found.tests[0].sources, found.tests[0].destinations) == ((s,), (e,))
    assert found.segments[0].peer == s


@pytest.mark.parametrize("peer", ["global: c=d", "global: s"])
def test_global_leaves_the_scope(peer: str) -> None:
    """`global:` before a selector or an own segment takes the scope away."""
    head = "scope: a=b\nsegments: {s: c=d}\n"
    assert source(f'"{peer}"', head=head) == Workloads(selectors("c=d"), peer)


def test_a_global_segment_is_never_scoped() -> None:
    """A segment defined `global:` is not joined with its own policy's scope."""
    assert source("s", head='scope: a=b\nsegments: {s: "global: a=x"}\n') == Workloads(selectors("a=x"), "s")


def test_another_policys_segment_keeps_its_scope_and_gets_ours() -> None:
    """`shop.db` carries shop's scope and is joined with ours as well; `global: shop.db` carries shop's only."""
    shop = "policy: shop\nscope: app=shop\nsegments: {db: role=db}\n"
    head = "scope: env=prod\n"
    both = Workloads(selectors("role=db", "app=shop", "env=prod"), "shop.db")
    assert source("shop.db", head=head, others=(shop,)) == both
    theirs = Workloads(selectors("role=db", "app=shop"), "global: shop.db")
    assert source('"global: shop.db"', head=head, others=(shop,)) == theirs


def test_the_order_of_files_does_not_count() -> None:
    """A policy may name segments and services of a file that comes later."""
    user = "policy: a\nrules:\n  - deny: {from: z.s, to: anyone, service: z.v}\n"
    owner = "policy: z\nsegments: {s: c=d}\nservices: {v: tcp/9}\n"
    first, second = policies(user, owner)[0].rules[0], policies(owner, user)[1].rules[0]
    assert (first.name, first.sources, first.services) == (second.name, second.sources, second.services)


@pytest.mark.parametrize("peers", ["anyone", "private", "10.0.0.1", "role=db"])
def test_ends_that_can_lie_in_the_scope(peers: str) -> None:
    """One end that any workload of the scope may be is enough to keep a rule in its scope."""
    text = f'allow: {{from: {peers}, to: "global: env=dev", service: any}}'
    assert rule(text, head="scope: env=prod\n").name.startswith("allow-")


@pytest.mark.parametrize(
    ("text", "literal"),
    [
        ("any", "any"),
        ("tcp", "tcp"),
        ("tcp/5432", "tcp/5432"),
        ("tcp/8000-8100", "tcp/8000-8100"),
        ("icmp", "icmp"),
        ("icmp/echo", "icmp/echo"),
        ("proto/47", "proto/47"),
        ("https", "tcp/443"),
        ("own", "tcp/7"),
        ("other.own", "tcp/8"),
    ],
)
def test_services(text: str, literal: str) -> None:
    """Literals, own services, other policies' services and built-in names give their points."""
    other = "policy: other\nservices: {own: tcp/8}\n"
    found = rule(
        f"deny: {{from: anyone, to: anyone, service: {text}}}", head="services: {own: tcp/7}\n", others=(other,)
    )
    assert (found.services, found.service_words) == (parse_service(literal), (text,))


def test_every_built_in_service() -> None:
    """Every name of the built-in dictionary is a service."""
    for name, parts in WELL_KNOWN.items():
        found = rule(f"deny: {{from: anyone, to: anyone, service: {name}}}").services
        assert found == union(parse_service(part) for part in parts.split())


def test_own_services_shadow_the_dictionary() -> None:
    """A policy's own `ssh` is the one it means; its definition may use the built-in one."""
    found = rule("deny: {from: anyone, to: anyone, service: ssh}", head="services: {ssh: [ssh, tcp/2222]}\n")
    assert found.services == parse_service("tcp/22") | parse_service("tcp/2222")


def test_no_service_means_every_service_only_where_that_closes() -> None:
    """A deny, a forbid and a test without `service` mean every service; an allow must say `any`."""
    assert rule("deny: {from: anyone, to: anyone}").services == ANY
    assert rule("forbid: {from: anyone, to: anyone}").service_words == ("any",)
    assert expectation("{from: a=b, to: a=c, expect: blocked}").services == ANY
    assert rule("allow: {from: anyone, to: anyone, service: any}").services == ANY


def test_a_services_process_is_a_condition_of_its_rules() -> None:
    """Naming a service with a process asks for that process, in rules and in tests; stating it again is no conflict."""
    head = "services: {app: {ports: [tcp/80, https], process: nginx.service}}\n"
    implied = rule("allow: {from: anyone, to: anyone, service: app}", head=head)
    stated = rule("allow: {from: anyone, to: anyone, service: [app, ssh], to_process: nginx.service}", head=head)
    assert implied.conditions.to_process == stated.conditions.to_process == "nginx.service"
    assert (implied.is_process_implied, stated.is_process_implied) == (True, False)
    assert expectation("{from: a=b, to: a=c, service: app, expect: allowed}", head).to_process == "nginx.service"


def test_conditions_inside_and_beside_the_body() -> None:
    """A condition means the same in either place."""
    inside = rule(
        "allow: {from: anyone, to: anyone, service: any, require: mutual-tls, until: 2027-01-01, from_process: x}"
    )
    beside = rule(
        "allow: {from: anyone, to: anyone, service: any}\n"
        "    require: mutual-tls\n    until: 2027-01-01\n    from_process: x"
    )
    assert inside.conditions == beside.conditions
    assert inside.name == beside.name


@pytest.mark.parametrize(
    ("text", "days", "start", "end"),
    [
        ("mon-fri 08:00-18:00 Europe/Berlin", (0, 1, 2, 3, 4), 480, 1080),
        ("mon,wed-fri 00:00-24:00 UTC", (0, 2, 3, 4), 0, 1440),
        ("fri-mon 22:00-06:00 America/New_York", (0, 4, 5, 6), 1320, 360),
        ("daily 23:30-00:15 UTC", (0, 1, 2, 3, 4, 5, 6), 1410, 15),
        ("SUN   08:00 - 09:00   Asia/Kolkata", (6,), 480, 540),
    ],
)
def test_windows(text: str, days: tuple[int, ...], start: int, end: int) -> None:
    """Days, lists, ranges over the week's end, `daily`, and windows past midnight."""
    within = rule(f"allow: {{from: anyone, to: anyone, service: any}}\n    within: {text}").conditions.within
    assert within is not None
    assert (within.days, within.start_minute, within.end_minute) == (days, start, end)
    assert within.zone == text.split()[-1]


def test_tests_state_what_holds() -> None:
    """Every key of a test arrives."""
    entry = (
        '{name: t, from: a=b, to: a=c, service: ssh, expect: allowed, at: "2027-01-01T00:00:00Z", mutual_tls: true, '
    )
    found = expectation(entry + "from_process: x, to_process: /usr/bin/y}")
    assert (found.name, found.at, found.mutual_tls) == ("t", "2027-01-01T00:00:00Z", True)
    assert (found.from_process, found.to_process, found.service_words) == ("x", "/usr/bin/y", ("ssh",))


def test_crown_jewels_and_reasons() -> None:
    """A segment may be declared critical, and any definition may say why."""
    text = "policy: p\nbecause: why\nsegments: {db: {selector: role=db, crown_jewel: true, because: gold}}\n"
    found = policy(text)
    assert (found.because, found.segments[0].is_crown_jewel, found.segments[0].because) == ("why", True, "gold")
    assert found.segments[0].peer == Workloads(selectors("role=db"), "db")


def test_ignored_keys_may_stand_nowhere() -> None:
    """A key that makes no identities is refused in scopes, segments and peers alike."""
    text = "policy: p\nscope: k=a\nsegments: {s: k}\nrules:\n  - deny: {from: '!k', to: anyone}\n"
    findings = parse_policies({"p": text}, ignore=["k"]).findings
    assert [(f.code, f.where.line) for f in findings] == [("ignored-label-key", n) for n in (2, 3, 5)]


def test_derived_names_say_what_the_rule_says() -> None:
    """An unnamed rule's name is a readable slug of at most 48 characters, a dash and six hexadecimal digits."""
    digest = hashlib.sha256(b"allow; from internet; to anyone; service https").hexdigest()[:6]
    assert (
        rule("allow: {from: internet, to: anyone, service: https}").name == f"allow-internet-to-anyone-https-{digest}"
    )
    long = rule(
        "deny: {from: anyone, to: anyone, service: [tcp/1-1000, tcp/2000-3000, tcp/4000-5000, tcp/6000-7000]}"
    ).name
    slug, _, digest = long.rpartition("-")
    assert len(slug) <= 48
    assert len(digest) == 6


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("deny: {from: [anyone, private], to: anyone}", "deny: {from: [private, anyone], to: [anyone]}"),
        ('deny: {from: "b=c, a=b", to: anyone}', 'deny: {from: "a=b,b=c", to: anyone, service: any}'),
        (
            "deny: {from: anyone, to: anyone, service: [ssh, smb]}",
            "deny: {from: anyone, to: anyone, service: [smb, ssh]}",
        ),
        ("deny: {from: anyone, to: anyone}", "deny: {from: anyone, to: anyone}\n    because: I say so"),
    ],
)
def test_derived_names_do_not_depend_on_spelling(one: str, other: str) -> None:
    """Order, spacing, repetition and reasons do not change the name."""
    assert rule(one).name == rule(other).name


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("deny: {from: anyone, to: private}", "forbid: {from: anyone, to: private}"),
        ("deny: {from: anyone, to: private}", "deny: {from: private, to: anyone}"),
        ("deny: {from: anyone, to: private}", "deny: {from: anyone, to: private, service: ssh}"),
        (
            "allow: {from: anyone, to: private, service: ssh}",
            "allow: {from: anyone, to: private, service: ssh, require: mutual-tls}",
        ),
        ("deny: {from: a=b, to: anyone}", 'deny: {from: "global: a=b", to: anyone}'),
    ],
)
def test_derived_names_differ_where_meanings_differ(one: str, other: str) -> None:
    """Action, direction, service, conditions and `global:` each change the name."""
    assert rule(one).name != rule(other).name


def test_derived_names_do_not_depend_on_the_place() -> None:
    """Rules keep their names whatever comes before them."""
    rules = ["  - deny: {from: anyone, to: private}\n", "  - deny: {from: private, to: anyone}\n"]
    names = [[r.name for r in policy(f"policy: p\nrules:\n{''.join(order)}").rules] for order in (rules, rules[::-1])]
    assert names[0] == names[1][::-1]


def test_several_documents_in_a_file() -> None:
    """Each document is a policy; an empty file or an empty document is none."""
    parsed = parse_policies({"two.yaml": "policy: a\n---\npolicy: b\n", "none.yaml": "", "comment.yaml": "# x\n"})
    assert ([p.name for p in parsed.policies], parsed.findings) == (["a", "b"], ())


def test_comments_belong_to_what_they_stand_at() -> None:
    """Comments above, behind and inside an item are the item's; the rest is the policy's margin."""
    text = (
        "# licence\npolicy: p # name\n# of the scope\nscope: a=b\n# of rules\nrules:\n  # above\n  - deny: # behind\n"
        "      from: anyone\n      # inside\n      to: anyone\n  # last\n# end\n"
    )
    found = policy(text)
    assert found.comments == ("licence", "name")
    assert found.rules[0].comments == ("above", "behind", "inside")
    assert dict(found.margin) == {
        "scope": ("of the scope",),
        "rules": ("of rules",),
        "rules.end": ("last",),
        "end": ("end",),
    }


def test_empty_sections_are_nothing() -> None:
    """`rules:` with nothing behind it is an empty list, not an error and not everything."""
    found = policy("policy: p\nsegments:\nservices: {}\nrules:\ntests: []\n")
    assert (found.segments, found.services, found.rules, found.tests) == ((), (), (), ())


def test_files_apart() -> None:
    """`parse_files` gives a sound file's policies even where another file is at fault."""
    files = parse_files({"good": GUARDRAILS, "bad": "policy: x\nrules: 7\n"})
    assert [p.name for p in files["good"].policies] == ["guardrails"]
    assert (files["bad"].policies, [f.code for f in files["bad"].findings]) == ((), ["expected-list"])


def test_services_are_interval_sets() -> None:
    """A rule's services are the union of its words."""
    found = rule("deny: {from: anyone, to: anyone, service: [tcp/1, tcp/2, udp]}")
    assert found.services == IntervalSet.of([(6 << 16 | 1, 6 << 16 | 2), (17 << 16, 17 << 16 | 0xFFFF)])
