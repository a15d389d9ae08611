"""The lab for real: namespaces, sockets, connections, and what the kernel tells about them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ringfence.core.errors import InputError, RingfenceError
from ringfence.lab import namespaces, vpc_log
from ringfence.lab.attack import attack, disarm, rearm
from ringfence.lab.description import parse_world
from ringfence.lab.lab import Lab
from ringfence.lab.telemetry import FlowRecord
from ringfence.lab.world import World
from ringfence.targets.nftables.statements import LOG_GROUP

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
]

PAIR = """\
lab: pair
networks:
  one: [10.9.0.0/24, "fd00:9::/64"]
services:
  web: {port: tcp/80, speaks: http}
  store: {port: tcp/5432, speaks: store}
hosts:
  - name: server
    addresses: [10.9.0.2, "fd00:9::2"]
    services: [web, store]
  - name: client
    addresses: [10.9.0.3, "fd00:9::3"]
    clients:
      - {to: server, service: web, every: 100ms}
      - {to: server, service: store, every: 100ms, held: true}
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab.up("shop", flows_dir=tmp_path_factory.mktemp("flows")) as lab:
        yield lab


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Lab]:
    with Lab.up(parse_world(PAIR), flows_dir=tmp_path / "flows") as lab:
        yield lab


def eventually(holds: Callable[[], bool], *, within_s: float = 20.0) -> bool:
    """Whether it comes to hold; the bound only keeps a broken build from hanging."""
    end = time.monotonic() + within_s
    while not holds() and time.monotonic() < end:
        time.sleep(0.02)
    return holds()


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def listening(world: World, client: str) -> set[tuple[str, str, int, str, str]]:
    """(address, transport, port, host, service) of all that is there to be found from a host."""
    return {
        (address, service.transport, service.port, host.name, service.name)
        for host in world.hosts
        if host.name != client
        for address in host.addresses
        for service in host.services
    }


def test_every_declared_path_works_on_both_families(shop: Lab) -> None:
    """One exchange over each path and family gets the right answer from the right service."""
    checks = shop.check_paths()
    assert {(check.path, check.family) for check in checks} == {(p, f) for p in shop.world.paths for f in (4, 6)}
    assert [check for check in checks if not check.worked] == []


def test_clients_talk_over_every_path_and_none_fails(shop: Lab) -> None:
    """Every path and family is exercised, rare ones too: in one short run where the machine has time for it."""
    everything = {(path, family) for path in shop.world.paths for family in (4, 6)}
    tallies = [*shop.run(2.0)]
    assert {(t.path, t.family) for t in tallies} == everything

    def have_all_talked() -> bool:
        if {(t.path, t.family) for t in tallies if t.worked} == everything:
            return True
        tallies.extend(shop.run(2.0))
        return False

    assert eventually(have_all_talked)
    assert [t for t in tallies if t.failed] == []


def test_a_scan_sees_exactly_the_open_ports_and_who_answers_on_each(shop: Lab) -> None:
    """From the laptop: the open ports are the declared services, each with its identity; all else is refused."""
    services = {s.port for host in shop.world.hosts for s in host.services}
    found = shop.scan("laptop", tcp=sorted(services | set(range(1, 100))), udp=[53, 123, 161])
    seen = {(s.address, s.transport, s.port, s.identity.host, s.identity.service) for s in found.open if s.identity}
    assert seen == listening(shop.world, "laptop")
    pinged = {s.address for s in found.open if s.identity is None}
    assert pinged == {a for host in shop.world.hosts if host.name != "laptop" for a in host.addresses}
    assert all(s.transport == "icmp" for s in found.open if s.identity is None)
    assert found.count("refused") == len(found.sightings) - len(found.open)


def test_telemetry_sees_every_connection_alike_at_both_ends(shop: Lab) -> None:
    """Each exchange makes one record at its client and one at its server, with the same ports, packets and bytes."""
    shop.flush()
    checks = shop.check_paths()
    records = (*shop.flush(), *shop.flush())  # a table read while it changes may leave one for the next time
    assert shop.dropped == 0
    managed = {host.name for host in shop.world.managed}
    for check in checks:
        client, server = shop.world.by_name[check.path.client], shop.world.by_name[check.path.server]
        service = server.service(check.path.service)
        assert service is not None

        def matches(record: FlowRecord) -> bool:
            ends = (client.address(check.family), server.address(check.family))  # noqa: B023 used within this turn
            return (record.source, record.destination) == ends and record.destination_port == service.port  # noqa: B023

        views = [record for record in records if matches(record) and (record.icmp_type is None) == bool(service.port)]
        reporters = sorted(("out", client.name) for _ in [0] if client.name in managed)
        reporters += [("in", server.name)] if server.name in managed else []
        assert sorted((r.direction, r.host) for r in views) == sorted(reporters)
        assert len({(r.source_port, r.packets, r.bytes, r.reply_packets, r.reply_bytes) for r in views}) == 1
        assert all(r.reply_bytes > 0 and r.is_first for r in views)


def test_telemetry_counts_the_bytes_of_a_long_transfer_once(pair: Lab) -> None:
    """A held connection reported over several flushes adds up to what one uninterrupted report would say.

    The last words of a connection that closes may pass between the reading of its two ends, hence the flushes after.
    """
    for _ in range(3):
        pair.run(0.5)
    eventually(lambda: pair.flush() == () and set(differences(pair).values()) == {(0, 0, 2)})
    assert set(differences(pair).values()) == {(0, 0, 2)}
    assert len(differences(pair)) == 6


def differences(pair: Lab) -> dict[tuple[str, int], tuple[int, int, int]]:
    """Of each connection to the store: the client's bytes and reply bytes less the server's, and both first reports."""
    sums: dict[tuple[str, int], tuple[int, int, int]] = {}
    for r in pair.records:
        if r.destination_port == 5432:
            sign = {("client", "out"): 1, ("server", "in"): -1}[r.host, r.direction]
            sent, answered, firsts = sums.get((r.source, r.source_port), (0, 0, 0))
            sent, answered = sent + sign * r.bytes, answered + sign * r.reply_bytes
            sums[r.source, r.source_port] = sent, answered, firsts + r.is_first
    return sums


def test_a_blocked_path_fails_and_the_others_do_not(pair: Lab) -> None:
    """A drop on one port shows as `no answer` on that path alone, and goes when the rule goes."""
    pair.command("server", "nft", "add table inet t; add chain inet t c { type filter hook input priority 0; }")
    pair.command("server", "nft", "add rule inet t c tcp dport 5432 drop")
    problems = {(c.path.service, c.family): c.problem for c in pair.check_paths()}
    assert problems == {("web", 4): "", ("web", 6): "", ("store", 4): "no answer", ("store", 6): "no answer"}
    pair.command("server", "nft", "delete table inet t")
    assert all(c.worked for c in pair.check_paths())


def test_a_scan_tells_silence_from_refusal_and_from_a_reject(pair: Lab) -> None:
    """Dropped ports are filtered, closed ones refused, rejected ones unreachable, on both families."""
    pair.command("server", "nft", "add table inet t; add chain inet t c { type filter hook input priority 0; }")
    pair.command("server", "nft", "add rule inet t c tcp dport 80 drop")
    pair.command("server", "nft", "add rule inet t c th dport 82 reject with icmpx admin-prohibited")
    found = pair.scan("client", tcp=[80, 81, 82, 5432], udp=[81, 82])
    outcomes = {(s.address, s.transport, s.port): s.outcome for s in found.sightings}
    expected = {
        ("icmp", 0): "open", ("tcp", 80): "filtered", ("tcp", 81): "refused", ("tcp", 82): "unreachable",
        ("tcp", 5432): "open", ("udp", 81): "refused", ("udp", 82): "unreachable",
    }  # fmt: skip
    assert outcomes == {(a, *key): value for a in ("10.9.0.2", "fd00:9::2") for key, value in expected.items()}


def test_what_a_rule_logs_becomes_a_blocked_attempt_and_a_reject_line(pair: Lab) -> None:
    """TCP, UDP and ping of both families dropped with a log: each with its 5-tuple, direction and prefix."""
    pair.command("server", "nft", "add table inet t; add chain inet t c { type filter hook input priority 0; }")
    rule = f'meta l4proto {{ tcp, udp }} th dport 99 log prefix "rf in default" group {LOG_GROUP} drop'
    pair.command("server", "nft", f"add rule inet t c {rule}")
    echo = f'icmp type echo-request log prefix "rf in default" group {LOG_GROUP} drop'
    pair.command("server", "nft", f"add rule inet t c {echo}")
    echo6 = f'icmpv6 type echo-request log prefix "rf in default" group {LOG_GROUP} drop'
    pair.command("server", "nft", f"add rule inet t c {echo6}")
    pair.scan("client", tcp=[99], udp=[99], timeout_s=0.3)
    blocked = pair.blocked()
    v4 = ("10.9.0.3", "10.9.0.2")
    v6 = ("fd00:9::3", "fd00:9::2")
    assert {(b.protocol, (b.source, b.destination), b.destination_port, b.icmp_type) for b in blocked} == {
        (6, v4, 99, None), (17, v4, 99, None), (1, v4, 0, 8), (6, v6, 99, None), (17, v6, 99, None), (58, v6, 0, 128),
    }  # fmt: skip
    assert {(b.host, b.direction, b.prefix) for b in blocked} == {("server", "in", "rf in default")}
    columns = vpc_log.HEADER.split()
    text = (pair.flows_dir / "vpc" / "server.log").read_text().splitlines()
    assert text[0] == vpc_log.HEADER
    rows = [dict(zip(columns, line.split(), strict=True)) for line in text[1:]]
    rejected = {(row["srcaddr"], row["protocol"], row["dstport"]) for row in rows if row["action"] == "REJECT"}
    assert rejected == {(b.source, str(b.protocol), str(b.destination_port)) for b in blocked}
    assert pair.blocked() == ()


def test_a_lab_leaves_nothing_behind_and_never_moves_its_user(tmp_path: Path) -> None:
    """After `down`: no namespace, no process, no lock; the user's own namespace and interfaces are as before."""
    before = os.readlink("/proc/self/ns/net"), sorted(os.listdir("/sys/class/net"))
    with Lab.up(parse_world(PAIR), flows_dir=tmp_path) as lab:
        lab_id, pids = lab.lab_id, [lab.keeper_pid, *children(lab.keeper_pid)]
        assert len(pids) == 1 + 1 + len(lab.world.hosts)
        assert len(namespaces.namespaces_of(lab_id)) == 1 + len(lab.world.hosts)
        lab.run(0.1)
    assert namespaces.namespaces_of(lab_id) == []
    assert not (namespaces.LOCKS / lab_id).exists()
    assert all(is_gone(pid) for pid in pids)
    assert (os.readlink("/proc/self/ns/net"), sorted(os.listdir("/sys/class/net"))) == before
    lab.down()


OWNER = """
import sys, time
from pathlib import Path
from ringfence.lab.description import read_world
from ringfence.lab.lab import Lab
with Lab.up(read_world(Path(sys.argv[1])), flows_dir=Path(sys.argv[2])) as lab:
    print(lab.lab_id, lab.keeper_pid, flush=True)
    lab.run(600)
"""


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str, int]]:
    """A process of its own that has a lab up and running: (process, lab id, keeper's pid)."""
    (tmp_path / "pair.yaml").write_text(PAIR)
    command = [sys.executable, "-c", OWNER, str(tmp_path / "pair.yaml"), str(tmp_path / "flows")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        lab_id, keeper = process.stdout.readline().split()
        yield process, lab_id, int(keeper)
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_however_its_user_ends_the_lab_is_destroyed(
    owner: tuple[subprocess.Popen[str], str, int], number: signal.Signals
) -> None:
    """Interrupted, terminated or killed outright: every process and namespace goes without anybody's help."""
    process, lab_id, keeper = owner
    pids = [keeper, *children(keeper)]
    process.send_signal(number)
    process.wait()
    assert eventually(lambda: all(is_gone(pid) for pid in pids))
    assert namespaces.namespaces_of(lab_id) == []
    assert not (namespaces.LOCKS / lab_id).exists()


def test_a_running_lab_is_listed_and_can_be_taken_down_by_somebody_else(
    owner: tuple[subprocess.Popen[str], str, int],
) -> None:
    """Another process sees the lab with its owner and takes it down; its user then learns that it is gone."""
    process, lab_id, keeper = owner
    assert namespaces.running()[lab_id] == keeper
    namespaces.take_down(lab_id)
    assert namespaces.namespaces_of(lab_id) == []
    assert lab_id not in namespaces.running()
    assert process.wait() != 0
    with pytest.raises(RingfenceError, match="lab-not-running"):
        namespaces.take_down(lab_id)


def test_when_the_keeper_dies_too_the_next_sweep_destroys_the_lab(
    owner: tuple[subprocess.Popen[str], str, int],
) -> None:
    """A living lab is not swept; a killed keeper's children die with it, and a sweep removes what is left."""
    process, lab_id, keeper = owner
    assert lab_id not in namespaces.sweep()
    assert len(namespaces.namespaces_of(lab_id)) == 3
    pids = children(keeper)
    os.kill(process.pid, signal.SIGSTOP)  # so that it cannot clean up before it is killed
    os.kill(keeper, signal.SIGKILL)
    process.kill()
    process.wait()
    assert eventually(lambda: all(is_gone(pid) for pid in pids))
    assert eventually(lambda: lab_id in namespaces.sweep() or not namespaces.namespaces_of(lab_id))
    assert namespaces.namespaces_of(lab_id) == []
    assert not (namespaces.LOCKS / lab_id).exists()


def test_a_lab_that_cannot_be_built_says_why_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failing tool is an error with its code, and the half-built namespaces are gone."""
    broken = tmp_path / "bin"
    broken.mkdir()
    where = tmp_path / "where"
    (broken / "nft").write_text(f"#!/bin/sh\nip netns identify $$ >{where}; echo planted >&2; exit 1\n")
    (broken / "nft").chmod(0o755)
    monkeypatch.setenv("PATH", f"{broken}:{os.environ['PATH']}")
    with pytest.raises(RingfenceError, match=r"lab-command-failed.*planted"):
        Lab.up(parse_world(PAIR), flows_dir=tmp_path / "flows")
    _, lab_id, _ = where.read_text().split("-")
    assert namespaces.namespaces_of(lab_id) == []
    assert not (namespaces.LOCKS / lab_id).exists()


@pytest.mark.parametrize(("tool", "code"), [("nft", "lab-tool-missing"), ("unshare", "lab-not-permitted")])
def test_what_a_lab_lacks_is_told_before_anything_is_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tool: str, code: str
) -> None:
    """A missing tool and a root without the right to make namespaces each have their code."""
    for name in {"ip", "nft", "nsenter", "unshare"} - ({tool} if tool == "nft" else set()):
        (tmp_path / name).write_text(f"#!/bin/sh\nexit {int(name == tool)}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RingfenceError, match=code):
        Lab.up(parse_world(PAIR), flows_dir=tmp_path / "flows")
    assert not (tmp_path / "flows").exists()


def test_a_host_that_is_not_there_is_an_error_with_its_code(pair: Lab) -> None:
    """Asking for an unknown host, or a command that fails there, is told with a code."""
    with pytest.raises(InputError, match="lab-unknown-host"):
        pair.namespace("nobody")
    with pytest.raises(RingfenceError, match="lab-command-failed"):
        pair.command("client", "false")


def test_a_syn_scan_finds_every_open_port_and_nothing_else(pair: Lab) -> None:
    """Bare SYNs to 6000 ports on both families: served ports are open, dropped ones silent, others refused."""
    pair.command("server", "nft", "add table inet t; add chain inet t c { type filter hook input priority 0; }")
    pair.command("server", "nft", "add rule inet t c tcp dport 4000-4099 drop")
    found = pair.syn_scan("client", last_port=6000)
    assert found.open == tuple((a, port) for a in ("10.9.0.2", "fd00:9::2") for port in (80, 5432))
    assert (found.sent, found.silent, found.refused) == (12000, 200, 12000 - 200 - 4)


def test_an_intruder_throws_its_own_rules_away_and_reaches_what_destinations_let_in(pair: Lab) -> None:
    """A rule on the intruder's own host stops it only until it is disarmed; one on the destination does not go away."""
    for host_name, port in (("client", 80), ("server", 5432)):
        pair.command(host_name, "nft", "add table inet t; add chain inet t o { type filter hook output priority 0; }")
        pair.command(host_name, "nft", "add chain inet t i { type filter hook input priority 0; }")
        pair.command(
            host_name, "nft", f"add rule inet t o tcp dport {port} drop; add rule inet t i tcp dport {port} drop"
        )
    assert {r.service for r in attack(pair, "client").reached} == {"ping"}
    disarm(pair, "client")
    intrusion = attack(pair, "client")
    assert {r.service for r in intrusion.reached} == {"ping", "web"}
    assert {r.family for r in intrusion.reached} == {4, 6}
    rearm(pair, "client")
    pair.flush()
    assert pair.check_paths()
    assert [r for r in pair.flush() if r.host == "client" and r.destination_port == 80]


OVERRUN = """
import socket
from ringfence.flows.conntrack import netlink, entries as conntrack
events = netlink.open_socket()
events.setsockopt(socket.SOL_SOCKET, netlink.SO_RCVBUFFORCE, 8192)
conntrack.subscribe(events)
events.setblocking(False)
for port in range(1, 3001):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"x", ("10.9.0.77", port))
read = sum(len(list(conntrack.events(data))) for data in netlink.datagrams(events))
print(read, netlink.dropped(events))
"""


def test_telemetry_that_the_kernel_could_not_deliver_is_counted_to_the_message(pair: Lab) -> None:
    """With a buffer far too small, what was read and what is counted as dropped add up to what happened."""
    read, dropped = map(int, pair.command("client", sys.executable, "-c", OVERRUN).stdout.split())
    assert read > 0
    assert dropped > 0
    assert read + dropped == 3000
