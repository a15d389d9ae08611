"""The fleet's tests share the random worlds of `tests/core`, the scripted host of `tests/api` and the databases."""

from __future__ import annotations

import sys
from pathlib import Path

from databases import postgres

sys.path += [str(Path(__file__).parents[1] / folder) for folder in ("core", "api")]

__all__ = ["postgres"]
