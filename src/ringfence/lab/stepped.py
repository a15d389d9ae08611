"""A host's agent whose wall clock is off by what a file says, as if somebody had set the clock of that host alone.

    python -m ringfence.lab.stepped FILE WORDS...       is `ringfence-agent WORDS...`

All namespaces of a machine share one wall clock, so a lab cannot step it for one of its hosts. INVARIANT: the product
has no such switch; it is put on from here, in the lab's process of the agent only.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from ringfence.agent import main as agent_main
from ringfence.agent.clock import Clock


def offset_s(file: Path) -> float:
    """0 where nobody stepped the clock."""
    try:
        return float(file.read_text())
    except FileNotFoundError:
        return 0.0


def main() -> int:
    file, *words = sys.argv[1:]
    place = Path(file)

    def stepped_s(self: Clock) -> float:
        return time.time() + offset_s(place)

    Clock.wall_s = stepped_s  # type: ignore[method-assign]
    return agent_main.main(words)


if __name__ == "__main__":
    sys.exit(main())
