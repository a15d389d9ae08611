"""The bytes that the lab's services and clients exchange, and the identity every answer carries.

INVARIANT: every answer of every service contains its identity `lab:HOST/SERVICE;`, so whoever gets an answer knows
which host and service really gave it.
"""

from __future__ import annotations

import ipaddress
import re
import struct
from collections.abc import Mapping, Sequence

import msgspec

_IDENTITY = re.compile(rb"lab:([a-z0-9-]+)/([a-z0-9-]+);")
PROBE = b"lab?"
"""A datagram that asks any UDP service for its identity alone."""
STORE_BYTES = 512
HTTP_BODY = b"<!doctype html><title>lab</title>" + b"." * 991
DOMAIN = "lab.example"

_HEADER = struct.Struct("!HHHHHH")
_QUESTION_TAIL = struct.Struct("!HH")
_ANSWER = struct.Struct("!HHHIH")
A, TXT, AAAA, IN = 1, 16, 28, 1


class Identity(msgspec.Struct, frozen=True):
    """Who answered."""

    host: str
    service: str

    def __bytes__(self) -> bytes:
        return f"lab:{self.host}/{self.service};".encode()


def parse_identity(answer: bytes) -> Identity | None:
    """The identity in an answer; None when it holds none."""
    match = _IDENTITY.search(answer)
    return Identity(match[1].decode(), match[2].decode()) if match else None


def http_request(host: str) -> bytes:
    return f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()


def http_answer(identity: Identity) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nServer: %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
    return head % (bytes(identity), len(HTTP_BODY)) + HTTP_BODY


def greeting(identity: Identity) -> bytes:
    """The server's first line, as SSH gives it (RFC 4253 section 4.2)."""
    return b"SSH-2.0-%s\r\n" % bytes(identity)


def store_request(size_bytes: int = STORE_BYTES) -> bytes:
    return b"GET %d\r\n" % size_bytes


def store_answer(identity: Identity, request: bytes) -> bytes:
    """One line: the identity, then as many bytes as were asked for; a request it cannot read gets `ERR`."""
    word, _, size = request.strip().partition(b" ")
    if word != b"GET" or not size.isdigit() or int(size) > 1 << 16:
        return b"%s ERR\r\n" % bytes(identity)
    return b"%s %s\r\n" % (bytes(identity), b"." * int(size))


def ntp_request() -> bytes:
    """A client packet of SNTP version 4 (RFC 5905 section 7.3)."""
    return b"\x23" + bytes(47)


def ntp_answer(identity: Identity, request: bytes) -> bytes:
    """A server packet (mode 4, stratum 2) that echoes the client's transmit time as origin, then the identity."""
    return b"\x24\x02" + bytes(22) + request[40:48].ljust(8, b"\0") + bytes(16) + bytes(identity)


def dns_query(name: str, kind: int, query_id: int) -> bytes:
    """A recursive query for one name (RFC 1035 section 4.1)."""
    return _HEADER.pack(query_id, 0x0100, 1, 0, 0, 0) + _name(name) + _QUESTION_TAIL.pack(kind, IN)


def dns_answer(identity: Identity, zone: Mapping[str, Sequence[str]], query: bytes) -> bytes:
    """The addresses of the asked name, or NXDOMAIN, with the identity as a TXT record of the additional section."""
    asked = _question(query)
    if asked is None:
        return bytes(identity)
    name, kind, question = asked
    known = zone.get(name)
    packed = [ipaddress.ip_address(address).packed for address in known or ()]
    found = [rdata for rdata in packed if len(rdata) == (4 if kind == A else 16)] if kind in (A, AAAA) else []
    flags = 0x8180 if known is not None else 0x8183
    text = bytes([len(bytes(identity))]) + bytes(identity)
    records = [_ANSWER.pack(0xC00C, kind, IN, 60, len(rdata)) + rdata for rdata in found]
    identified = _ANSWER.pack(0xC00C, TXT, IN, 0, len(text)) + text
    return query[:2] + _HEADER.pack(0, flags, 1, len(found), 0, 1)[2:] + question + b"".join(records) + identified


def dns_addresses(answer: bytes) -> list[str]:
    """The addresses of an answer that `dns_answer` made. Raises ValueError when it is not such an answer."""
    asked = _question(answer)
    if asked is None or len(answer) < _HEADER.size:
        raise ValueError("the answer is no DNS message")
    count = _HEADER.unpack_from(answer)[3]
    offset, out = _HEADER.size + len(asked[2]), []
    for _ in range(count):
        size = _ANSWER.unpack_from(answer, offset)[4]
        offset += _ANSWER.size + size
        out.append(str(ipaddress.ip_address(answer[offset - size : offset])))
    return out


def _name(name: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


def _question(message: bytes) -> tuple[str, int, bytes] | None:
    """(name, type, the question's bytes); None when there is none that can be read."""
    labels: list[str] = []
    offset = _HEADER.size
    while offset < len(message) and (size := message[offset]):
        if size > 63:
            return None
        labels.append(message[offset + 1 : offset + 1 + size].decode("ascii", "replace"))
        offset += 1 + size
    if offset + 1 + _QUESTION_TAIL.size > len(message):
        return None
    kind, _ = _QUESTION_TAIL.unpack_from(message, offset + 1)
    return ".".join(labels).lower(), kind, message[_HEADER.size : offset + 1 + _QUESTION_TAIL.size]
