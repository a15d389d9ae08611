"""The source: which content is a VPC flow log, and which of the two readers reads it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from ringfence.core.flow.record import DEFAULT_NETWORK, FlowBatch, opaque_id
from ringfence.core.flow.tally import Tally
from ringfence.flows.lines import LineReader
from ringfence.flows.plan import WORDS, Plan
from ringfence.flows.settle import Columns
from ringfence.flows.vpc_flow_logs import parquet
from ringfence.flows.vpc_flow_logs.fields import DEFAULT, STAMPED, plan_of, reporter_of
from ringfence.ports.flow_source import FlowInput

_STAMP = re.compile(rb"\d{4}-\d\d-\d\dT[\d:.]+Z")
_STATUS = frozenset(WORDS[13])
_LINES_SNIFFED = 50
_NO_REPORTER_HELP = "add `interface-id` to the flow log's format"


class VpcFlowLogs:
    """AWS VPC flow logs. `networks`: which network the addresses of a VPC id live in; others are in the default one."""

    name = "vpc-flow-logs"

    def __init__(self, networks: Mapping[str, str] = MappingProxyType({})) -> None:
        self._networks = (DEFAULT_NETWORK, *sorted(set(networks.values()) - {DEFAULT_NETWORK}))
        numbers = {opaque_id(vpc.encode()): self._networks.index(network) for vpc, network in networks.items()}
        self._vpcs = np.array(sorted(numbers), np.uint64)
        self._numbers = np.array([numbers[vpc] for vpc in sorted(numbers)], np.uint32)

    def sniff(self, head: bytes, name: str) -> bool:
        if head.startswith(parquet.MAGIC):
            return True
        lines = head.removeprefix(b"\xef\xbb\xbf").splitlines()[:_LINES_SNIFFED]
        return any(_is_header(line) or _is_default(line) or _is_stamped(line) for line in lines)

    def batches(self, content: FlowInput, tally: Tally) -> Iterator[FlowBatch]:
        def finish(columns: Columns) -> FlowBatch:
            return self._batch(columns, tally)

        if _is_parquet(content):
            tally.format = f"{self.name}/parquet"
            return parquet.batches(content, tally, finish)
        tally.format = f"{self.name}/text"
        return LineReader(content, tally, _Header(tally), finish).batches()

    def _batch(self, columns: Columns, tally: Tally) -> FlowBatch:
        scope = columns.pop("scope")
        columns.pop("rev_packets"), columns.pop("rev_bytes")
        network = self._network(scope.astype(np.uint64, copy=False), tally)
        return FlowBatch(**columns, network=network, networks=self._networks)  # type: ignore[arg-type]

    def _network(self, scope: NDArray[np.uint64], tally: Tally) -> NDArray[np.uint32]:
        if not len(self._vpcs):
            return np.zeros(len(scope), np.uint32)
        at = np.minimum(np.searchsorted(self._vpcs, scope), len(self._vpcs) - 1)
        is_named = self._vpcs[at] == scope
        tally.unmapped_networks += int(np.count_nonzero(~is_named))
        return np.where(is_named, self._numbers[at], 0).astype(np.uint32)


class _Header:
    """A text file's header line, or its absence: then the default format."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self.is_data = False

    def offer(self, line: bytes) -> Plan:
        self.is_data = not _is_header(line)
        if self.is_data:
            return plan_of(STAMPED if _is_stamped(line) else DEFAULT)
        names = tuple(line.decode("utf-8", "replace").split(" "))
        plan = plan_of(names, header=line)
        if reporter_of(names) is None:
            message = "the flow log does not say who reported: where both ends did, bytes count twice"
            self._tally.note("flow-reporter-missing", message, help=_NO_REPORTER_HELP)
        return plan


def _is_header(line: bytes) -> bool:
    return b"srcaddr" in line and b"dstaddr" in line


def _is_default(line: bytes) -> bool:
    tokens = line.split(b" ")
    return len(tokens) == len(DEFAULT) and tokens[0].isdigit() and tokens[-1] in _STATUS


def _is_stamped(line: bytes) -> bool:
    stamp, _, rest = line.partition(b" ")
    return _STAMP.fullmatch(stamp) is not None and _is_default(rest)


def _is_parquet(content: FlowInput) -> bool:
    with content.path.open("rb") as file:
        return file.read(len(parquet.MAGIC)) == parquet.MAGIC
