"""An intent and its plan as people read them, and as documents whose addresses and services are text.

INVARIANT: what is shortened for people ("and 3 more") is whole in the document.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.text import Text

from ringfence.cli.tables import Rows, count
from ringfence.core.identity.workload import Direction
from ringfence.core.intent.model import Intent, Part, Passage, PeerClass
from ringfence.core.net.address import format_address, format_ranges
from ringfence.core.net.intervals import IntervalSet
from ringfence.core.net.service import ANY, format_services

if TYPE_CHECKING:
    from ringfence.targets.nftables.policy_change import Change, Line, Member

_SHOWN = 3
_STYLES = {"opens": "green", "closes": "red", "stays": ""}
_BELIEVED = " (believed:"
"""How a class's text goes on where its end's word on processes counts: two classes, but one for people."""
_PREPOSITION: dict[Direction, str] = {"in": "from", "out": "to"}

Document = dict[str, Any]


# -- documents -------------------------------------------------------------------------------------------------------


def intent_document(intent: Intent) -> Document:
    """All of an intent but its refusals, which go beside it."""
    return {
        "workload": intent.workload,
        "name": intent.name,
        "mode": intent.mode,
        "own": _addresses(intent.own),
        "peers": [_peer_document(peer) for peer in intent.peers],
        "parts": [_part_document(part) for part in intent.parts],
        "failsafe": [passage_document(passage) for passage in intent.failsafe],
        "is_quarantined": intent.is_quarantined,
        "isolated": _addresses(intent.isolated),
        "quarantine_passages": [passage_document(passage) for passage in intent.quarantine_passages],
        "valid_until": intent.valid_until,
        "revision": intent.revision,
    }


def _addresses(addresses: Iterable[int]) -> list[str]:
    return [format_address(address) for address in addresses]


def _peer_document(peer: PeerClass) -> Document:
    ranges = format_ranges(IntervalSet.of(peer.ranges))
    return {"id": peer.id, "text": peer.text, "addresses": _addresses(peer.addresses), "ranges": ranges}


def _part_document(part: Part) -> Document:
    cells = [
        {"peer": c.peer, "services": format_services(c.services), "action": c.action, "rule": c.rule}
        for c in part.cells
    ]
    return {"direction": part.direction, "local": format_ranges(part.local), "unit": part.unit, "cells": cells}


def passage_document(passage: Passage) -> Document:
    remote, services = format_ranges(passage.remote), format_services(passage.services)
    said: Document = {"direction": passage.direction, "remote": remote, "services": services}
    return said | {"local": format_ranges(passage.local)} if passage.local else said


def change_document(change: Change) -> Document:
    """Services are null where the line is about all that no rule is about."""
    return {
        "modes": change.modes,
        "quarantine": {"was": change.quarantine[0], "now": change.quarantine[1]},
        "isolates": _addresses(change.isolates),
        "releases": _addresses(change.releases),
        "stays": [_line_document(line) for line in change.stays],
        "opens": [_line_document(line) for line in change.opens],
        "closes": [_line_document(line) for line in change.closes],
        "members": [_member_document(member) for member in change.members],
        "passages": [{**passage_document(passage), "begins": begins} for passage, begins in change.passages],
    }


def _line_document(line: Line) -> Document:
    return {
        "direction": line.direction,
        "services": format_services(line.services) if line.services else None,
        "peers": line.peers,
        "rule": line.rule,
        "was": line.was,
        "local": format_ranges(line.local),
        "unit": line.unit,
    }


def _member_document(member: Member) -> Document:
    return {"text": member.text, "joins": format_ranges(member.joins), "leaves": format_ranges(member.leaves)}


# -- for people ------------------------------------------------------------------------------------------------------


def change_words(intent: Intent, change: Change) -> Iterator[RenderableType]:
    """What changes for connections, most drastic first."""
    yield from _mode_words(change)
    yield from _quarantine_words(intent, change)
    yield line_table(change)
    yield from (Text(word) for member in change.members for word in _member_words(member))
    yield from (Text(_passage_words(passage, begins=begins)) for passage, begins in change.passages)


def _mode_words(change: Change) -> Iterator[Text]:
    for mode in change.modes:
        before = f" (was {mode.was})" if mode.was else ""
        yield Text(f"{'incoming' if mode.direction == 'in' else 'outgoing'}: {mode.now}{before}")


def _quarantine_words(intent: Intent, change: Change) -> Iterator[Text]:
    was, now = change.quarantine
    if now and not was:
        yield Text(f"{intent.name} is quarantined: everything closes but its exceptions and the failsafe", "bold red")
    if was and not now:
        yield Text(f"{intent.name} is released from quarantine", "green")
    for addresses, words in ((change.isolates, "quarantined"), (change.releases, "released from quarantine")):
        if addresses:
            yield Text(f"{words}: {_some(_addresses(addresses))}", "red" if words == "quarantined" else "green")


def line_table(change: Change) -> Rows:
    """What stays, opens and closes, one row a rule and its services."""
    table = Rows(("", "service", "", "because"), heads=2)
    for word, lines in (("stays", change.stays), ("opens", change.opens), ("closes", change.closes)):
        for line in sorted(lines, key=lambda line: (line.direction, not line.services, line.rule or "")):
            table.add(
                Text(word, _STYLES[word]), services_words(line.services), _peer_words(line), _rule_words(word, line)
            )
    return table


def services_words(services: IntervalSet) -> str:
    """The services, or what they lack of everything where that is shorter; none: all that no rule is about."""
    if not services:
        return "everything else"
    present, absent = format_services(services), format_services(ANY - services)
    if not absent:
        return "everything"
    return _some(present) if len(present) <= len(absent) else f"all but {_some(absent)}"


def _peer_words(line: Line) -> str:
    names = dict.fromkeys(name.partition(_BELIEVED)[0] for name in line.peers)
    who = _some(tuple(names), " | ") if names else "anyone"
    where = f", at {_places(line.local)}" if line.local else ""
    return f"{_PREPOSITION[line.direction]} {who}{where}" + (f", as {line.unit}" if line.unit else "")


def _rule_words(word: str, line: Line) -> str:
    if line.rule is not None:
        return line.rule
    if line.was is not None:
        return f"no rule (was {line.was})"
    return "no rule" if word == "closes" else "the mode"


def _member_words(member: Member) -> Iterator[str]:
    if member.joins:
        yield f"+ {_places(member.joins)}: is {member.text.partition(_BELIEVED)[0]}"
    if member.leaves:
        yield f"- {_places(member.leaves)}: is no longer {member.text.partition(_BELIEVED)[0]}"


def _passage_words(passage: Passage, *, begins: bool) -> str:
    services, remote = _some(format_services(passage.services)), _places(passage.remote)
    at = f" (at {_places(passage.local)} of this host)" if passage.local else ""
    what = f"{services} {_PREPOSITION[passage.direction]} {remote}{at}"
    return f"{'+' if begins else '-'} {what} {'passes' if begins else 'no longer passes'} whatever policy says"


def failsafe_table(intent: Intent) -> Rows | str:
    """What passes whatever policy says: shown in every plan."""
    if not intent.failsafe:
        return "failsafe: nothing"
    table = Rows(("failsafe", "remote", "services"))
    for passage in intent.failsafe:
        table.add(
            passage.direction, " ".join(format_ranges(passage.remote)), " ".join(format_services(passage.services))
        )
    return table


def size_words(added: int, removed: int, rules: int, *, judges_again: bool) -> str:
    """How much moves in the kernel."""
    again = "; live connections are judged again" if judges_again else ""
    return f"in the kernel: {count(added, 'element')} added, {removed:,} removed, {count(rules, 'rule')} written{again}"


def _places(addresses: IntervalSet) -> str:
    """A single address without its length."""
    return _some([text.removesuffix("/32").removesuffix("/128") for text in format_ranges(addresses)])


def _some(words: Sequence[str], separator: str = " ") -> str:
    """The first few, and how many more there are."""
    more = len(words) - _SHOWN
    return separator.join(words[:_SHOWN]) + (f" and {more:,} more" if more > 0 else "")
