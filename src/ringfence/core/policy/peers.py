"""A peer's text -> Peer: a word, an address, a selector, a segment or a DNS name, in this order.

INVARIANT: a text means one thing wherever it stands in a policy. A dotted name whose first part is a policy is a
segment of that policy or an error, never a DNS name; so a typing error cannot open a rule to the internet.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
from functools import cached_property
from typing import Literal

from ringfence.core.labels.selector import Selector
from ringfence.core.net.address import parse_cidr
from ringfence.core.net.intervals import IntervalSet
from ringfence.core.policy.model import WORDS, Cidr, Everywhere, Fqdn, Peer, Workloads
from ringfence.core.policy.names import is_selector_text, split_global
from ringfence.core.policy.report import Report
from ringfence.core.policy.selectors import read_joined, read_selector
from ringfence.core.policy.suggest import NearMisses
from ringfence.core.policy.vocabulary import Dictionary, Vocabulary, is_possible
from ringfence.core.policy.yaml import Node

Place = Literal["from", "to"]
_WORDS = {word: Everywhere(word) for word in WORDS}
_ADDRESS_LIKE = re.compile(r"[0-9]+(?:\.[0-9]+){1,3}(?:/.*)?|(?=[^:]*:)[0-9A-Fa-f:.]+(?:[%/].*)?|[0-9.]+/[0-9]+")
_DNS_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_LONGEST_DNS_NAME = 253
"""RFC 1035 section 2.3.4, without the final dot."""


class PeerReader:
    """Reads the peers of one policy."""

    def __init__(self, own: Vocabulary, dictionary: Dictionary, report: Report) -> None:
        self.own = own
        self.dictionary = dictionary
        self.report = report
        self._known: dict[str, Peer] = {}
        """Texts read without a fault; a text means the same wherever it stands, DNS names excepted."""

    def read_all(self, node: Node, place: Place, *, allows_fqdn: bool) -> tuple[Peer, ...] | None:
        """One peer or a list of them. None if any is at fault."""
        nodes = self.report.items(node, f"`{place}`")
        peers = [self.read(item, place, allows_fqdn=allows_fqdn) for item in nodes]
        good = tuple(dict.fromkeys(peer for peer in peers if peer is not None))
        return good if nodes and len(peers) == len([p for p in peers if p is not None]) else None

    def read(self, node: Node, place: Place, *, allows_fqdn: bool) -> Peer | None:
        text = self.report.text(node, f"`{place}`", code="empty-selector")
        if text is None:
            return None
        known = self._known.get(text)
        if known is None:
            known = self._read(node, text, allows_fqdn)
            if known is not None and not isinstance(known, Fqdn):
                self._known[text] = known
        return known

    def _read(self, node: Node, text: str, allows_fqdn: bool) -> Peer | None:
        if text in _WORDS:
            return _WORDS[text]
        is_global, rest = split_global(text)
        if is_global:
            return self._read_global(node, text, rest)
        if _ADDRESS_LIKE.fullmatch(text):
            return self._read_address(node, text)
        if is_selector_text(text):
            return self._read_selector(node, text, text, self.own.scope)
        if text in self.own.segments:
            meaning = self.own.segments[text]
            return Workloads(meaning.selectors, text) if meaning else None
        if "." in text:
            return self._read_dotted(node, text, allows_fqdn)
        self._report_unknown(node, text)
        return None

    def _read_global(self, node: Node, text: str, rest: str) -> Peer | None:
        if rest in _WORDS or _ADDRESS_LIKE.fullmatch(rest):
            self.report.error("bad-global", node, f"`{rest}` is never scoped", f"write `{rest}`")
            return None
        if not rest or is_selector_text(rest):
            return self._read_selector(node, text, rest, None)
        if rest in self.own.segments:
            meaning = self.own.segments[rest]
            return Workloads((meaning.selector,), text) if meaning else None
        policy, dot, _ = rest.partition(".")
        if dot and (policy in self.dictionary.policies or policy in self.dictionary.broken):
            return self._read_foreign(node, text, rest, None)
        self._report_unknown(node, rest)
        return None

    def _read_address(self, node: Node, text: str) -> Peer | None:
        try:
            return Cidr(text, _parse_cidr(text))
        except ValueError as error:
            network = without_host_bits(text)
            if network is None:
                self.report.error("bad-address", node, f"`{text}` is not an address: {_plain(error)}")
                return None
            self.report.error("host-bits", node, f"`{text}` has host bits set", host_bits_help(text, network))
            return None

    def _read_selector(self, node: Node, text: str, selector_text: str, scope: Selector | None) -> Peer | None:
        selector = read_selector(self.report, node, selector_text, self.dictionary.ignore)
        if selector is None:
            return None
        joined = read_joined(self.report, node, text, (selector,), scope)
        return Workloads(joined, text) if joined else None

    def _read_foreign(self, node: Node, text: str, name: str, scope: Selector | None) -> Peer | None:
        """`policy.segment`: it carries that policy's scope and is joined with ours as well."""
        policy, _, segment = name.partition(".")
        vocabulary = self.dictionary.policies.get(policy)
        if vocabulary is None:
            return None
        if segment not in vocabulary.segments:
            near = [other for other in self.dictionary.segment_misses.of(name) if other.startswith(f"{policy}.")]
            help_ = f"did you mean `{near[0]}`?" if near else _known_list(policy, vocabulary)
            self.report.error("unknown-segment", node, f"policy `{policy}` has no segment `{segment}`", help_)
            return None
        meaning = vocabulary.segments[segment]
        if meaning is None:
            return None
        joined = read_joined(self.report, node, text, meaning.selectors, scope)
        return Workloads(joined, text) if joined else None

    def _read_dotted(self, node: Node, text: str, allows_fqdn: bool) -> Peer | None:
        policy = text.partition(".")[0]
        if policy in self.dictionary.policies or policy in self.dictionary.broken:
            return self._read_foreign(node, text, text, self.own.scope)
        meant = self.dictionary.segment_misses.of(text)
        if meant:
            self.report.error("unknown-segment", node, f"`{text}` is no segment", f"did you mean `{meant[0]}`?")
            return None
        name = text.lower().removesuffix(".")
        if not is_dns_name(name):
            self.report.error("bad-fqdn", node, f"`{text}` is neither a segment nor a DNS name", _ascii_help(name))
            return None
        if not allows_fqdn:
            self.report.error("fqdn-place", node, f"the DNS name `{text}` cannot stand here")
            return None
        return Fqdn(name)

    def _report_unknown(self, node: Node, text: str) -> None:
        owner = self.dictionary.owners_of.get(text)
        guess = f"did you mean `{owner}.{text}`?" if owner else self._own_names.question(text)
        first = guess or "define it under `segments`,"
        self.report.error(
            "unknown-segment", node, f"`{text}` is no segment", f"{first} or write a selector as in `role={text}`"
        )

    @cached_property
    def _own_names(self) -> NearMisses:
        return NearMisses([*self.own.segments, *WORDS])


def can_be_in(scope: Selector, peer: Peer) -> bool:
    """Whether an end picked by this peer can be a workload of the scope."""
    if isinstance(peer, Workloads):
        return is_possible((*peer.selectors, scope))
    return isinstance(peer, Cidr) or (isinstance(peer, Everywhere) and peer.word != "internet")


def _parse_cidr(text: str) -> IntervalSet:
    """`parse_cidr` without what only looks unambiguous: netmasks behind the slash, and zone indexes."""
    _, slash, prefix = text.partition("/")
    if "%" in text or (slash and not (prefix.isascii() and prefix.isdigit())):
        raise ValueError("write the prefix length as a number, and no zone index")
    return parse_cidr(text)


def without_host_bits(text: str) -> str | None:
    """The network the text lies in, if host bits are its only fault."""
    try:
        _parse_cidr(text)
    except ValueError:
        with contextlib.suppress(ValueError):
            network = str(ipaddress.ip_network(text, strict=False))
            _parse_cidr(network)
            return network if network.endswith(text[text.find("/") :]) else None
    return None


def host_bits_help(text: str, network: str) -> str:
    """What a CIDR with host bits was perhaps meant to be."""
    return f"did you mean `{network}`, or the one address `{text.partition('/')[0]}`?"


def _plain(error: ValueError) -> str:
    """ipaddress's message in our style."""
    return str(error).replace("'", "`").rstrip(".")


def is_dns_name(name: str) -> bool:
    """RFC 1123 section 2.1 names of at least two labels, underscores as in use, the first label perhaps `*`."""
    labels = name.removeprefix("*.").split(".")
    if len(name) > _LONGEST_DNS_NAME or len(labels) < 2 - name.startswith("*.") or labels[-1].isdigit():
        return False
    return all(_DNS_LABEL.fullmatch(label) for label in labels)


def _ascii_help(name: str) -> str:
    """For an internationalised name, its ASCII form."""
    try:
        ascii_name = name.encode("idna").decode("ascii")
    except UnicodeError:
        return ""
    return f"write its ASCII form `{ascii_name}`" if ascii_name != name and is_dns_name(ascii_name) else ""


def _known_list(policy: str, vocabulary: Vocabulary) -> str:
    """What a policy does define, at most five of it."""
    known = ", ".join(f"`{policy}.{name}`" for name in sorted(vocabulary.segments)[:5])
    return f"it defines {known}" if known else f"policy `{policy}` defines no segments"
