"""An agent that is removed says so: real processes, a real bus, a real kernel."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from fleet_ground import ADMIN, STORE, Way, aim, estate, eventually, last_words

from ringfence.lab.fleet import Fleet

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs root on Linux"),
]


@pytest.fixture
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("farewell")
    with Fleet.up(estate(), folder=folder) as made:
        yield made
    print(last_words(folder))


def test_uninstalling_is_told_before_anything_is_removed(fleet: Fleet) -> None:
    """One whose agent runs and one whose agent was killed: an alert with who, why and what is left, an audit entry, and
    nobody believes any more what the host had said; what is left is what the word says."""
    uuids = {name: fleet.join(name) for name in ("web", "db")}
    fleet.settle()
    for name, how in {"db": "open", "web": "enforced"}.items():
        if how == "enforced":
            fleet.kill_agent(name)
        said = fleet.command(name, "uninstall", "--leave", how, "--why", "ticket 4711")
        assert f"the host is left {how}" in said
        eventually(lambda name=name: _alerts(fleet, name))
        (message,) = _alerts(fleet, name)
        assert all(words in message for words in (f"leaves it {how}", "by root", "why: ticket 4711")), message
        eventually(lambda name=name: ("agent.uninstall", uuids[name]) in fleet.check_audit().actions)
        host = fleet.look(proves=False).host(name)
        assert host is not None
        assert host.realised is not None
        assert host.realised.state == "unreachable"
        assert f"left it {how}" in host.realised.problems[0]
    assert not fleet.check_audit().problem
    with (
        Way(fleet, "laptop", aim(fleet, "db", ADMIN)) as opened,
        Way(fleet, "laptop", aim(fleet, "web", ADMIN)) as kept,
    ):
        opened.became(True)
        assert not any(kept.outcomes(0.5))
    with Way(fleet, "laptop", aim(fleet, "db", STORE)) as way:
        way.became(True)


def test_nobody_who_listens_keeps_nobody_from_uninstalling(fleet: Fleet) -> None:
    """The controller and its bus are gone: it says that they were not told, and goes on."""
    fleet.join("db")
    fleet.settle()
    fleet.kill_bus()
    fleet.stop_controller()
    argv = fleet._agent("db", "uninstall", "--leave", "open")
    done = fleet.lab.command("db", *argv)
    assert "the controller was not told" in done.stderr
    assert "the host is left open" in done.stdout
    assert "ringfence" not in fleet.lab.command("db", "nft", "list", "tables").stdout


def _alerts(fleet: Fleet, host: str) -> list[str]:
    return [a.message for a in fleet.look(proves=False).alerts if (a.kind, a.subject) == ("uninstalled", host)]
