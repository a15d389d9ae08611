"""A service's text -> points: a literal, an own service, another policy's service or the built-in dictionary.

INVARIANT: literals (`tcp/5432`, `any`) mean the same everywhere; no service can be called like one.
"""

from __future__ import annotations

import re
from functools import cached_property

import msgspec

from ringfence.core.net.intervals import EMPTY, IntervalSet, union
from ringfence.core.net.service import PROTOCOLS, WELL_KNOWN, parse_service
from ringfence.core.policy.names import RESERVED_SERVICES
from ringfence.core.policy.report import Report
from ringfence.core.policy.suggest import NearMisses, did_you_mean
from ringfence.core.policy.vocabulary import Dictionary, ServiceMeaning, Vocabulary
from ringfence.core.policy.yaml import Node

ANY_WORD = "any"
_PORTS_ONLY = re.compile(r"[0-9]+(?:-[0-9]+)?")


class Services(msgspec.Struct, frozen=True):
    """The services of one rule."""

    services: IntervalSet
    words: tuple[str, ...]
    processes: tuple[str | None, ...] = (None,)
    """The distinct processes that the services name; None for a service that names none."""


class ServiceReader:
    """Reads the services of one policy."""

    def __init__(self, own: Vocabulary, dictionary: Dictionary, report: Report) -> None:
        self.own = own
        self.dictionary = dictionary
        self.report = report
        self._known: dict[str, ServiceMeaning] = {}
        self._combined: dict[tuple[str, ...], Services] = {}

    def read_all(self, node: Node) -> Services | None:
        """One service or a list of them. None if any is at fault."""
        nodes = self.report.items(node, "`service`")
        texts = [self.report.text(item, "`service`") for item in nodes]
        meanings = [self.meaning(item, text) for item, text in zip(nodes, texts, strict=True) if text is not None]
        words = tuple(dict.fromkeys(text for text in texts if text is not None))
        if not nodes or None in texts or None in meanings:
            return None
        if words not in self._combined:
            found = [meaning for meaning in meanings if meaning is not None]
            processes = tuple(dict.fromkeys(meaning.process for meaning in found))
            self._combined[words] = Services(union(m.services for m in found), words, processes)
        return self._combined[words]

    def meaning(self, node: Node, text: str) -> ServiceMeaning | None:
        if text not in self._known:
            meaning = self._read(node, text)
            if meaning is None:
                return None
            self._known[text] = meaning
        return self._known[text]

    def _read(self, node: Node, text: str) -> ServiceMeaning | None:
        if text.partition("/")[0] in RESERVED_SERVICES:
            points = read_literal(self.report, node, text)
            return None if points is None else ServiceMeaning(points)
        if text in self.own.services:
            return self.own.services[text]
        policy, dot, name = text.partition(".")
        if dot and policy in self.dictionary.policies:
            return self._read_foreign(node, policy, name)
        if dot and policy in self.dictionary.broken:
            return None
        if text in WELL_KNOWN:
            return ServiceMeaning(built_in(text))
        self.report.error("unknown-service", node, f"`{text}` is no service", service_help(text, self._misses(text)))
        return None

    def _misses(self, text: str) -> NearMisses:
        return self.dictionary.service_misses if "." in text else self._own_names

    @cached_property
    def _own_names(self) -> NearMisses:
        return NearMisses([*self.own.services, *WELL_KNOWN])

    def _read_foreign(self, node: Node, policy: str, name: str) -> ServiceMeaning | None:
        services = self.dictionary.policies[policy].services
        if name not in services:
            help_ = service_help(f"{policy}.{name}", self.dictionary.service_misses)
            self.report.error("unknown-service", node, f"policy `{policy}` has no service `{name}`", help_)
            return None
        return services[name]


def read_definition(report: Report, node: Node, what: str) -> tuple[tuple[str, ...], IntervalSet]:
    """A definition's literals and built-in names, one or a list: the words and their points."""
    nodes = report.items(node, what)
    words: dict[str, IntervalSet] = {}
    for item in nodes:
        text = report.text(item, what)
        points = None if text is None else _read_defining(report, item, text)
        if text is not None and points is not None:
            words[text] = points
    return tuple(words), union(words.values())


def _read_defining(report: Report, node: Node, text: str) -> IntervalSet | None:
    if text.partition("/")[0] in RESERVED_SERVICES:
        return read_literal(report, node, text)
    if text in WELL_KNOWN:
        return built_in(text)
    report.error("unknown-service", node, f"`{text}` is no service", service_help(text, NearMisses(WELL_KNOWN)))
    return None


def read_literal(report: Report, node: Node, text: str) -> IntervalSet | None:
    """`tcp/5432` -> points. Reports `bad-service`."""
    try:
        return parse_service(text)
    except ValueError as error:
        report.error("bad-service", node, str(error))
        return None


def built_in(name: str) -> IntervalSet:
    """The points of a service of the built-in dictionary."""
    return union(parse_service(part) for part in WELL_KNOWN.get(name, "").split()) or EMPTY


def service_help(text: str, known: NearMisses) -> str:
    """The most helpful correction of an unknown service."""
    lower = text.lower()
    if _PORTS_ONLY.fullmatch(text):
        return f"did you mean `tcp/{text}`?"
    if lower != text and (lower in WELL_KNOWN or lower.partition("/")[0] in RESERVED_SERVICES):
        return f"did you mean `{lower}`?"
    if " " in text:
        return f"write several services as a list: [{', '.join(text.split())}]"
    protocol, slash, detail = lower.partition("/")
    swapped = f"{detail}/{protocol}" if slash and detail in PROTOCOLS else ""
    if swapped:
        return f"did you mean `{swapped}`?"
    guess = did_you_mean(protocol, PROTOCOLS).replace("`?", f"/{detail}`?") if slash else known.question(text)
    return guess or "define it under `services`, or write it as in `tcp/8080`"
