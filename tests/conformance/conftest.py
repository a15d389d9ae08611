"""The case files and the generator of worlds lie beside this folder, and are imported from there."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
