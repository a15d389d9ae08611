"""A flow source: one format of flow records, decoded to canonical batches.

INVARIANT: a source is told by content, never by file name; it counts every line in the tally it is given; it holds no
state between files, so several threads may use one source at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from ringfence.core.flow.record import FlowBatch
from ringfence.core.flow.tally import Tally


class FlowInput(Protocol):
    """One file to read: by blocks of its decompressed content, or in place by a format that needs to seek."""

    @property
    def path(self) -> Path:
        """The file as stored (compressed, if it is)."""

    def blocks(self) -> Iterator[bytes]:
        """The content, decompressed, in blocks of any size above 0. Raises DamagedInput where it ends early."""

    def advanced(self, size_bytes: int) -> None:
        """For a format read in place: that many stored bytes are dealt with."""


class DamagedInput(Exception):
    """Compressed input that ends early or cannot be decompressed further; what came before it is good."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


class FlowSource(Protocol):
    """One format."""

    @property
    def name(self) -> str:
        """What a report calls the format."""

    def sniff(self, head: bytes, name: str) -> bool:
        """Whether content beginning with `head` (decompressed, to 64 KiB) is of this format; `name` is for messages."""

    def batches(self, content: FlowInput, tally: Tally) -> Iterator[FlowBatch]:
        """The records, counted in `tally`. Raises InputError for content that cannot be read at all."""
