"""An invitation lets few in, for a while, unless somebody says more."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ringfence.cli.inviting import granted_words, invitation_of
from ringfence.core.errors import InputError
from ringfence.core.identity.workload import Mode
from ringfence.wire.api import Invite, ProfileView

NOW = datetime(2026, 3, 3, tzinfo=UTC)
DAY = timedelta(days=1)


def profile(uses: int | None = None, expires: datetime | None = None) -> ProfileView:
    return ProfileView("web", {}, Mode.both("observe"), NOW, "ann", uses, expires)


@pytest.mark.parametrize(
    ("uses", "lasts", "of", "limit", "end", "said"),
    [
        (None, None, profile(), 1, NOW + DAY, "good for 1 host, until 2026-03-04 00:00:00Z"),
        (None, None, None, 1, NOW + DAY, "good for 1 host, until 2026-03-04"),
        ("20", "7d", profile(), 20, NOW + 7 * DAY, "good for 20 hosts, until 2026-03-10"),
        ("any", "ever", profile(), None, None, "good for any number of hosts, until it is revoked"),
        (None, None, profile(50, NOW + 9 * DAY), None, None, "good for 50 hosts, until 2026-03-12"),
        ("any", "ever", profile(50, NOW + 9 * DAY), None, None, "good for 50 hosts, until 2026-03-12"),
        (None, None, profile(50), None, NOW + DAY, "good for 50 hosts, until 2026-03-04"),
        ("200", "7d", profile(50, NOW + DAY), 200, NOW + 7 * DAY, "good for 50 hosts, until 2026-03-04"),
    ],
)
def test_what_is_not_said_is_little(
    uses: str | None, lasts: str | None, of: ProfileView | None, limit: int | None, end: datetime | None, said: str
) -> None:
    """INVARIANT: no limit only by a word or by the profile's own; what is told is the tighter of both."""
    asked = invitation_of("web", uses, lasts, of=of, now=NOW)
    assert asked == Invite("web", limit, end)
    assert granted_words(asked, of).startswith(said)


@pytest.mark.parametrize("uses", ["0", "-1", "none", "", "²"])
def test_uses_that_are_none_are_refused(uses: str) -> None:
    """Nothing but a number or `any` is a limit."""
    with pytest.raises(InputError) as refused:
        invitation_of("web", uses, None, of=None, now=NOW)
    assert refused.value.code == "bad-grant"
