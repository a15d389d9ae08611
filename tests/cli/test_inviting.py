"""An invitation: what is asked for in words, and what is told of what was made."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from msgspec import UNSET, UnsetType

from ringfence.cli.inviting import granted_words, invitation_of
from ringfence.core.errors import InputError
from ringfence.wire.api import Invite, Invited

NOW = datetime(2026, 3, 3, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("uses", "lasts", "limit", "end"),
    [
        (None, None, UNSET, UNSET),
        ("20", "7d", 20, NOW + 7 * DAY),
        ("any", None, None, UNSET),
        (None, "ever", UNSET, None),
    ],
)
def test_what_is_not_said_is_not_sent(
    uses: str | None, lasts: str | None, limit: int | UnsetType | None, end: datetime | UnsetType | None
) -> None:
    """INVARIANT: no limit only by a word; what is not said is the controller's to say."""
    assert invitation_of("web", uses, lasts, now=NOW) == Invite("web", limit, end)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (Invited("t", 1, NOW + DAY), "good for 1 host, until 2026-03-04 00:00:00Z"),
        (Invited("t", 20, None), "good for 20 hosts, until it is revoked"),
        (Invited("t", None, NOW), "good for any number of hosts, until 2026-03-03"),
    ],
)
def test_what_was_made_is_told(made: Invited, said: str) -> None:
    """Hosts and time, or that there is no limit."""
    assert granted_words(made).startswith(said)


@pytest.mark.parametrize("uses", ["0", "-1", "none", "", "²"])
def test_uses_that_are_none_are_refused(uses: str) -> None:
    """Nothing but a number or `any` is a limit."""
    with pytest.raises(InputError) as refused:
        invitation_of("web", uses, None, now=NOW)
    assert refused.value.code == "bad-grant"
