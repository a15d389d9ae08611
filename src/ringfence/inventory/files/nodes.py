"""Nodes of a YAML or JSON file read as text, list or mapping; a node of another shape becomes a finding.

JSON is read as the YAML that it is, so that its faults have places too.
"""

from __future__ import annotations

from collections.abc import Iterable

from ringfence.core.errors import Location
from ringfence.core.policy.yaml import Mapping, Node, Scalar, Sequence, read
from ringfence.inventory.files.draft import Findings, Text, unknown_word


class Nodes:
    """The nodes of one file, with the findings their faults go to."""

    def __init__(self, file: str, findings: Findings) -> None:
        self.file = file
        self.findings = findings

    def roots(self, text: str) -> list[Node]:
        """The root of each document that says anything."""
        reading = read(text, self.file)
        self.findings.found += reading.findings
        return [document.root for document in reading.documents]

    def place(self, node: Node) -> Location:
        return Location(self.file, node.line, node.column)

    def texts(self, node: Node, what: str) -> list[Text]:
        """One text, or a list of them."""
        items = node.items if isinstance(node, Sequence) else [node]
        return [text for item in items if (text := self.text(item, what)) is not None]

    def text(self, node: Node, what: str) -> Text | None:
        if isinstance(node, Scalar) and not node.is_null:
            return text_of(node)
        self.findings.add("expected-text", f"{what} is one text", self.place(node))
        return None

    def items(self, node: Node, what: str) -> list[Node]:
        if isinstance(node, Sequence):
            return node.items
        written = node.value if isinstance(node, Scalar) else ""
        self.findings.add("expected-list", f"{what} is a list", self.place(node), text=written)
        return []

    def mapping(self, node: Node, what: str, keys: Iterable[str] | None = None) -> dict[str, tuple[Text, Node]]:
        """Key -> (the key's own text, its value), of `keys` only where they are given; then a null says nothing."""
        if not isinstance(node, Mapping):
            written = node.value if isinstance(node, Scalar) else ""
            self.findings.add("expected-mapping", f"{what} is a mapping", self.place(node), text=written)
            return {}
        known = frozenset(node.entries if keys is None else keys)
        for key, (scalar, _) in node.entries.items():
            if key not in known:
                message, help_ = f"`{key}` is no key of {what}", unknown_word(key, known)
                self.findings.add("unknown-key", message, self.place(scalar), text=key, help=help_)
        said = {key: (text_of(scalar), value) for key, (scalar, value) in node.entries.items() if key in known}
        return said if keys is None else {key: pair for key, pair in said.items() if not is_nothing(pair[1])}


def is_nothing(node: Node) -> bool:
    """An empty or null value."""
    return isinstance(node, Scalar) and node.is_null


def text_of(scalar: Scalar) -> Text:
    return Text(scalar.value, scalar.line, scalar.column)
