"""A controller as its operator runs it: `ringfence up` and the other commands as processes, and a host on paper."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from serving import SHOP, Host, Loop

from ringfence.client.client import Client
from ringfence.client.login import Login, fetch_ca
from ringfence.core.identity.workload import Mode
from ringfence.wire import api

RINGFENCE = (sys.executable, "-c", "from ringfence.cli.main import main; main()")
PATIENCE_S = 60


class Up:
    """`ringfence up`. `told` is what it said on stdout: where it serves, or why it does not."""

    def __init__(self, directory: Path, *words: str) -> None:
        self.directory = directory
        self.log = directory.parent / f"{directory.name}.log"
        options = ("--port", "0", "--bus-port", "0", "--name", "localhost", "--listen", "127.0.0.1")
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*RINGFENCE, "up", str(directory), "--json", *options, *words], stdout=subprocess.PIPE, stderr=log
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self.told: dict[str, Any] = msgspec.json.decode(
            line if line.endswith(b"}\n") else line + self.process.stdout.read()
        )

    def client(self, token: str) -> Client:
        return Client(self.login(token))

    def login(self, token: str) -> Login:
        return Login(self.told["url"], token, fetch_ca(self.told["url"], self.told["ca_fingerprint"]))

    def ring(self, token: str, *words: str) -> subprocess.CompletedProcess[str]:
        """A command of somebody who is logged in here, as JSON."""
        ca = self.directory.parent / "ca.pem"
        ca.write_text(self.login(token).ca)
        place = {"RINGFENCE_SERVER": self.told["url"], "RINGFENCE_TOKEN": token, "RINGFENCE_CA": str(ca)}
        return ring(*words, "--json", **place)

    def kill(self) -> None:
        self.end(signal.SIGKILL)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as held:
        return int(held.getsockname()[1])


def ring(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Any command, as a process."""
    return subprocess.run(
        [*RINGFENCE, *words], env=os.environ | env, text=True, capture_output=True, timeout=PATIENCE_S, check=False
    )


def refusal(done: subprocess.CompletedProcess[str]) -> tuple[int, str]:
    """How a command ended, and the code it said."""
    return done.returncode, str(json.loads(done.stdout)["error"])


@contextlib.contextmanager
def operating() -> Iterator[Any]:
    """Makes controllers that are gone in the end."""
    made: list[Up] = []

    def up(directory: Path, *words: str) -> Up:
        made.append(Up(directory, *words))
        return made[-1]

    try:
        yield up
    finally:
        for one in made:
            one.close()


@contextlib.contextmanager
def host_of(client: Client, folder: Path, name: str, address: str) -> Iterator[Host]:
    """A host that joined by an invitation, is connected, and says of everything that it realised it."""
    client.make_profile(api.NewProfile(name, {"app": "shop", "role": name}, Mode.both("enforce")))
    run = Loop()
    host = Host(folder / name, run, address)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("socket.gethostname", lambda: name)
            host.join(client.invite(api.Invite(name)).token)
        host.connect()
        yield host
    finally:
        with contextlib.suppress(AttributeError):  # it never connected
            host.close()
        run.close()


def publish(client: Client, base: int, port: int = 5432) -> None:
    """A policy of one rule, to all hosts at once."""
    text = SHOP.partition("tests:")[0].replace("tcp/5432", f"tcp/{port}")
    client.apply(api.Apply(api.Draft({"shop.yaml": text}, base, note="as agreed"), api.How(trial_s=None)))


def parts(status: api.Status) -> dict[str, tuple[str, str]]:
    """The parts of a controller by name: how they are, and what they say."""
    return {part.name: (part.state, part.message) for part in status.parts}
