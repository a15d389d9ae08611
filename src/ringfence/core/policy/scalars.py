"""Text -> YAML scalars and flow collections that any YAML 1.2 reader gives back as the same text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ringfence.core.policy.yaml import REFUSED, Scalar

WIDTH = 110
"""The widest line the printer writes by choice."""
_FLOW_SIGNS = re.compile(r"[,\[\]{}:]")
_UNSAFE = re.compile(r"[\n\t\\\"']|: | #|:$")
_ODD = re.compile(REFUSED.pattern + "|[\r\x7f]")


def plain_or_quoted(text: str, *, in_flow: bool) -> str:
    """The text as a plain scalar if every reader takes it for this text, else in double quotes."""
    is_plain = (
        text != ""
        and (text[0].isalnum() or text[0] in "_/")
        and text == text.strip()
        and not _UNSAFE.search(text)
        and not _ODD.search(text)
        and not (in_flow and _FLOW_SIGNS.search(text))
        and Scalar(text, 0, 0, 0, True).native == text
    )
    return text if is_plain else quoted(text)


def quoted(text: str) -> str:
    """A double-quoted scalar. JSON's escapes are YAML's; characters the reader refuses are escaped too."""
    return _ODD.sub(_escape, json.dumps(text, ensure_ascii=False))


def _escape(found: re.Match[str]) -> str:
    number = ord(found[0])
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


class Field(NamedTuple):
    """A key and its text, or several texts as a list."""

    key: str
    texts: tuple[str, ...]
    is_verbatim: bool = False
    """The text is YAML already (`true`)."""

    @property
    def flow(self) -> str:
        """`key: value` for use inside `{}`."""
        items = self.texts if self.is_verbatim else [plain_or_quoted(text, in_flow=True) for text in self.texts]
        return f"{self.key}: {items[0]}" if len(items) == 1 else f"{self.key}: [{', '.join(items)}]"

    def block(self, indent: int) -> Iterator[str]:
        """The lines of a block mapping, a long list one item a line."""
        if indent + len(self.flow) <= WIDTH or len(self.texts) == 1:
            yield f"{' ' * indent}{self.flow}"
            return
        yield f"{' ' * indent}{self.key}:"
        yield from (f"{' ' * indent}  - {plain_or_quoted(text, in_flow=False)}" for text in self.texts)


def flow_mapping(fields: Iterable[Field]) -> str:
    """`{from: web, to: api}`."""
    return "{" + ", ".join(field.flow for field in fields) + "}"


def block_text(text: str, indent: int) -> str:
    """A value that stands behind its key in a block mapping: on one line, or literal where it has several."""
    lines = text.split("\n")
    is_trimmed = text == text.strip() and all(line == line.rstrip() for line in lines)
    is_literal = len(lines) > 1 and is_trimmed and not _ODD.search(text)
    if not is_literal:
        return plain_or_quoted(text, in_flow=False)
    return "\n".join(["|-", *(f"{' ' * indent}{line}" if line else "" for line in lines)])
