"""What an estate begins with: inventory files, flow logs, the demo. Each planned or followed before it counts."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec

from ringfence.core.errors import Finding
from ringfence.wire.api import Asked, DiffView, Text

MOST_UPLOAD_BYTES = 2 << 30
MOST_ARCHIVED = 1000
"""Files in one upload."""

# ---- what there is to begin with ------------------------------------------------------------------------------------


class ImportInventory(Asked, frozen=True):
    """An inventory file: planned first, then applied by the digest of what was shown."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    """Of the file: its suffix tells the format (`.csv`, `.tsv`, `.json`, `.yaml`)."""
    text: str
    apply: Annotated[str, msgspec.Meta(max_length=64)] = ""
    """The digest of the plan that is to be applied; empty: only plan."""
    accept_failing: bool = False
    """Go on although tests that hold now would not."""
    why: Text = ""


class LabelChange(msgspec.Struct, frozen=True):
    """A workload that gets other labels."""

    name: str
    before: dict[str, str]
    after: dict[str, str]


class InventoryPlanned(msgspec.Struct, frozen=True):
    """What an inventory file would do. Nobody is removed by it."""

    digest: str
    new: tuple[str, ...]
    """Names, the first of them."""
    new_count: int
    relabelled: tuple[LabelChange, ...]
    relabelled_count: int
    readdressed: int
    """Workloads of earlier files that get other addresses; those of agents keep what the agent says."""
    unchanged: int
    findings: tuple[Finding, ...]
    """Of the file; addresses with two holders; tests that hold now and would not."""
    diff: DiffView
    """What new labels open and close."""
    is_applied: bool


class JobFile(msgspec.Struct, frozen=True):
    """One file of an upload."""

    name: str
    state: Literal["running", "imported", "already-imported", "refused"]
    records: int = 0
    malformed: int = 0


class Job(msgspec.Struct, frozen=True):
    """Work that takes a while."""

    id: str
    kind: Literal["flows-import"]
    state: Literal["running", "done", "failed"]
    by: str
    started: datetime
    finished: datetime | None = None
    done_bytes: int = 0
    total_bytes: int = 0
    records: int = 0
    connections: int = 0
    malformed: int = 0
    findings: tuple[Finding, ...] = ()
    files: tuple[JobFile, ...] = ()
    """Read together: two reports of one connection count once."""

    @property
    def is_done(self) -> bool:
        """However it ended."""
        return self.state != "running"


class LoadDemo(Asked, frozen=True):
    """Which recorded estate."""

    estate: Literal["shop"]


class DemoLoaded(msgspec.Struct, frozen=True):
    """The recorded estate, now here."""

    workloads: int
    conversations: int
    """Rows of traffic, its times moved so that the last of it was just now."""
