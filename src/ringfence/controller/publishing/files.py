"""Which files of policies a draft adds, changes and takes away, and who had put there what it replaces.

INVARIANT: compared is the newest version, whether hosts have it or not: that is what a draft is published over.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Literal

from ringfence.ports.state import PolicyVersion, View, Where
from ringfence.wire.api import FileChange

MOST_LOOKED = 500
"""Versions to look through for who made a file; one that is older stands there without a name."""
_PAGE = 20
"""Versions read at once: each holds the text of all of its files."""


def file_changes(view: View, files: Mapping[str, str]) -> tuple[FileChange, ...]:
    """What becomes of each file that differs; those taken away come first, each kind by name."""
    now = newest(view)
    had = now.files if now is not None else {}
    replaced = {name: text for name, text in had.items() if files.get(name) != text}
    made = _makers(_back(view), replaced)
    removed = (_change(name, "removed", made.get(name)) for name in sorted(replaced.keys() - files.keys()))
    changed = (_change(name, "changed", made.get(name)) for name in sorted(replaced.keys() & files.keys()))
    added = (FileChange(name, "added") for name in sorted(files.keys() - had.keys()))
    return (*removed, *changed, *added)


def newest(view: View) -> PolicyVersion | None:
    """The version in force."""
    return next(iter(view.find(PolicyVersion, order="-number", limit=1)), None)


def _change(name: str, change: Literal["changed", "removed"], made: PolicyVersion | None) -> FileChange:
    if made is None:
        return FileChange(name, change)
    return FileChange(name, change, made.actor, made.at, made.number)


def _back(view: View) -> Iterator[PolicyVersion]:
    """Versions, the newest first."""
    before: tuple[Where, ...] = ()
    while page := view.find(PolicyVersion, *before, order="-number", limit=_PAGE):
        yield from page
        before = (Where("number", page[-1].number, "<"),)


def _makers(versions: Iterable[PolicyVersion], texts: Mapping[str, str]) -> dict[str, PolicyVersion]:
    """The version since which each file says what it says, unless it is older than what is looked through."""
    since: dict[str, PolicyVersion] = {}
    same = dict(texts)
    for version in islice(versions, MOST_LOOKED):
        same = {name: text for name, text in same.items() if version.files.get(name) == text}
        since |= dict.fromkeys(same, version)
        if not same:
            break
    return {name: one for name, one in since.items() if name not in same or one.number == 1}
