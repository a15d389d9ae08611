"""Standard streams that may be closed, full, or somebody's who left."""

from __future__ import annotations

import io
import os
import sys
from typing import Any


def open_streams() -> None:
    """Streams that were closed lead nowhere (nor does a file take their numbers), and what a terminal has no character
    for is shown as a question mark."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - open till the end
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def discard(stream: Any) -> None:
    """From now on what is written to the stream goes nowhere: its reader has left, or it takes no more."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
