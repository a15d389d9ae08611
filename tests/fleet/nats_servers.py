"""Real NATS servers as an operator runs them: the files of `ringfence nats-config`, and the program."""

from __future__ import annotations

import ctypes
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from ringfence.bus.nodes import ROUTES_ABOVE, Node
from ringfence.controller.bus.bus_files import write_nodes

PROGRAM = Path(sys.executable).parent / "nats-server"
DOMAIN = "ringfence.internal"
_PDEATHSIG = 1
_PATIENCE_S = 60.0


class NatsServers:
    """One server, or a cluster on this machine."""

    def __init__(self, controller: Path, count: int) -> None:
        """`controller`: the controller's directory, which need not be there."""
        self.output = controller.parent / f"{controller.name}-nats"
        self.nodes = [Node("localhost", port) for port in free_ports(count)]
        write_nodes(controller, DOMAIN, self.nodes, self.output, at=None, store=None)
        self._running: dict[Node, subprocess.Popen[bytes]] = {}

    @property
    def urls(self) -> str:
        return ",".join(node.url for node in self.nodes)

    def folder(self, node: Node) -> Path:
        return self.output / node.name

    def edit(self, old: str, new: str) -> None:
        """Change every configuration, as somebody might."""
        for node in self.nodes:
            path = self.folder(node) / "nats.conf"
            text = path.read_text()
            assert old in text, old
            path.write_text(text.replace(old, new))

    def start(self, *nodes: Node) -> None:
        """Those, or all; returns once they take connections."""
        for node in nodes or self.nodes:
            self._running[node] = launch(self.folder(node) / "nats.conf")
        for node in nodes or self.nodes:
            until_it_answers(node.port)

    def kill(self, node: Node) -> None:
        process = self._running.pop(node)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def close(self) -> None:
        for node in list(self._running):
            self.kill(node)


def launch(configuration: Path) -> subprocess.Popen[bytes]:
    """It dies with this process."""
    libc = ctypes.CDLL(None)
    log = configuration.with_suffix(".log")
    return subprocess.Popen(
        [PROGRAM, "--config", configuration, "--log", log],
        preexec_fn=lambda: libc.prctl(_PDEATHSIG, signal.SIGKILL),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def until_it_answers(port: int) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            socket.create_connection(("localhost", port), 1).close()
            return
        except OSError:
            assert time.monotonic() < deadline, "the server does not come up"
            time.sleep(0.02)


def free_ports(count: int) -> list[int]:
    """Ports that are free, and so are those of their routes."""
    found: list[int] = []
    while len(found) < count:
        with socket.create_server(("127.0.0.1", 0)) as one:
            port = one.getsockname()[1]
            if port + ROUTES_ABOVE > 65535 or port in found or port - ROUTES_ABOVE in found:
                continue
            try:
                socket.create_server(("127.0.0.1", port + ROUTES_ABOVE)).close()
            except OSError:
                continue
        found.append(port)
    return found
