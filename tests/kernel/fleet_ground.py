"""A small estate with a controller and agents, and questions to real packets."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from ringfence.lab.description import parse_world
from ringfence.lab.fleet import Fleet, Prober
from ringfence.lab.probing import Aim, Kind
from ringfence.lab.world import World

WEB, STORE, TIME, ADMIN = 80, 5432, 123, 22
ESTATE = """\
lab: small
networks:
  one: [10.9.0.0/24]
  two: [10.9.1.0/24]
services:
  web: {port: tcp/80, speaks: greeting}
  store: {port: tcp/5432, speaks: greeting}
  admin: {port: tcp/22, speaks: greeting}
  time: {port: udp/123, speaks: echo}
hosts:
  - {name: web, addresses: [10.9.0.2], labels: {app: shop, role: web}, services: [web, admin]}
  - {name: laptop, addresses: [10.9.0.3], labels: {app: shop, role: laptop}, services: [admin]}
  - {name: late, addresses: [10.9.0.4], labels: {app: shop, role: web}, services: [admin]}
  - {name: old, addresses: [10.9.0.5], labels: {app: shop, role: web}, services: [admin]}
  - {name: heir, addresses: [10.9.0.6], labels: {app: shop, role: guest}, services: [admin]}
  - {name: db, addresses: [10.9.1.2], labels: {app: shop, role: db}, services: [store, admin, time]}
"""
SHOP = """\
policy: shop
scope: app=shop
segments: {web: role=web, db: role=db}
rules:
  - allow: {from: web, to: db, service: tcp/5432}
  - allow: {from: web, to: db, service: udp/123}
"""


def estate() -> World:
    return parse_world(ESTATE)


def aim(fleet: Fleet, target: str, port: int, kind: Kind = "tcp", **more: object) -> Aim:
    return Aim(kind, fleet.addresses(target)[0], port, **more)  # type: ignore[arg-type]


class Way:
    """One thing to try from one host, over and over."""

    def __init__(self, fleet: Fleet, host: str, aim: Aim) -> None:
        self._prober: Prober = fleet.probe(host, [aim])
        self.began = time.monotonic()

    def became(self, passes: bool, *, within_s: float = 30.0) -> float:
        """Wait until an attempt that begins from now on comes out like that; how long it took, in seconds."""
        since = time.monotonic()
        while True:
            for outcome in self._prober.take():
                if outcome.began >= since and outcome.passed == passes:
                    return outcome.ended - since
            assert time.monotonic() < since + within_s, f"it did not come to {'pass' if passes else 'be blocked'}"
            time.sleep(0.01)

    def outcomes(self, seconds: float) -> list[bool]:
        """What becomes of the attempts of so long from now."""
        self._prober.take()
        time.sleep(seconds)
        return [outcome.passed for outcome in self._prober.take()]

    def all_since(self) -> list[bool]:
        """Of every attempt since this was last asked."""
        return [outcome.passed for outcome in self._prober.take()]

    def close(self) -> None:
        self._prober.close()

    def __enter__(self) -> Way:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def eventually(holds: Callable[[], object], *, within_s: float = 30.0) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, "it did not come to hold"
        time.sleep(0.02)


def last_words(folder: Path) -> str:
    """The ends of the logs, for a test that failed."""
    logs = [*folder.glob("*.log"), *folder.glob("agents/*.log")]
    return "\n".join(f"==> {log.name}\n{log.read_text()[-2000:]}" for log in logs)
