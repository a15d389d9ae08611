"""The kernel's tests share the scripted controller of `tests/agent`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "agent"))
