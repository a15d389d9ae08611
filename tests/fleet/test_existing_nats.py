"""`ringfence up --nats URL`: servers of NATS that somebody else runs, real ones, alone and as a cluster."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
from nats_servers import DOMAIN, PROGRAM, NatsServers, free_ports, launch, until_it_answers
from operating import Up, host_of, operating, parts, publish, ring
from serving import Host, eventually

from ringfence.bus import jetstream
from ringfence.bus.nodes import check_cluster, parse_node, parse_urls
from ringfence.client.client import Client
from ringfence.controller.bus import existing_bus
from ringfence.controller.bus.fabric import Fabric
from ringfence.controller.identity.ca import Authority, csr_of, key_pem, new_key
from ringfence.core.errors import InputError, RingfenceError
from ringfence.durable import write_secret
from ringfence.ports.bus import BusError
from ringfence.wire.messages import Event

NewUp = Callable[..., Up]


@pytest.fixture
def up() -> Iterator[NewUp]:
    with operating() as made:
        yield made


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Callable[[int], NatsServers]]:
    made: list[NatsServers] = []

    def make(count: int) -> NatsServers:
        made.append(NatsServers(tmp_path / "c", count))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_a_cluster_of_three_loses_one(up: NewUp, servers: Callable[[int], NatsServers], tmp_path: Path) -> None:
    """What `nats-config` wrote is all it takes. When any server dies, agents and controller go on over the others: a
    policy arrives, an alarm arrives, `status` says who is missing; an agent's certificate makes no fourth server."""
    cluster = servers(3)
    cluster.start()
    made = up(tmp_path / "c", "--nats", cluster.urls)
    assert made.told.get("error") is None, made.log.read_text()
    assert made.told["bus"] == [node.url for node in cluster.nodes]
    with made.client(made.told["token"]) as client, host_of(client, tmp_path, "web", "10.0.0.1") as host:
        eventually(lambda: client.workload("web").addresses)
        publish(client, 0)
        eventually(lambda: is_told(host, 1))
        assert parts(client.status())["bus servers"] == ("ok", "3 of 3 answer")
        assert parts(client.status())["bus certificate"][0] == "ok"
        with intruder(cluster, tmp_path) as log:
            eventually(lambda: "ROUTER" in log() or "Route" in log() or "error" in log().lower())
            eventually(lambda: parts(client.status())["bus servers"] == ("ok", "3 of 3 answer"))
        node = next(one for one in cluster.nodes if one.port == host.bus._client.connected_url.port)
        cluster.kill(node)
        eventually(lambda: says(host, Event(time.time(), "tampering", "somebody removed a rule")), within_s=60)
        eventually(lambda: publishes(client, 1), within_s=60)
        eventually(lambda: is_told(host, 2))
        eventually(lambda: parts(client.status())["bus servers"] == ("degraded", "2 of 3 answer"))
        eventually(lambda: [alert for alert in client.alerts() if alert.kind == "tampering"])
        cluster.start(node)
        eventually(lambda: parts(client.status())["bus servers"] == ("ok", "3 of 3 answer"))


def is_told(host: Host, version: int) -> bool:
    """Whether a host has this version of the policies, once it asked as agents do."""
    try:
        host.run(host.ask())
    except BusError:
        return False
    return host.assigned is not None and host.assigned.policy_version >= version


def says(host: Host, event: Event) -> bool:
    """Whether the bus keeps what a host tells."""
    try:
        host.say(event)
    except BusError:
        return False
    return True


def publishes(client: Client, base: int) -> bool:
    try:
        publish(client, base, 5433)
    except RingfenceError as error:
        return error.code == "version-conflict"  # it did, and the answer was lost
    return True


@contextmanager
def intruder(cluster: NatsServers, folder: Path) -> Iterator[Callable[[], str]]:
    """A server with the certificate of a workload and, as if that were not enough, the secret of the cluster."""
    authority = Authority.open(folder / "c" / "ca.json", trust_domain=DOMAIN, now=datetime.now(UTC))
    key = new_key()
    svid = authority.issue_svid(csr_of(key), UUID(int=1 << 100), now=datetime.now(UTC))
    place, (port,) = folder / "intruder", free_ports(1)
    write_secret(place / "server.pem", key_pem(key) + svid.certificate)
    write_secret(place / "roots.pem", authority.bundle)
    first = cluster.nodes[0]
    text = (cluster.folder(cluster.nodes[1]) / "nats.conf").read_text()
    text = text.replace(str(cluster.folder(cluster.nodes[1])), str(place)).replace(cluster.nodes[1].name, "intruder")
    for old, new in ((cluster.nodes[1].port, port), (cluster.nodes[1].port + 2000, port + 2000)):
        text = text.replace(f"0.0.0.0:{old}", f"0.0.0.0:{new}")
    (place / "nats.conf").write_text(text)
    process = launch(place / "nats.conf")
    try:
        until_it_answers(port)
        yield lambda: (cluster.folder(first) / "nats.log").read_text()
    finally:
        process.kill()
        process.wait()


# ---- what stops a start ---------------------------------------------------------------------------------------------


def refusal_by(servers: NatsServers, folder: Path, url: str = "") -> str:
    """The code that the controller does not start with; empty: it starts."""

    async def run() -> str:
        authority = Authority.open(folder / "ca.json", trust_domain=DOMAIN, now=datetime.now(UTC))
        fabric = Fabric(folder / "bus", authority, lambda *_: False, names=["localhost"], url=url or servers.urls)
        try:
            await fabric.start()
        except RingfenceError as error:
            return error.code if error.help else "no help"
        finally:
            await fabric.stop()
        return ""

    return asyncio.run(run())


def other_ca(_: NatsServers, folder: Path) -> None:
    (folder / "ca.json").unlink()


def other_keys(servers: NatsServers, folder: Path) -> None:
    (folder / "bus" / "bus.json").unlink()
    servers.edit("  timeout: 10\n  auth_callout", "  timeout: 1\n  auth_callout")


def no_callout(servers: NatsServers, _: Path) -> None:
    servers.edit("  auth_callout {", "  # auth_callout {")


USERS = "jetstream: enabled, users: [ {"
OPEN = "no_auth_user: guest\nserver_name:"


def everybody(servers: NatsServers, folder: Path) -> None:
    no_callout(servers, folder)
    servers.edit(USERS, f"{USERS} user: guest, password: guest }}, {{")
    servers.edit("server_name:", OPEN)


CASES: dict[str, Callable[[NatsServers, Path], None]] = {
    "": lambda *_: None,
    "bus-not-keeping": lambda servers, _: servers.edit("jetstream: enabled, ", ""),
    "bus-refused": other_keys,
    "bus-not-ours": other_ca,
    "bus-not-judged": no_callout,
    "bus-open": everybody,
}


@pytest.mark.parametrize("code", CASES, ids=lambda code: code or "as written")
def test_a_server_that_cannot_be_relied_on_stops_the_start(
    servers: Callable[[int], NatsServers], tmp_path: Path, code: str
) -> None:
    """One that keeps nothing, is not of this controller's CA, knows other keys, does not ask the controller who may
    enter, or lets everybody in: each with a code of its own. As `nats-config` wrote it, it is taken."""
    one = servers(1)
    CASES[code](one, tmp_path / "c")
    one.start()

    assert refusal_by(one, tmp_path / "c") == code


def test_a_server_that_is_not_there_stops_the_start(
    servers: Callable[[int], NatsServers], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is waited for a while, for it may be starting."""
    monkeypatch.setattr(existing_bus, "PATIENCE_S", 0.5)

    assert refusal_by(servers(1), tmp_path / "c") == "bus-unreachable"


def test_servers_that_come_up_together_are_waited_for(
    servers: Callable[[int], NatsServers], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until they know each other they place no message on three ("no suitable peers")."""
    monkeypatch.setattr(jetstream, "_PEERS_S", 60.0)
    cluster = servers(3)
    cluster.start(*cluster.nodes[:2])

    async def story() -> tuple[str, ...]:
        authority = Authority.open(tmp_path / "c" / "ca.json", trust_domain=DOMAIN, now=datetime.now(UTC))
        fabric = Fabric(tmp_path / "c" / "bus", authority, lambda *_: False, names=["localhost"], url=cluster.urls)
        starting = asyncio.create_task(fabric.start())
        try:
            await asyncio.wait([starting], timeout=5.0)
            assert not starting.done()
            await asyncio.to_thread(cluster.start, cluster.nodes[2])
            await starting
            return fabric.urls
        finally:
            await fabric.stop()

    assert len(asyncio.run(story())) >= 2


@pytest.mark.parametrize("is_open", [False, True], ids=["as written", "open"])
def test_hosts_are_told_of_servers_that_were_proven(
    servers: Callable[[int], NatsServers], tmp_path: Path, is_open: bool
) -> None:
    """One that was down at the start is looked at when it is there: named from then on, or, if it lets everybody in,
    never."""
    cluster = servers(3)
    late = cluster.nodes[2]

    async def told(is_late: bool) -> tuple[list[str], list[str], str]:
        """Before and after the late one is there, and what is said of it."""
        authority = Authority.open(tmp_path / "c" / "ca.json", trust_domain=DOMAIN, now=datetime.now(UTC))
        where = tmp_path / "c" / "bus"
        fabric = Fabric(where, authority, lambda *_: False, names=["localhost"], url=cluster.urls)
        try:
            await fabric.start()
            before, code = list(fabric.urls), ""
            if is_late:
                await asyncio.to_thread(cluster.start, late)
            try:
                await fabric.prove_others()
            except RingfenceError as error:
                code = error.code
            return before, list(fabric.urls), code
        finally:
            await fabric.stop()

    cluster.start()
    every = [node.url for node in cluster.nodes]
    assert asyncio.run(told(is_late=False)) == (every, every, "")
    cluster.kill(late)
    if is_open:
        open_to_all(cluster.folder(late) / "nats.conf")

    assert asyncio.run(told(is_late=True)) == (
        (every[:2], every[:2], "bus-open") if is_open else (every[:2], every, "")
    )


def open_to_all(path: Path) -> None:
    text = path.read_text().replace("  auth_callout {", "  # auth_callout {").replace("server_name:", OPEN, 1)
    path.write_text(text.replace(USERS, f"{USERS} user: guest, password: guest }}, {{", 1))


@pytest.mark.parametrize(
    "url", ["", "http://nats:4222", "tls://user:secret@nats", "tls://nats:4222/x", "tls://na ts", "tls://nats:port"]
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    """Before anything is made or asked."""
    with pytest.raises(InputError) as refused:
        parse_urls(url or ",")

    assert refused.value.code == "bad-bus-url"


def test_the_program_says_what_is_wrong_and_ends(
    up: NewUp, servers: Callable[[int], NatsServers], tmp_path: Path
) -> None:
    """Exit 3 with code and next step on stdout as JSON; no traceback."""
    one = servers(1)
    no_callout(one, tmp_path / "c")
    one.start()
    made = up(tmp_path / "c", "--nats", one.urls)

    assert (made.told["error"], made.process.wait(60)) == ("bus-not-judged", 3)
    assert "nats-config" in json.dumps(made.told)
    assert "Traceback" not in made.log.read_text()


def test_the_command_writes_what_a_server_needs(tmp_path: Path) -> None:
    """A configuration that the server takes, for its eyes only. A second time there are new certificates under the same
    CA, and a configuration that somebody changed stays."""
    words = ("nats-config", str(tmp_path / "c"), "--server", "nats-1.example", "--server", "nats-2.example")
    told = json.loads(ring(*words, "-o", str(tmp_path / "out"), "--json").stdout)
    folder = tmp_path / "out" / "nats-1.example"
    checked = subprocess.run([PROGRAM, "-c", folder / "nats.conf", "-t"], capture_output=True, text=True, timeout=30)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    (folder / "nats.conf").write_text("# ours\n" + (folder / "nats.conf").read_text())
    again = json.loads(ring(*words, "-o", str(tmp_path / "out"), "--json").stdout)

    assert checked.returncode == 0, checked.stderr
    assert told["nats"] == "tls://nats-1.example:4222,tls://nats-2.example:4222"
    assert [one["is_kept"] for one in (*told["servers"], *again["servers"])] == [False, False, True, False]
    assert (folder / "nats.conf").read_bytes() == b"# ours\n" + before["nats.conf"]
    assert (folder / "server.pem").read_bytes() != before["server.pem"]
    assert (folder / "roots.pem").read_bytes() == before["roots.pem"]
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


def test_servers_of_a_cluster_are_named_by_dns() -> None:
    """They know each other by the names in their certificates, and addresses are not looked at."""
    with pytest.raises(InputError) as refused:
        check_cluster([parse_node("10.0.0.1"), parse_node("nats-2.example")])
    check_cluster([parse_node("10.0.0.1")])

    assert refused.value.code == "bad-bus-url"
