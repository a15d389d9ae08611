"""`ringfence up` as a process that is told to stop while people are connected."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ringfence.controller import audit
from ringfence.controller.identity.signing import SigningKeys
from ringfence.controller.records.backing_up import STATE
from ringfence.stores.sql import SqlState

PATIENCE_S = 60.0
RINGFENCE = str(Path(sys.executable).with_name("ringfence"))


class Process:
    """A controller in a process of its own."""

    def __init__(self, folder: Path) -> None:
        command = [RINGFENCE, "up", str(folder), "--json", "--listen", "127.0.0.1", "--port", "0", "--bus-port", "0"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.log: list[str] = []
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()
        assert self.process.stdout is not None
        told = self.process.stdout.readline()
        assert told, "".join(self.log)
        self.token = json.loads(told)["token"]
        self.port = int(json.loads(told)["url"].rpartition(":")[2])

    def _read(self) -> None:
        assert self.process.stderr is not None
        self.log.extend(self.process.stderr)

    def open(self, request: str) -> ssl.SSLSocket:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        opened = context.wrap_socket(socket.create_connection(("127.0.0.1", self.port), PATIENCE_S))
        opened.sendall(f"{request}\r\nHost: localhost\r\nAuthorization: Bearer {self.token}\r\n".encode())
        return opened

    def stop(self, number: int) -> list[tuple[str, str, str]]:
        """What it logs from then on, as (level, who, what)."""
        before = len(self.log)
        self.process.send_signal(number)
        assert self.process.wait(PATIENCE_S) == 0, "".join(self.log)
        self._reading.join(PATIENCE_S)
        found = [json.loads(line) for line in self.log[before:]]
        return [(one["level"], one["logger"], one["message"]) for one in found]


@contextmanager
def up(folder: Path) -> Iterator[Process]:
    one = Process(folder)
    try:
        yield one
    finally:
        one.process.kill()
        one.process.wait()


async def audit_of(folder: Path) -> audit.Checked:
    """As it is on the disk."""
    keys, state = SigningKeys.open(folder / "signing.json"), SqlState(folder / STATE)
    try:
        return await state.read(lambda view: audit.verify(view, keys.trusted))
    finally:
        await state.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_ends_event_streams_and_says_one_line(tmp_path: Path, number: int) -> None:
    """With an event stream, an idle connection and a request that never ends: a stream ends as a whole, the rest is cut
    off, and the log has one line of it. The audit log is signed to its end."""
    with up(tmp_path / "controller") as process:
        stream = process.open("GET /v1/events HTTP/1.1")
        stream.sendall(b"\r\n")
        assert b"200 OK" in stream.recv(4096)
        idle = process.open("GET /v1/status HTTP/1.1")
        idle.sendall(b"\r\n")
        assert b"200 OK" in idle.recv(4096)
        endless = process.open("POST /v1/check HTTP/1.1")
        endless.sendall(b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{")

        told = process.stop(number)

        assert told == [("info", "ringfence.api.run", "stopping; hosts stay as they are")]
        rest = b""
        while part := stream.recv(4096):
            rest += part
        assert rest.endswith(b"0\r\n\r\n")
        for opened in (stream, idle, endless):
            opened.close()
    checked = asyncio.run(audit_of(tmp_path / "controller"))
    assert checked.broken is None
    assert checked.signed == checked.entries > 0
