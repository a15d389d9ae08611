"""What is told of a rollout stays small however many hosts wait."""

from __future__ import annotations

import msgspec

from ringfence.controller.desired.rollout import Progress, Standing
from ringfence.controller.publishing.applying import FEW_LAGGARDS, MOST_LAGGARDS, rollout_view


def of_ten_thousand() -> Progress:
    """All but a tenth never heard of; two failed, and come last by name."""
    silent = [Standing(f"{n:032}", f"host-{n:05}", "offline", "never heard") for n in range(9000)]
    good = [Standing(f"{n:032}", f"host-{n:05}", "confirmed") for n in range(9000, 9998)]
    failed = (Standing("x" * 32, "zoe", "refused", "no"), Standing("y" * 32, "zed", "reverted", "no"))
    return Progress(3, "spreading", (*silent, *good, *failed))


def test_the_first_are_those_that_call_for_somebody() -> None:
    """What failed is listed first, the rest is counted, and nothing is lost between the two."""
    told = rollout_view(of_ten_thousand())
    assert [one.name for one in told.laggards[:3]] == ["zed", "zoe", "host-00000"]
    assert (len(told.laggards), told.more_laggards) == (FEW_LAGGARDS, 9002 - FEW_LAGGARDS)
    assert told.behind == {"reverted": 1, "refused": 1, "offline": 9000}
    assert (told.total, told.confirmed) == (10_000, 998)


def test_what_is_asked_for_every_few_seconds_is_small() -> None:
    """A status has a page of hosts at most, whatever the fleet; who asks for the rollout gets more of them."""
    assert len(msgspec.json.encode(rollout_view(of_ten_thousand()))) < 4096
    assert len(rollout_view(of_ten_thousand(), most=MOST_LAGGARDS).laggards) == MOST_LAGGARDS
