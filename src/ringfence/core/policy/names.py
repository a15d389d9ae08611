"""The grammar of names, and the name a rule has when its author gave none.

INVARIANT: an unnamed rule's name depends on what the rule says, never on where it stands.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import lru_cache

from ringfence.core.labels.selector import parse_selector
from ringfence.core.policy.model import WORDS, Action, Conditions, Peer, Workloads

NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
"""Policies, segments and services. No dot: `shop.db` must be readable one way only."""
RULE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
LONGEST_NAME = 128
SLUG_LENGTH = 48
GLOBAL = "global:"
_NOT_SLUG = re.compile(r"[^a-z0-9.]+")
_SELECTOR_SIGNS = re.compile(r"[=!,()]")
RESERVED_SERVICES = frozenset({"any", "tcp", "udp", "sctp", "dccp", "udplite", "icmp", "icmp4", "icmp6", "proto"})
"""Words of the service grammar, which no service may be called."""


def name_fault(name: str, *, is_rule: bool = False, reserved: frozenset[str] = frozenset()) -> str:
    """What is wrong with a name, or nothing."""
    if name in reserved:
        return f"`{name}` is a word of the language"
    if len(name) > LONGEST_NAME:
        return f"a name may have {LONGEST_NAME} characters, this one has {len(name)}"
    return "" if (RULE_NAME if is_rule else NAME).fullmatch(name) else f"`{name}` is not a name"


RESERVED_SEGMENTS = frozenset({*WORDS, "global"})


def split_global(text: str) -> tuple[bool, str]:
    """`global: x` -> (True, `x`)."""
    if text.startswith(GLOBAL):
        return True, text[len(GLOBAL) :].strip()
    return False, text


def is_selector_text(text: str) -> bool:
    """Whether a peer's text must be read as a selector: it has a sign no name, address or DNS name has."""
    return _SELECTOR_SIGNS.search(text) is not None


def canonical_peer(peer: Peer) -> str:
    """A peer's text with its selector normalised, so that two spellings of one meaning are one text."""
    return _canonical_selector(peer.text) if isinstance(peer, Workloads) else peer.text


@lru_cache(maxsize=1 << 16)
def _canonical_selector(text: str) -> str:
    is_global, rest = split_global(text)
    rest = str(parse_selector(rest)) if is_selector_text(rest) else rest
    return f"{GLOBAL} {rest}" if is_global else rest


def canonical_text(
    action: Action,
    *,
    sources: Sequence[Peer],
    destinations: Sequence[Peer],
    services: Sequence[str],
    conditions: Conditions,
) -> str:
    """What a rule says, in one spelling: order, spacing and repetition do not count, nor does why."""
    parts = [
        action,
        "from " + " | ".join(_sorted(sources)),
        "to " + " | ".join(_sorted(destinations)),
        "service " + " | ".join(sorted(set(services))),
    ]
    return "; ".join(parts + condition_texts(conditions))


def condition_texts(conditions: Conditions) -> list[str]:
    """Every condition as `key: value`, in the language's order."""
    out = ["require: mutual-tls"] if conditions.mutual_tls else []
    out += [f"from_process: {conditions.from_process}"] if conditions.from_process else []
    out += [f"to_process: {conditions.to_process}"] if conditions.to_process else []
    out += [f"until: {conditions.until.isoformat()}"] if conditions.until else []
    out += [f"within: {conditions.within.text}"] if conditions.within else []
    return out


def derived_name(
    action: Action,
    *,
    sources: Sequence[Peer],
    destinations: Sequence[Peer],
    services: Sequence[str],
    canonical: str,
) -> str:
    """`allow-web-to-api-tcp-8080-3f9a1c`: a readable slug and six hex digits of the canonical text's SHA-256."""
    words = [action, *_sorted(sources), "to", *_sorted(destinations), *sorted(set(services))]
    slug = _NOT_SLUG.sub("-", "-".join(words).lower()).strip("-")[:SLUG_LENGTH].rstrip("-.")
    return f"{slug}-{hashlib.sha256(canonical.encode()).hexdigest()[:6]}"


def _sorted(peers: Sequence[Peer]) -> list[str]:
    return sorted({canonical_peer(peer) for peer in peers})
