"""What a person asks in words (`web-1`, `env=dev`, `10.0.0.7`, `internet`, `https`) as endpoints and points to decide.

A selector or a word stands for one endpoint of every class in it, so an answer over all of them is an answer over
everybody.
"""

from __future__ import annotations

import difflib
from datetime import datetime

from ringfence.core.engine.engine import Engine
from ringfence.core.errors import InputError
from ringfence.core.identity.inventory import Inventory
from ringfence.core.labels.selector import Selector, parse_selector
from ringfence.core.net.address import INTERNET_RANGE, PRIVATE, parse_address
from ringfence.core.net.intervals import IntervalSet, union
from ringfence.core.net.service import WELL_KNOWN, parse_service
from ringfence.core.world import Endpoint

_WORDS = {"internet": INTERNET_RANGE, "private": PRIVATE}
_WRITE_A_SERVICE = "write it as `tcp/5432`, `udp`, `icmp/echo` or `any`"


def endpoints(engine: Engine, text: str, *, network: str = "main") -> tuple[Endpoint, ...]:
    """The endpoints a text stands for. Raises InputError `unknown-endpoint` or `unmatched`."""
    workload = engine.world.inventory.find(text)
    if workload is not None:
        return (Endpoint(workload),)
    if text in _WORDS:
        return _bare_endpoints(engine, text, network)
    try:
        return (Endpoint(address=parse_address(text), network=network),)
    except ValueError:
        pass
    if any(sign in text for sign in "=!,( "):
        return _selected(engine, text)
    if "." in text.strip("."):
        return (Endpoint(name=text.lower().rstrip(".")),)
    raise InputError(
        "unknown-endpoint",
        f"`{text}` is no workload, address, selector or word",
        help=_guess(engine.world.inventory, text),
    )


def _bare_endpoints(engine: Engine, word: str, network: str) -> tuple[Endpoint, ...]:
    """One address nobody holds of every address class that meets the word."""
    inventory, at = engine.world.inventory, engine.world.at
    meeting = [ranges & _WORDS[word] for ranges in engine.classes.ranges]
    found = (_unheld(ranges, inventory, at, network) for ranges in meeting if ranges)
    return tuple(Endpoint(address=address, network=network) for address in found if address is not None)


def _unheld(ranges: IntervalSet, inventory: Inventory, at: datetime, network: str) -> int | None:
    """An address of the ranges that no workload holds in a network; the first few of each range are tried."""
    for lo, hi in ranges:
        for address in range(lo + 1 if hi > lo else lo, min(hi, lo + 64) + 1):
            if not inventory.holders(address, at, network):
                return address
    return None


def _selected(engine: Engine, text: str) -> tuple[Endpoint, ...]:
    """One workload of every class the selector picks."""
    selector = selector_of_text(text)
    inventory, at = engine.world.inventory, engine.world.at
    found: dict[tuple[int, str], Endpoint] = {}
    for workload in inventory.workloads:
        if workload.kind == "process" or not selector.matches(inventory.labels_of(workload)):
            continue
        leases = workload.live_addresses(at)
        for lease in leases:
            mode = f"{workload.mode}"
            found.setdefault(
                (engine.class_of(workload, lease.address), mode), Endpoint(workload, lease.address, lease.network)
            )
        if not leases:
            found.setdefault((engine.class_of(workload, None), f"{workload.mode}"), Endpoint(workload))
    if not found:
        raise InputError(
            "unmatched", f"`{text}` picks no workload", help="`ringfence map --format tree` shows the labels there are"
        )
    return tuple(found.values())


def selector_of_text(text: str) -> Selector:
    """A selector from the command line. Raises InputError `bad-selector`."""
    try:
        return parse_selector(text)
    except ValueError as error:
        help_ = "write `key=value`, `key!=value`, `key in (a,b)`, `key` or `!key`, joined by commas"
        raise InputError("bad-selector", str(error), help=help_) from error


def services(engine: Engine, text: str) -> IntervalSet:
    """A service by its own name in a policy, by the built-in dictionary, or literal. Raises InputError `unknown-
    service`.
    """
    own = {
        name: s.services for p in engine.world.policies for s in p.services for name in (s.name, f"{p.name}.{s.name}")
    }
    if text in own:
        return own[text]
    if not text.strip():
        raise InputError("unknown-service", "an empty text names no service", help=_WRITE_A_SERVICE)
    try:
        return union(parse_service(word) for word in WELL_KNOWN.get(text, text).split())
    except ValueError as error:
        close = difflib.get_close_matches(text, [*own, *WELL_KNOWN], n=1)
        help_ = f"did you mean `{close[0]}`?" if close else _WRITE_A_SERVICE
        raise InputError("unknown-service", str(error), help=help_) from error


def points(engine: Engine, wanted: IntervalSet) -> tuple[int, ...]:
    """One point of every atom that meets the services: an answer for each is an answer for all."""
    first: dict[int, int] = {}
    for start, end, atom in engine.atoms.segments:
        overlap = IntervalSet(((start, end),)) & wanted
        if overlap:
            first.setdefault(atom, overlap.ranges[0][0])
    return tuple(sorted(first.values()))


def _guess(inventory: Inventory, text: str) -> str:
    close = difflib.get_close_matches(text, inventory.by_name, n=1)
    return f"did you mean `{close[0]}`?" if close else "write a workload's name, `key=value`, an address, or `internet`"
