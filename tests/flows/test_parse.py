"""The C reader and the numpy reader are one reader: equal on every input, and right about what they read."""

from __future__ import annotations

import ipaddress
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ringfence.core.flow import tally
from ringfence.core.flow.record import opaque_id
from ringfence.core.net.address import parse_address
from ringfence.flows.parse import Parsed, flowcore, parse
from ringfence.flows.plan import Plan
from ringfence.flows.vpc_flow_logs.fields import DEFAULT, plan_of
from ringfence.flows.zeek.tsv import TsvHeader

AWS = plan_of(DEFAULT, header=" ".join(DEFAULT).encode())
GOOD = b"2 1 eni-1 10.0.1.5 10.0.2.9 49152 5432 6 10 840 1418530010 1418530070 ACCEPT OK\n"
SIX = b"2 1 eni-2 2001:db8::1 fd00::9 49152 443 17 1 60 1418530010 1418530070 REJECT OK\n"
NONE = b"2 1 eni-1 - - - - - - - 1418530010 1418530070 - NODATA\n"
SKIP = b"2 1 eni-1 - - - - - - - 1418530010 1418530070 - SKIPDATA\n"
ZEEK_FIELDS = (
    b"#fields\tts\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tproto\tip_proto\tduration\torig_ip_bytes\tconn_state"
    b"\thistory"
)
ZEEK = TsvHeader().offer(ZEEK_FIELDS)
ZEEK_LINE = b"1300475167.096535\t10.0.0.1\t40000\t10.0.0.2\t22\ttcp\t-\t1.5\t100\tSF\tShADadFf\n"
COUNTED = ("lines", "nodata", "skipdata", "skipped", "malformed", "untyped")

pytestmark = pytest.mark.skipif(flowcore() is None, reason="the C extension is not built: there is nothing to compare")


def run(data: bytes, plan: Plan, *, is_final: bool, pure: bool) -> Parsed:
    """A whole block by one reader, however many steps it takes, up to a header or an unfinished line."""
    steps = [parse(data, plan, is_final=is_final, pure=pure)]
    consumed, rejects = steps[0].consumed, list(steps[0].rejects)
    while steps[-1].consumed and not steps[-1].is_stopped and consumed < len(data):
        lines = sum(step.lines for step in steps)
        steps.append(parse(memoryview(data)[consumed:], plan, is_final=is_final, pure=pure))
        rejects += [r._replace(line=r.line + lines, offset=r.offset + consumed) for r in steps[-1].rejects]
        consumed += steps[-1].consumed
    counts = {name: sum(getattr(step, name) for step in steps) for name in COUNTED}
    columns = {name: np.concatenate([step.columns[name] for step in steps]) for name in steps[0].columns}
    shown = tuple(rejects[: tally.SHOWN])
    return Parsed(consumed, columns=columns, is_stopped=steps[-1].is_stopped, rejects=shown, **counts)


def agreed(data: bytes, plan: Plan = AWS, *, is_final: bool = True) -> Parsed:
    """What both readers say; they must say the same."""
    in_c, in_numpy = (run(data, plan, is_final=is_final, pure=pure) for pure in (False, True))
    for name in (*COUNTED, "consumed", "is_stopped", "rejects"):
        assert getattr(in_c, name) == getattr(in_numpy, name), name
    for name, column in in_c.columns.items():
        assert column.dtype == in_numpy.columns[name].dtype
        assert column.tolist() == in_numpy.columns[name].tolist(), name
    kept = len(in_c.columns["start"])
    assert in_c.lines == kept + in_c.nodata + in_c.skipdata + in_c.skipped + in_c.malformed
    return in_c


def line(**fields: str) -> bytes:
    """A default-format line with some fields changed."""
    values = dict(zip(DEFAULT, GOOD.decode().split(), strict=True)) | {
        k.replace("_", "-"): v for k, v in fields.items()
    }
    return (" ".join(values.values()) + "\n").encode()


def reason_of(text: bytes, plan: Plan = AWS) -> int:
    """Why the one line is malformed; 0 if it is not."""
    parsed = agreed(text, plan)
    assert parsed.lines == 1
    return parsed.rejects[0].reason if parsed.rejects else 0


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (GOOD, 0),
        (GOOD[:-1], 0),
        (GOOD[:-1] + b"\r\n", 0),
        (GOOD.replace(b" OK", b""), tally.COLUMNS),
        (GOOD.replace(b" OK", b" OK more"), tally.COLUMNS),
        (line(srcaddr="10.0.1.256"), tally.ADDRESS),
        (line(srcaddr="10.0.1"), tally.ADDRESS),
        (line(srcaddr="-"), tally.MISSING),
        (line(srcport="-"), tally.MISSING),
        (line(srcport="-1"), tally.NUMBER),
        (line(srcport="65536"), tally.RANGE),
        (line(dstport="4.5"), tally.NUMBER),
        (line(bytes="99999999999999999999999"), tally.RANGE),
        (line(bytes="9223372036854775808"), tally.RANGE),
        (line(bytes="9223372036854775807"), 0),
        (line(bytes="000000000000000000000000000012"), 0),
        (line(bytes="+5"), tally.NUMBER),
        (line(bytes="5\0"), tally.NUMBER),
        (line(protocol="256"), tally.RANGE),
        (line(start="4294967296"), tally.RANGE),
        (line(end="1418530009"), tally.TIME),
        (line(action="DROP"), tally.WORD),
        (line(action=""), tally.WORD),
        (line(log_status="ok"), tally.WORD),
        (line(dstaddr="fd00::1"), tally.FAMILY),
        (line(srcaddr="10.0.1.5\0"), tally.ADDRESS),
        (line(account_id="x" * 70000), tally.TOO_LONG),
        (line(account_id="x" * 60000), 0),
        (b"\0" * 100 + b"\n", tally.COLUMNS),
        (line(account_id="\0"), 0),
    ],
)
def test_each_fault_has_its_reason(text: bytes, reason: int) -> None:
    """A faulty line is malformed for the stated reason; a sound one is a record, whatever its end of line."""
    assert reason_of(text) == reason


def test_every_line_is_one_thing() -> None:
    """Headers, blanks, NODATA, SKIPDATA, records and malformed lines are told apart and add up."""
    header = " ".join(DEFAULT).encode() + b"\n"
    parsed = agreed(header + GOOD + NONE + b"\n" + SKIP + header + b"junk\n" + SIX)
    assert (parsed.lines, parsed.nodata, parsed.skipdata, parsed.skipped, parsed.malformed) == (8, 1, 1, 3, 1)
    assert parsed.rejects[0][:1] == (6,)
    assert parsed.columns["packets"].tolist() == [10, 1]


def test_an_unfinished_line_waits() -> None:
    """Without the end of the file the unfinished last line is left for the next block."""
    parsed = agreed(GOOD + GOOD[:-5], is_final=False)
    assert (parsed.consumed, parsed.lines) == (len(GOOD), 1)
    assert agreed(b"", is_final=False).consumed == 0


def test_another_header_stops_the_run() -> None:
    """A malformed line that names columns ends the run before it, so that another plan can be made of it."""
    other = b"srcaddr dstaddr srcport dstport protocol start\n"
    parsed = agreed(GOOD + other + GOOD)
    assert (parsed.is_stopped, parsed.consumed, parsed.lines) == (True, len(GOOD), 1)


def test_only_the_first_faults_are_listed() -> None:
    """All malformed lines are counted, the first twenty listed."""
    parsed = agreed(b"junk\n" * 100)
    assert (parsed.malformed, len(parsed.rejects)) == (100, tally.SHOWN)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, 0),
        ({5: "udp", 10: "Dd"}, 0),
        ({5: "icmp", 2: "8", 4: "0"}, 0),
        ({5: "icmp", 2: "256"}, tally.RANGE),
        ({5: "gre"}, tally.WORD),
        ({5: "unknown_transport"}, tally.PROTOCOL),
        ({5: "unknown_transport", 6: "47"}, 0),
        ({5: "-"}, tally.MISSING),
        ({0: "1300475167"}, 0),
        ({0: "1300475167."}, tally.NUMBER),
        ({0: "-1.0"}, tally.NUMBER),
        ({0: "nan"}, tally.NUMBER),
        ({0: "4294967296.0"}, tally.RANGE),
        ({0: "4294967295.9", 7: "1"}, tally.RANGE),
        ({0: "4294967296.x"}, tally.NUMBER),
        ({7: "-"}, 0),
        ({7: "1.0000000000000000000000001"}, 0),
        ({7: "1.2.3"}, tally.NUMBER),
    ],
)
def test_zeek_faults(fields: dict[int, str], reason: int) -> None:
    """The same for Zeek's columns: times with fractions, protocol names, ICMP types."""
    values = ZEEK_LINE.decode().rstrip().split("\t")
    for at, value in fields.items():
        values[at] = value
    assert ZEEK is not None
    assert reason_of("\t".join(values).encode() + b"\n", ZEEK) == reason


def test_icmp_is_its_request() -> None:
    """An ICMP reply is turned round: it carries its request's type, and the other end asked."""
    reply = ZEEK_LINE.replace(b"\t40000\t", b"\t0\t").replace(b"\t22\ttcp", b"\t0\ticmp")
    assert ZEEK is not None
    parsed = agreed(reply + reply.replace(b"\t0\t", b"\t8\t", 1), ZEEK)
    assert parsed.columns["src_port"].tolist() == [8, 8]
    assert parsed.columns["hint"].tolist() == [-1, 1]
    six = agreed(
        reply.replace(b"10.0.0.1", b"fd00::1").replace(b"10.0.0.2", b"fd00::2").replace(b"\t0\t", b"\t129\t", 1), ZEEK
    )
    assert (six.columns["protocol"].tolist(), six.columns["dst_port"].tolist()) == ([58], [128])


def test_untyped_icmp_is_echo_and_counted() -> None:
    """AWS reports no ICMP type: it is taken as echo, of its family, and counted."""
    parsed = agreed(line(protocol="1", srcport="0", dstport="0"))
    assert (parsed.columns["dst_port"].tolist(), parsed.untyped) == ([8], 1)


addresses = st.one_of(
    st.ip_addresses().map(str),
    st.ip_addresses(v=6).map(lambda a: a.exploded.upper()),
    st.ip_addresses(v=4).map(lambda a: f"::ffff:{a}"),
    st.ip_addresses(v=4).map(lambda a: f"64:ff9b::{a}"),
    st.text("0123456789abcdefABCDEF:.%/", max_size=50),
    st.lists(st.sampled_from(["", "0", "1", "01", "ffff", "12345", "g", "1.2.3.4"]), max_size=10).map(":".join),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(addresses, min_size=1, max_size=20))
def test_addresses_are_read_as_python_reads_them(texts: list[str]) -> None:
    """An address is accepted exactly when `ipaddress` accepts it (without a zone), and is the same number."""
    plan = Plan.of(("a", "b", "c", "d", "e", "f"), {"a": 1, "b": 2, "c": 5, "d": 6, "e": 7, "f": 10})
    parsed = agreed(b"".join(f"{t} {t} 1 2 6 1418530010\n".encode() for t in texts), plan)
    expected = []
    for text in texts:
        try:
            expected.append(int(parse_address(text)))
        except (ValueError, ipaddress.AddressValueError):
            continue
    high, low = parsed.columns["src_hi"].tolist(), parsed.columns["src_lo"].tolist()
    assert [h << 64 | lo for h, lo in zip(high, low, strict=True)] == expected


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400), st.booleans(), st.booleans())
def test_any_bytes_are_accounted_for(data: bytes, is_final: bool, is_zeek: bool) -> None:
    """No input crashes a reader, and both account for every line of it alike."""
    plan = ZEEK if is_zeek else AWS
    assert plan is not None
    agreed(data, plan, is_final=is_final)


INSERTED = (b" ", b"\t", b"9" * 20, b"0" * 22 + b"1", b"::", b"srcaddr", b"\n#fields\tx\n", b"-", b".")


def mutate(rng: random.Random, data: bytearray) -> None:
    at = rng.randrange(len(data))
    roll = rng.random()
    if roll < 0.3:
        data[at] = rng.randrange(256)
    elif roll < 0.6:
        data[at] = rng.choice(b"0123456789 -:.\n\r\0af\t#^")
    elif roll < 0.8:
        del data[at : at + rng.randint(1, 10)]
    else:
        words = (
            b" ",
            b"\t",
            b"99999999999999999999",
            b"00000000000000000000001",
            b"::",
            b"srcaddr",
            b"\n#fields\tx\n",
            b"-",
            b".",
        )
        data[at:at] = rng.choice(words)


@pytest.mark.parametrize("seed", range(40))
def test_damaged_logs_are_read_alike(seed: int) -> None:
    """Real logs with bytes changed, lost and added: the same records, faults and positions from both readers."""
    rng = random.Random(seed)
    assert ZEEK is not None
    for _ in range(25):
        is_zeek = rng.random() < 0.4
        lines = [ZEEK_LINE, b"#close\n"] if is_zeek else [GOOD, SIX, NONE, SKIP, line(protocol="58")]
        data = bytearray(b"".join(rng.choice(lines) for _ in range(rng.randint(1, 5))))
        for _ in range(rng.randint(0, 6)):
            if data:
                mutate(rng, data)
        agreed(bytes(data), ZEEK if is_zeek else AWS, is_final=rng.random() < 0.5)


def test_ids_are_opaque_ids() -> None:
    """The reporter's number is `opaque_id` of its name: the same from both readers, different for different names."""
    names = ["a", "b", "eni-1", "eni-12345678", "x" * 63, "x" * 64, "x" * 65, "x" * 1000]
    assert len({opaque_id(name.encode()) for name in names}) == len(names)
    for name in names:
        assert agreed(line(interface_id=name)).columns["reporter"].tolist() == [opaque_id(name.encode())]


def test_the_c_reader_refuses_what_is_not_a_plan() -> None:
    """Meanings, columns and buffers that do not fit are refused before anything is read."""
    core = flowcore()
    assert core is not None
    columns = tuple(np.zeros(4, kind) for kind in (np.int64,) * 18)
    with pytest.raises(ValueError, match="plan"):
        core.parse(b"x\n", True, 32, b"\xff", b"-", b"", False, columns, 1)
    with pytest.raises(ValueError, match="plan"):
        core.parse(b"x\n", True, 32, b"\0", b"-", b"", False, columns[:3], 1)
    with pytest.raises(BufferError):
        core.parse(b"x\n", True, 32, b"\0", b"-", b"", False, (b"const",) * 18, 1)
    with pytest.raises(ValueError, match="aligned"):
        core.parse(b"x\n", True, 32, b"\0", b"-", b"", False, (np.zeros(33, np.uint8)[1:],) * 18, 1)


def test_a_full_table_stops_and_goes_on() -> None:
    """A table with less room than lines is filled, and the rest is left to be read."""
    core = flowcore()
    assert core is not None
    from ringfence.flows.settle import COLUMN_TYPES

    columns = tuple(np.zeros(2, kind) for kind in COLUMN_TYPES.values())
    consumed, lines, rows, *_ = core.parse(GOOD * 5, True, 32, AWS.ops, b"-", b"", False, columns, 1)
    assert (consumed, lines, rows) == (2 * len(GOOD), 2, 2)


GUARDED = """
import ctypes, mmap, random, sys
import numpy as np
sys.path.insert(0, sys.argv[1])
from test_parse import AWS, GOOD, INSERTED, SIX, ZEEK, ZEEK_LINE, mutate
from ringfence.flows.parse import parse

page = mmap.PAGESIZE
memory = mmap.mmap(-1, 2 * page)
at = ctypes.addressof(ctypes.c_char.from_buffer(memory))
assert ctypes.CDLL(None, use_errno=True).mprotect(ctypes.c_void_p(at + page), page, 0) == 0
whole = np.frombuffer(memory, np.uint8)
rng = random.Random(1)
lines = 0
for _ in range(4000):
    plan, line = (ZEEK, ZEEK_LINE) if rng.random() < 0.5 else (AWS, rng.choice((GOOD, SIX)))
    data = bytearray(line * 2)
    for _ in range(rng.randint(0, 3)):
        mutate(rng, data)
    del data[rng.randrange(len(data)) + 1 :]
    whole[page - len(data) : page] = np.frombuffer(bytes(data), np.uint8)
    lines += parse(memoryview(whole[page - len(data) : page]), plan, is_final=True).lines
print(lines > 4000)
"""


def test_no_read_leaves_the_buffer() -> None:
    """With a page nobody may touch right behind the input, logs cut off anywhere are read without a fault."""
    command = [sys.executable, "-c", GUARDED, str(Path(__file__).parent)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (run.returncode, run.stdout) == (0, "True\n"), run.stderr
