"""YAML 1.2 text -> nodes that know their line and column, with every fault of the text as a finding.

libyaml scans and parses (PyYAML's C binding, or PyYAML's own parser where libyaml is missing); the composing, the
core schema (YAML 1.2.2 section 10.3) and the refusals are ours: a scalar stays text until somebody asks for more, so
`on`, `no`, `22:30` and `2027-03-01` are never anything else.

INVARIANT: the nodes are a tree no deeper than MAX_DEPTH. Anchors, aliases and tags are refused, so a text of n bytes
gives at most n nodes.

It does not know what a policy is, and it opens no files.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import yaml as pyyaml
from yaml.events import (
    AliasEvent,
    DocumentEndEvent,
    DocumentStartEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceStartEvent,
    StreamEndEvent,
    StreamStartEvent,
)

from ringfence.core.errors import Finding, Location
from ringfence.core.policy.codes import help_of

MAX_DEPTH = 32
"""Nesting of mappings and lists. The policy language needs 6."""

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[-+]?[0-9]{1,100}|0o[0-7]{1,100}|0x[0-9a-fA-F]{1,100}")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]{1,100}\.[0-9]*|[0-9]{1,100}(?=[eE]))(?:[eE][-+]?[0-9]+)?")
REFUSED = re.compile(
    "[^\t\n\r\x20-\x7e\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]|[\u2028\u2029\u202a-\u202e\u2066-\u2069]"
)
"""Characters YAML forbids (1.2.2 section 5.1), line breaks that only YAML 1.1 knows, and bidirectional overrides, which
make a reviewer see another text than the parser reads."""

_SURROGATE = re.compile("[\ud800-\udfff]")
"""What an escape can smuggle past `REFUSED` in PyYAML's own parser; libyaml refuses it."""


class Scalar(msgspec.Struct, gc=False):
    """A piece of text."""

    value: str
    line: int
    column: int
    end_line: int
    is_plain: bool
    """Written without quotes, so it may mean null, a truth value or a number."""

    @property
    def is_null(self) -> bool:
        return self.is_plain and self.value in _NULL

    @property
    def boolean(self) -> bool | None:
        """The truth value, or None if it is none."""
        return _BOOLEANS.get(self.value) if self.is_plain else None

    @property
    def native(self) -> str | bool | int | float | None:
        """The value under the core schema. Infinities, not-a-number and integers of over 100 digits stay text."""
        if not self.is_plain:
            return self.value
        if self.value in _NULL:
            return None
        if self.value in _BOOLEANS:
            return _BOOLEANS[self.value]
        if _INTEGER.fullmatch(self.value):
            return int(self.value, 0 if self.value[:2] in ("0o", "0x") else 10)
        return float(self.value) if _FLOAT.fullmatch(self.value) else self.value


class Sequence(msgspec.Struct):
    """A list."""

    items: list[Node]
    line: int
    column: int


class Mapping(msgspec.Struct):
    """Keys and values in the order written; of a duplicate key the first counts and a finding names the second."""

    entries: dict[str, tuple[Scalar, Node]]
    line: int
    column: int

    def get(self, key: str) -> Node | None:
        entry = self.entries.get(key)
        return entry[1] if entry else None


Node = Scalar | Sequence | Mapping


class Comment(msgspec.Struct, frozen=True):
    """One `# comment`: its text without the `#` and one space, and where it starts."""

    text: str
    line: int
    column: int
    is_trailing: bool
    """Something other than white space stands before it on its line."""


class Document(msgspec.Struct):
    """One document of a stream: its root and the first line that belongs to it (its `---`, or line 1)."""

    root: Node
    first_line: int


class Reading(msgspec.Struct):
    """All documents that are not empty, and what is wrong with the text."""

    documents: tuple[Document, ...]
    findings: tuple[Finding, ...]
    comments: tuple[Comment, ...] = ()


def read(text: str | bytes, file: str = "", *, pure: bool = False) -> Reading:
    """YAML text -> Reading. Never raises: what cannot be read is a finding (`not-utf8`, `yaml-*`, `duplicate-key`).

    `pure` asks for PyYAML's own parser even where libyaml is there.
    """
    if isinstance(text, bytes):
        decoded = _decode(text, file)
        if isinstance(decoded, Finding):
            return Reading((), (decoded,))
        text = decoded
    text = text.removeprefix("\ufeff")
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    refused = REFUSED.search(text)
    if refused is not None:
        return Reading((), (_bad_character(text, refused, file),))
    return _Composer(file, keep_spans="#" in text).compose(text, pure)


def last_line(node: Node) -> int:
    """The line a node's last scalar ends on."""
    while not isinstance(node, Scalar):
        children = node.items if isinstance(node, Sequence) else [value for _, value in node.entries.values()]
        if not children:
            return node.line
        node = children[-1]
    return node.end_line


def native_of(node: Node) -> object:
    """A node as plain dicts, lists and core-schema scalars."""
    if isinstance(node, Scalar):
        return node.native
    if isinstance(node, Sequence):
        return [native_of(item) for item in node.items]
    return {key: native_of(value) for key, (_, value) in node.entries.items()}


def _next_event(text: str, pure: bool) -> Callable[[], Any]:
    """The parser's pull function. Its events are untyped: this is where bytes enter."""
    loader = pyyaml.SafeLoader if pure or not pyyaml.__with_libyaml__ else pyyaml.CSafeLoader
    return loader(text).get_event


_NO_KEY = Scalar("", 0, 0, 0, False)
"""Stands for a key that is refused; its value is dropped."""


class _Composer:
    """Events -> nodes, with an explicit stack: deep input ends in a finding, not in the C stack."""

    def __init__(self, file: str, *, keep_spans: bool) -> None:
        self.file = file
        self.findings: list[Finding] = []
        self.documents: list[Document] = []
        self.stack: list[Mapping | Sequence] = []
        self.keys: list[Scalar | None] = []
        """The key whose value is awaited, for every collection on the stack."""
        self.root: Node | None = None
        self.first_line = 1
        self.spans: list[tuple[int, int]] | None = [] if keep_spans else None

    def compose(self, text: str, pure: bool) -> Reading:
        try:
            self._run(_next_event(text, pure))
        except pyyaml.MarkedYAMLError as error:  # the other kind, about characters, is refused before
            self.findings.append(_syntax(error, text, self.file))
        comments = tuple(_comments(text, self.spans)) if self.spans is not None else ()
        return Reading(tuple(self.documents), tuple(self.findings), comments)

    def _run(self, next_event: Callable[[], Any]) -> None:
        while True:
            event = next_event()
            kind = type(event)
            if kind is ScalarEvent:
                self._place(self._scalar(event))
            elif kind is MappingStartEvent or kind is SequenceStartEvent:
                if not self._open(event):
                    return
            elif kind is DocumentStartEvent:
                self.root = None
                self.first_line = event.start_mark.line + 1 if self.documents else 1
            elif kind is DocumentEndEvent:
                self._end_document()
            elif kind is AliasEvent:
                self._refuse_at("yaml-anchor", f"`*{event.anchor}` is an alias", event)
                line, column = event.start_mark.line + 1, event.start_mark.column + 1
                self._place(Scalar(f"*{event.anchor}", line, column, line, False))
            elif kind is StreamEndEvent:
                return
            elif kind is not StreamStartEvent:
                self.stack.pop()
                self.keys.pop()

    def _scalar(self, event: Any) -> Scalar:
        start, end = event.start_mark, event.end_mark
        if self.spans is not None:
            self.spans.append((start.index, end.index))
        style = event.style
        node = Scalar(event.value, start.line + 1, start.column + 1, end.line + 1, not style)
        if style in ("|", ">"):
            node.end_line = end.line + (end.column > 0)
        if event.anchor is not None or event.tag is not None:
            self._refuse_properties(event)
            node.value = event.value or (event.tag or "")
        if style == '"' and _SURROGATE.search(node.value):
            self._refuse_at("yaml-character", "an escape names half a character", event)
            node.value = _SURROGATE.sub("\ufffd", node.value)
        return node

    def _open(self, event: Any) -> bool:
        line, column = event.start_mark.line + 1, event.start_mark.column + 1
        if len(self.stack) == MAX_DEPTH:
            self._refuse("yaml-depth", f"more than {MAX_DEPTH} collections inside each other", line, column)
            return False
        if event.anchor is not None or event.tag is not None:
            self._refuse_properties(event)
        node = Mapping({}, line, column) if type(event) is MappingStartEvent else Sequence([], line, column)
        self._place(node)
        self.stack.append(node)
        self.keys.append(None)
        return True

    def _place(self, node: Node) -> None:
        """Hang the node under the innermost open collection."""
        if not self.stack:
            self.root = node
            return
        parent = self.stack[-1]
        if isinstance(parent, Sequence):
            parent.items.append(node)
            return
        key = self.keys[-1]
        if key is None:
            self.keys[-1] = self._key(node)
            return
        self.keys[-1] = None
        if key is _NO_KEY:
            return
        if key.value in parent.entries:
            first = parent.entries[key.value][0].line
            self._refuse("duplicate-key", f"`{key.value}` is already given on line {first}", key.line, key.column, key)
            return
        parent.entries[key.value] = (key, node)

    def _key(self, node: Node) -> Scalar:
        if isinstance(node, Scalar):
            return node
        self._refuse("yaml-key", "a key must be text, not a list or a mapping", node.line, node.column)
        return _NO_KEY

    def _end_document(self) -> None:
        if self.root is not None and not (isinstance(self.root, Scalar) and self.root.is_null):
            self.documents.append(Document(self.root, self.first_line))

    def _refuse_properties(self, event: Any) -> None:
        if event.anchor is not None:
            self._refuse_at("yaml-anchor", f"`&{event.anchor}` is an anchor", event)
        if event.tag is not None:
            self._refuse_at("yaml-tag", f"`{event.tag}` is a YAML tag", event)

    def _refuse_at(self, code: str, message: str, event: Any) -> None:
        self._refuse(code, message, event.start_mark.line + 1, event.start_mark.column + 1)

    def _refuse(self, code: str, message: str, line: int, column: int, key: Scalar | None = None) -> None:
        where = Location(self.file, line, column)
        text = key.value if key else ""
        self.findings.append(Finding(code, message, where=where, text=text, help=help_of(code)))


def _decode(data: bytes, file: str) -> str | Finding:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        where = Location(file, data.count(b"\n", 0, error.start) + 1)
        message = f"byte {error.start + 1} of the file is not UTF-8"
        return Finding("not-utf8", message, where=where, help=help_of("not-utf8"))


def _bad_character(text: str, found: re.Match[str], file: str) -> Finding:
    before = text[: found.start()]
    where = Location(file, before.count("\n") + 1, found.start() - (before.rfind("\n") + 1) + 1)
    message = f"the character U+{ord(found[0]):04X} may not stand in a policy file"
    return Finding("yaml-character", message, where=where, help=help_of("yaml-character"))


_HINTS = (
    ("mapping values are not allowed", 'quote text that contains `: `, as in "global: role=backup"'),
    ("alias", 'quote text that starts with `*`, as in "*.example.com"'),
    ("tag", 'quote text that starts with `!`, as in "!legacy"'),
    ("cannot start any token", "quote text that starts with a special character, and indent with spaces, never tabs"),
    ("',' or '}'", "close the `{`, and quote text that contains `: `, `,`, `[` or `{`"),
    ("',' or ']'", "close the `[`, and quote text that contains `: `, `,`, `[` or `{`"),
    ("node content", 'quote text that starts with a special character, as in "::1"'),
    ("quoted scalar", "close the quotation mark; inside double quotes a backslash starts an escape"),
    ("expected key", "check the indentation of this line, and quote text that goes on after a quotation mark"),
    ("block collection", "check the indentation of this line"),
)


def _syntax(error: pyyaml.MarkedYAMLError, text: str, file: str) -> Finding:
    is_indicator = (error.context or "").endswith(("an alias", "a tag"))
    mark: Any = error.context_mark if is_indicator else error.problem_mark or error.context_mark
    where = Location(file, mark.line + 1, mark.column + 1) if mark else Location(file)
    lines = text.split("\n")
    offending = lines[mark.line].strip() if mark and mark.line < len(lines) else ""
    problem = " ".join(part for part in (error.context, error.problem) if part).lower().replace("'", "`")
    plain = f"{error.context or ''} {error.problem or ''}"
    hint = next((hint for needle, hint in _HINTS if needle in plain), help_of("yaml-syntax"))
    return Finding("yaml-syntax", problem or "this is not YAML", where=where, text=offending, help=hint)


def _comments(text: str, spans: list[tuple[int, int]]) -> Iterator[Comment]:
    """Every comment of the text: a `#` outside all scalars, up to the end of its line.

    INVARIANT: no comment is missed. Outside scalars YAML has no use for `#` but comments.
    """
    starts = [start for start, _ in spans]
    position, line, counted = text.find("#"), 1, 0
    while position >= 0:
        line += text.count("\n", counted, position)
        counted = position
        index = bisect_right(starts, position) - 1
        start, end = spans[index] if index >= 0 else (0, 0)
        if position < end and not _is_header_comment(text, start, position):
            position = text.find("#", end)
            continue
        stop = text.find("\n", position)
        stop = len(text) if stop < 0 else stop
        line_start = text.rfind("\n", 0, position) + 1
        words = text[position + 1 : stop].rstrip()
        is_trailing = bool(text[line_start:position].strip())
        yield Comment(words.removeprefix(" "), line, position - line_start + 1, is_trailing)
        position = text.find("#", stop)


def _is_header_comment(text: str, start: int, position: int) -> bool:
    """Whether `#` stands on the first line of a block scalar, after its `|` or `>`."""
    return text[start] in "|>" and "\n" not in text[start:position]
