"""The policy language as values: what a policy document says, each node with its file and line.

Peers here are *resolved*: a segment reference carries the selectors it stands for, already joined with the scope
of the policy that wrote it, so a reader of this module needs no name lookup to know what a rule means.

INVARIANT: emptiness is refused at parse time. A selector has a requirement, a rule has peers and services;
"everyone" is the value ANYONE that somebody wrote.
"""

from __future__ import annotations

from datetime import date
from typing import Literal

import msgspec

from ringfence.core.errors import Location
from ringfence.core.labels.selector import Selector
from ringfence.core.net.intervals import IntervalSet

Action = Literal["allow", "deny", "forbid"]
Word = Literal["anyone", "internet", "private"]
WORDS: tuple[Word, ...] = ("anyone", "internet", "private")
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


class Workloads(msgspec.Struct, frozen=True, tag="workloads"):
    """The workloads that match *every* selector (the written one, the scope's, another segment's scope)."""

    selectors: tuple[Selector, ...]
    text: str
    """As written: a segment name, `shop.db`, a selector, with its `global:` prefix if any."""


class Everywhere(msgspec.Struct, frozen=True, tag="word"):
    """`anyone`, `internet` or `private`."""

    word: Word

    @property
    def text(self) -> str:
        return self.word


class Cidr(msgspec.Struct, frozen=True, tag="cidr"):
    """A CIDR or one address; it matches an address whoever holds it."""

    text: str
    addresses: IntervalSet


class Fqdn(msgspec.Struct, frozen=True, tag="fqdn"):
    """A DNS name, or `*.` and a name for every name below it. Only as `to` of an allow."""

    text: str


Peer = Workloads | Everywhere | Cidr | Fqdn


class Within(msgspec.Struct, frozen=True):
    """Days and hours of a time zone: `mon-fri 08:00-18:00 Europe/Berlin`.

    Minutes count from midnight; the end is exclusive. A window that ends at or before its start runs past midnight and
    belongs to the day it starts on.
    """

    days: tuple[int, ...]
    """0 is Monday."""
    start_minute: int
    end_minute: int
    zone: str
    text: str


class Conditions(msgspec.Struct, frozen=True):
    """What must hold besides the ends and the service. All of them, for an allow to count."""

    mutual_tls: bool = False
    from_process: str | None = None
    to_process: str | None = None
    until: date | None = None
    """The last day, UTC, on which the rule holds."""
    within: Within | None = None


class Rule(msgspec.Struct, frozen=True):
    """One allow, deny or forbid: from any source to any destination on any of the services."""

    name: str
    """Given by the author, or derived from the canonical text; never from the position."""
    action: Action
    sources: tuple[Peer, ...]
    destinations: tuple[Peer, ...]
    services: IntervalSet
    service_words: tuple[str, ...]
    """As written."""
    conditions: Conditions = Conditions()
    because: str = ""
    is_named: bool = False
    is_process_implied: bool = False
    """`to_process` was not written: a service of the rule names it."""
    is_any_written: bool = False
    """`service: any` was written where leaving it out means the same."""
    where: Location = Location()
    comments: tuple[str, ...] = ()
    """Comment lines written directly above, without `#`."""


class Expectation(msgspec.Struct, frozen=True):
    """One entry of `tests:`: between these peers on these services every (allowed) or no (blocked) pair may talk."""

    sources: tuple[Peer, ...]
    destinations: tuple[Peer, ...]
    services: IntervalSet
    service_words: tuple[str, ...]
    expect: Literal["allowed", "blocked"]
    mutual_tls: bool = False
    from_process: str | None = None
    to_process: str | None = None
    at: str | None = None
    """RFC 3339; else the time of the test run."""
    name: str = ""
    is_process_implied: bool = False
    """`to_process` was not written: a service of the test names it."""
    is_any_written: bool = False
    """`service: any` was written where leaving it out means the same."""
    where: Location = Location()
    comments: tuple[str, ...] = ()


class Named(msgspec.Struct, frozen=True):
    """A segment's or service's definition, kept for printing, linting and editors."""

    name: str
    text: str
    where: Location = Location()
    comments: tuple[str, ...] = ()
    peer: Workloads | None = None
    """A segment's resolved meaning, scope included."""
    services: IntervalSet = IntervalSet()
    """A service's points."""
    process: str | None = None
    """A service's process, a `to_process` condition on every rule that names it."""
    is_crown_jewel: bool = False
    because: str = ""


class Policy(msgspec.Struct, frozen=True):
    """One policy document."""

    name: str
    owner: str = ""
    scope: Selector | None = None
    """None: unscoped, a guardrail owner's."""
    segments: tuple[Named, ...] = ()
    services: tuple[Named, ...] = ()
    rules: tuple[Rule, ...] = ()
    tests: tuple[Expectation, ...] = ()
    where: Location = Location()
    because: str = ""
    comments: tuple[str, ...] = ()
    margin: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Comments above a top-level key (`rules`), at the end of a section (`rules.end`) and of the document (`end`)."""

    def ref(self, rule: Rule) -> str:
        """`policy/name`: how a rule is called everywhere."""
        return f"{self.name}/{rule.name}"
