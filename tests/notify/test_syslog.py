"""Syslog and CEF: the bytes are those of the RFCs, and arrive whole at real receivers."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from receivers import NOW, notice, papers, stream

from ringfence.notify.cef import cef, header_text, value_text
from ringfence.notify.syslog import SyslogNotifier, json_body, message, parameter
from ringfence.ports.notifier import NotifyError

RFC_5424 = re.compile(
    rb"<(?P<pri>[1-9]\d{0,2})>1 (?P<at>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{1,6}Z) (?P<host>[!-~]{1,255}) "
    rb"(?P<app>[!-~]{1,48}) (?P<pid>[!-~]{1,128}) (?P<id>[!-~]{1,32}) "
    rb"(?P<sd>(?:\[[!-<>-Z\\^-~]+(?: [a-zA-Z]+=\"(?:[^\"\\\]]|\\[\"\\\]])*\")*\])+) (?P<msg>.*)",
    re.DOTALL,
)
"""The grammar of section 6, with what this product never leaves out."""


def test_a_message_is_rfc_5424() -> None:
    """Priority, time, names, structured data and body, each where and as the grammar has it."""
    data = message(notice(), json_body(notice()), hostname="ctl.example", process=7)
    match = RFC_5424.fullmatch(data)

    assert match is not None
    assert match["pri"] == b"84"
    assert match["at"] == b"2026-03-03T12:00:00.250000Z"
    assert (match["host"], match["app"], match["pid"], match["id"]) == (
        b"ctl.example",
        b"ringfence",
        b"7",
        b"violation",
    )
    assert json.loads(match["msg"])["data"]["service"] == "tcp/22"


@pytest.mark.parametrize(("severity", "priority"), [("info", 86), ("warning", 84), ("error", 83), ("critical", 82)])
def test_priority_is_facility_times_eight_plus_severity(severity: str, priority: int) -> None:
    """authpriv (10), and the severity's number of RFC 5424 table 2."""
    data = message(notice(severity=severity), "x", hostname="h", process=1)

    assert data.startswith(b"<%d>1 " % priority)


@given(st.text(), st.text(max_size=300))
def test_no_name_breaks_the_grammar(host: str, kind: str) -> None:
    """Whatever hosts and kinds are called, the header has its fields and no line end."""
    match = RFC_5424.fullmatch(message(notice(kind=kind), "body", hostname=host, process=1))

    assert match is not None
    assert match["msg"] == b"body"


def test_text_beyond_ascii_is_marked_as_utf_8() -> None:
    """UTF-8 begins with a byte order mark, ASCII does not; JSON is always ASCII."""
    plain = message(notice(), "abc", hostname="h", process=1)
    marked = message(notice(), "zürich", hostname="h", process=1)

    assert plain.endswith(b"] abc")
    assert marked.endswith(b"] \xef\xbb\xbfz\xc3\xbcrich")
    assert json_body(notice(message="zürich")).isascii()


def test_a_parameter_is_escaped_as_section_6_3_3_says() -> None:
    """Quote, backslash and bracket, and nothing else."""
    assert parameter('a"b\\c]d[e') == 'a\\"b\\\\c\\]d[e'


# ---- CEF ------------------------------------------------------------------------------------------------------------


def parse_cef(line: str) -> tuple[list[str], dict[str, str]]:
    """An independent reader: header fields and extension, unescaped."""
    fields = re.split(r"(?<!\\)(?:\\\\)*\|", line, maxsplit=7)
    assert fields[0] == "CEF:0"
    keys = list(re.finditer(r"(?:^|(?<= ))([A-Za-z0-9]+)=", fields[7]))
    pairs = {}
    for number, key in enumerate(keys):
        end = keys[number + 1].start() - 1 if number + 1 < len(keys) else len(fields[7])
        text = fields[7][key.end() : end]
        pairs[key[1]] = re.sub(r"\\(.)", lambda m: {"n": "\n", "r": "\r"}.get(m[1], m[1]), text)
    return fields[:7], pairs


def test_a_notice_as_cef() -> None:
    """Every fact is under the key of the CEF dictionary that means it."""
    header, pairs = parse_cef(cef(notice()))

    assert header[1:] == ["Ringfence", "Ringfence", "0.1.0", "violation.opened", "violation opened", "5"]
    assert pairs["src"] == "10.0.0.1"
    assert (pairs["c6a3"], pairs["c6a3Label"]) == ("fd00::2", "Destination IPv6 Address")
    assert (pairs["shost"], pairs["dhost"], pairs["proto"], pairs["dpt"]) == ("web-1", "db-1", "TCP", "22")
    assert (pairs["act"], pairs["cnt"], pairs["rt"]) == ("blocked", "3", str(int(NOW.timestamp() * 1000)))
    assert (pairs["cs1"], pairs["cs1Label"]) == ("shop/no-ssh", "rule")
    assert (pairs["cs2"], pairs["cs3"]) == ("app=shop,role=web", "app=shop,role=db")
    assert pairs["msg"] == notice().message


@pytest.mark.parametrize("service", ["icmp/echo", "icmp4/13", "proto/47"])
def test_only_ports_are_ports(service: str) -> None:
    """An ICMP type or a protocol number is not written as a destination port."""
    assert "dpt" not in parse_cef(cef(notice(service=service)))[1]


def test_cef_escapes_exactly_what_it_must() -> None:
    """In the header backslash and pipe; in values backslash, equals sign and line ends."""
    assert header_text("a|b\\c=d\ne") == "a\\|b\\\\c=d e"
    assert value_text("a|b\\c=d\ne\r\nf\rg") == "a|b\\\\c\\=d\\ne\\nf\\rg"


@given(st.text(alphabet=st.sampled_from("ab=|\\ \n\rcs1 msg")))
def test_a_value_cannot_break_out_of_its_field(text: str) -> None:
    """A rule or message made to look like other fields stays the text it is, on one line."""
    line = cef(notice(rule="x" + text, message="y" + text))
    _, pairs = parse_cef(line)

    assert len(line.splitlines()) == 1
    assert pairs["cs1"] == ("x" + text).replace("\r\n", "\n")
    assert pairs["msg"] == ("y" + text).replace("\r\n", "\n")
    assert pairs["externalId"] == "a1"


# ---- transports -----------------------------------------------------------------------------------------------------


def body_of(frame: bytes) -> dict[str, Any]:
    match = RFC_5424.fullmatch(frame)
    assert match is not None
    document: dict[str, Any] = json.loads(match["msg"])
    return document["data"]  # type: ignore[no-any-return]


def test_udp_is_one_datagram_a_notice() -> None:
    """Each notice arrives whole, in a datagram of its own."""

    async def go() -> list[bytes]:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
            receiver.bind(("127.0.0.1", 0))
            receiver.settimeout(10)
            notifier = SyslogNotifier("127.0.0.1", receiver.getsockname()[1], hostname="h")
            for number in range(3):
                await notifier.send(notice(f"a{number}-1"))
            await notifier.close()
            return [receiver.recv(70_000) for _ in range(3)]

    assert [body_of(data)["id"] for data in asyncio.run(go())] == ["a0-1", "a1-1", "a2-1"]


def test_what_no_datagram_holds_is_refused_for_good() -> None:
    """Nothing is cut: the error says which transports hold it."""

    async def go() -> None:
        await SyslogNotifier("127.0.0.1", 9).send(notice(message="x" * 66_000))

    with pytest.raises(NotifyError) as error:
        asyncio.run(go())
    assert (error.value.code, error.value.is_permanent) == ("notice-too-large", True)


def test_nobody_listening_is_noticed() -> None:
    """A port that answers ICMP unreachable, or refuses TCP, is a failure that may be tried again."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]

        async def go(transport: Any) -> None:
            await SyslogNotifier("127.0.0.1", port, transport=transport).send(notice())

        for transport in ("udp", "tcp"):
            with pytest.raises(NotifyError) as error:
                asyncio.run(go(transport))
            assert (error.value.code, error.value.is_permanent) == ("notice-undelivered", False)


def test_tcp_counts_octets_not_characters() -> None:
    """Messages with line ends and UTF-8 arrive as they were, one frame each, over one connection."""

    async def go() -> tuple[list[bytes], int]:
        async with stream() as receiver:
            notifier = SyslogNotifier(
                "127.0.0.1", receiver.port, transport="tcp", body=lambda n: n.message, hostname="h"
            )
            for text in ("zürich\n1 x", "second"):
                await notifier.send(notice(message=text))
            frames = [await receiver.frames.get(), await receiver.frames.get()]
            await notifier.close()
            await receiver.ended.get()
            return frames, receiver.connections

    frames, connections = asyncio.run(asyncio.wait_for(go(), 20))
    assert frames[0].endswith("\ufeffzürich\n1 x".encode())
    assert frames[1].endswith(b"] second")
    assert connections == 1


def test_a_connection_that_was_closed_is_made_anew() -> None:
    """A receiver that restarted between two notices gets the second one."""

    async def go() -> tuple[str, int]:
        async with stream() as receiver:
            notifier = SyslogNotifier("127.0.0.1", receiver.port, transport="tcp", hostname="h")
            await notifier.send(notice("a1-1"))
            await receiver.frames.get()
            await receiver.hang_up()
            assert notifier._stream is not None
            await notifier._stream[0].read()
            await notifier.send(notice("a2-1"))
            second = await receiver.frames.get()
            await notifier.close()
            return body_of(second)["id"], receiver.connections

    assert asyncio.run(asyncio.wait_for(go(), 20)) == ("a2-1", 2)


def tls_of(path: Path, client: Path | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=path)
    if client is not None:
        context.load_cert_chain(client)
    return context


def test_tls_carries_it_with_a_client_certificate(tmp_path: Path) -> None:
    """RFC 5425: both sides authenticate, frames are counted as over TCP."""
    good = papers(tmp_path, is_client_asked=True)

    async def go() -> bytes:
        async with stream(good.server) as receiver:
            tls = tls_of(good.ca_file, good.client_file)
            notifier = SyslogNotifier("127.0.0.1", receiver.port, transport="tls", tls=tls)
            await notifier.send(notice())
            frame = await receiver.frames.get()
            await notifier.close()
            return frame

    assert body_of(asyncio.run(asyncio.wait_for(go(), 20)))["id"] == "a1-1"


@pytest.mark.parametrize("fault", ["authority", "name"])
def test_tls_refuses_a_receiver_it_cannot_verify(tmp_path: Path, fault: str) -> None:
    """An unknown authority or another host's certificate gets no notice."""
    shown = papers(tmp_path, name="127.0.0.1" if fault == "authority" else "elsewhere.example")
    tls = ssl.create_default_context() if fault == "authority" else tls_of(shown.ca_file)

    async def go() -> int:
        async with stream(shown.server) as receiver:
            notifier = SyslogNotifier("127.0.0.1", receiver.port, transport="tls", tls=tls)
            with pytest.raises(NotifyError) as error:
                await notifier.send(notice())
            assert error.value.code == "notice-undelivered"
            return receiver.frames.qsize()

    assert asyncio.run(asyncio.wait_for(go(), 20)) == 0
