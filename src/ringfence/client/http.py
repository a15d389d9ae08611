"""httpx without its own command line: that would load rich and pygments, a third of a second for nothing."""

from __future__ import annotations

import sys

sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]  # before the import, or it is too late

import httpx as httpx  # noqa: E402 (above)
