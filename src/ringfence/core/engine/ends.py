"""Ends as people name them: what the engine knows by itself, and segments."""

from __future__ import annotations

import re
from functools import reduce
from operator import and_

from ringfence.core.engine import Engine, ask
from ringfence.core.errors import InputError
from ringfence.core.identity.inventory import Inventory
from ringfence.core.labels.selector import Selector
from ringfence.core.policy.model import Workloads
from ringfence.core.policy.suggest import did_you_mean
from ringfence.core.world import Endpoint

_DNS_NAME = re.compile(
    r"(?=.{1,253}\.?$)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)+[a-z0-9-]*[a-z0-9]\.?", re.IGNORECASE
)
"""Two labels or more (RFC 1035 section 2.3.1, and the underscore that is in use)."""
_SHOWN = 5


def endpoints(engine: Engine, text: str, *, takes_names: bool = True) -> tuple[Endpoint, ...]:
    """The endpoints of a workload, selector, segment, address, word or (where it takes them) DNS name.

    Raises InputError `unknown-endpoint` or `unmatched`.
    """
    if engine.world.inventory.find(text) is not None:
        return ask.endpoints(engine, text)
    known = segments(engine)
    if text in known:
        return ask.endpoints(engine, selector_text(known[text]))
    guess = did_you_mean(text, known)
    if text in _shared(engine):
        raise _unknown(text, f"several policies have a segment `{text}`: write `POLICY.{text}`")
    found = _asked(engine, text, guess)
    is_name = any(end.name is not None for end in found)
    if is_name and (guess or not takes_names or not _DNS_NAME.fullmatch(text)):
        raise _unknown(text, guess)
    return found


def _asked(engine: Engine, text: str, guess: str) -> tuple[Endpoint, ...]:
    try:
        return ask.endpoints(engine, text)
    except InputError as error:
        if error.code == "unknown-endpoint" and guess and not error.help.startswith("did you mean"):
            raise _unknown(text, guess) from error
        raise


def _unknown(text: str, help_: str) -> InputError:
    message = f"`{text}` is no workload, address, selector, segment or word"
    usual = "write a workload's name, `key=value`, a segment like `shop.db`, an address or `internet`"
    return InputError("unknown-endpoint", message, help=help_ or usual)


def segments(engine: Engine) -> dict[str, Workloads]:
    """Every segment by `policy.name`, and by its bare name where one policy only has it."""
    shared = _shared(engine)
    return {
        name: segment.peer
        for policy in engine.world.policies
        for segment in policy.segments
        if segment.peer is not None
        for name in (f"{policy.name}.{segment.name}", segment.name)
        if name not in shared
    }


def _shared(engine: Engine) -> set[str]:
    """Bare names of segments that several policies have: they say which one no more."""
    names = [segment.name for policy in engine.world.policies for segment in policy.segments]
    return {name for name in names if names.count(name) > 1}


def selector_text(peer: Workloads) -> str:
    """The one selector that picks what all of the peer's pick; with a comma, so that it is read as one."""
    text = str(reduce(and_, peer.selectors))
    return text if "," in text else f"{text},{text}"


def refuse_nobody(inventory: Inventory, selector: Selector, text: str) -> None:
    """Raises InputError `unmatched` with the label that was probably meant when the selector picks no workload."""
    labels = [inventory.labels_of(workload) for workload in inventory.workloads]
    if not any(selector.matches(each) for each in labels):
        raise InputError("unmatched", f"`{text}` picks no workload", help=_label_guess(selector, labels))


def _label_guess(selector: Selector, labels: list[dict[str, str]]) -> str:
    keys = {key for each in labels for key in each}
    for requirement in selector.requirements:
        values = {each[requirement.key] for each in labels if requirement.key in each}
        if requirement.op in ("in", "exists") and not values:
            return did_you_mean(requirement.key, keys) or f"known keys: {_some(keys)}"
        if requirement.op == "in" and not values & set(requirement.values):
            guess = did_you_mean(requirement.values[0], values)
            return guess or f"values of `{requirement.key}`: {_some(values)}"
    return "each label is there, but no workload has them all; `ringfence map --format tree` shows who has which"


def _some(words: set[str]) -> str:
    more = f" and {len(words) - _SHOWN:,} more" if len(words) > _SHOWN else ""
    return ", ".join(f"`{word}`" for word in sorted(words)[:_SHOWN]) + more
