"""The schema accepts what the printer writes and rejects planted mistakes."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from jsonschema import Draft202012Validator
from policy_strategies import policy_texts
from test_policy_parse import GUARDRAILS, SHOP

from ringfence.core.policy.parse import parse_policies
from ringfence.core.policy.printing import print_policy
from ringfence.core.policy.schema import json_schema
from ringfence.core.policy.yaml import native_of, read

VALIDATOR = Draft202012Validator(json_schema())


def faults(text: str) -> list[str]:
    return [error.message for d in read(text).documents for error in VALIDATOR.iter_errors(native_of(d.root))]


def test_the_schema_is_a_schema() -> None:
    """It is valid against the draft's own meta-schema, and so are its examples against it."""
    Draft202012Validator.check_schema(json_schema())
    for example in json_schema()["examples"]:
        assert list(VALIDATOR.iter_errors(example)) == []


def test_every_property_is_described() -> None:
    """An editor has something to show for every key: a description on the key or on what it refers to."""
    schema = json_schema()
    objects = [schema, *schema["$defs"].values()]
    for properties in (o["properties"] for o in objects if "properties" in o):
        for key, value in properties.items():
            target = schema["$defs"].get(value.get("$ref", "").rpartition("/")[2], {})
            inner = target.get("anyOf", [target])[0]
            inner = schema["$defs"].get(inner.get("$ref", "").rpartition("/")[2], inner)
            assert "description" in value or "description" in inner or "const" in value, key


def test_every_example_in_the_schema_matches_its_pattern() -> None:
    """Examples shown to people obey the pattern beside them."""

    def walk(node: object) -> None:
        if isinstance(node, dict):
            if "pattern" in node and "examples" in node:
                assert all(re.search(node["pattern"], example) for example in node["examples"])
            for value in node.values():
                walk(value)

    walk(json_schema())


@pytest.mark.parametrize("text", [SHOP, GUARDRAILS, "policy: p\nsegments:\nrules:\n"])
def test_design_examples_are_valid(text: str) -> None:
    """The design page's policies, and empty sections, are valid."""
    assert faults(text) == []


@settings(max_examples=40)
@given(policy_texts())
def test_whatever_the_printer_writes_is_valid(text: str) -> None:
    """Any policy, printed, is valid."""
    (policy,) = parse_policies({"p": text}).raise_if_errors()
    assert faults(print_policy(policy)) == []


MISTAKES = {
    "no name": "owner: a",
    "capital name": "policy: Shop",
    "unknown key": "policy: p\nscop: a=b",
    "rules as a mapping": "policy: p\nrules: {}",
    "a word as a segment": "policy: p\nsegments: {anyone: a=b}",
    "a protocol as a service": "policy: p\nservices: {tcp: tcp/1}",
    "an empty selector": 'policy: p\nsegments: {a: ""}',
    "a jewel that is no truth value": "policy: p\nsegments: {a: {selector: b=c, crown_jewel: yes}}",
    "no action": "policy: p\nrules: [{because: x}]",
    "two actions": "policy: p\nrules: [{deny: {from: a, to: b}, forbid: {from: a, to: b}}]",
    "allow without service": "policy: p\nrules: [{allow: {from: a, to: b}}]",
    "deny without to": "policy: p\nrules: [{deny: {from: a}}]",
    "empty list": "policy: p\nrules: [{deny: {from: [], to: b}}]",
    "condition in a deny": "policy: p\nrules: [{deny: {from: a, to: b, require: mutual-tls}}]",
    "condition beside a forbid": "policy: p\nrules: [{forbid: {from: a, to: b}, until: 2027-01-01}]",
    "condition twice": "policy: p\nrules: [{allow: {from: a, to: b, service: x, to_process: y}, to_process: y}]",
    "another requirement": "policy: p\nrules: [{allow: {from: a, to: b, service: x, require: mtls}}]",
    "no date": "policy: p\nrules: [{allow: {from: a, to: b, service: x, until: tomorrow}}]",
    "no window": "policy: p\nrules: [{allow: {from: a, to: b, service: x, within: office hours}}]",
    "a test without expectation": "policy: p\ntests: [{from: a, to: b}]",
    "another expectation": "policy: p\ntests: [{from: a, to: b, expect: deny}]",
}


@pytest.mark.parametrize("text", MISTAKES.values(), ids=MISTAKES)
def test_planted_mistakes_are_rejected(text: str) -> None:
    """The schema underlines what the parser refuses as well."""
    assert faults(text)
    assert parse_policies({"p": text}).findings
