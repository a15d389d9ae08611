"""The lab's parts that need no kernel: its description, its bytes on the wire, its bookkeeping of connections."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

import pytest

from ringfence.core.errors import FindingsError, InputError
from ringfence.core.net.service import parse_service
from ringfence.flows.conntrack import entries as conntrack
from ringfence.flows.conntrack import nflog
from ringfence.flows.conntrack.entries import Entry
from ringfence.lab import talk, vpc_log, zeek_log
from ringfence.lab.description import built_in, find_world, parse_world, read_world
from ringfence.lab.probe import Scan, Target, targets_of
from ringfence.lab.telemetry import Ledger
from ringfence.lab.world import FAMILIES

GOOD = """\
lab: tiny
networks:
  one: [10.9.0.0/24, "fd00:9::/64"]
services:
  web: {port: tcp/80, speaks: http}
  names: {port: udp/53, speaks: dns}
everywhere:
  services: [web]
hosts:
  - {name: a, labels: {app: x}, addresses: [10.9.0.2, "fd00:9::2"]}
  - name: b
    labels: {app: x, role: "on"}
    addresses: [10.9.0.3]
    services: [names]
    clients:
      - {to: app=x, service: web, every: 500ms}
"""


def test_the_shop_is_a_world_of_both_families_with_a_path_for_every_role() -> None:
    """The shipped world parses; every host has both families; each managed host is an end of some path."""
    shop = built_in("shop")
    assert all(host.families == FAMILIES for host in shop.hosts)
    busy = {name for path in shop.paths for name in (path.client, path.server)}
    assert {host.name for host in shop.managed} <= busy
    assert {host.kind for host in shop.hosts} == {"host", "device", "outside"}


def test_the_inventory_is_what_is_not_outside_and_only_hosts_are_controlled() -> None:
    """Outside hosts are no workloads, a device is one without an enforcement point, everybody observes."""
    shop = built_in("shop")
    inventory = shop.inventory()
    assert {w.name for w in inventory.workloads} == {h.name for h in shop.hosts if h.kind != "outside"}
    assert {w.name for w in inventory.workloads if w.is_controlled} == {h.name for h in shop.managed}
    assert {(w.mode.inbound, w.mode.outbound) for w in inventory.workloads} == {("observe", "observe")}


def test_a_selector_means_every_other_host_it_matches_and_families_are_the_common_ones() -> None:
    """`to: app=x` from b is a alone; b has no IPv6, so the path is IPv4 only; `on` stays a word."""
    world = parse_world(GOOD)
    (path,) = world.paths
    assert (path.client, path.server, path.service, path.every_s) == ("b", "a", "web", 0.5)
    assert world.families(path) == (4,)
    assert world.by_name["b"].labels["role"] == "on"


def test_the_service_point_of_a_lab_service_is_the_one_policies_use() -> None:
    """tcp/80 of the lab and tcp/80 of the language are one point, ping is icmp/echo of its family."""
    service = parse_world(GOOD).by_name["a"].service("web")
    assert service is not None
    assert service.point(4) in parse_service("tcp/80")
    ping = parse_world(GOOD).by_name["a"].service("ping")
    assert ping is not None
    assert all(ping.point(family) in parse_service("icmp/echo") for family in FAMILIES)


@pytest.mark.parametrize(
    ("old", "new", "code", "line"),
    [
        ("lab: tiny", "lab: Tiny", "lab-name", 1),
        ("lab: tiny", "lab: [", "lab-yaml", 3),
        ("lab: tiny", "lab: &x [*x]", "lab-yaml", 0),
        ("lab: tiny", "lab: tiny\nlab: tiny", "lab-duplicate-key", 2),
        ("lab: tiny", "lab: tiny\nbogus: 1", "lab-shape", 1),
        ("port: tcp/80", "ports: tcp/80", "lab-shape", 5),
        ("speaks: http", "speaks: gopher", "lab-shape", 5),
        ("10.9.0.0/24", "10.9.0.1/24", "lab-network-cidr", 3),
        ("tcp/80", "tcp/80-81", "lab-service-port", 5),
        ("tcp/80", "tcp/99999", "lab-service-port", 5),
        ("tcp/80", "udp/80", "lab-service-speaks", 5),
        ("services: [names]", "services: [name]", "lab-unknown-service", 14),
        ("services: [names]", "services: [nonsense]", "lab-unknown-service", 11),
        ("name: b", "name: a", "lab-duplicate-host", 11),
        ("app: x, role", "a b: x, role", "lab-label", 12),
        ("[10.9.0.3]", "[10.9.0.3x]", "lab-address", 13),
        ("[10.9.0.3]", "[10.8.0.3]", "lab-address-network", 13),
        ("[10.9.0.3]", "[10.9.0.1]", "lab-address-network", 13),
        ("[10.9.0.3]", "[10.9.0.2]", "lab-duplicate-address", 13),
        ("[10.9.0.3]", "[]", "lab-host-network", 11),
        ("to: app=x", "to: app=y", "lab-unmatched", 16),
        ("to: app=x", "to: c", "lab-unknown-host", 16),
        ("service: web", "service: wep", "lab-unknown-service", 16),
        ("to: app=x, service: web", "to: a, service: names", "lab-service-not-offered", 16),
        ("every: 500ms", "every: 0s", "lab-duration", 16),
        ("every: 500ms", "every: often", "lab-duration", 16),
        ("every: 500ms", "every: 1s, held: true", "lab-client-held", 16),
        ("    services: [names]", "    surveys: [{to: a, ports: [0], every: 1s}]", "lab-survey-ports", 14),
    ],
)
def test_a_mistake_in_a_world_is_found_where_it_was_written(old: str, new: str, code: str, line: int) -> None:
    """Each mistake has its code and its line."""
    assert old in GOOD
    with pytest.raises(FindingsError) as caught:
        parse_world(GOOD.replace(old, new, 1), "tiny.yaml")
    found = {(finding.code, finding.where.line) for finding in caught.value.findings}
    assert (code, line) in found or (code == "lab-unknown-service" and code in {c for c, _ in found})


def test_all_mistakes_are_reported_at_once() -> None:
    """Two mistakes, two findings, with help for the near miss."""
    text = GOOD.replace("10.9.0.3", "10.8.0.3").replace("service: web", "service: wep")
    with pytest.raises(FindingsError) as caught:
        parse_world(text)
    codes = {finding.code: finding for finding in caught.value.findings}
    assert {"lab-address-network", "lab-unknown-service"} <= set(codes)
    assert "`web`" in codes["lab-unknown-service"].help


def test_a_world_that_is_not_there_says_so(tmp_path: Path) -> None:
    """An unknown built-in and an unreadable file each have their code."""
    with pytest.raises(InputError, match="lab-world-unknown"):
        built_in("atlantis")
    with pytest.raises(InputError, match="lab-world-unreadable"):
        read_world(tmp_path / "none.yaml")
    (tmp_path / "good.yaml").write_text(GOOD)
    assert read_world(tmp_path / "good.yaml") == find_world(str(tmp_path / "good.yaml")) == parse_world(GOOD)
    assert find_world("shop") == built_in("shop")


def test_every_answer_tells_who_answered() -> None:
    """HTTP, greeting, store, DNS and NTP answers carry the identity, whatever was asked."""
    me = talk.Identity("prod-web-1", "https")
    answers = [
        talk.http_answer(me),
        talk.greeting(me),
        talk.store_answer(me, b"GET 4\r\n"),
        talk.store_answer(me, b"nonsense\r\n"),
        talk.ntp_answer(me, talk.ntp_request()),
        talk.dns_answer(me, {}, talk.dns_query("x.lab.example", talk.A, 7)),
        talk.dns_answer(me, {}, b"junk"),
    ]
    assert [talk.parse_identity(answer) for answer in answers] == [me] * len(answers)
    assert talk.parse_identity(b"lab:broken") is None


def test_names_resolve_to_the_addresses_of_the_asked_family_and_unknown_ones_do_not_exist() -> None:
    """A and AAAA answers hold exactly the zone's addresses; a foreign name is NXDOMAIN; the id comes back."""
    zone = {"a.lab.example": ("10.9.0.2", "fd00:9::2")}
    me = talk.Identity("n", "dns")
    for kind, address in ((talk.A, "10.9.0.2"), (talk.AAAA, "fd00:9::2")):
        answer = talk.dns_answer(me, zone, talk.dns_query("A.lab.example", kind, 0xBEEF))
        assert answer[:2] == b"\xbe\xef"
        assert talk.dns_addresses(answer) == [address]
    missing = talk.dns_answer(me, zone, talk.dns_query("b.lab.example", talk.A, 1))
    assert missing[3] & 15 == 3
    assert talk.dns_addresses(missing) == []
    with pytest.raises(ValueError, match="no DNS message"):
        talk.dns_addresses(b"short")


def test_a_scan_probes_every_port_of_every_address_once_and_spreads_over_addresses() -> None:
    """The probes are the full product, addresses varying fastest, with one ping each."""
    scan = Scan(("10.9.0.2", "fd00:9::2"), tcp=(1, 2), udp=(53,), ping=True)
    targets = list(targets_of(scan))
    assert len(targets) == len(set(targets)) == 2 * (2 + 1 + 1)
    assert targets[2:4] == [Target("10.9.0.2", "tcp", 1), Target("fd00:9::2", "tcp", 1)]


def entry(entry_id: int = 1, **changes: object) -> Entry:
    values: dict[str, object] = {
        "id": entry_id, "protocol": 6, "source": "10.9.0.2", "destination": "10.9.0.3", "source_port": 40000,
        "destination_port": 80, "icmp_type": None, "packets": 0, "bytes": 0, "reply_packets": 0, "reply_bytes": 0,
        "start_ns": 10**9, "stop_ns": 0, "tcp_state": 3,
    }  # fmt: skip
    return Entry(**{**values, **changes})  # type: ignore[arg-type]


def carried(packets: int, *, state: int = 3, stop_ns: int = 0) -> Entry:
    return entry(
        packets=packets,
        bytes=packets * 100,
        reply_packets=packets,
        reply_bytes=packets * 50,
        tcp_state=state,
        stop_ns=stop_ns,
    )


def test_a_long_connection_is_reported_in_parts_that_add_up_to_the_whole() -> None:
    """Two flushes and the end: the sums equal the kernel's last counters; only the first part is first."""
    ledger = Ledger("a", frozenset({"10.9.0.2"}))
    ledger.note(conntrack.NEW, entry())
    parts = []
    for at_s, packets in ((2, 3), (3, 3), (4, 8)):
        ledger.note_table([carried(packets)], at_s * 10**9)
        parts += ledger.take()
    ledger.note(conntrack.DESTROY, carried(10, state=7, stop_ns=9 * 10**9))
    parts += ledger.take()
    assert [part.packets for part in parts] == [3, 5, 2]
    assert sum(part.bytes for part in parts) == 1000
    assert sum(part.reply_bytes for part in parts) == 500
    assert [part.is_first for part in parts] == [True, False, False]
    assert [part.ending for part in parts] == ["open", "open", "closed"]
    assert [(part.direction, part.start_s, part.end_s) for part in parts] == [
        ("out", 1.0, 2.0), ("out", 2.0, 4.0), ("out", 4.0, 9.0),
    ]  # fmt: skip


def test_a_connection_that_ended_is_not_reported_again_by_a_table_that_still_shows_it() -> None:
    """An entry ended since the last flush is skipped in the table, unless its id began anew."""
    ledger = Ledger("b", frozenset({"10.9.0.3"}))
    ledger.note(conntrack.NEW, entry())
    ledger.note(conntrack.DESTROY, carried(4, state=7, stop_ns=2 * 10**9))
    ledger.note_table([carried(4, state=7)], 3 * 10**9)
    (record,) = ledger.take()
    assert (record.direction, record.packets) == ("in", 4)


def test_a_connection_whose_end_was_lost_is_reported_and_counted() -> None:
    """A lost end leaves what was known and one `unfinished`; a known one is not reported twice."""
    ledger = Ledger("a", frozenset({"10.9.0.2"}))
    ledger.note(conntrack.NEW, entry(1))
    ledger.note(conntrack.NEW, entry(2))
    ledger.note_table([carried(5)], 2 * 10**9)
    ledger.take()
    ledger.lose([1, 2], 3 * 10**9)
    (record,) = ledger.take()
    assert (record.packets, record.ending) == (0, "unanswered")
    assert ledger.unfinished == 2
    assert ledger.living() == set()


def test_a_host_talking_to_itself_is_no_flow() -> None:
    """Both ends own: neither event nor table makes a record."""
    ledger = Ledger("a", frozenset({"10.9.0.2", "10.9.0.3"}))
    ledger.note(conntrack.NEW, entry())
    ledger.note_table([carried(5)], 2 * 10**9)
    assert ledger.take() == []


@pytest.mark.parametrize(
    ("packets", "replies", "state", "ending", "flags"),
    [
        (3, 3, 7, "closed", (3, 19)),
        (1, 1, 8, "refused", (2, 4)),
        (5, 4, 8, "reset", (6, 18)),
        (2, 0, 1, "unanswered", (2,)),
    ],
)
def test_endings_become_the_flags_a_vpc_flow_log_shows(
    packets: int, replies: int, state: int, ending: str, flags: tuple[int, ...]
) -> None:
    """Closed, refused, reset and unanswered connections differ in their tcp-flags; no reply, no reverse line."""
    ledger = Ledger("a", frozenset({"10.9.0.2"}))
    ended = entry(packets=packets, bytes=60, reply_packets=replies, reply_bytes=40, tcp_state=state, stop_ns=2 * 10**9)
    ledger.note(conntrack.DESTROY, ended)
    (record,) = ledger.take()
    assert record.ending == ending
    lines = vpc_log.lines((record,), ())["a"]
    columns = vpc_log.HEADER.split()
    rows = [dict(zip(columns, line.split(), strict=True)) for line in lines]
    assert tuple(int(row["tcp-flags"]) for row in rows) == flags
    assert [row["flow-direction"] for row in rows] == ["egress", "ingress"][: len(rows)]
    assert (rows[0]["srcaddr"], rows[0]["dstport"], rows[-1]["interface-id"]) == ("10.9.0.2", "80", "eni-a")


def test_a_zeek_log_keeps_who_began_and_the_type_of_a_ping() -> None:
    """One line a connection, the server's only when the client does not report; ICMP type and code stand for ports."""
    ledger = Ledger("b", frozenset({"10.9.0.3"}))
    ledger.note(conntrack.DESTROY, carried(4, state=7, stop_ns=3 * 10**9))
    ping = entry(2, protocol=1, icmp_type=8, source_port=0, destination_port=0, packets=2, bytes=168, tcp_state=None)
    ledger.note(conntrack.DESTROY, ping)
    records = ledger.take()
    assert zeek_log.lines(records, {"10.9.0.2", "10.9.0.3"}) == []
    lines = zeek_log.lines(records, {"10.9.0.3"})
    fields = zeek_log.HEADER[-2].split("\t")[1:]
    rows = [dict(zip(fields, line.split("\t"), strict=True)) for line in lines]
    assert len(zeek_log.HEADER[-1].split("\t")) == len(zeek_log.HEADER[-2].split("\t"))
    shown = ("id.orig_h", "id.orig_p", "id.resp_h", "id.resp_p", "proto", "conn_state", "orig_pkts", "resp_ip_bytes")
    assert [tuple(row[name] for name in shown) for row in rows] == [
        ("10.9.0.2", "40000", "10.9.0.3", "80", "tcp", "SF", "4", "200"),
        ("10.9.0.2", "8", "10.9.0.3", "0", "icmp", "S0", "2", "0"),
    ]
    assert (rows[0]["ts"], rows[0]["duration"]) == ("1.000000", "2.000000")


def _logged(packet: bytes, hook: int, prefix: bytes) -> bytes:
    def attribute(kind: int, value: bytes) -> bytes:
        return struct.pack("=HH", len(value) + 4, kind) + value + bytes(-len(value) % 4)

    body = struct.pack("!BBH", 0, 0, 5) + attribute(1, struct.pack("!HBB", 0x800, hook, 0))
    body += attribute(10, prefix + b"\0") + attribute(9, packet)
    return struct.pack("=IHHII", 16 + len(body), 0x400, 0, 0, 0) + body


def _v6(next_header: int, rest: bytes) -> bytes:
    addresses = b"".join(socket.inet_pton(socket.AF_INET6, a) for a in ("fd00:9::2", "fd00:9::3"))
    return struct.pack("!IHBB", 6 << 28, len(rest), next_header, 64) + addresses + rest


PORTS = struct.pack("!HH", 40000, 22) + bytes(16)


@pytest.mark.parametrize(
    ("rest", "next_header", "protocol", "ports", "icmp_type"),
    [
        (PORTS, 6, 6, (40000, 22), None),
        (struct.pack("!BB6x", 6, 0) + PORTS, 0, 6, (40000, 22), None),
        (struct.pack("!BBHI", 17, 0, 1, 9) + PORTS, 44, 17, (40000, 22), None),
        (struct.pack("!BBHI", 17, 0, 8 << 3, 9) + PORTS, 44, 17, (0, 0), None),
        (b"\x80\x00" + bytes(6), 58, 58, (0, 0), 128),
        (bytes(20), 47, 47, (0, 0), None),
    ],
)
def test_a_logged_ipv6_packet_is_read_through_extension_headers_and_fragments(
    rest: bytes, next_header: int, protocol: int, ports: tuple[int, int], icmp_type: int | None
) -> None:
    """Ports come from the first fragment behind any extension headers; later fragments and others have none."""
    (attempt,) = nflog.attempts(_logged(_v6(next_header, rest), 1, b"rf in"), "b")
    assert (attempt.protocol, (attempt.source_port, attempt.destination_port)) == (protocol, ports)
    assert (attempt.source, attempt.destination, attempt.icmp_type) == ("fd00:9::2", "fd00:9::3", icmp_type)
    assert (attempt.host, attempt.direction, attempt.prefix, attempt.bytes) == ("b", "in", "rf in", 40 + len(rest))


@pytest.mark.parametrize("packet", [b"", b"\x45", b"\x60" + bytes(10), b"\x00" * 40, _v6(0, b"")])
def test_a_logged_packet_that_cannot_be_read_is_passed_over(packet: bytes) -> None:
    """A truncated or foreign packet makes no attempt and no error."""
    assert list(nflog.attempts(_logged(packet, 3, b""), "b")) == []
