"""The account of connections: every connection once, every byte once, whatever the order of events and dumps."""

from __future__ import annotations

import random
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ringfence.core.net.address import parse_address
from ringfence.core.net.service import TCP, point
from ringfence.flows.conntrack import entries, netlink
from ringfence.flows.conntrack.batch import DESTROY, NEW, TRACKED, Reader
from ringfence.flows.conntrack.ledger import IN, OUT, THROUGH, Ledger, Own

OWN, PEER = parse_address("10.0.0.1"), parse_address("10.0.0.2")
_LOW = (1 << 64) - 1


def nobody(rows: Any, direction: Any) -> Any:
    return np.zeros(len(rows), np.int32)


def a_ledger() -> Ledger:
    ledger = Ledger(nobody, seed=7)
    ledger.own = Own.of({OWN})
    return ledger


def row(kind: int, number: int, packets: int = 0, source: int = PEER, destination: int = OWN) -> Any:
    """One message about connection `number`, which has carried so many packets of 100 bytes each way."""
    out = np.zeros(1, TRACKED)
    out["kind"], out["protocol"], out["id"] = kind, TCP, 1000 + number
    for end, address in (("source", source), ("destination", destination)):
        out[f"{end}_hi"], out[f"{end}_lo"] = address >> 64, address & _LOW
    out["source_port"], out["destination_port"] = 2000 + number, 80
    out["packets"] = out["reply_packets"] = packets
    out["bytes"] = out["reply_bytes"] = packets * 100
    return out


def told(ledger: Ledger) -> tuple[int, int, int]:
    """(connections, packets, bytes of both directions)."""
    rows = ledger.take()
    size = int((rows["bytes"] + rows["reply_bytes"]).sum())
    return int(rows["connections"].sum()), int(rows["packets"].sum()), size


def test_a_connection_counts_once_with_all_it_carried() -> None:
    """Announced, dumped twice, ended: one connection, each packet once."""
    ledger = a_ledger()
    ledger.note(row(NEW, 1), 1000)
    for packets in (3, 8):
        ledger.begin_dump()
        ledger.note_dump(row(NEW, 1, packets), 2000)
        ledger.end_dump(was_lossy=False)
    assert told(ledger) == (1, 8, 1600)
    ledger.note(row(DESTROY, 1, 10), 3000)
    assert told(ledger) == (0, 2, 400)
    assert ledger.living == 0


def test_a_connection_nobody_announced_counts_when_it_is_seen() -> None:
    """Older than the ledger, or its beginning was lost: by a dump or by its end, once."""
    ledger = a_ledger()
    ledger.begin_dump()
    ledger.note_dump(row(NEW, 1, 5), 1000)
    ledger.end_dump(was_lossy=False)
    ledger.note(row(DESTROY, 1, 6), 1000)
    ledger.note(row(DESTROY, 2, 7), 1000)
    assert told(ledger) == (2, 13, 2600)


def test_an_announcement_behind_the_dump_that_shows_it_is_the_same_connection() -> None:
    """The kernel's table may show a connection a moment before its event is queued."""
    ledger = a_ledger()
    ledger.begin_dump()
    ledger.note_dump(row(NEW, 1, 1), 1000)
    ledger.note(row(NEW, 1), 1001)
    ledger.end_dump(was_lossy=False)
    ledger.note(row(DESTROY, 1, 4), 1002)
    assert told(ledger) == (1, 4, 800)
    assert ledger.unfinished == 0


def test_a_dump_that_still_shows_an_ended_connection_brings_it_not_back() -> None:
    """What ended while the table was read is over."""
    ledger = a_ledger()
    ledger.note(row(NEW, 1), 1000)
    ledger.begin_dump()
    ledger.note(row(DESTROY, 1, 4), 1001)
    ledger.note_dump(row(NEW, 1, 3), 1002)
    ledger.end_dump(was_lossy=False)
    assert told(ledger) == (1, 4, 800)
    assert ledger.living == 0


def test_ends_that_were_lost_are_found_by_two_dumps_and_counted() -> None:
    """After a loss, what two dumps do not show has ended; without a loss nothing is given up."""
    for was_lossy, living in ((True, 0), (False, 1)):
        ledger = a_ledger()
        ledger.note(row(NEW, 1), 1000)
        for _ in range(2):
            ledger.begin_dump()
            ledger.end_dump(was_lossy=was_lossy)
        assert ledger.living == living
        assert ledger.unfinished == 1 - living


def test_whose_end_it_is_follows_from_the_hosts_addresses() -> None:
    """In, out, through; a host's own talk is none."""
    ledger = a_ledger()
    loopback = parse_address("127.0.0.53")
    for number, (source, destination) in enumerate(
        ((PEER, OWN), (OWN, PEER), (PEER, PEER + 1), (OWN, OWN), (OWN, loopback))
    ):
        ledger.note(row(NEW, number, source=source, destination=destination), 1000)
    assert sorted(ledger.take()["direction"].tolist()) == [IN, OUT, THROUGH]


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(0, 1 << 32), st.integers(1, 9))
def test_whatever_the_batches_and_dumps_the_account_is_exact(count: int, seed: int, batch: int) -> None:
    """Connections that begin, carry, are dumped at any time and end, ids used again: all count once."""
    chance = random.Random(seed)
    ledger, living, connections, carried = a_ledger(), {}, 0, 0
    pending: list[Any] = []
    for _ in range(count * 4):
        number, what = chance.randrange(count), chance.random()
        if what < 0.4 and number not in living:
            living[number] = 0
            connections += 1
            pending.append(row(NEW, number))
        elif what < 0.7 and number in living:
            living[number] += (more := chance.randrange(1, 9))
            carried += more
        elif what < 0.9 and number in living:
            pending.append(row(DESTROY, number, living.pop(number)))
        elif what > 0.97:
            ledger.note(np.concatenate([np.zeros(0, TRACKED), *pending]), 1000)
            pending = []
            ledger.begin_dump()
            table = [row(NEW, n, packets) for n, packets in living.items()]
            ledger.note_dump(np.concatenate([np.zeros(0, TRACKED), *table]), 1000)
            ledger.end_dump(was_lossy=False)
        if len(pending) >= batch:
            ledger.note(np.concatenate(pending), 1000)
            pending = []
    ends = [row(DESTROY, n, packets) for n, packets in living.items()]
    ledger.note(np.concatenate([np.zeros(0, TRACKED), *pending, *ends]), 2000)
    assert told(ledger) == (connections, carried, carried * 200)
    assert ledger.living == 0
    assert ledger.unfinished == 0


# ---- messages --------------------------------------------------------------------------------------------------------


def nested(kind: int, *parts: bytes) -> bytes:
    return netlink.attribute(kind | 0x8000, b"".join(parts))


def a_message(kind: int, *, v6: bool, protocol: int, has_counters: bool, extra: bool, number: int) -> bytes:
    """As the kernel writes one."""
    ends = [bytes([10, 0, 0, n]) if not v6 else bytes([0xFD, *bytes(14), n]) for n in (number, 2)]
    addresses = nested(1, *(netlink.attribute(n, end) for n, end in zip((3, 4) if v6 else (1, 2), ends, strict=True)))
    if protocol in (1, 58):
        base = 4 if protocol == 1 else 7
        detail = netlink.attribute(base, struct.pack("!H", number)) + netlink.attribute(base + 1, bytes([8]))
    else:
        detail = netlink.attribute(2, struct.pack("!H", 4000 + number)) + netlink.attribute(3, struct.pack("!H", 443))
    body = nested(1, addresses, nested(2, netlink.attribute(1, bytes([protocol])), detail))
    body += netlink.attribute(12, struct.pack("!I", 77 + number))
    if extra:
        body += netlink.attribute(8, bytes(4))
    if has_counters:
        body += nested(9, netlink.attribute(1, struct.pack("!Q", number)), netlink.attribute(2, struct.pack("!Q", 60)))
        body += nested(10, netlink.attribute(1, struct.pack("!Q", 2)), netlink.attribute(2, struct.pack("!Q", 1 << 40)))
    return netlink.request(kind, 0, 10 if v6 else 2, 0, body)


SHAPES = [
    {"v6": v6, "protocol": protocol, "has_counters": has_counters, "extra": extra}
    for v6 in (False, True) for protocol in (1, 6, 17, 58) for has_counters in (False, True) for extra in (False, True)
]  # fmt: skip


def as_entry(found: Any) -> tuple[int, ...]:
    return tuple(
        int(found[name]) for name in (
            "protocol", "id", "source_port", "destination_port", "icmp_type", "packets", "bytes", "reply_packets",
            "reply_bytes")
    )  # fmt: skip


@given(st.lists(st.tuples(st.sampled_from(SHAPES), st.sampled_from((NEW, DESTROY)), st.integers(1, 250)), max_size=40))
def test_many_messages_read_at_once_are_what_each_says_alone(wanted: list[tuple[dict[str, Any], int, int]]) -> None:
    """The reader by shapes and the reader by attributes agree, in the order the messages came."""
    data = [a_message(kind, number=number, **shape) for shape, kind, number in wanted]
    table, sizes = np.zeros((len(data), 1024), np.uint8), np.array([len(one) for one in data], np.int64)
    for line, one in zip(table, data, strict=True):
        line[: len(one)] = np.frombuffer(one, np.uint8)
    rows = Reader().datagrams(table, sizes)
    alone = [entry for one in data for _, entry in entries.events(one)]

    assert len(rows) == len(data)
    for found, entry in zip(rows, alone, strict=True):
        expected = (entry.protocol, entry.id, entry.source_port, entry.destination_port, entry.icmp_type or 0,
                    entry.packets, entry.bytes, entry.reply_packets, entry.reply_bytes)  # fmt: skip
        assert as_entry(found) == expected
        assert parse_address(entry.source) == int(found["source_hi"]) << 64 | int(found["source_lo"])
        assert parse_address(entry.destination) == int(found["destination_hi"]) << 64 | int(found["destination_lo"])
    assert rows["kind"].tolist() == [kind for _, kind, _ in wanted]


@given(st.binary(max_size=200), st.integers(0, 19))
def test_what_is_no_message_is_counted_and_never_a_row(noise: bytes, shape: int) -> None:
    """Noise behind a good header: nothing raises, and no connection is made up without an address and an id."""
    reader = Reader()
    data = netlink.request(NEW, 0, 2, 0, noise)
    table = np.zeros((1, 1024), np.uint8)
    table[0, : len(data)] = np.frombuffer(data, np.uint8)
    rows = reader.datagrams(table, np.array([len(data)], np.int64))
    assert len(rows) + reader.unreadable == 1


@pytest.mark.parametrize("size", [0, 3, 16, 19])
def test_a_datagram_too_short_for_a_header_is_counted(size: int) -> None:
    """It is unreadable, not an error."""
    reader = Reader()
    assert len(reader.datagrams(np.zeros((1, 1024), np.uint8), np.array([size], np.int64))) == 0
    assert reader.unreadable == 1


def test_the_service_of_a_row_is_its_destination_port() -> None:
    """Rows of many client ports are one row of one service."""
    ledger = a_ledger()
    ledger.note(np.concatenate([row(NEW, number) for number in range(100)]), 1000)
    rows = ledger.take()
    assert rows["point"].tolist() == [point(TCP, 80)]
    assert rows["connections"].tolist() == [100]
