"""The controller of a lab as people run it: `ringfence up` in a network of its own, and a client that is logged in.

    served = Served(lab, folder)
    served.start()                 # returns once it serves; the first time with an administrator's token
    served.client.status()
    served.kill()                  # kill -9, it and its bus; `start` again

The client talks TLS to the real API; only its way there is the lab's (`lab.relay`).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import signal
import ssl
import sys
import time
from pathlib import Path
from typing import Final

import httpx
import msgspec

from ringfence.client.client import Client
from ringfence.client.errors import Unreachable
from ringfence.client.login import Login
from ringfence.core.errors import RingfenceError
from ringfence.lab import relay
from ringfence.lab.channel import Channel, Done
from ringfence.lab.fleet import ADDRESS, CONTROLLER
from ringfence.lab.lab import Lab, Program

PORT: Final = 8443
FLOWS_S: Final = 5
"""How often a lab's agents tell their flows, and the controller stores them."""
COMMAND: Final = (sys.executable, "-c", "from ringfence.cli.main import main; main()")
_READY_S: Final = 120.0
_POLL_S: Final = 0.05
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


class _Serving(msgspec.Struct, frozen=True):
    """What `ringfence up --json` says when it serves."""

    url: str
    bus: tuple[str, ...]
    ca_fingerprint: str
    token: str | None = None


class Served:
    """One controller of one lab. For one thread, but for `client`."""

    def __init__(self, lab: Lab, folder: Path, socket: Path) -> None:
        """`folder`: where it keeps everything; `socket`: where the way to it begins, a short path."""
        self._lab, self._folder, self._socket = lab, folder, socket
        self._log = folder.with_suffix(".log")
        self._program: Program | None = None
        self._relay: Channel | None = None
        self._client: Client | None = None
        self._login: Login | None = None

    def another_client(self) -> Client:
        """One more, for another thread. Raises as `client`."""
        if self._login is None:
            raise RingfenceError("lab-process-lost", "the controller never ran", help="start it")
        return Client(self._login, through=str(self._socket))

    @property
    def client(self) -> Client:
        """The administrator's. Raises RingfenceError `lab-process-lost` before the first start."""
        if self._client is None:
            raise RingfenceError("lab-process-lost", "the controller never ran", help="start it")
        return self._client

    @property
    def pids(self) -> tuple[int, ...]:
        """The controller, then its bus."""
        return () if self._program is None else (self._program.pid, *_children(self._program.pid))

    def start(self) -> None:
        """Return once it answers. Raises RingfenceError `lab-process-slow`, `lab-process-lost`."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        (self._folder / "controller.toml").write_text(f"flows_s = {FLOWS_S}\n")
        self._log.touch(mode=0o600)
        seen = self._log.stat().st_size
        argv = (*COMMAND, "up", str(self._folder), "--name", ADDRESS, "--json")
        self._program = self._lab.start_program(CONTROLLER, argv, log=self._log)
        self._program.channel.close()
        serving = self._await(seen)
        if self._client is None:
            self._client = self._logged_in(serving)

    def _await(self, seen: int) -> _Serving:
        deadline = time.monotonic() + _READY_S
        while time.monotonic() < deadline:
            for line in self._said(seen):
                with contextlib.suppress(msgspec.DecodeError):
                    return msgspec.json.decode(line, type=_Serving)
            if not self._lives():
                raise RingfenceError("lab-process-lost", "the controller ended", help=f"its last words: {self._log}")
            time.sleep(_POLL_S)
        raise RingfenceError("lab-process-slow", "the controller does not serve", help=f"its words: {self._log}")

    def _said(self, seen: int) -> list[bytes]:
        with self._log.open("rb") as log:
            log.seek(seen)
            return log.read().splitlines()

    def _lives(self) -> bool:
        return bool(self._program and is_alive(self._program.pid))

    def _logged_in(self, serving: _Serving) -> Client:
        task = relay.RelayTask(str(self._socket), ADDRESS, PORT)
        self._relay = self._lab.start_task("relay", task, CONTROLLER)
        self._relay.call(relay.Listening(), Done, timeout_s=_READY_S)
        self._login = Login(serving.url, serving.token or "", self._ca(serving))
        return self.another_client()

    def _ca(self, serving: _Serving) -> str:
        """The CA it offers, if it is the one with that fingerprint."""
        anybody = ssl.create_default_context()
        anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
        with httpx.Client(transport=httpx.HTTPTransport(verify=anybody, uds=str(self._socket))) as unknown:
            offered = unknown.get(f"{serving.url}/v1/ca").text
        for pem in _PEM.findall(offered):
            if hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest() == serving.ca_fingerprint:
                return str(pem)
        raise RingfenceError("controller-unknown", "who answers does not have the controller's CA", help="try again")

    def kill(self) -> None:
        """As `kill -9`, the controller and its bus. What was acknowledged is on its disk."""
        pids, self._program = self.pids, None
        for pid in pids[1:]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._lab.send_signal(pids[0], signal.SIGKILL)

    def answers(self) -> bool:
        """Whether the API does."""
        try:
            self.client.status()
        except Unreachable:
            return False
        return True

    def close(self) -> None:
        """The client and its way; the lab ends the processes."""
        if self._client is not None:
            self._client.close()
        if self._relay is not None:
            self._relay.close()


def is_alive(pid: int) -> bool:
    """Whether a process runs: a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _children(pid: int) -> tuple[int, ...]:
    """Of any of its threads (proc(5))."""
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    return tuple(int(child) for path in lists for child in path.read_text().split())
