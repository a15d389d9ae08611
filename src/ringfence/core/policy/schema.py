"""The language as a JSON Schema (draft 2020-12), for editors that complete and underline.

INVARIANT: whatever the printer writes, the schema accepts. The schema knows no names, so it accepts more than the
parser, whose word is the last.
"""

from __future__ import annotations

from typing import Any

from ringfence.core.net.service import WELL_KNOWN
from ringfence.core.policy.conditions import CONDITION_KEYS
from ringfence.core.policy.model import WORDS
from ringfence.core.policy.names import LONGEST_NAME, NAME, RESERVED_SEGMENTS, RESERVED_SERVICES, RULE_NAME
from ringfence.core.policy.texts import MUTUAL_TLS

Schema = dict[str, Any]
SCHEMA_ID = "urn:ringfence:schema:policy"


def json_schema() -> Schema:
    """The schema of one policy document, as plain JSON values."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        "title": "Ringfence policy",
        "description": "Who may talk to whom. Rules are a set: their order does not count.",
        "type": "object",
        "required": ["policy"],
        "additionalProperties": False,
        "properties": {
            "policy": _name("What the policy is called; rules are named `policy/rule`.", ["shop", "guardrails"]),
            "owner": _text("Who answers for this policy.", ["team-shop"]),
            "because": _text("Why the policy exists.", ["PCI DSS 1.2.1"]),
            "scope": _ref("selector", "Joined to every selector and segment of this policy, unless `global:`."),
            "segments": _section("segment", "Named selectors.", RESERVED_SEGMENTS),
            "services": _section("service_definition", "Named services.", RESERVED_SERVICES),
            "rules": _list("rule", "What is allowed, denied and forbidden."),
            "tests": _list("test", "What must be true of all rules of the estate together."),
        },
        "examples": [_EXAMPLE],
        "$defs": _definitions(),
    }


def _definitions() -> Schema:
    return {
        "selector": {
            **_text("A Kubernetes label selector.", ["env=prod,role in (web,api),!legacy", "role=db"]),
            "minLength": 1,
        },
        "segment": _segment(),
        "peer": {
            **_text(
                f"{', '.join(WORDS)}, an address or CIDR, a selector, a segment, `policy.segment`, or, as `to` of an "
                "allow, a DNS name. `global:` before a selector or segment leaves the scope.",
                [*WORDS, "web", "shop.db", "env=prod", "global: role=backup", "10.0.0.0/8", "*.example.com"],
            ),
            "minLength": 1,
        },
        "peers": _one_or_many("peer"),
        "service": {
            **_text("A literal, a service of this policy, `policy.service`, or a built-in name.", _SERVICE_EXAMPLES),
            "minLength": 1,
        },
        "services": _one_or_many("service"),
        "service_definition": _service_definition(),
        "process": _text("A systemd unit, a cgroup or an absolute path.", ["nginx.service", "/usr/sbin/nginx"]),
        "allow": _body("Passes, unless a forbid matches.", ["from", "to", "service"], _conditions()),
        "deny": _body("Blocked, unless an allow matches. Without `service`: every service.", ["from", "to"], {}),
        "rule": _rule(),
        "test": _test(),
    }


def _segment() -> Schema:
    properties = {
        "selector": {"$ref": "#/$defs/selector"},
        "crown_jewel": {"type": "boolean", "description": "Critical: exposure and attack paths are computed for it."},
        "because": _text("Why the segment exists."),
    }
    long = {"type": "object", "required": ["selector"], "additionalProperties": False, "properties": properties}
    return {"description": "A named selector.", "oneOf": [{"$ref": "#/$defs/selector"}, long]}


def _service_definition() -> Schema:
    properties = {
        "ports": {"$ref": "#/$defs/services"},
        "process": {"$ref": "#/$defs/process"},
        "because": _text("Why the service exists."),
    }
    long = {"type": "object", "required": ["ports"], "additionalProperties": False, "properties": properties}
    return {"description": "A named service.", "anyOf": [{"$ref": "#/$defs/services"}, long]}


def _conditions() -> Schema:
    return {
        "require": {"const": MUTUAL_TLS, "description": "The peer proved its cryptographic identity."},
        "from_process": {"$ref": "#/$defs/process", "description": "The process that connects."},
        "to_process": {"$ref": "#/$defs/process", "description": "The process that listens."},
        "until": {
            **_text("The last day, UTC, on which the rule holds.", ["2027-03-01"]),
            "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$",
        },
        "within": {
            **_text("Days, hours and a time zone.", ["mon-fri 08:00-18:00 Europe/Berlin", "daily 22:00-06:00 UTC"]),
            "pattern": r"^\s*\S+\s+[0-9]{2}:[0-9]{2}\s*-\s*[0-9]{2}:[0-9]{2}\s+\S+\s*$",
        },
    }


def _body(description: str, required: list[str], conditions: Schema) -> Schema:
    properties = {
        "from": {"$ref": "#/$defs/peers", "description": "Who connects."},
        "to": {"$ref": "#/$defs/peers", "description": "Who is connected to."},
        "service": {"$ref": "#/$defs/services", "description": "On what."},
        **conditions,
    }
    return {
        "description": description,
        "type": "object",
        "required": required,
        "additionalProperties": False,
        "properties": properties,
    }


def _rule() -> Schema:
    """Exactly one action; conditions beside an allow only, and each in one place only."""
    closed = {"properties": dict.fromkeys(sorted(CONDITION_KEYS), False)}
    once = [
        {"not": {"required": ["allow", key], "properties": {"allow": {"required": [key]}}}}
        for key in sorted(CONDITION_KEYS)
    ]
    properties = {
        "name": {**_text("What the rule is called.", ["orders"]), "pattern": _anchored(RULE_NAME.pattern)},
        "because": _text("Why the rule exists.", ["orders are stored in PostgreSQL"]),
        "allow": {"$ref": "#/$defs/allow"},
        "deny": {"$ref": "#/$defs/deny"},
        "forbid": {"$ref": "#/$defs/deny", "description": "Blocked; no allow lifts it."},
        **_conditions(),
    }
    return {
        "description": "One allow, deny or forbid.",
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
        "oneOf": [{"required": [action]} for action in ("allow", "deny", "forbid")],
        "allOf": [{"if": {"not": {"required": ["allow"]}}, "then": closed}, *once],
    }


def _test() -> Schema:
    properties = {
        "name": _text("What the test is called."),
        "from": {"$ref": "#/$defs/peers"},
        "to": {"$ref": "#/$defs/peers"},
        "service": {"$ref": "#/$defs/services", "description": "Without it: every service."},
        "expect": {
            "enum": ["allowed", "blocked"],
            "description": "allowed: every pair may talk; blocked: no pair may.",
        },
        "at": _text("The time to judge at, RFC 3339.", ["2027-03-01T12:00:00Z"]),
        "mutual_tls": {"type": "boolean", "description": "Whether the peer proved its identity."},
        "from_process": {"$ref": "#/$defs/process"},
        "to_process": {"$ref": "#/$defs/process"},
    }
    return {
        "description": "What must be true of these peers on these services.",
        "type": "object",
        "required": ["from", "to", "expect"],
        "additionalProperties": False,
        "properties": properties,
    }


def _text(description: str, examples: list[str] | None = None) -> Schema:
    return {"type": "string", "description": description, **({"examples": examples} if examples else {})}


def _name(description: str, examples: list[str]) -> Schema:
    return {**_text(description, examples), "pattern": _anchored(NAME.pattern), "maxLength": LONGEST_NAME}


def _ref(definition: str, description: str) -> Schema:
    return {"$ref": f"#/$defs/{definition}", "description": description}


def _one_or_many(definition: str) -> Schema:
    item = {"$ref": f"#/$defs/{definition}"}
    return {"anyOf": [item, {"type": "array", "minItems": 1, "items": item}]}


def _list(definition: str, description: str) -> Schema:
    return {"type": ["array", "null"], "description": description, "items": {"$ref": f"#/$defs/{definition}"}}


def _section(definition: str, description: str, reserved: frozenset[str]) -> Schema:
    names = {"pattern": _anchored(NAME.pattern), "maxLength": LONGEST_NAME, "not": {"enum": sorted(reserved)}}
    items = {"$ref": f"#/$defs/{definition}"}
    return {
        "type": ["object", "null"],
        "description": description,
        "propertyNames": names,
        "additionalProperties": items,
    }


def _anchored(pattern: str) -> str:
    return f"^(?:{pattern})$"


_SERVICE_EXAMPLES = ["tcp/5432", "tcp/8000-8100", "udp", "icmp/echo", "proto/47", "any", *sorted(WELL_KNOWN)]
_EXAMPLE = {
    "policy": "shop",
    "owner": "team-shop",
    "scope": "app=shop,env=prod",
    "segments": {"web": "role=web", "db": {"selector": "role=db", "crown_jewel": True}},
    "services": {"orders": {"ports": "tcp/8080", "process": "orders.service"}},
    "rules": [{"allow": {"from": "web", "to": "db", "service": "postgres"}, "because": "orders live there"}],
    "tests": [{"from": "internet", "to": "db", "expect": "blocked"}],
}
