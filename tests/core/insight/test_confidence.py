"""Estimates of what was not seen, against known values and against simulated truth."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from ringfence.core.insight.confidence import assess, calendar_of, chao2, extrapolate, good_turing

HOUR, DAY = 3600, 86_400


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def every_hour(first: str, days: int) -> np.ndarray:
    return at(first) + np.arange(days * 24, dtype=np.int64) * HOUR


class TestEstimators:
    """The formulas."""

    def test_chao2(self) -> None:
        """Chao 2 as published: (m-1)/m * Q1^2 / (2 Q2), and its bias-corrected form where Q2 is 0."""
        assert chao2(10, 5, 100) == pytest.approx(0.99 * 100 / 10)
        assert chao2(4, 0, 10) == pytest.approx(0.9 * 4 * 3 / 2)
        assert chao2(0, 0, 10) == 0

    def test_extrapolation_is_bounded(self) -> None:
        """New species in the days ahead grow with the days, and never exceed the estimate of all unseen ones."""
        ahead = [extrapolate(10, 20.0, 30, ahead=n) for n in (1, 7, 30, 10_000)]
        assert ahead == sorted(ahead)
        assert ahead[-1] == pytest.approx(20.0)
        assert extrapolate(0, 0.0, 30, ahead=7) == 0

    @pytest.mark.parametrize("seed", range(5))
    def test_against_truth(self, seed: int) -> None:
        """Where needs of known rates are drawn, the estimate of new needs next week is near what next week brings."""
        rng = np.random.default_rng(seed)
        rate = rng.beta(0.3, 3, size=2000)
        days = rng.random((2000, 37)) < rate[:, None]
        seen = days[:, :30].sum(axis=1)
        new = int((days[:, 30:].any(axis=1) & (seen == 0)).sum())
        once, twice = int((seen == 1).sum()), int((seen == 2).sum())
        guess = extrapolate(once, chao2(once, twice, 30), 30, ahead=7)
        assert guess == pytest.approx(new, rel=0.45)
        share = float((days[:, 30:] & (seen == 0)[:, None]).sum() / days[:, 30:].sum())
        assert good_turing(once, twice, int(seen.sum()), 30) == pytest.approx(share, abs=0.02)


class TestCalendar:
    """What part of the calendar was watched."""

    def test_a_month(self) -> None:
        """A whole month is every hour of the week, its nights and weekends, and the turns at both ends."""
        calendar = calendar_of(every_hour("2026-09-01", 30))
        assert (calendar.days, calendar.week_hours, calendar.weekends, calendar.month_ends) == (30, 168, 4, 2)
        assert calendar.nights == 31
        assert calendar.next_month_end == datetime(2026, 11, 2, tzinfo=UTC)

    def test_office_hours(self) -> None:
        """Two weeks of office hours saw no night, no weekend and a quarter of the week."""
        hours = every_hour("2026-09-07", 14)
        of_day, weekday = hours // HOUR % 24, (hours // DAY + 3) % 7
        calendar = calendar_of(hours[(of_day >= 8) & (of_day < 18) & (weekday < 5)])
        assert (calendar.days, calendar.week_hours, calendar.nights, calendar.weekends) == (10, 50, 0, 0)
        assert calendar.month_ends == 0

    def test_december(self) -> None:
        """The turn of the year is a turn of the month."""
        calendar = calendar_of(every_hour("2026-12-30", 2))
        assert (calendar.month_ends, calendar.next_month_end) == (1, datetime(2027, 2, 2, tzinfo=UTC))

    def test_nothing(self) -> None:
        """An empty watch has an empty calendar."""
        assert calendar_of(np.zeros(0, np.int64)).days == 0


class TestVerdict:
    """Ready, or not yet and why."""

    def daily(self, days: int, needs: int = 20) -> tuple[np.ndarray, np.ndarray]:
        hours = every_hour("2026-09-01", days)
        return np.repeat(np.arange(needs), len(hours)), np.tile(hours, needs)

    def test_ready(self) -> None:
        """A month in which every need was met every day is ready."""
        need, hour = self.daily(30)
        found = assess("x", need, hour, calendar_of(hour))
        assert (found.verdict, found.why_not, found.false_blocks_a_week, found.needs) == ("ready", (), 0.0, 20)

    def test_too_short(self) -> None:
        """Three days are too few, and it says how many more."""
        need, hour = self.daily(3)
        found = assess("x", need, hour, calendar_of(hour))
        assert found.verdict == "not yet"
        assert "watch 11 more days" in found.next_steps

    def test_still_growing(self) -> None:
        """Where every day brought a need of its own, more are expected next week than may be."""
        need, hour = self.daily(30)
        once = every_hour("2026-09-01", 30)[::24]
        found = assess(
            "x", np.concatenate([need, 100 + np.arange(30)]), np.concatenate([hour, once]), calendar_of(hour)
        )
        assert found.once == 30
        assert found.false_blocks_a_week == pytest.approx(7, abs=1)
        assert found.verdict == "not yet"

    def test_known_gaps(self) -> None:
        """Connections that are already known to be uncovered stand in the way first of all."""
        need, hour = self.daily(30)
        found = assess("x", need, hour, calendar_of(hour), blocked_now=3)
        assert found.why_not == ("3 connections seen are not covered",)

    def test_every_reason_has_a_step(self) -> None:
        """Whatever is not ready says what would make it so."""
        need, hour = self.daily(2)
        found = assess("x", need, hour, calendar_of(hour), blocked_now=1)
        assert len(found.why_not) == len(found.next_steps) >= 3
