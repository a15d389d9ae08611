"""Share the random intents with the kernel tests: the same ones are judged on paper here and by packets there."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "kernel"))
