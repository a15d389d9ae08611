"""How much anybody may ask: a bucket of requests for each credential that is good, and for each address without one.

A bucket holds `burst` requests and is filled at `rate` a second; an empty one is answered with 429 and when to come
back. Requests that are not recognised count against the address, so that guessing is slow for the guesser and for
nobody behind the same address who has a token or a session.

INVARIANT: what is remembered is bounded: the buckets that were not used for longest are forgotten, and a forgotten
bucket is a full one. An IPv6 address counts as its /64, which one host has.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable

from ringfence.controller.access.rates import Rates
from ringfence.controller.pacing import Bucket, Refill
from ringfence.core.errors import RingfenceError
from ringfence.core.net.address import is_v4, parse_address

_MOST = 20_000
_V6_HOST_BITS = 64


class TooMany(RingfenceError):
    """Somebody asks too much at once."""

    def __init__(self, wait_s: float) -> None:
        seconds = max(1, int(wait_s + 0.999))
        super().__init__("too-many-requests", "too many requests at once", help=f"try again in {seconds} s")
        self.wait_s = seconds


class Buckets:
    """One for each key; `rate` 0: no limit."""

    def __init__(self, rate: float, burst: int, clock: Callable[[], float], most: int = _MOST) -> None:
        self._refill, self._clock, self._most = Refill(rate, burst), clock, most
        self._buckets: OrderedDict[bytes, Bucket] = OrderedDict()

    def left(self, key: bytes) -> float:
        """Requests it still holds."""
        return self._refill.left(self._buckets.get(key), self._clock())

    def take(self, key: bytes) -> None:
        """One request. Raises TooMany: it holds none."""
        if not self._refill.per_s:
            return
        left = self.left(key)
        if left < 1:
            raise TooMany((1 - left) / self._refill.per_s)
        self._buckets[key] = Bucket(left - 1, self._clock())
        self._buckets.move_to_end(key)
        while len(self._buckets) > self._most:
            self._buckets.popitem(last=False)

    def demand(self, key: bytes) -> None:
        """Raises TooMany: it holds no request. None is taken."""
        if self._refill.per_s and (left := self.left(key)) < 1:
            raise TooMany((1 - left) / self._refill.per_s)

    def knows(self, key: bytes) -> bool:
        """Whether it was used lately."""
        return key in self._buckets


class Limits:
    """The limits of one controller."""

    def __init__(self, said: Rates, clock: Callable[[], float] = time.monotonic) -> None:
        self._known = Buckets(said.requests_s, said.burst, clock)
        self._strangers = Buckets(said.strangers_s, said.strangers_burst, clock)
        self._hosts = Buckets(said.hosts_s, said.hosts_burst, clock)

    def before(self, credential: str, address: str) -> None:
        """Before a credential is looked at. Raises TooMany: it is none that was good lately, and the address guessed
        too often."""
        if not self._known.knows(_digest(credential)):
            self._strangers.demand(_place(address))

    def good(self, credential: str) -> None:
        """A request with a credential that is good. Raises TooMany."""
        self._known.take(_digest(credential))

    def stranger(self, address: str) -> None:
        """A request of nobody in particular. Raises TooMany."""
        self._strangers.take(_place(address))

    def host(self, address: str) -> None:
        """A request of a host that joins or renews; many may share an address. Raises TooMany."""
        self._hosts.take(_place(address))


def _digest(credential: str) -> bytes:
    return hashlib.sha256(credential.encode(errors="surrogateescape")).digest()


def _place(address: str) -> bytes:
    try:
        number = parse_address(address)
    except ValueError:
        return b""
    return (number if is_v4(number) else number >> _V6_HOST_BITS << _V6_HOST_BITS).to_bytes(16, "big")
