"""How a command ends: the exit codes scripts rely on."""

from __future__ import annotations

CLEAN, FINDINGS, BAD_INPUT, UNREACHABLE = 0, 1, 2, 3
"""Done and clean; something was found; usage or bad input; could not reach or apply."""
