"""The case files, the generator of worlds and worlds by hand lie beside this folder, and are imported from there."""

import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS / "core")]
