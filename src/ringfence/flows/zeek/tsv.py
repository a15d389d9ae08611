"""The header of a tab-separated Zeek log: `#separator`, `#unset_field`, `#fields`."""

from __future__ import annotations

import re
from typing import Final

from ringfence.core.errors import InputError
from ringfence.flows import plan as op
from ringfence.flows.plan import Plan

MEANINGS = {
    "ts": op.TS, "id.orig_h": op.SRC, "id.orig_p": op.SPORT, "id.resp_h": op.DST, "id.resp_p": op.DPORT,
    "proto": op.PROTO_NAME, "ip_proto": op.IP_PROTO, "duration": op.DURATION, "orig_pkts": op.PACKETS,
    "orig_ip_bytes": op.BYTES, "resp_pkts": op.REV_PACKETS, "resp_ip_bytes": op.REV_BYTES, "conn_state": op.STATE,
    "history": op.HISTORY,
}  # fmt: skip
PAYLOAD = {"orig_ip_bytes": "orig_bytes", "resp_ip_bytes": "resp_bytes"}
"""Payload bytes count where a log leaves out the IP bytes."""
_REQUIRED = ("ts", "id.orig_h", "id.orig_p", "id.resp_h", "id.resp_p", "proto")
_ESCAPE = re.compile(rb"\\x([0-9a-fA-F]{2})")


class TsvHeader:
    """Collects header lines until `#fields` comes. Logs that were concatenated bring several headers."""

    is_data: Final = False

    def __init__(self) -> None:
        self._separator, self._null = b"\t", b"-"

    def offer(self, line: bytes) -> Plan | None:
        """Raises InputError `flow-header-missing`, `flow-columns-missing` or `zeek-separator`."""
        if not line.startswith(b"#"):
            raise InputError("flow-header-missing", "the log has records before a `#fields` line names their columns")
        if line.startswith(b"#separator"):
            self._separator = self._single(line.removeprefix(b"#separator").strip(b" "))
            return None
        words = line.split(self._separator)
        if words[0] == b"#unset_field" and len(words) == 2:
            self._null = words[1]
        return (
            self._plan(tuple(word.decode("utf-8", "replace") for word in words[1:])) if words[0] == b"#fields" else None
        )

    def _single(self, text: bytes) -> bytes:
        separator = _ESCAPE.sub(lambda match: bytes([int(match[1], 16)]), text)
        if len(separator) != 1 or separator in b"\r\n#":
            raise InputError("zeek-separator", "the log's separator is not one character")
        return separator

    def _plan(self, names: tuple[str, ...]) -> Plan:
        missing = [name for name in _REQUIRED if name not in names]
        if missing:
            listed = ", ".join(f"`{name}`" for name in missing)
            raise InputError(
                "flow-columns-missing", f"the log has no {listed}", help="log them with Zeek's default conn.log"
            )
        payload = {MEANINGS[full]: name for full, name in PAYLOAD.items() if full not in names}
        meanings = {**MEANINGS, **{name: meaning for meaning, name in payload.items()}}
        return Plan.of(names, meanings, separator=self._separator[0], null=self._null, is_zeek=True)
