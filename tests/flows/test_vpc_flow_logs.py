"""VPC flow logs in every form AWS writes them: default and custom formats, plain, gzip, Parquet."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ringfence.catalog import flow_sources
from ringfence.core.errors import InputError
from ringfence.core.flow.record import FlowBatch
from ringfence.core.flow.tally import Tally
from ringfence.core.net.address import format_address
from ringfence.flows.detect import detect
from ringfence.flows.files import FlowFile
from ringfence.flows.parse import flowcore
from ringfence.flows.vpc_flow_logs import VpcFlowLogs
from ringfence.flows.vpc_flow_logs.fields import DEFAULT

HEADER = " ".join(DEFAULT) + "\n"
ONE = "2 123456789010 eni-1 172.31.16.139 172.31.16.21 20641 22 6 20 4249 1418530010 1418530070 ACCEPT OK\n"
TWO = "2 123456789010 eni-1 172.31.9.69 172.31.9.12 49761 3389 6 20 4249 1418530010 1418530070 REJECT OK\n"
NODATA = "2 123456789010 eni-1 - - - - - - - 1431280876 1431280934 - NODATA\n"
SKIPDATA = "2 123456789010 eni-11111111aaaaaaaaa - - - - - - - 1431280876 1431280934 - SKIPDATA\n"
IPV6 = (
    "2 123456789010 eni-1 2001:db8:1234:a100:8d6e:3477:df66:f105 2001:db8:1234:a102:3304:8879:34cf:4071 34892 22 6 54"
    " 8855 1477913708 1477913820 ACCEPT OK\n"
)


@pytest.fixture(params=["c", "numpy"], autouse=True)
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test of this file reads with both readers."""
    if request.param == "numpy":
        monkeypatch.setenv("RINGFENCE_PURE", "1")
    elif flowcore() is None:
        pytest.skip("the C extension is not built")


def read(path: Path, source: VpcFlowLogs | None = None) -> tuple[list[FlowBatch], Tally]:
    tally = Tally(str(path))
    content = FlowFile(path)
    source = source or VpcFlowLogs()
    assert source.sniff(content.head(), str(path))
    return list(source.batches(content, tally)), tally


def rows(batches: Sequence[FlowBatch]) -> list[tuple[str, int, str, int, int, int]]:
    """(source, port, destination, port, protocol, bytes) of every record."""
    out = []
    for b in batches:
        columns = (b.src_hi, b.src_lo, b.src_port, b.dst_hi, b.dst_lo, b.dst_port, b.protocol, b.bytes)
        for sh, sl, sp, dh, dl, dp, p, n in zip(*(c.tolist() for c in columns), strict=True):
            out.append((format_address(sh << 64 | sl), sp, format_address(dh << 64 | dl), dp, p, n))
    return out


def stored(tmp_path: Path, content: str | bytes, name: str = "log") -> Path:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


FIRST = ("172.31.16.139", 20641, "172.31.16.21", 22, 6, 4249)
SECOND = ("172.31.9.69", 49761, "172.31.9.12", 3389, 6, 4249)


@pytest.mark.parametrize(
    "content",
    [
        HEADER + ONE + TWO,
        ONE + TWO,
        ONE + TWO[:-1],
        (HEADER + ONE + TWO).replace("\n", "\r\n"),
        "\ufeff" + HEADER + ONE + TWO,
        "\n\n" + HEADER + ONE + "\n" + TWO,
        HEADER + ONE + HEADER + TWO,
        "".join(f"2014-12-14T04:06:50.000Z {line}" for line in (ONE, TWO)),
    ],
    ids=["header", "headerless", "unterminated", "crlf", "bom", "blanks", "repeated-header", "cloudwatch"],
)
@pytest.mark.parametrize("compress", [False, True])
def test_text_forms(tmp_path: Path, content: str, compress: bool) -> None:
    """The default format is read with and without header, whatever the line ends, plain and gzip."""
    data = content.encode()
    batches, tally = read(stored(tmp_path, gzip.compress(data) if compress else data))
    assert rows(batches) == [FIRST, SECOND]
    assert (tally.records, tally.malformed, tally.report().is_balanced) == (2, 0, True)
    assert [int(r) for b in batches for r in b.reported] == [1, 2]


def test_windows_without_records(tmp_path: Path) -> None:
    """NODATA and SKIPDATA are counted apart, IPv6 is read."""
    batches, tally = read(stored(tmp_path, HEADER + NODATA + SKIPDATA + IPV6))
    assert (tally.nodata, tally.skipdata, tally.records, tally.lines) == (1, 1, 1, 4)
    assert rows(batches)[0][0] == "2001:db8:1234:a100:8d6e:3477:df66:f105"


def test_any_column_order(tmp_path: Path) -> None:
    """A custom format is read by the names in its header, in any order, unknown names passed over."""
    names = ["end", "new-field", *reversed(DEFAULT[2:11]), "log-status"]
    values = dict(zip(DEFAULT, ONE.split(), strict=True)) | {"new-field": "x/y:z"}
    content = " ".join(names) + "\n" + " ".join(values[name] for name in names) + "\n"
    batches, tally = read(stored(tmp_path, content))
    assert rows(batches) == [FIRST]
    assert batches[0].end.tolist() == [1418530070000]
    assert batches[0].reported.tolist() == [0]
    assert not tally.findings


def test_packet_addresses_win(tmp_path: Path) -> None:
    """Behind a NAT gateway or a pod's address the addresses in the packet count; `-` leaves the interface's."""
    header = (
        "pkt-srcaddr srcaddr dstaddr pkt-dstaddr srcport dstport protocol start interface-id tcp-flags flow-direction\n"
    )
    line = "10.0.1.5 10.0.0.220 10.0.0.9 203.0.113.5 39812 80 6 1418530010 eni-1 18 egress\n"
    batches, _ = read(stored(tmp_path, header + line + line.replace("203.0.113.5", "-")))
    assert [(r[0], r[2]) for r in rows(batches)] == [("10.0.1.5", "203.0.113.5"), ("10.0.1.5", "10.0.0.9")]
    assert batches[0].flags.tolist() == [18, 18]


def test_a_vpc_may_be_a_network(tmp_path: Path) -> None:
    """The VPC id says which network the addresses live in; a VPC nobody named is the default one, and counted."""
    header = "vpc-id srcaddr dstaddr srcport dstport protocol start interface-id\n"
    lines = "".join(f"{vpc} 10.0.0.1 10.0.0.2 5000 80 6 1418530010 eni-1\n" for vpc in ("vpc-a", "vpc-b", "vpc-x", "-"))
    batches, tally = read(stored(tmp_path, header + lines), VpcFlowLogs({"vpc-a": "left", "vpc-b": "right"}))
    found = [batches[0].networks[n] for n in batches[0].network.tolist()]
    assert found == ["left", "right", "main", "main"]
    assert tally.unmapped_networks == 2
    plain, counted = read(stored(tmp_path, header + lines))
    assert (plain[0].networks, counted.unmapped_networks) == (("main",), 0)


def test_who_reported_must_be_told(tmp_path: Path) -> None:
    """Without an interface id the flow direction tells two ends' reports apart; without both a finding says so."""
    header = "srcaddr dstaddr srcport dstport protocol start"
    line = "10.0.0.1 10.0.0.2 5000 80 6 1418530010"
    batches, tally = read(stored(tmp_path, f"{header} flow-direction\n{line} ingress\n{line} egress\n"))
    assert len(set(batches[0].reporter.tolist())) == 2
    assert not tally.findings
    _, tally = read(stored(tmp_path, f"{header}\n{line}\n"))
    assert [finding.code for finding in tally.findings] == ["flow-reporter-missing"]


@pytest.mark.parametrize("missing", ["srcaddr", "dstport", "protocol", "start"])
def test_a_format_without_the_least_is_refused(tmp_path: Path, missing: str) -> None:
    """A format that lacks an address, port, protocol or time is refused by name."""
    kept = [n for n in DEFAULT if n != missing] + (["x-srcaddr"] if missing == "srcaddr" else [])
    with pytest.raises(InputError, match=f"`{missing}`") as refused:
        read(stored(tmp_path, " ".join(kept) + "\n"))
    assert refused.value.code == "flow-columns-missing"


def test_files_of_several_formats_in_one(tmp_path: Path) -> None:
    """Gzip members one after the other, each with its own header, are read each by its own."""
    other = "interface-id dstaddr srcaddr srcport dstport protocol bytes start\n"
    other += "eni-2 10.0.0.2 10.0.0.1 5000 80 6 7 1418530010\n"
    path = stored(tmp_path, gzip.compress((HEADER + ONE).encode()) + b"\0" * 7 + gzip.compress(other.encode()))
    batches, tally = read(path)
    assert rows(batches) == [FIRST, ("10.0.0.1", 5000, "10.0.0.2", 80, 6, 7)]
    assert (tally.lines, tally.skipped, tally.malformed) == (4, 2, 0)


def test_a_line_that_only_looks_like_a_header_is_malformed(tmp_path: Path) -> None:
    """A line that names columns, but not enough, is a malformed line, and the file goes on as before."""
    batches, tally = read(stored(tmp_path, HEADER + ONE + "srcaddr and dstaddr are nice\n" + TWO))
    assert rows(batches) == [FIRST, SECOND]
    assert (tally.malformed, tally.lines, tally.report().is_balanced) == (1, 4, True)


def test_nothing_but_almost_headers(tmp_path: Path) -> None:
    """A file full of lines that look like headers is read line by line, each malformed, real headers passed over."""
    batches, tally = read(stored(tmp_path, HEADER + ONE + "srcaddr dstaddr\n" * 300 + HEADER * 50 + TWO))
    assert rows(batches) == [FIRST, SECOND]
    assert (tally.malformed, tally.skipped) == (300, 51)


def test_malformed_lines_are_shown_with_their_place(tmp_path: Path) -> None:
    """File, line, column and reason of a malformed line are told, also blocks into the file."""
    bad = ONE.replace(" 20641 ", " port ")
    path = stored(tmp_path, HEADER + ONE * 60_000 + bad + ONE)
    batches, tally = read(path)
    (finding,) = tally.findings
    assert (finding.code, finding.where.file, finding.where.line) == ("line-number", str(path), 60_002)
    assert "`srcport`" in finding.message
    assert finding.text == bad.rstrip()
    assert sum(len(batch) for batch in batches) == 60_001
    assert len(batches) > 1


def test_a_truncated_gzip_gives_what_it_has(tmp_path: Path) -> None:
    """What was read before the end counts; the half line is malformed, never believed; a finding says it was cut."""
    rng = np.random.default_rng(3)
    lines = [ONE.replace("4249", str(n)) for n in rng.integers(1, 10**9, 5000).tolist()]
    data = gzip.compress((HEADER + "".join(lines)).encode())
    batches, tally = read(stored(tmp_path, data[: len(data) // 2]))
    assert 0 < tally.records < 5000
    assert rows(batches) == [(*FIRST[:5], int(line.split()[9])) for line in lines[: tally.records]]
    assert {finding.code for finding in tally.findings} <= {"gzip-truncated", "line-cut"}
    assert tally.findings[0].code == "gzip-truncated"
    assert tally.report().is_balanced


def test_damage_in_a_gzip_is_a_finding(tmp_path: Path) -> None:
    """A gzip that stops making sense gives what came before, and a finding."""
    data = bytearray(gzip.compress((HEADER + ONE).encode()) + b"not a member")
    batches, tally = read(stored(tmp_path, bytes(data)))
    assert rows(batches) == [FIRST]
    assert [finding.code for finding in tally.findings] == ["gzip-damaged"]


def test_an_endless_line_is_passed_over(tmp_path: Path) -> None:
    """A line of megabytes costs one malformed line and no memory to speak of; what follows is read."""
    batches, tally = read(stored(tmp_path, (HEADER + ONE).encode() + b"x" * 20_000_000 + b"\n" + TWO.encode()))
    assert rows(batches) == [FIRST, SECOND]
    assert (tally.malformed, tally.lines, tally.findings[0].code) == (1, 4, "line-too-long")


def test_an_endless_line_at_the_end(tmp_path: Path) -> None:
    """The same where the file ends in it, and in a gzip cut off in it."""
    content = (HEADER + ONE).encode() + b"x" * 9_000_000
    _, tally = read(stored(tmp_path, content))
    assert (tally.malformed, tally.lines, tally.report().is_balanced) == (1, 3, True)
    data = gzip.compress(content + np.random.default_rng(1).bytes(100_000).replace(b"\n", b""))
    _, tally = read(stored(tmp_path, data[:-5000]))
    assert (tally.malformed, tally.report().is_balanced) == (1, True)


# ---- Parquet

NUMBERS = {"version": pa.int32(), "srcport": pa.int32(), "dstport": pa.int32(), "protocol": pa.int32(),
           "packets": pa.int64(), "bytes": pa.int64(), "start": pa.int64(), "end": pa.int64()}  # fmt: skip


def parquet(path: Path, lines: Sequence[str], changed: dict[str, pa.Array] | None = None) -> Path:
    """The same lines as AWS writes them in Parquet: underscores in names, numbers as numbers, nulls for `-`."""
    columns = {}
    for name, values in zip(DEFAULT, zip(*(line.split() for line in lines), strict=True), strict=True):
        texts = pa.array([None if value == "-" else value for value in values], pa.string())
        columns[name.replace("-", "_")] = texts.cast(NUMBERS.get(name, pa.string()))
    pq.write_table(pa.table(columns | (changed or {})), path)
    return path


def test_parquet_is_the_same(tmp_path: Path) -> None:
    """Parquet gives the records that the same lines give as text, and the same counts."""
    icmp = ONE.replace(" 20641 22 6 ", " 0 0 1 ")
    lines = [ONE, TWO, IPV6, NODATA, SKIPDATA, icmp]
    from_text, text_tally = read(stored(tmp_path, HEADER + "".join(lines)))
    from_parquet, tally = read(parquet(tmp_path / "x.parquet", lines))
    for name in ("start", "end", "reporter", "reported", "flags", "hint", "packets", "network"):
        assert getattr(from_parquet[0], name).tolist() == getattr(from_text[0], name).tolist()
    assert rows(from_parquet) == rows(from_text)
    for counter in ("records", "nodata", "skipdata", "malformed", "untyped_icmp"):
        assert getattr(tally, counter) == getattr(text_tally, counter)
    assert (tally.lines, tally.report().is_balanced) == (6, True)


def test_parquet_faults_are_shown_by_row(tmp_path: Path) -> None:
    """Values out of range, words and addresses that are none, and missing ones are malformed rows."""
    changed = {
        "srcport": pa.array([1, 70000, 2, 3, 4], pa.int32()),
        "srcaddr": pa.array(["10.0.0.1", "10.0.0.1", "host", None, "10.0.0.1"]),
        "action": pa.array(["ACCEPT", "ACCEPT", "ACCEPT", "ACCEPT", "MAYBE"]),
    }
    batches, tally = read(parquet(tmp_path / "x.parquet", [ONE] * 5, changed))
    assert len(rows(batches)) == 1
    found = [(finding.code, finding.where.line) for finding in tally.findings]
    assert found == [("line-range", 2), ("line-address", 3), ("line-missing", 4), ("line-word", 5)]
    assert tally.report().is_balanced


def test_parquet_numbers_as_text(tmp_path: Path) -> None:
    """Some tools rewrite every column as a string; the numbers are read all the same."""
    texts = {
        name: pa.array([value]) for name, value in (("bytes", "4249"), ("srcport", "20641"), ("start", "1418530010"))
    }
    batches, _ = read(parquet(tmp_path / "x.parquet", [ONE], texts))
    assert rows(batches) == [FIRST]
    _, tally = read(parquet(tmp_path / "y.parquet", [ONE], {"bytes": pa.array(["many"])}))
    assert tally.findings[0].code == "line-number"


@pytest.mark.parametrize("cut", [10, 300, -1])
def test_damaged_parquet_is_refused(tmp_path: Path, cut: int) -> None:
    """A Parquet file without its end has no columns to be read by."""
    path = parquet(tmp_path / "x.parquet", [ONE] * 10)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(InputError) as refused:
        read(path)
    assert refused.value.code == "parquet-damaged"


def test_parquet_of_something_else_is_refused(tmp_path: Path) -> None:
    """A Parquet file that is no flow log is refused by the columns it lacks."""
    pq.write_table(pa.table({"a": [1]}), tmp_path / "x.parquet")
    with pytest.raises(InputError, match="`srcaddr`"):
        read(tmp_path / "x.parquet")


@pytest.mark.parametrize(
    "head", [b"", b"hello world\n", b"{}", b"\x1f\x8b", b"a b c d e f g h i j k l m OK\n", b"\0" * 100]
)
def test_other_content_is_not_claimed(head: bytes) -> None:
    """The source claims nothing it cannot read, and detection refuses what nobody claims."""
    assert not VpcFlowLogs().sniff(head, "x")
    with pytest.raises(InputError) as refused:
        detect(head, "x", flow_sources())
    assert refused.value.code == "flow-format-unknown"
