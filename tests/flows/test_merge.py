"""Records become conversations: labelled by who held the address then, reports merged, client told from server."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from flow_samples import (
    ADDRESSES,
    NETWORKS,
    T0_S,
    at,
    random_batch,
    random_inventory,
    records,
    rows_of,
    workload,
)

from ringfence.core.flow.conversations import DIRECTION_CONFIDENCE, REPORTED
from ringfence.core.flow.fold import HIGH_PORTS_KEPT, PORTS_KEPT
from ringfence.core.flow.leases import LeaseTable
from ringfence.core.flow.record import FlowBatch
from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import Lease
from ringfence.core.net.address import format_address
from ringfence.core.net.service import format_point
from ringfence.flows.merge import Merged, merger
from ringfence.flows.parse import flowcore

ENGINES = [pytest.param(False, id="c", marks=pytest.mark.skipif(flowcore() is None, reason="not built")), True]
WEB, DB = workload("web", Lease(ADDRESSES[0])), workload("db", Lease(ADDRESSES[1]))
TWO = Inventory([WEB, DB])
SYN, SYN_ACK = 2, 18
ALLOWED, BLOCKED = REPORTED.index("allowed"), REPORTED.index("blocked")


def merged(batches: list[FlowBatch], inventory: Inventory, **options: Any) -> Merged:
    with merger(LeaseTable.of(inventory), **options) as merging:
        for batch in batches:
            merging.add(batch)
        return merging.finish()


def told(*rows: dict[str, Any], inventory: Inventory = TWO) -> list[dict[str, Any]]:
    """The conversations of these records by both mergers, which must agree, as readable rows."""
    found = [merged([records(*rows)], inventory, pure=pure) for pure in (False, True)]
    assert rows_of(found[0].conversations) == rows_of(found[1].conversations)
    conversations = found[0].conversations
    ends = [e.workload.name if e.workload else format_address(e.address or 0) for e in conversations.endpoints]
    return [
        {
            "from": ends[conversations.source[i]],
            "to": ends[conversations.destination[i]],
            "service": format_point(int(conversations.point[i])),
            "reported": REPORTED[conversations.reported[i]],
            "confidence": DIRECTION_CONFIDENCE[conversations.confidence[i]],
            **{
                name: int(getattr(conversations, name)[i])
                for name in ("hour", "connections", "packets", "bytes", "first", "last")
            },
        }
        for i in range(len(conversations))
    ]


def one(*rows: dict[str, Any], inventory: Inventory = TWO) -> dict[str, Any]:
    found = told(*rows, inventory=inventory)
    assert len(found) == 1, found
    return found[0]


# ---- the mergers agree


@pytest.mark.skipif(flowcore() is None, reason="not built")
@pytest.mark.parametrize("seed", range(60))
def test_c_sql_and_spilled_agree(seed: int) -> None:
    """The C merger, the SQL one, and the C one spilling to disk give equal conversations, in any order of records."""
    rng = np.random.default_rng(seed)
    inventory = random_inventory(rng)
    batches = [random_batch(rng, int(rng.integers(1, 80)), biflow=bool(rng.random() < 0.4)) for _ in range(3)]
    shuffled = [batch.where(rng.permutation(len(batch))) for batch in reversed(batches)]
    found = [
        merged(batches, inventory),
        merged(shuffled, inventory, pure=True),
        merged(shuffled, inventory, most_connections=5),
    ]
    first, *others = [(rows_of(m.conversations), m.early_ends, m.late_ends, m.folded_rows) for m in found]
    assert first[0]
    for other in others:
        assert other == first


@pytest.mark.parametrize("pure", ENGINES)
@pytest.mark.parametrize("seed", range(8))
def test_each_end_is_labelled_as_the_inventory_says(seed: int, pure: bool) -> None:
    """Both ends of a record carry the one workload that held the address at its start; none or several: nobody."""
    rng = np.random.default_rng(1000 + seed)
    inventory = random_inventory(rng)
    batch = random_batch(rng, 100)
    for row in range(10 if pure else len(batch)):
        single = batch.where(np.array([row]))
        found = merged([single], inventory, pure=pure).conversations
        expected = set()
        for hi, lo in ((single.src_hi, single.src_lo), (single.dst_hi, single.dst_lo)):
            address, network = int(hi[0]) << 64 | int(lo[0]), single.networks[single.network[0]]
            holders = {w.name for w in inventory.holders(address, at(single.start[0] / 1000 - T0_S), network)}
            expected.add((network, address, holders.pop() if len(holders) == 1 else None))
        assert {(e.network, e.address, e.workload.name if e.workload else None) for e in found.endpoints} == expected


@pytest.mark.parametrize("pure", ENGINES)
def test_nothing_gives_nothing(pure: bool) -> None:
    """No records are no conversations."""
    found = merged([], TWO, pure=pure)
    assert (len(found.conversations), found.conversations.endpoints) == (0, ())


# ---- one connection, several reports


def test_both_ends_reports_of_both_directions_are_one_connection() -> None:
    """Four records of one connection count once; of each direction the larger report counts, not the sum."""
    there, back = {"bytes": 100, "packets": 2}, {"src": "10.0.0.2", "dst": "10.0.0.1", "sport": 443, "dport": 50000}
    found = one(
        there | {"reporter": 1},
        there | {"reporter": 2, "bytes": 120, "start": 1},
        back | {"reporter": 1, "bytes": 1000, "packets": 5},
        back | {"reporter": 2, "bytes": 900, "packets": 4},
    )
    assert (found["connections"], found["bytes"], found["packets"]) == (1, 1120, 7)
    assert (found["first"], found["last"]) == (T0_S, T0_S + 6)


def test_windows_of_one_reporter_add_up() -> None:
    """A long flow is reported window by window: its bytes add up, and it stays one connection an hour."""
    found = one(*({"start": 60 * n, "bytes": 10} for n in range(30)))
    assert (found["connections"], found["bytes"]) == (1, 300)


def test_every_syn_is_a_connection() -> None:
    """Where flags are reported a port that is used again counts again, once however many reporters saw it."""
    syn = {"flags": SYN}
    rows = [syn | {"start": 100 * n, "reporter": reporter} for n in range(3) for reporter in (1, 2)]
    assert one(*rows, {"start": 50})["connections"] == 3


def test_hours_are_rows() -> None:
    """Traffic belongs to the hour its record starts in."""
    assert [row["hour"] for row in told({}, {"start": 3600})] == [T0_S, T0_S + 3600]


def test_an_address_that_changes_hands_splits_the_row() -> None:
    """Within one hour, traffic goes to whoever held the address at the time, to the millisecond."""
    first = workload("first", Lease(ADDRESSES[1], end=at(100)))
    second = workload("second", Lease(ADDRESSES[1], start=at(100)))
    found = told({"start": 99.999}, {"start": 100}, inventory=Inventory([WEB, first, second]))
    assert sorted(row["to"] for row in found) == ["first", "second"]


def test_networks_keep_equal_addresses_apart() -> None:
    """One address in two networks is two ends."""
    here, there = workload("here", Lease(ADDRESSES[1])), workload("there", Lease(ADDRESSES[1], NETWORKS[1]))
    found = told({}, {"network": 1}, inventory=Inventory([here, there]))
    assert sorted(row["to"] for row in found) == ["here", "there"]


def test_early_and_late_ends_are_counted() -> None:
    """An address somebody held before or held after, but not then, is nobody's, and counted as such."""
    before, after = (
        workload("before", Lease(ADDRESSES[0], end=at(0))),
        workload("after", Lease(ADDRESSES[1], start=at(1))),
    )
    for pure in (False, True):
        found = merged([records({})], Inventory([before, after]), pure=pure)
        assert (found.early_ends, found.late_ends) == (1, 1)
        assert all(end.workload is None for end in found.conversations.endpoints)


# ---- blocked or not


def test_blocked_by_one_end_is_blocked() -> None:
    """The source's side let it out, the destination's did not let it in: the connection was blocked."""
    assert one({"reporter": 1}, {"reporter": 2, "reported": BLOCKED})["reported"] == "blocked"


def test_a_straggler_after_the_close_is_not_a_block() -> None:
    """A reporter that let it through and rejects a late packet blocked nothing; a rejected SYN is a block."""
    assert one({}, {"start": 70, "reported": BLOCKED})["reported"] == "allowed"
    assert one({}, {"start": 70, "reported": BLOCKED, "flags": SYN})["reported"] == "blocked"


def test_unknown_says_nothing() -> None:
    """A reporter that knows no verdict does not outvote one that does."""
    assert one({"reported": 0}, {"reporter": 2})["reported"] == "allowed"
    assert one({"reported": 0})["reported"] == "unknown"


# ---- who is the client

HIGH = {"sport": 40001, "dport": 40000}


def test_the_originator_is_believed_first() -> None:
    """What the source says of who opened it beats flags and ports."""
    found = one({"hint": -1, "rev": (1, 50), "flags": SYN})
    assert (found["from"], found["service"], found["confidence"]) == ("db", "tcp/50000", "originator")
    assert found["bytes"] == 150


def test_flags_beat_ports() -> None:
    """A SYN tells the client, a SYN-ACK the server, whichever record carries it."""
    assert one({"flags": SYN, "sport": 80, "dport": 40000})["to"] == "db"
    found = one({"flags": SYN_ACK, "sport": 40000, "dport": 80})
    assert (found["from"], found["service"], found["confidence"]) == ("db", "tcp/40000", "flags")


def test_a_socket_that_others_open_connections_to_is_the_server() -> None:
    """Without flags of its own, a connection is oriented by a listener others were seen to use."""
    found = told({"flags": SYN, "sport": 60000, "dport": 45000}, {"sport": 44000, "dport": 45000})
    assert [(row["service"], row["confidence"]) for row in found] == [("tcp/45000", "flags")]


def test_fan_in_tells_the_server() -> None:
    """Of two high ports the one with three and more connections is the server's; fewer decide nothing."""
    found = told(*({"sport": 33000 + n, "dport": 61000} for n in range(3)))
    assert [(row["to"], row["service"], row["confidence"]) for row in found] == [("db", "tcp/61000", "fan-in")]
    found = told(*({"sport": 33000 + n, "dport": 61000} for n in range(2)))
    assert {row["confidence"] for row in found} == {"port-order"}
    assert {row["from"] for row in found} == {"db"}


def test_the_lower_port_is_the_server_for_want_of_better() -> None:
    """Port order is a guess, and says so."""
    found = one({"sport": 443, "dport": 50000})
    assert (found["from"], found["service"], found["confidence"]) == ("db", "tcp/443", "port-order")


def test_equal_ports_go_to_who_spoke_first() -> None:
    """NTP peers, IKE and untyped ICMP: the first to send is the client."""
    ntp = {"protocol": 17, "sport": 123, "dport": 123}
    reply = ntp | {"src": "10.0.0.2", "dst": "10.0.0.1"}
    assert one(ntp | {"start": 1}, reply)["from"] == "db"
    assert one(ntp, reply | {"start": 1})["from"] == "web"


def test_ipv6_is_no_different() -> None:
    """IPv6 ends are labelled, merged and oriented alike."""
    six = workload("six", Lease(0xFD000000000000000000000000000001))
    found = one({"src": "2001:db8::1", "dst": "fd00::1"}, inventory=Inventory([six]))
    assert (found["from"], found["to"], found["service"]) == ("2001:db8::1", "six", "tcp/443")


# ---- noise


def test_made_up_high_ports_are_folded() -> None:
    """A pair that talks on ever new high ports keeps a few rows and loses no connection, packet or byte."""
    found = told(*({"sport": 60000, "dport": 33000 + n, "flags": SYN, "bytes": n} for n in range(100)))
    assert len(found) == HIGH_PORTS_KEPT + 1
    assert sum(row["connections"] for row in found) == 100
    assert sum(row["bytes"] for row in found) == sum(range(100))
    folded = [row for row in found if row["confidence"] == "port-order"]
    assert [(row["service"], row["connections"]) for row in folded] == [(f"tcp/{33000 + HIGH_PORTS_KEPT}", 92)]


def test_a_port_scan_is_folded() -> None:
    """A scan of every low port costs as many rows as are kept, and one."""
    found = told(*({"sport": 60000, "dport": 1 + n, "flags": SYN, "reported": BLOCKED} for n in range(2000)))
    assert len(found) == PORTS_KEPT + 1
    assert sum(row["connections"] for row in found) == 2000


# ---- hostile input


def test_counts_do_not_overflow() -> None:
    """Sums of the largest counts stay at the largest count."""
    most = 2**63 - 1
    found = one(
        {"bytes": most},
        {"bytes": most, "start": 1},
        {"src": "10.0.0.2", "dst": "10.0.0.1", "sport": 443, "dport": 50000},
    )
    assert found["bytes"] == most


@pytest.mark.skipif(flowcore() is None, reason="not built")
def test_the_c_merger_refuses_what_it_cannot_hold() -> None:
    """Columns of the wrong kind, records out of range, leases out of order and foreign connections are refused."""
    core = flowcore()
    assert core is not None
    none = tuple(np.zeros(0, kind) for kind in (np.uint64, np.uint64, np.uint32, np.int64, np.int64, np.int32))
    merging = core.Merger(none)
    with pytest.raises(ValueError, match="columns"):
        merging.feed(())
    with pytest.raises(ValueError, match="connections"):
        merging.absorb(b"x" * 88)
    with pytest.raises(ValueError, match="connections"):
        merging.absorb(b"x")
    with pytest.raises(ValueError, match="parts"):
        merging.drain(0)
    hi = np.zeros(3, np.uint64)
    lo = np.array([1, 2, 1], np.uint64)
    t = np.arange(3, dtype=np.int64)
    with pytest.raises(ValueError, match="grouped"):
        core.Merger((hi, lo, np.zeros(3, np.uint32), t, t + 1, np.zeros(3, np.int32)))
    with merger(LeaseTable.of(TWO)) as owner, pytest.raises(ValueError, match="range"):
        owner.add(records({"bytes": -1}))
