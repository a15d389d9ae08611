"""What holds for every test."""

from __future__ import annotations

import gc
import signal
from typing import Final

import pytest

LONGEST: Final = (
    "test_fleet.py", "test_looks.py", "test_nftables_with_packets.py", "test_lab_demo.py", "test_web_journey.py",
    "test_chaos.py", "test_nftables_in_kernel.py", "test_desired.py", "test_schemathesis.py", "test_as_a_process.py",
    "test_lab.py", "test_agent.py", "test_agent_packages.py", "test_nftables_lasting.py", "test_fleet_clock.py",
    "test_journeys.py", "test_policies.py", "test_deciding.py", "test_map_screen.py", "test_sql_state.py",
    "test_docs.py", "test_access_oidc.py", "test_merge.py", "test_archive.py", "test_versions.py", "test_who_may.py",
)  # fmt: skip
"""Files that take long, longest first: each is one worker's, and one that begins late is waited for alone."""


def pytest_configure() -> None:
    """A shell that runs the tests in its background has them ignore SIGINT, and with them all that they start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order files for `--dist loadfile`; within a file nothing moves."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(LONGEST)))


def pytest_unconfigure() -> None:
    """Let go of Hypothesis's collector callback: it keeps modules alive past the interpreter's end, where DuckDB's
    binding takes them for leaks and says so."""
    gc.callbacks[:] = [callback for callback in gc.callbacks if not callback.__module__.startswith("hypothesis.")]
