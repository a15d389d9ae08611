"""Zeek conn logs as TSV and as JSON: the same records either way."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from ringfence.core.errors import InputError
from ringfence.core.flow.record import FlowBatch
from ringfence.core.flow.tally import Tally
from ringfence.flows.files import FlowFile
from ringfence.flows.parse import flowcore
from ringfence.flows.zeek import Zeek

FIELDS = [
    "ts", "uid", "id.orig_h", "id.orig_p", "id.resp_h", "id.resp_p", "proto", "service", "duration", "orig_bytes",
    "resp_bytes", "conn_state", "local_orig", "local_resp", "missed_bytes", "history", "orig_pkts", "orig_ip_bytes",
    "resp_pkts", "resp_ip_bytes", "tunnel_parents",
]  # fmt: skip
NUMBERS = {"ts", "id.orig_p", "id.resp_p", "duration", "orig_bytes", "resp_bytes", "missed_bytes", "orig_pkts",
           "orig_ip_bytes", "resp_pkts", "resp_ip_bytes"}  # fmt: skip
LINES = [
    "1521911721.255387 C 10.164.94.120 39681 10.47.3.155 3389 tcp - 0.004266 97 19 RSTR - - 0 ShADTdtr 10 730 6 342 -",
    "1258531221.486539 Pii6cUU 192.168.1.102 68 192.168.1.1 67 udp - 0.163820 301 300 SF - - 0 Dd 1 329 1 328 -",
    "1300475168.652003 CC 141.142.220.118 35634 208.80.152.2 80 tcp - 0.061329 463 350 OTH - - 0 DdA^ 2 567 1 402 -",
    "1300475169.780331 CPbrpk1 141.142.220.235 6705 173.192.163.128 80 tcp - - - - S0 - - 0 S 1 48 0 0 -",
    "1300475170.1 CX fe80::1 128 ff02::1 0 icmp - - - - OTH - - 0 - 1 64 0 0 -",
    "1300475170 CY 10.0.0.1 8 10.0.0.2 0 icmp - 1.000000 64 64 SF - - 0 - 1 84 1 84 -",
]
COLUMNS = (
    "start", "end", "packets", "bytes", "src_hi", "src_lo", "dst_hi", "dst_lo", "reporter", "src_port", "dst_port",
    "protocol", "flags", "reported", "hint", "network", "rev_packets", "rev_bytes",
)  # fmt: skip


@pytest.fixture(params=["c", "numpy"], autouse=True)
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test of this file reads with both readers."""
    if request.param == "numpy":
        monkeypatch.setenv("RINGFENCE_PURE", "1")
    elif flowcore() is None:
        pytest.skip("the C extension is not built")


def header(*, separator: str = "\t", unset: str = "-", fields: list[str] = FIELDS, path: str = "conn") -> str:
    escaped = "\\x" + separator.encode().hex()
    lines = [f"#separator {escaped}", f"#set_separator{separator},", f"#unset_field{separator}{unset}"]
    return (
        "\n".join([*lines, f"#path{separator}{path}", separator.join(["#fields", *fields]), f"#types{separator}..."])
        + "\n"
    )


def tsv(lines: list[str] = LINES) -> str:
    return header() + "".join(line.replace(" ", "\t") + "\n" for line in lines) + "#close\t2019-11-08-11-44-16\n"


def objects(lines: list[str] = LINES) -> list[dict[str, object]]:
    out = []
    for line in lines:
        values = {name: value for name, value in zip(FIELDS, line.split(" "), strict=True) if value != "-"}
        out.append({n: (float(v) if "." in v else int(v)) if n in NUMBERS else v for n, v in values.items()})
    return out


def read(path: Path, content: str | bytes) -> tuple[dict[str, list[int]], Tally]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    source, tally, opened = Zeek(), Tally(str(path)), FlowFile(path)
    assert source.sniff(opened.head(), str(path))
    batches = list(source.batches(opened, tally))
    assert tally.report().is_balanced
    return {name: [v for b in batches for v in column_of(b, name)] for name in COLUMNS}, tally


def column_of(batch: FlowBatch, name: str) -> list[int]:
    values: list[int] = getattr(batch, name).tolist()
    return values


def test_json_and_tsv_are_the_same(tmp_path: Path) -> None:
    """One log as TSV, as JSON, and gzipped gives equal records, to the millisecond."""
    from_tsv, tally = read(tmp_path / "a", tsv())
    assert (tally.records, tally.malformed, tally.format) == (6, 0, "zeek-conn/tsv")
    lines = "".join(json.dumps(o) + "\n" for o in objects())
    from_json, tally = read(tmp_path / "b", lines)
    assert (tally.records, tally.malformed, tally.format) == (6, 0, "zeek-conn/json")
    assert from_json == from_tsv
    assert read(tmp_path / "c", gzip.compress(lines.encode()))[0] == from_tsv
    assert read(tmp_path / "d", gzip.compress(tsv().encode()))[0] == from_tsv


def test_what_a_record_says(tmp_path: Path) -> None:
    """IP bytes of both directions, milliseconds, let through where both ends spoke, the originator is client."""
    found, _ = read(tmp_path / "a", tsv())
    assert (found["bytes"][0], found["rev_bytes"][0], found["packets"][0], found["rev_packets"][0]) == (730, 342, 10, 6)
    assert (found["start"][0], found["end"][0]) == (1521911721255, 1521911721259)
    assert found["reported"] == [1, 1, 0, 0, 0, 1]
    assert found["hint"] == [1, 1, 0, 1, 0, 1]
    assert found["protocol"] == [6, 17, 6, 6, 58, 1]
    assert (found["src_port"][4:], found["dst_port"][4:]) == ([128, 8], [128, 8])


def test_json_times_as_text(tmp_path: Path) -> None:
    """Times may be ISO 8601."""
    records = objects(LINES[:1])
    records[0]["ts"] = "2018-03-24T17:15:21.255387Z"
    found, _ = read(tmp_path / "a", json.dumps(records[0]) + "\n")
    assert found["start"] == [1521911721255]


def test_headers_are_obeyed(tmp_path: Path) -> None:
    """Another separator and another word for unset are read as the header says, also when logs were concatenated."""
    piped = header(separator="|", unset="NIL") + LINES[3].replace(" - ", " NIL ").replace(" - ", " NIL ").replace(
        " -", " NIL"
    ).replace(" ", "|")
    found, tally = read(tmp_path / "a", tsv(LINES[:1]) + piped + "\n")
    assert (tally.records, tally.malformed) == (2, 0)
    assert found["dst_port"] == [3389, 80]


def test_payload_counts_where_ip_bytes_are_left_out(tmp_path: Path) -> None:
    """A log without IP bytes is read by its payload bytes."""
    fields = [f for f in FIELDS if "ip_bytes" not in f]
    values = dict(zip(FIELDS, LINES[0].split(" "), strict=True))
    found, _ = read(tmp_path / "a", header(fields=fields) + "\t".join(values[f] for f in fields) + "\n")
    assert (found["bytes"], found["rev_bytes"]) == ([97], [19])
    record = {k: v for k, v in objects(LINES[:1])[0].items() if "ip_bytes" not in k}
    found, _ = read(tmp_path / "b", json.dumps(record) + "\n")
    assert (found["bytes"], found["rev_bytes"]) == ([97], [19])


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"ts": -1}, "line-json"),
        ({"ts": "yesterday"}, "line-number"),
        ({"ts": "1969-01-01T00:00:00Z"}, "line-number"),
        ({"ts": None}, "line-json"),
        ({"id.orig_p": 70000}, "line-json"),
        ({"id.orig_p": "80"}, "line-json"),
        ({"id.orig_h": "host"}, "line-address"),
        ({"id.resp_h": "fd00::1"}, "line-family"),
        ({"proto": "gre"}, "line-word"),
        ({"proto": "unknown_transport"}, "line-protocol"),
        ({"orig_ip_bytes": 2**70}, "line-json"),
        ({"duration": 1e300}, "line-json"),
        ({"duration": 4e9}, "line-range"),
    ],
)
def test_json_faults(tmp_path: Path, change: dict[str, object], code: str) -> None:
    """A field that is not what it should be makes its line malformed, with the reason; the next line is read."""
    record = objects(LINES[:1])[0]
    content = "".join(json.dumps(r) + "\n" for r in (record, record | change, record))
    found, tally = read(tmp_path / "a", content)
    assert [(f.code, f.where.line) for f in tally.findings] == [(code, 2)]
    assert len(found["start"]) == 2


@pytest.mark.parametrize(
    "junk", [b"{", b"[]", b"\xff\xfe", b'"x"', b"{}" * 40000, b"[" * 50000, b'{"ts":1' + b" " * 70000 + b"}"]
)
def test_json_junk(tmp_path: Path, junk: bytes) -> None:
    """Lines that are no objects, nested beyond reason, or longer than a line may be, are malformed."""
    good = json.dumps(objects(LINES[:1])[0]).encode() + b"\n"
    found, tally = read(tmp_path / "a", good + junk + b"\n\n" + good)
    assert (len(found["start"]), tally.malformed, tally.skipped) == (2, 1, 1)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ("#path\tconn\n#fields\tts\tid.orig_h\n", "flow-columns-missing"),
        ("#separator \\x09\\x09\n#path\tconn\n#fields\tid.orig_h\tconn_state\n", "zeek-separator"),
    ],
)
def test_headers_that_cannot_be_read_by(tmp_path: Path, content: str, code: str) -> None:
    """A log whose header names too little is refused with a code."""
    with pytest.raises(InputError) as refused:
        read(tmp_path / "a", content)
    assert refused.value.code == code


@pytest.mark.parametrize(
    "head",
    [
        b"",
        header(path="dns", fields=[f for f in FIELDS if f != "conn_state"]).encode(),
        b'{"_path":"dns","id.orig_h":"10.0.0.1"}\n',
        b"{" * 10000,
        b"[1,2]\n",
        b"#comment\n",
    ],
)
def test_other_logs_are_not_claimed(head: bytes) -> None:
    """Zeek's other logs, other JSON and other comments are not conn logs."""
    assert not Zeek().sniff(head, "x")
