"""Other versions of Ringfence, to run beside this one: this source, changed as a later version might change it.

next    one minor version on: a field more in an assignment, in a heartbeat and in what is on the agent's disk, each
        left out while nobody uses it; `use` says that the controller does
far     another protocol: nothing that it says is understood here, and nothing of ours there
"""

from __future__ import annotations

import shutil
from pathlib import Path

import ringfence

SOURCE = Path(ringfence.__file__).parent
NEXT, FAR = "0.2.0", "2.0.0"
LAST = '    """In order of time. INVARIANT: the last one holds for ever after, so it grants nothing that ends."""\n'
SCHEDULED = "            schedule,\n        )\n"
_SKIP = shutil.ignore_patterns("__pycache__", "web", "lab/recorded")


def next_version(folder: Path) -> Path:
    """A folder for PYTHONPATH."""
    tree = _copy(folder, NEXT)
    _edit(tree / "wire/messages.py", LAST, f"{LAST}    pace: int = 0\n")
    _edit(
        tree / "wire/messages.py", "    is_blind: bool = False\n", '    kernel: str = ""\n    is_blind: bool = False\n'
    )
    _edit(tree / "agent/run.py", "version=__version__,", "version=__version__, kernel='6.18',")
    pace = 'int((__import__("pathlib").Path(__file__).with_name("pace")).read_text())'
    _edit(
        tree / "controller/desired/desired.py",
        SCHEDULED,
        f"            schedule,\n            pace={pace},\n        )\n",
    )
    use(folder, is_used=False)
    return folder


def use(folder: Path, *, is_used: bool) -> None:
    """Whether a controller of the next version says, from its next start, what this version does not know."""
    (folder / "ringfence/controller/desired/pace").write_text("7" if is_used else "0")


def far_version(folder: Path) -> Path:
    tree = _copy(folder, FAR)
    _edit(tree / "wire/envelope.py", "PROTOCOL: Final = 1\n", "PROTOCOL: Final = 2\n")
    return folder


def _copy(folder: Path, version: str) -> Path:
    tree = folder / "ringfence"
    shutil.copytree(SOURCE, tree, ignore=_SKIP)
    _edit(tree / "__init__.py", f'__version__ = "{ringfence.__version__}"', f'__version__ = "{version}"')
    return tree


def _edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1, f"{path}: {old!r} is there {text.count(old)} times"
    path.write_text(text.replace(old, new))
