"""Controller and agents of two versions, each a process of its own, while packets are judged all the time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from fleet_ground import ADMIN, SHOP, STORE, TIME, Way, aim, estate, last_words
from fleet_ground import eventually as soon
from other_versions import FAR, NEXT, far_version, next_version, use

from ringfence import __version__
from ringfence.core.errors import RingfenceError
from ringfence.lab.fleet import CONTROLLER, Fleet

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs root on Linux"),
]
PATIENCE_S = 120.0
HOSTS = ("web", "laptop", "db")
WITHOUT_TIME = SHOP.replace("  - allow: {from: web, to: db, service: udp/123}\n", "")


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("versions")
    with Fleet.up(estate(), folder=folder) as fleet:
        for name in HOSTS:
            fleet.join(name)
        yield fleet
    print(last_words(folder))


@pytest.fixture(scope="module")
def later(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return next_version(tmp_path_factory.mktemp("next"))


@pytest.fixture
def fleet(up: Fleet, later: Path) -> Fleet:
    """Everything of this version, under the first policy."""
    use(later, is_used=False)
    if up.runs_from(CONTROLLER) is not None:
        restart_controller(up, None)
    for name in HOSTS:
        if up.runs_from(name) is not None:
            restart(up, name, None)
    eventually(lambda: {version_of(up, name) for name in HOSTS} == {__version__})
    if up.policy != {"shop.yaml": SHOP}:
        up.publish({"shop.yaml": SHOP})
    settle(up)
    return up


def eventually(holds: Callable[[], object]) -> None:
    soon(holds, within_s=PATIENCE_S)


def settle(fleet: Fleet) -> None:
    fleet.settle(within_s=PATIENCE_S)


class Watch:
    """What passes always, and what never does, from now on."""

    def __init__(self, stack: ExitStack, fleet: Fleet) -> None:
        def way(host: str, port: int) -> Way:
            return stack.enter_context(Way(fleet, host, aim(fleet, "db", port)))

        self.open, self.closed = way("web", STORE), (way("laptop", STORE), way("web", ADMIN), way("laptop", ADMIN))

    def holds(self, *, is_up: bool = True) -> None:
        """Since last asked. `is_up`: whether the hosts were."""
        passed = self.open.all_since()
        assert passed or not is_up, "nothing was tried"
        assert all(passed) or not is_up, f"{passed.count(False)} of {len(passed)} attempts were lost"
        for way in self.closed:
            tried = way.all_since()
            assert tried, "nothing was tried"
            assert not any(tried), f"{tried.count(True)} of {len(tried)} attempts passed that nothing allows"


def restart(fleet: Fleet, name: str, source: Path | None) -> None:
    """As a package manager does: the old one stops, the new one starts."""
    fleet.stop_agent(name)
    fleet.run_from(name, source)
    fleet.start_agent(name)


def restart_controller(fleet: Fleet, source: Path | None) -> None:
    fleet.stop_controller()
    fleet.run_from(CONTROLLER, source)
    fleet.start_controller()


def version_of(fleet: Fleet, name: str) -> str:
    """Of the agent that runs there; empty: none answers."""
    try:
        told = fleet.command(name, "metrics")
    except RingfenceError:
        return ""
    return told.partition('version="')[2].partition('"')[0]


def turn(fleet: Fleet, *, is_open: bool, at: tuple[str, ...] = ("web",)) -> None:
    """Publish, and see it in packets: time is asked for from the hosts that may."""
    fleet.publish({"shop.yaml": SHOP if is_open else WITHOUT_TIME})
    for name in at:
        with Way(fleet, name, aim(fleet, "db", TIME, "udp")) as way:
            way.became(is_open, within_s=PATIENCE_S)


def test_one_minor_version_apart_and_back(fleet: Fleet, later: Path) -> None:
    """Agents first, then the controller, then both back: at every step a new policy arrives, and in none does an
    allowed connection fail or another pass."""
    with ExitStack() as stack:
        watch = Watch(stack, fleet)
        for name in HOSTS:
            restart(fleet, name, later)
        eventually(lambda: {version_of(fleet, name) for name in HOSTS} == {NEXT})
        settle(fleet)
        turn(fleet, is_open=False)
        watch.holds()

        restart(fleet, "web", None)
        restart_controller(fleet, later)
        eventually(lambda: (version_of(fleet, "web"), version_of(fleet, "db")) == (__version__, NEXT))
        settle(fleet)
        turn(fleet, is_open=True)
        watch.holds()

        restart(fleet, "db", None)
        restart_controller(fleet, None)
        eventually(lambda: version_of(fleet, "db") == __version__)
        settle(fleet)
        turn(fleet, is_open=False)
        watch.holds()


def test_what_an_agent_does_not_know_is_refused_and_the_old_holds(fleet: Fleet, later: Path) -> None:
    """A later controller says what this version has no word for: an agent of this version refuses it with a code that
    people are told, and keeps enforcing what it has, through its own downgrade and a reboot. Updated, it follows."""
    for name in HOSTS:
        restart(fleet, name, later)
    eventually(lambda: {version_of(fleet, name) for name in HOSTS} == {NEXT})
    settle(fleet)
    use(later, is_used=True)
    with ExitStack() as stack:
        watch = Watch(stack, fleet)
        restart(fleet, "web", None)
        restart_controller(fleet, later)
        fleet.publish({"shop.yaml": WITHOUT_TIME})
        eventually(lambda: is_settled(fleet, "db") and is_settled(fleet, "laptop"))
        eventually(lambda: "message-not-understood" in told(fleet, "web"))
        assert not is_settled(fleet, "web")
        watch.holds()

        fleet.run_from("db", None)
        fleet.reboot("db")
        watch.open.became(True, within_s=PATIENCE_S)
        watch.holds(is_up=False)
        eventually(lambda: "message-not-understood" in told(fleet, "db"))
        watch.holds()

        for name in ("web", "db"):
            restart(fleet, name, later)
        settle(fleet)
        with Way(fleet, "web", aim(fleet, "db", TIME, "udp")) as way:
            way.became(False, within_s=PATIENCE_S)
        watch.holds()


def test_an_agent_of_another_protocol_keeps_what_it_has(fleet: Fleet, tmp_path: Path) -> None:
    """Too new, or seen from the other side too old: each message is refused with its code, the rules stay; back at a
    version that the controller speaks with, it follows."""
    with ExitStack() as stack:
        watch = Watch(stack, fleet)
        restart(fleet, "db", far_version(tmp_path / "far"))
        eventually(lambda: "message-not-understood" in told(fleet, "db"))
        fleet.publish({"shop.yaml": WITHOUT_TIME})
        eventually(lambda: version_of(fleet, "db") == FAR)
        watch.holds()
        restart(fleet, "db", None)
        settle(fleet)
        watch.holds()


def is_settled(fleet: Fleet, name: str) -> bool:
    found = fleet.look().host(name)
    return found is not None and found.is_settled


def told(fleet: Fleet, name: str) -> str:
    """What people are told of a host."""
    return " ".join(
        f"{one.kind} {one.message} {one.details}" for one in fleet.look(proves=False).alerts if one.subject == name
    )
