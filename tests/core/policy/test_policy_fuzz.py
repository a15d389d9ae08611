"""Whatever the input, the language answers with findings, never with an exception."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st
from policy_strategies import policy_texts
from test_policy_parse import GUARDRAILS, SHOP

from ringfence.core.policy.codes import CODES
from ringfence.core.policy.parse import parse_policies
from ringfence.core.policy.printing import format_text
from ringfence.core.policy.rules import BODY_KEYS, RULE_KEYS

KEYS = sorted(RULE_KEYS | BODY_KEYS | {"policy", "scope", "owner", "segments", "services", "rules", "tests", "expect"})
TEXTS = [
    *(
        "shop",
        "web",
        "anyone",
        "internet",
        "global: a=b",
        "global:",
        "a=b",
        "a!=b,c",
        "10.0.0.0/8",
        "10.0.0.1/8",
        "::/0",
    ),
    *(
        "x.y",
        "*.x.y",
        "shop.web",
        "any",
        "tcp/1",
        "tcp/x",
        "https",
        "mutual-tls",
        "2027-01-01",
        "2027-13-01",
        "blocked",
    ),
    *("daily 08:00-18:00 UTC", "", " ", "ü.example", "a" * 300, "..", "*.", "-", "0", "%", "\u0000", "\ud7ff", "\n"),
]
LEAVES = st.one_of(st.sampled_from(TEXTS), st.text(max_size=8), st.none(), st.booleans(), st.integers(-9, 9))
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.sampled_from([*KEYS, *TEXTS[:4]]), inner, max_size=6)
    ),
    max_leaves=25,
)
EDITS = st.lists(
    st.tuples(
        st.integers(0, 900), st.integers(0, 12), st.sampled_from(["", *"{}[],:#-!&*'\"|> \n", "global: ", "\n  - "])
    ),
    min_size=1,
    max_size=5,
)


def answer(text: str | bytes) -> None:
    """Parse, and hold the answer to what every answer promises."""
    parsed = parse_policies({"p.yaml": text, "g.yaml": GUARDRAILS})
    assert {finding.code for finding in parsed.findings} <= set(CODES)
    assert all(f.help and f.where.file == "p.yaml" and f.where.line > 0 for f in parsed.findings)
    assert (parsed.policies == ()) == bool(parsed.findings)
    if isinstance(text, str) and not parsed.findings:
        once = format_text(text, "p.yaml")
        assert format_text(once, "p.yaml") == once


@given(st.one_of(st.text(max_size=60), st.binary(max_size=60)))
def test_any_text_and_any_bytes(text: str | bytes) -> None:
    """Arbitrary text and bytes are answered."""
    answer(text)


@settings(max_examples=200)
@given(TREES)
def test_any_tree_of_the_languages_own_words(tree: object) -> None:
    """Arbitrary nestings of the language's keys and of valid and invalid texts are answered."""
    answer(json.dumps(tree))


@settings(max_examples=200)
@given(st.lists(TREES, max_size=3), st.lists(TREES, max_size=2), TREES)
def test_any_rule(rules: list[object], tests: list[object], segments: object) -> None:
    """Arbitrary rules, tests and segments in an otherwise sound policy are answered."""
    answer(json.dumps({"policy": "p", "segments": segments, "rules": rules, "tests": tests}))


@settings(max_examples=200)
@given(EDITS)
def test_any_edit_of_a_real_policy(edits: list[tuple[int, int, str]]) -> None:
    """A few characters cut from or put into the design's own policy are answered."""
    text = SHOP
    for place, length, insert in edits:
        place %= len(text)
        text = text[:place] + insert + text[place + length :]
    answer(text)


@settings(max_examples=50)
@given(policy_texts())
def test_sound_policies_have_no_findings(text: str) -> None:
    """A text written by the rules of the language gives its policy and no finding."""
    parsed = parse_policies({"p.yaml": text})
    assert (len(parsed.policies), parsed.findings) == (1, ())
