"""How a command ends: the exit codes scripts rely on."""

from __future__ import annotations

CLEAN, FINDINGS, BAD_INPUT, UNREACHABLE = 0, 1, 2, 3
"""Done and clean; something was found; usage or bad input; could not reach or apply."""
INTERRUPTED = 130
"""Ctrl-C, as shells tell it: 128 and the number of SIGINT."""
INTERRUPTED_WORDS = "interrupted: what a controller was asked before may be done all the same"
