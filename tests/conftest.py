"""What holds for every test."""

from __future__ import annotations

import gc


def pytest_unconfigure() -> None:
    """Let go of Hypothesis's collector callback: it keeps modules alive past the interpreter's end, where DuckDB's
    binding takes them for leaks and says so."""
    gc.callbacks[:] = [callback for callback in gc.callbacks if not callback.__module__.startswith("hypothesis.")]
