"""The source: which content is a Zeek conn log, and which of the two readers reads it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np

from ringfence.core.flow.record import FlowBatch, opaque_id
from ringfence.core.flow.tally import Tally
from ringfence.flows.lines import LineReader
from ringfence.flows.settle import Columns
from ringfence.flows.zeek.jsonlines import JsonHeader, parse_json
from ringfence.flows.zeek.tsv import TsvHeader
from ringfence.ports.flow_source import FlowInput

_BOM = b"\xef\xbb\xbf"
_REPORTER = opaque_id(b"zeek")


class Zeek:
    """Zeek conn.log. All its records count as one reporter's: each connection is logged once."""

    name = "zeek-conn"

    def sniff(self, head: bytes, name: str) -> bool:
        head = head.removeprefix(_BOM).lstrip(b"\r\n")
        return _is_json(head) or _is_tsv(head)

    def batches(self, content: FlowInput, tally: Tally) -> Iterator[FlowBatch]:
        first = next(content.blocks(), b"").removeprefix(_BOM).lstrip(b"\r\n ")
        if first.startswith(b"{"):
            tally.format = f"{self.name}/json"
            return LineReader(content, tally, JsonHeader(), _batch, parse_json).batches()
        tally.format = f"{self.name}/tsv"
        return LineReader(content, tally, TsvHeader(), _batch).batches()


def _batch(columns: Columns) -> FlowBatch:
    columns.pop("scope")
    rows = len(columns["start"])
    columns["reporter"] = np.full(rows, _REPORTER, np.uint64)
    return FlowBatch(**columns, network=np.zeros(rows, np.uint32))  # type: ignore[arg-type]


def _is_tsv(head: bytes) -> bool:
    """`#path conn`, or without a path the columns only conn.log has."""
    if not head.startswith(b"#"):
        return False
    lines = [line.split(None, 1) for line in head.splitlines() if line.startswith(b"#")]
    said = {words[0]: words[1].strip() for words in lines if len(words) == 2}
    fields = said.get(b"#fields", b"")
    return b"id.orig_h" in fields and (said.get(b"#path") == b"conn" or b"conn_state" in fields)


def _is_json(head: bytes) -> bool:
    """The first line that is an object is a connection."""
    for line in head.splitlines():
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict):
            return "id.orig_h" in record and ("conn_state" in record or record.get("_path") == "conn")
    return False
