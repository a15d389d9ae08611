"""Who talks: control groups by id, listeners by port, clients by their socket; nobody is guessed."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ringfence.agent.observe import evidence
from ringfence.agent.observe.processes import UNKNOWN, Processes, Units, program_of, unit_of
from ringfence.core.net.address import parse_address
from ringfence.core.net.service import TCP, UDP, point
from ringfence.flows.conntrack.batch import DESTROY, NEW, TRACKED
from ringfence.flows.conntrack.ledger import IN, OUT, THROUGH, Ledger, Own
from ringfence.flows.conntrack.sockets import LISTEN, SOCKET, UNCONNECTED, all_sockets, open_socket
from ringfence.targets.nftables.marks import PICKED_UP

ESTABLISHED = 1
_LOW = (1 << 64) - 1


@pytest.fixture
def groups(tmp_path: Path) -> dict[str, int]:
    """A tree of control groups (folders stand in: the id is the inode): unit -> id."""
    for path in ("system.slice/nginx.service", "system.slice/pg.service/worker", "docker/abc"):
        (tmp_path / path).mkdir(parents=True)
    return {str(path.relative_to(tmp_path)): path.stat().st_ino for path in tmp_path.rglob("*")}


def a_socket(
    state: int, protocol: int, local: str, port: int, cgroup: int, remote: str = "0.0.0.0", to: int = 0
) -> Any:
    out = np.zeros(1, SOCKET)
    out["state"], out["protocol"], out["local_port"], out["remote_port"] = state, protocol, port, to
    out["cgroup"], out["inode"] = cgroup, 1
    for end, text in (("local", local), ("remote", remote)):
        address = parse_address(text) if text != "::" else 0
        out[f"{end}_hi"], out[f"{end}_lo"] = address >> 64, address & _LOW
    return out


def a_connection(source: str, source_port: int, destination: str, port: int, protocol: int = TCP) -> Any:
    out = np.zeros(1, TRACKED)
    out["protocol"], out["source_port"], out["destination_port"] = protocol, source_port, port
    for end, text in (("source", source), ("destination", destination)):
        address = parse_address(text)
        out[f"{end}_hi"], out[f"{end}_lo"] = address >> 64, address & _LOW
    return out


@pytest.fixture
def processes(groups: dict[str, int], tmp_path: Path) -> Processes:
    nginx, pg = groups["system.slice/nginx.service"], groups["system.slice/pg.service/worker"]
    picture = np.concatenate([
        a_socket(LISTEN, TCP, "::", 80, nginx), a_socket(LISTEN, TCP, "10.0.0.1", 5432, pg),
        a_socket(LISTEN, TCP, "0.0.0.0", 9000, nginx), a_socket(LISTEN, TCP, "0.0.0.0", 9000, pg),
        a_socket(UNCONNECTED, UDP, "0.0.0.0", 53, pg), a_socket(LISTEN, TCP, "0.0.0.0", 7, 123456789),
        a_socket(ESTABLISHED, TCP, "10.0.0.1", 40000, pg, "10.0.0.2", 443),
        a_socket(UNCONNECTED, UDP, "0.0.0.0", 40001, nginx),
    ])  # fmt: skip
    return Processes(lambda: picture, Units(tmp_path))


@pytest.mark.parametrize(
    ("connection", "direction", "unit"),
    [
        (a_connection("10.0.0.2", 1, "10.0.0.1", 80), IN, "nginx.service"),
        (a_connection("fd00::2", 1, "fd00::1", 80), IN, "nginx.service"),
        (a_connection("10.0.0.2", 1, "10.0.0.1", 5432), IN, "pg.service"),
        (a_connection("10.0.0.2", 1, "10.0.0.9", 5432), IN, ""),
        (a_connection("10.0.0.2", 1, "10.0.0.1", 9000), IN, ""),
        (a_connection("10.0.0.2", 1, "10.0.0.1", 7), IN, ""),
        (a_connection("10.0.0.2", 1, "10.0.0.1", 53, UDP), IN, "pg.service"),
        (a_connection("10.0.0.1", 40000, "10.0.0.2", 443), OUT, "pg.service"),
        (a_connection("10.0.0.1", 40000, "10.0.0.3", 443), OUT, ""),
        (a_connection("10.0.0.1", 40001, "10.0.0.2", 53, UDP), OUT, "nginx.service"),
        (a_connection("10.0.0.1", 40009, "10.0.0.2", 443), OUT, ""),
        (a_connection("10.0.0.2", 1, "10.0.0.3", 80), THROUGH, ""),
    ],
    ids=["dual stack", "v6", "address", "another address", "two units", "unknown group", "datagram", "client",
         "another peer", "sender of datagrams", "over already", "forwarded"],
)  # fmt: skip
def test_a_connection_belongs_to_the_unit_of_its_socket(
    processes: Processes, connection: Any, direction: int, unit: str
) -> None:
    """By address, then by any address; what several units share, or nobody holds any more, is nobody's."""
    (number,) = processes.attribute(connection, np.array([direction], np.uint8)).tolist()
    assert processes.units.names[number] == unit
    assert (processes.attributed, processes.unknown) == ((1, 0) if unit else (0, int(direction != THROUGH)))


@pytest.mark.parametrize(
    ("path", "unit"),
    [
        (".", ""), ("system.slice/ssh.service", "ssh.service"), ("system.slice/a.service/b/c", "a.service"),
        ("user.slice/user-0.slice/session-1.scope", "session-1.scope"), ("docker/abc", "/docker/abc"),
    ],
)  # fmt: skip
def test_a_unit_is_what_the_systems_own_manager_made(path: str, unit: str) -> None:
    """Else the path of the control group; the root of them all is nobody."""
    assert unit_of(path) == unit


@pytest.mark.parametrize(
    ("path", "unit"),
    [
        ("user.slice/user-7.slice/user@7.service/app.slice/pg.service/x",
         "/user.slice/user-7.slice/user@7.service/app.slice/pg.service"),
        ("docker/abc/system.slice/pg.service", "/docker/abc/system.slice/pg.service"),
        ("pg.service/pg.service", "/pg.service/pg.service"),
    ],
)  # fmt: skip
def test_a_group_that_a_user_made_does_not_pass_for_a_unit_of_the_systems(path: str, unit: str) -> None:
    """`systemctl --user`, a container and a service that is given its group name what they like: it is told by path."""
    assert unit_of(path) == unit


def test_a_group_named_in_bytes_that_are_no_text_is_told_in_text(tmp_path: Path) -> None:
    """Whoever may make a control group may name it so."""
    folder = os.fsencode(tmp_path) + b"/\xff\x1b[2J.service"
    os.mkdir(folder)
    units = Units(tmp_path)
    (number,) = units.numbers_of(np.array([os.stat(folder).st_ino], np.uint64)).tolist()
    assert units.names[number] == "\ufffd\ufffd[2J.service"


def test_sockets_that_cannot_be_listed_leave_everything_unknown(tmp_path: Path) -> None:
    """A kernel that refuses is a count, not an error."""

    def refuse() -> Any:
        raise OSError("no")

    processes = Processes(refuse, Units(tmp_path))
    found = processes.attribute(a_connection("10.0.0.2", 1, "10.0.0.1", 80), np.array([IN], np.uint8))
    assert found.tolist() == [UNKNOWN]
    assert processes.failures == 1


@pytest.fixture
def here() -> Iterator[tuple[socket.socket, socket.socket, socket.socket]]:
    """A listener, and both sockets of a connection to it."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
        server.accept()[0] as accepted,
    ):
        yield server, client, accepted


def test_the_kernel_lists_our_own_sockets(here: tuple[socket.socket, socket.socket, socket.socket]) -> None:
    """A listener and both ends of a connection are in the dump, by inode, with their ends and one control group."""
    with open_socket() as diag:
        found = all_sockets(diag)
    inodes = [os.fstat(one.fileno()).st_ino for one in here]
    rows = [found[found["inode"] == inode][0] for inode in inodes]
    port = here[0].getsockname()[1]

    assert [int(row["state"]) for row in rows] == [LISTEN, ESTABLISHED, ESTABLISHED]
    assert [int(row["local_port"]) for row in rows] == [port, here[1].getsockname()[1], port]
    assert int(rows[1]["remote_port"]) == port
    assert {int(row["local_lo"]) for row in rows} == {parse_address("127.0.0.1")}
    assert len({int(row["cgroup"]) for row in rows}) == 1


def test_the_program_that_holds_a_socket_is_found_by_name(here: tuple[socket.socket, ...]) -> None:
    """Its `comm`, nothing of its command line; an inode nobody holds has none."""
    assert program_of(os.fstat(here[0].fileno()).st_ino) == Path("/proc/self/comm").read_text().strip()
    assert program_of(1) == ""


_MISNAMED = """
import ctypes, os, socket, sys
ctypes.CDLL(None).prctl(15, b"\\xff\\nroot\\tsshd", 0, 0, 0)  # PR_SET_NAME
server = socket.create_server(("127.0.0.1", 0))
print(os.fstat(server.fileno()).st_ino, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def misnamed() -> Iterator[tuple[int, int]]:
    """A program whose user named it so that it is no text, and would be two lines and a field: (its id, a socket's)."""
    with subprocess.Popen([sys.executable, "-c", _MISNAMED], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        yield program.pid, int(program.stdout.readline())


def test_a_program_named_in_bytes_that_are_no_text_is_told_in_one_word(misnamed: tuple[int, int]) -> None:
    """A user of the host ends neither violations nor evidence by a name, and forges no line of them."""
    pid, inode = misnamed
    name = "\ufffd\ufffdroot\ufffdsshd"
    assert program_of(inode) == name
    parts = evidence.of_host(netns=None)
    processes = [line.split("\t") for line in parts["processes.tsv"]().decode().splitlines()]
    assert [line[4] for line in processes if line[0] == str(pid)] == [name]
    assert {len(line) for line in processes} == {6}
    assert name in parts["sockets.tsv"]().decode()


@pytest.mark.parametrize(
    ("row", "direction", "is_answer"),
    [
        (a_connection("10.0.0.1", 5432, "10.0.0.2", 56290), OUT, True),
        (a_connection("10.0.0.2", 56290, "10.0.0.1", 5432), IN, False),
        (a_connection("10.0.0.1", 50000, "10.0.0.2", 443), OUT, False),
        (a_connection("10.0.0.2", 443, "10.0.0.1", 50000), IN, True),
        (a_connection("10.0.0.2", 443, "10.0.0.1", 40000), IN, False),
        (a_connection("10.0.0.1", 700, "10.0.0.2", 443), OUT, True),
        (a_connection("10.0.0.1", 5432, "10.0.0.2", 56290), THROUGH, False),
        (a_connection("10.0.0.1", 5432, "10.0.0.2", 56290, UDP), OUT, False),
    ],
    ids=["served", "asked", "client", "answered", "a listener's port", "gone listener", "not ours", "udp"],
)
def test_who_began_what_was_in_mid_stream_is_told_by_the_hosts_ports(
    groups: dict[str, int], tmp_path: Path, row: Any, direction: int, is_answer: bool
) -> None:
    """A port that clients are handed, and nobody listens on, is a client's; only of what the rules picked up is it
    asked."""
    picture = np.concatenate([a_socket(LISTEN, TCP, "::", port, 0) for port in (5432, 40000)])
    processes = Processes(lambda: picture, Units(tmp_path))
    processes.client_ports = range(32768, 61000)
    ways = np.array([direction], np.uint8)
    seen_from_its_beginning = processes.answers(row, ways)
    row = row.copy()
    row["mark"] = PICKED_UP | 3 << 24

    assert not seen_from_its_beginning.any()
    assert processes.answers(row, ways).tolist() == [is_answer]


def test_what_is_told_the_wrong_way_round_is_turned_once_for_all() -> None:
    """What each side sent goes with it, in every report of the connection; it stays one connection."""
    ledger = Ledger(
        lambda rows, _: np.zeros(len(rows), np.int32), lambda rows, _: rows["mark"] & PICKED_UP != 0, seed=7
    )
    own, peer = parse_address("10.0.0.1"), parse_address("10.0.0.2")
    ledger.own = Own.of({own})
    picked_up = a_connection("10.0.0.1", 5432, "10.0.0.2", 56290)
    picked_up["mark"], picked_up["id"] = PICKED_UP, 9
    for kind, packets in ((NEW, 0), (NEW, 5), (DESTROY, 8)):
        picked_up["kind"], picked_up["packets"], picked_up["reply_packets"] = kind, packets, 10 * packets
        if packets == 5:
            ledger.begin_dump()
            ledger.note_dump(picked_up.copy(), 2000)
            ledger.end_dump(was_lossy=False)
        else:
            ledger.note(picked_up.copy(), 1000)
    (row,) = ledger.take()

    assert (int(row["source_lo"]), int(row["destination_lo"])) == (peer & _LOW, own & _LOW)
    assert (row["direction"], row["point"]) == (IN, point(TCP, 5432))
    assert (row["connections"], row["packets"], row["reply_packets"]) == (1, 80, 8)
