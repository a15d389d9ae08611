"""The house: what the repository promises about its own shape."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ringfence import catalog

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src/ringfence").rglob("*.py"))

PLANTED = {
    "the core does I/O": ("core/net/planted.py", "import socket\n"),
    "the core imports an adapter": ("core/engine/planted.py", "import ringfence.targets\n"),
    "a lower room imports a higher one": ("core/labels/planted.py", "import ringfence.core.policy\n"),
    "the oracle borrows from the engine": ("core/decide.py", "import ringfence.core.engine.bits\n"),
    "adapters know each other": ("flows/planted.py", "import ringfence.targets\n"),
    "an adapter knows the command line": ("stores/planted.py", "import ringfence.cli\n"),
}


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    program = (
        "import sys; sys.path.insert(0, 'src'); from importlinter.cli import lint_imports; "
        "sys.exit(lint_imports(no_cache=True))"
    )
    return subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("house")
    shutil.copy(ROOT / "pyproject.toml", root)
    shutil.copytree(ROOT / "src", root / "src", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    return root


def test_the_import_contracts_hold(copy: Path) -> None:
    """The house as it stands keeps every import contract."""
    result = lint_imports(copy)

    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("why", PLANTED)
def test_a_planted_violation_breaks_a_contract(copy: Path, why: str) -> None:
    """The contracts bite: each kind of violation, planted, is found."""
    name, line = PLANTED[why]
    path = copy / "src/ringfence" / name
    before = path.read_text() if path.exists() else None
    path.write_text((before or "") + line)
    try:
        result = lint_imports(copy)
    finally:
        if before is None:
            path.unlink()
        else:
            path.write_text(before)

    assert result.returncode != 0, f"{why}: not noticed\n{result.stdout}"
    assert "BROKEN" in result.stdout


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT / "src")))
def test_every_module_opens_with_its_purpose(path: Path) -> None:
    """A module starts with a docstring that is not the licence."""
    docstring = ast.get_docstring(ast.parse(path.read_text()))

    assert docstring, "no docstring"
    assert "Licen" not in docstring.splitlines()[0]


@pytest.mark.parametrize(
    ("table", "name"),
    [(table, name) for table in (catalog.TARGETS, catalog.FLOW_SOURCES, catalog.FLOW_STORES) for name in table],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_entry_of_the_catalog_loads(table: object, name: str) -> None:
    """Nothing in the registration table is missing or broken."""
    assert catalog.load(table, name) is not None  # type: ignore[arg-type]


def test_nothing_is_left_for_later() -> None:
    """No unfinished work is marked in the sources."""
    marks = ("TO" + "DO", "FIX" + "ME", "XX" + "X")
    found = [f"{p.relative_to(ROOT)}: {mark}" for p in SOURCES for mark in marks if mark in p.read_text()]

    assert not found
