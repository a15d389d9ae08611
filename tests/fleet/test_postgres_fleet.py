"""`ringfence up --database postgresql://...` against a real PostgreSQL, as an operator runs it."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from databases import Postgres
from operating import Up, free_port, host_of, operating, parts, refusal, ring
from serving import SHOP, Host, eventually

from ringfence.client.client import Client
from ringfence.core.errors import RingfenceError
from ringfence.core.net.address import parse_address
from ringfence.ports.bus import BusError
from ringfence.wire import api

POLICY = SHOP.partition("tests:")[0]
OTHER = POLICY.replace("tcp/5432", "tcp/5433")
NewUp = Callable[..., Up]


@pytest.fixture
def up() -> Iterator[NewUp]:
    with operating() as made:
        yield made


@pytest.fixture
def database(postgres: Postgres) -> Iterator[str]:
    url = postgres.new_database()
    yield url
    postgres.drop(url)


def publish(client: Client, text: str, base: int) -> None:
    client.apply(api.Apply(api.Draft({"shop.yaml": text}, base, note="as agreed"), api.How(trial_s=None)))


def refused(work: Callable[[], object]) -> str:
    with pytest.raises(RingfenceError) as caught:
        work()
    return caught.value.code


def test_nothing_acknowledged_is_lost(up: NewUp, database: str, tmp_path: Path) -> None:
    """From the first start to a policy in force, `kill -9`, and up again: the same CA, tokens, host, versions and
    audit chain; the token is told once; `ringfence status` says how the database is."""
    port = str(free_port())
    first = up(tmp_path / "c", "--database", database, "--bus-port", port)
    token = first.told["token"]
    with first.client(token) as client, host_of(client, tmp_path, "web", "10.0.0.1") as host:
        publish(client, POLICY, 0)
        eventually(lambda: host.assigned is not None and host.assigned.policy_version == 1)
        eventually(lambda: client.workload("web").addresses)
        publish(client, OTHER, 1)
        first.kill()
        second = up(tmp_path / "c", "--database", database, "--bus-port", port)
        assert (second.told.get("error"), second.told["token"]) == (None, None)
        assert second.told["ca_fingerprint"] == first.told["ca_fingerprint"]
        with second.client(token) as again:
            assert [one.number for one in again.versions()] == [2, 1]
            assert again.verify_audit().is_intact
            assert again.workload("web").addresses == ("10.0.0.1",)
            eventually(lambda: heard(host) and host.assigned.policy_version == 2)
        told = json.loads(second.ring(token, "status").stdout)
        state = next(part for part in told["parts"] if part["name"] == "state")
        assert state["state"] == "ok"
        assert "PostgreSQL" in state["message"]
        assert not list((tmp_path / "c").glob("state.sqlite*"))


def test_a_database_that_stops_is_told_and_comes_back(
    up: NewUp, database: str, postgres: Postgres, tmp_path: Path
) -> None:
    """While it is away `status` says so, and nothing is taken: no policy, no host, no token; agents stay connected and
    keep what they have. When it is back everything goes on by itself, what agents said meanwhile included."""
    made = up(tmp_path / "c", "--database", database)
    token = made.told["token"]
    with made.client(token) as client, host_of(client, tmp_path, "web", "10.0.0.1") as host:
        eventually(lambda: client.workload("web").addresses)
        publish(client, POLICY, 0)
        invitation = client.invite(api.Invite("web")).token
        postgres.stop(signal.SIGQUIT)
        try:
            away = client.status()
            taken = [
                refused(lambda: publish(client, OTHER, 1)),
                refused(lambda: client.grant(api.Grant("ann", ("viewer",)))),
                refused(client.versions),
                refused(lambda: Host(tmp_path / "late", host.run, "10.0.0.2").join(invitation)),
                refused(lambda: made.client(token[:-1] + "x").status()),
            ]
            host.address = parse_address("10.0.0.9")
            host.run(host.beat())
            said = made.ring(token, "status")
        finally:
            postgres.start()
        eventually(lambda: "10.0.0.9" in client.workload("web").addresses)
        publish(client, OTHER, 1)
        eventually(lambda: host.assigned is not None and host.assigned.policy_version == 2)
        eventually(lambda: all(state == "ok" for state, _ in parts(client.status()).values()))
        assert client.verify_audit().is_intact
        assert [one.number for one in client.versions()] == [2, 1]
        assert [one.name for one in client.workloads()] == ["web"]
    assert parts(away)["state"][0] == "failed"
    assert "does not answer" in parts(away)["state"][1]
    assert parts(away)["bus connection"][0] == "ok"
    assert (sum(away.agents.values()), away.policy_version) == (1, 1)
    assert taken == [*["state-unreachable"] * 3, "controller-unreachable", "token-refused"]
    assert said.returncode == 1
    assert "Traceback" not in made.log.read_text()


def test_one_controller_writes_and_who_was_overtaken_ends(
    up: NewUp, database: str, postgres: Postgres, tmp_path: Path
) -> None:
    """A second controller on the same database says so and ends. When it comes while the database was away from the
    first, it is the first that ends, and says why."""
    first = up(tmp_path / "a", "--database", database)
    early = up(tmp_path / "b", "--database", database)
    assert (early.told["error"], early.process.wait(60)) == ("state-in-use", 3)
    with first.client(first.told["token"]) as client:
        assert parts(client.status())["state"][0] == "ok"
    first.process.send_signal(signal.SIGSTOP)
    postgres.stop(signal.SIGQUIT)
    postgres.start()
    second = up(tmp_path / "b", "--database", database)
    assert second.told.get("error") is None
    first.process.send_signal(signal.SIGCONT)
    code = refused_by(first)
    second.end()

    assert first.process.wait(60) == 3
    assert code in ("state-in-use", "state-taken", "controller-unreachable")
    assert b"state-taken" in first.process.stdout.read()  # type: ignore[union-attr]


def refused_by(made: Up) -> str:
    """The code that a policy is refused with; perhaps nobody is there any more to refuse it."""
    with made.client(made.told["token"]) as client:
        return refused(lambda: publish(client, POLICY, 0))


def test_a_backup_of_sqlite_is_restored_into_postgresql(up: NewUp, database: str, tmp_path: Path) -> None:
    """By the commands alone: the controller that comes up has the token, the versions, the host and the audit log, and
    the host that knew the old one finds it; restoring over it is refused."""
    port = str(free_port())
    first = up(tmp_path / "old", "--bus-port", port)
    token = first.told["token"]
    with first.client(token) as client, host_of(client, tmp_path, "web", "10.0.0.1") as host:
        publish(client, POLICY, 0)
        eventually(lambda: host.assigned is not None and host.assigned.policy_version == 1)
        assert first.ring(token, "backup", str(tmp_path / "fleet.backup")).returncode == 0
        first.end()
        restore = ("restore", str(tmp_path / "fleet.backup"), str(tmp_path / "new"), "--database", database, "--json")
        done = ring(*restore)
        assert done.returncode == 0, done.stderr
        second = up(tmp_path / "new", "--database", database, "--bus-port", port)
        assert (second.told.get("error"), second.told["token"]) == (None, None)
        with second.client(token) as again:
            assert second.ring(token, "confirm-restore", "--yes").returncode == 0
            assert [one.number for one in again.versions()] == [1]
            assert again.verify_audit().is_intact
            eventually(lambda: heard(host))
            assert "PostgreSQL" in parts(again.status())["state"][1]
        second.end()
    assert not list((tmp_path / "new").glob("state.sqlite*"))
    over = ring(*restore[:2], str(tmp_path / "other"), *restore[3:])
    assert refusal(over) == (2, "state-not-empty")


def heard(host: Host) -> bool:
    """Whether what a host asks, as agents do when they are back, is answered."""
    try:
        host.run(host.ask())
    except BusError:
        return False
    return True
