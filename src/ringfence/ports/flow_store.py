"""A flow store: conversations kept, found again by time and end, and forgotten by age and size.

INVARIANT: what `append` returned from is kept, whatever happens to the process next; a file is added once, however
often it is given.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

import msgspec

from ringfence.core.flow.conversations import Conversations
from ringfence.core.flow.programs import Programs
from ringfence.core.flow.series import Series
from ringfence.core.flow.tally import FileReport


class Totals(msgspec.Struct, frozen=True):
    """What a store holds of a span of time."""

    rows: int = 0
    connections: int = 0
    packets: int = 0
    bytes: int = 0
    first: int | None = None
    """Seconds since the epoch; None when nothing is held."""
    last: int | None = None
    by_reported: tuple[int, ...] = (0, 0, 0, 0)
    """Connections by index into `conversations.REPORTED`."""


class Pruned(msgspec.Struct, frozen=True):
    """What was forgotten, and what is left."""

    rows: int = 0
    hours: int = 0
    before: int | None = None
    """Nothing that belongs to an hour before this one is held any more; None when nothing was forgotten."""
    size_bytes: int = 0
    """What the store takes on disk now."""


class Most(msgspec.Struct, frozen=True):
    """What one answer may be, so that no question takes all memory there is."""

    rows: int
    ends: int


class FlowStore(Protocol):
    """Times are seconds since the epoch; a span is half open and covers every hour it touches."""

    @property
    def revision(self) -> int:
        """Grows with every change of what is kept: equal revisions of one open store answer alike."""

    @property
    def most(self) -> Most | None:
        """What `read` answers with at most; None: as much as there is."""

    def append(
        self, conversations: Conversations, files: Sequence[FileReport] = (), programs: Programs | None = None
    ) -> int:
        """Keep the rows, the programs at their ends, and remember the files they came from: all or nothing, durably.

        Returns how many of the connections may be counted already: an earlier import saw the same ends on the same
        service at an overlapping time (the other end's report, or the same one in another file).

        Raises InputError `flows-already-imported` if a file's digest is known.
        """

    def known_files(self, digests: Collection[str]) -> frozenset[str]:
        """Those of the digests that were imported before."""

    def earlier_imports(self, names: Collection[str]) -> dict[str, str]:
        """Of those names that files were imported under before, the digest of the last one."""

    def read(
        self,
        since: int | None = None,
        until: int | None = None,
        *,
        workloads: Collection[str] | None = None,
        addresses: Collection[int] | None = None,
        by_hour: bool = True,
    ) -> Conversations:
        """The rows of the span, equal keys of several imports joined; without `by_hour` those of all hours, too, at the
        first of them.

        `workloads` (UUIDs) and `addresses` keep rows either end of which is one of them; with both, one of either.
        Raises InputError `too-much`: it would be more than `most`. Nothing is ever left out.
        """

    def programs(
        self, since: int | None = None, until: int | None = None, *, workloads: Collection[str], most: int
    ) -> Programs:
        """The programs at the ends of traffic of some workloads (UUIDs), those of all hours together, the busiest
        first, at most so many rows."""

    def totals(self, since: int | None = None, until: int | None = None) -> Totals: ...

    def series(self, since: int | None = None, until: int | None = None) -> Series:
        """Per hour by `reported`."""

    def prune(self, now: int, *, max_days: int | None = None, max_bytes: int | None = None) -> Pruned:
        """Forget whole hours, oldest first: those past `max_days`, then what does not fit `max_bytes` on disk."""

    def close(self) -> None: ...
