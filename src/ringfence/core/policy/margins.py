"""Where the comments of a document belong: to a segment, service, rule or test, or to the margin between them.

INVARIANT: every comment of the document is attached exactly once, so a printer that prints them all loses none.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator

import msgspec

from ringfence.core.policy.yaml import Comment, Mapping, Node, Sequence, last_line

END = "end"
SECTIONS = frozenset({"segments", "services", "rules", "tests"})


class _Anchor(msgspec.Struct, frozen=True):
    """Lines that a comment can belong to: an item (by its position) or a top-level key (by its name)."""

    first: int
    last: int
    key: str
    """The top-level key it is, or is part of."""
    position: tuple[int, int] | None = None
    """None: the key itself."""


class Margins:
    """The comments of one document, by what they belong to."""

    def __init__(self) -> None:
        self._items: dict[tuple[int, int], list[str]] = {}
        self._margin: dict[str, list[str]] = {}

    def of(self, node: Node) -> tuple[str, ...]:
        """The comments of the item that starts where the node does."""
        return tuple(self._items.get((node.line, node.column), ())) if self._items else ()

    def above(self, key: str) -> tuple[str, ...]:
        return tuple(self._margin.get(key, ()))

    def margin(self, *, but: Iterable[str]) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """(place, comments), sorted, without some places."""
        left_out = set(but)
        return tuple(sorted((key, tuple(found)) for key, found in self._margin.items() if key not in left_out))

    def attach(self, root: Mapping, comments: Iterable[Comment]) -> None:
        anchors = list(_anchors(root))
        firsts = [anchor.first for anchor in anchors]
        for comment in comments:
            index = bisect_right(firsts, comment.line)
            before = anchors[index - 1] if index else None
            after = anchors[index] if index < len(anchors) else None
            self._put(comment, before, after)

    def _put(self, comment: Comment, before: _Anchor | None, after: _Anchor | None) -> None:
        if before is not None and (comment.is_trailing or comment.line <= before.last):
            self._put_at(before, comment.text)
        elif before is not None and self._ends_section(comment, before, after):
            self._margin.setdefault(f"{before.key}.{END}", []).append(comment.text)
        elif after is not None:
            self._put_at(after, comment.text)
        else:
            self._margin.setdefault(END, []).append(comment.text)

    @staticmethod
    def _ends_section(comment: Comment, before: _Anchor, after: _Anchor | None) -> bool:
        """Whether the comment stands indented behind the last item of a section."""
        return comment.column > 1 and before.key in SECTIONS and (after is None or after.position is None)

    def _put_at(self, anchor: _Anchor, text: str) -> None:
        if anchor.position is None:
            self._margin.setdefault(anchor.key, []).append(text)
        else:
            self._items.setdefault(anchor.position, []).append(text)


def _anchors(root: Mapping) -> Iterator[_Anchor]:
    """Anchors in the order of the text."""
    for name, (key, value) in root.entries.items():
        if isinstance(value, Mapping):
            yield _Anchor(key.line, key.line, name)
            for item, inner in value.entries.values():
                yield _Anchor(item.line, max(item.line, last_line(inner)), name, (item.line, item.column))
        elif isinstance(value, Sequence):
            yield _Anchor(key.line, key.line, name)
            for node in value.items:
                yield _Anchor(node.line, last_line(node), name, (node.line, node.column))
        else:
            yield _Anchor(key.line, max(key.line, last_line(value)), name)
