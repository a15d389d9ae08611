"""Which format a file is in, told by its content."""

from __future__ import annotations

from collections.abc import Sequence

from ringfence.core.errors import InputError
from ringfence.ports.flow_source import FlowSource

_COMPRESSIONS = {b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"PK\x03\x04": "zip"}


def detect(head: bytes, name: str, among: Sequence[FlowSource]) -> FlowSource:
    """The source for content beginning with `head`. Raises InputError `flow-format-unknown`, `flow-compression`."""
    for source in among:
        if source.sniff(head, name):
            return source
    for magic, compression in _COMPRESSIONS.items():
        if head.startswith(magic):
            raise InputError(
                "flow-compression",
                f"`{name}` is compressed with {compression}",
                help="unpack it first; gzip is read as it is",
            )
    known = ", ".join(source.name for source in among)
    raise InputError("flow-format-unknown", f"`{name}` is in no known format of flow records", help=f"known: {known}")
