"""How many requests the API takes: `[limits]` of `controller.toml`."""

from __future__ import annotations

from typing import Annotated

import msgspec

_Rate = Annotated[float, msgspec.Meta(ge=0, le=1_000_000)]
_Burst = Annotated[int, msgspec.Meta(ge=1, le=10_000_000)]


class Rates(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Requests a second, and at once after a pause. A rate of 0: no limit."""

    requests_s: _Rate = 500
    """Of one token or session."""
    burst: _Burst = 2_000
    strangers_s: _Rate = 20
    """Of one address, without a token or session that is good."""
    strangers_burst: _Burst = 400
    hosts_s: _Rate = 200
    """Of hosts that join or renew from one address."""
    hosts_burst: _Burst = 4_000
