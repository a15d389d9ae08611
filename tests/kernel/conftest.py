"""The kernel's tests share the scripted controller of `tests/agent`, and the browser of `tests/web`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path += [str(Path(__file__).parents[1] / folder) for folder in ("agent", "web")]
