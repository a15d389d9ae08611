"""Dates of policy on hosts whose clocks somebody sets, with real packets."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fleet_ground import STORE, Way, aim, estate

from ringfence.lab.fleet import Fleet

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs root on Linux"),
]
DAYS = 86400.0
UNTIL = """\
policy: shop
scope: app=shop
segments: {web: role=web, db: role=db}
rules:
  - allow: {from: web, to: db, service: tcp/5432}
    until: %s
"""


def test_a_clock_that_steps_back_reopens_nothing_until_the_controller_says_the_time(tmp_path: Path) -> None:
    """A host whose clock is set ahead closes what has ended by then. Set back while cut off, it stays closed, also
    over a reboot; once the controller is heard again, its word for the time opens what has not ended yet."""
    with Fleet.up(estate(), folder=tmp_path) as fleet:
        fleet.step_clock("db", 0.0)
        for name in ("web", "db"):
            fleet.join(name)
        fleet.publish({"shop.yaml": UNTIL % (datetime.now(UTC) + timedelta(days=2)).date()})
        fleet.settle()
        with Way(fleet, "web", aim(fleet, "db", STORE)) as way:
            way.became(True)
            fleet.partition("db")
            fleet.step_clock("db", 4 * DAYS)
            way.became(False)
            fleet.step_clock("db", 0.0)
            assert not any(way.outcomes(2.0))
            fleet.reboot("db")
            assert not any(way.outcomes(2.0))
            fleet.heal()
            way.became(True, within_s=60.0)
        fleet.settle()
