"""Printing loses nothing: what is printed reads back as the same policy, and formatting is stable."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from language_faults import FAULTS, Fault
from policy_strategies import PROSE, policy_texts
from test_policy_parse import GUARDRAILS, SHOP

from ringfence.core.errors import FindingsError, Location
from ringfence.core.policy.model import Policy
from ringfence.core.policy.parse import parse_policies
from ringfence.core.policy.printing import format_text, print_policy
from ringfence.core.policy.scalars import WIDTH, block_text, plain_or_quoted
from ringfence.core.policy.yaml import native_of, read

FEWER = settings(max_examples=60)


def parse(text: str, **others: str) -> Policy:
    return parse_policies({"p.yaml": text, **others}).raise_if_errors()[0]


def without_places(policy: Policy) -> Policy:
    """The policy with every location blanked."""
    blank = Location()

    def strip(items: tuple[msgspec.Struct, ...]) -> tuple[msgspec.Struct, ...]:
        return tuple(msgspec.structs.replace(item, where=blank) for item in items)

    changes = {key: strip(getattr(policy, key)) for key in ("segments", "services", "rules", "tests")}
    return msgspec.structs.replace(policy, where=blank, **changes)


@FEWER
@given(policy_texts())
def test_what_is_printed_reads_back_the_same(text: str) -> None:
    """parse(print(p)) == p up to locations, comments included."""
    policy = parse(text)
    assert without_places(parse(print_policy(policy))) == without_places(policy)


def test_what_a_service_implies_is_not_written_out() -> None:
    """A process that a service names is not printed at the rule; one that was stated is. Foreign names stay."""
    other = "policy: o\nsegments: {s: a=b}\nservices: {v: {ports: tcp/1, process: x.service}}\n"
    text = (
        "policy: p\n\nrules:\n"
        "  - allow: {from: o.s, to: anyone, service: o.v}\n"
        "  - allow: {from: private, to: anyone, service: [o.v, ssh], to_process: x.service}\n"
        "\ntests:\n  - {from: o.s, to: private, service: o.v, expect: allowed}\n"
    )
    policy = parse(text, other=other)
    assert print_policy(policy) == text
    assert policy.rules[0].conditions.to_process == policy.tests[0].to_process == "x.service"


@FEWER
@given(st.lists(policy_texts(), min_size=1, max_size=2))
def test_formatting_is_stable_and_keeps_every_comment(texts: list[str]) -> None:
    """Formatting twice is formatting once; every comment's text is still there, as often as before."""
    source = "---\n".join(texts)
    if parse_policies({"p": source}).findings:  # two drafts may have drawn one name
        source = texts[0]
    once = format_text(source, "p")
    assert format_text(once, "p") == once
    assert comments(once) == comments(source)


def comments(text: str) -> Counter[str]:
    return Counter(comment.text.lstrip("# ").strip() for comment in read(text).comments)


@FEWER
@given(PROSE)
def test_any_prose_survives_as_a_scalar(text: str) -> None:
    """Any text, quoted or not, in a flow, a block or a literal, reads back as itself."""
    flow = f"{{a: {plain_or_quoted(text, in_flow=True)}, b: [{plain_or_quoted(text, in_flow=True)}, x]}}"
    assert native_of(read(flow).documents[0].root) == {"a": text, "b": [text, "x"]}
    block = f"a: {plain_or_quoted(text, in_flow=False)}\nb: {block_text(text, 2)}\nc: d\n"
    assert native_of(read(block).documents[0].root) == {"a": text, "b": text, "c": "d"}


@pytest.mark.parametrize(
    "text", ["one\ntwo", "one\n\n  two: three # four", "- a\n- b", "a\n\tb", " a\nb", "a\nb ", "a\n", "a\r\nb", "a\rb"]
)
def test_several_lines_survive(text: str) -> None:
    """Several lines are written as literal text where that is exact, else quoted."""
    assert native_of(read(f"a: {block_text(text, 2)}\nb: c\n").documents[0].root) == {"a": text, "b": "c"}


def test_the_design_examples_are_canonical_but_for_one_comment() -> None:
    """The design page's own policies come out as written: a comment behind an entry moves above it."""
    moved = SHOP.replace(
        "  - {from: web, to: db, expect: blocked}            # all services; proven over every class, not sampled\n",
        "  # all services; proven over every class, not sampled\n  - {from: web, to: db, expect: blocked}\n",
    )
    assert format_text(SHOP, "shop.yaml") == moved
    assert format_text(GUARDRAILS, "g.yaml") == GUARDRAILS.replace("security\nrules", "security\n\nrules")


def test_canonical_form() -> None:
    """Keys in order, sections apart, values aligned, conditions in place, comments kept, long bodies as blocks."""
    source = """\
# licence
tests: [{expect: blocked, to: db, from: web, at: "2027-01-01T00:00:00Z"}]
rules:
- until: 2027-03-01   # soon
  within: "daily 22:00-06:00 Europe/Berlin"
  allow:
    to: "db"
    service: ['app']
    from: [web]
  because: |
    first

    second
- forbid: {from: anyone, to: [10.0.0.0/8, 10.0.0.0/9, 10.0.0.0/10, 10.0.0.0/11, 10.0.0.0/12, 10.0.0.0/13, "fd00::/8"]}
services: {app: {process: app.service, ports: [tcp/80]}, x: [tcp/1, tcp/2]}
segments: {db: {crown_jewel: true, selector: role=db}, web-tier: "role=web", web: "global: role=w"}
scope: env=prod, app=shop
policy: shop
"""
    assert (
        format_text(source, "p")
        == """\
# licence
policy: shop
scope: app=shop,env=prod

segments:
  db:       {selector: role=db, crown_jewel: true}
  web-tier: role=web
  web:      "global: role=w"

services:
  app: {ports: tcp/80, process: app.service}
  x:   [tcp/1, tcp/2]

rules:
  # soon
  - allow:  {from: web, to: db, service: app}
    because: |-
      first

      second
    until: 2027-03-01
    within: daily 22:00-06:00 Europe/Berlin
  - forbid:
      from: anyone
      to: [10.0.0.0/8, 10.0.0.0/9, 10.0.0.0/10, 10.0.0.0/11, 10.0.0.0/12, 10.0.0.0/13, "fd00::/8"]

tests:
  - {from: web, to: db, expect: blocked, at: "2027-01-01T00:00:00Z"}
"""
    )


def test_no_line_is_wider_than_need_be() -> None:
    """A long list goes one item a line."""
    ports = ", ".join(f"tcp/{port}" for port in range(1000, 1040))
    text = print_policy(parse(f"policy: p\nrules:\n  - deny: {{from: anyone, to: anyone, service: [{ports}]}}\n"))
    assert max(map(len, text.splitlines())) <= WIDTH
    assert text.count("\n        - tcp/") == 40


def test_formatting_knows_the_rest_of_the_estate() -> None:
    """A file may name another file's segments: with the others given it formats, without them it is refused."""
    text = "policy: p\nrules:\n- deny: {from: shop.db, to: anyone}\n"
    shop = {"shop.yaml": "policy: shop\nsegments: {db: role=db}\n", "broken.yaml": "policy: [\n"}
    assert format_text(text, "p", others=shop) == "policy: p\n\nrules:\n  - deny: {from: shop.db, to: anyone}\n"
    with pytest.raises(FindingsError, match="fqdn-place"):
        format_text(text, "p")


@pytest.mark.parametrize("fault", [f for f in FAULTS if isinstance(f.source, str)], ids=lambda f: f.note)
def test_faulty_files_are_not_rewritten(fault: Fault) -> None:
    """A file with any fault is refused, whatever the fault."""
    assert isinstance(fault.source, str)
    with pytest.raises(FindingsError, match=fault.code):
        format_text(fault.source, "case.yaml", others=fault.others, ignore=fault.ignore)


def test_files_without_policies() -> None:
    """An empty file stays empty, and a file of comments keeps them."""
    assert format_text("", "p") == ""
    assert format_text("#a\n\n  # b\n", "p") == "# a\n# b\n"
