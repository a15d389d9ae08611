"""The findings of one file, gathered while it is read, so that all of them are told at once.

A reader that meets a fault reports it and returns None; whoever gets the None says no more about it.
"""

from __future__ import annotations

from ringfence.core.errors import Finding, Location
from ringfence.core.policy.codes import help_of
from ringfence.core.policy.suggest import did_you_mean
from ringfence.core.policy.yaml import Mapping, Node, Scalar, Sequence

_KIND = {Scalar: "text", Sequence: "a list", Mapping: "a mapping"}
_SYNONYMS = {
    "from": "source sources src",
    "to": "destination destinations dest dst",
    "service": "port ports services protocol",
    "because": "reason comment description why",
    "until": "expires expiry",
    "within": "schedule hours",
    "require": "mtls",
    "to_process": "process",
    "allow": "permit accept",
    "deny": "block drop reject",
    "segments": "segment",
    "rules": "rule",
    "tests": "test",
    "scope": "selector",
    "policy": "metadata",
    "expect": "result",
}
"""Our keys -> the words that other products use for them."""


class Report:
    """Collects findings of one file. `subject` is what is being read: a policy, `policy/rule`."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.findings: list[Finding] = []
        self.subject = ""

    def at(self, node: Node) -> Location:
        return Location(self.file, node.line, node.column)

    def error(self, code: str, node: Node, message: str, help: str = "") -> None:
        text = node.value if isinstance(node, Scalar) else ""
        help = help or help_of(code)
        self.findings.append(Finding(code, message, "error", self.at(node), text, help, self.subject))

    def text(self, node: Node, what: str, *, code: str = "expected-text") -> str | None:
        """The node's text without surrounding white space, or None and a finding."""
        if not isinstance(node, Scalar):
            self.error("expected-text", node, f"{what} is {_KIND[type(node)]}, not text", _text_help(node))
            return None
        value = node.value.strip()
        if not value or node.is_null:
            self.error(code, node, f"{what} is empty")
            return None
        return value

    def mapping(self, node: Node, what: str) -> Mapping | None:
        if isinstance(node, Mapping):
            return node
        self.error("expected-mapping", node, f"{what} is {_KIND[type(node)]}, not a mapping")
        return None

    def items(self, node: Node, what: str) -> list[Node]:
        """One item, or the items of a list that is not empty."""
        if isinstance(node, Sequence):
            if not node.items:
                self.error("empty-list", node, f"{what} is an empty list")
            return node.items
        return [node]

    def list_(self, node: Node | None, what: str) -> list[Node]:
        """The items of a list; nothing at all (`rules:` with nothing behind it) is an empty one."""
        if node is None or (isinstance(node, Scalar) and node.is_null):
            return []
        if isinstance(node, Sequence):
            return node.items
        self.error("expected-list", node, f"{what} is {_KIND[type(node)]}, not a list")
        return []

    def boolean(self, node: Node | None, what: str) -> bool:
        if node is None:
            return False
        value = node.boolean if isinstance(node, Scalar) else None
        if value is None:
            self.error("expected-boolean", node, f"{what} is neither `true` nor `false`")
        return value is True

    def keys(self, mapping: Mapping, known: frozenset[str], what: str) -> None:
        """Report every key that is not known here."""
        if mapping.entries.keys() <= known:
            return
        for key, (node, _) in mapping.entries.items():
            if key not in known:
                self.error("unknown-key", node, f"{what} has no key `{key}`", _key_help(key, known))

    def missing(self, mapping: Mapping, key: str, what: str, help: str = "") -> None:
        self.error("missing-key", mapping, f"{what} has no `{key}`", help or f"add `{key}:`")


def _key_help(key: str, known: frozenset[str]) -> str:
    if any(char in key for char in "=()!"):
        return 'quote a selector that has a comma, as in "env=prod,role=web"'
    synonym = next((ours for ours, theirs in _SYNONYMS.items() if ours in known and key.lower() in theirs.split()), "")
    guess = f"did you mean `{synonym}`?" if synonym else did_you_mean(key, known)
    return guess or f"known keys: {', '.join(sorted(known))}"


def _text_help(node: Node) -> str:
    if isinstance(node, Mapping) and len(node.entries) == 1:
        ((key, (_, value)),) = node.entries.items()
        if isinstance(value, Scalar):
            return (
                f'did you mean "{key}: {value.value}"?' if key == "global" else f"did you mean `{key}={value.value}`?"
            )
    return ""
