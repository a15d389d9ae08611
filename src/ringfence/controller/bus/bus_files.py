"""The files of bus servers that somebody else runs: configuration, certificate with its key, and the roots.

INVARIANT: a server's certificate is of the controller's CA and names that server alone; a configuration that somebody
may have changed is not written over.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from ringfence.bus.accounts import open_seeds
from ringfence.bus.nodes import Node, node_configuration
from ringfence.bus.server import Tls
from ringfence.controller.identity.ca import Authority, csr_of, key_pem, new_key
from ringfence.durable import read_secret, write_secret

CONFIGURATION, CERTIFICATE, ROOTS, KEPT = "nats.conf", "server.pem", "roots.pem", "kept"


class Written(NamedTuple):
    """What was written for one server."""

    folder: Path
    ends: datetime
    """Its certificate."""
    is_kept: bool
    """Whether there was another configuration, which stays."""


def write_nodes(
    directory: Path, trust_domain: str, nodes: Sequence[Node], output: Path, *, at: Path | None, store: Path | None
) -> list[Written]:
    """A folder in `output` for each server. `directory`: the controller's, whose CA and keys are made if it has none;
    `at`: where the folder will lie on its server; `store`: where the server keeps messages.

    Raises InputError `ca-damaged`, `bus-keys-damaged`, `bad-server-name`.
    """
    now = datetime.now(UTC)
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    authority = Authority.open(directory / "ca.json", trust_domain=trust_domain, now=now)
    seeds = open_seeds(directory / "bus" / "bus.json")
    out = []
    for node in nodes:
        folder = output / node.name
        there = at or folder
        key = new_key()
        issued = authority.issue_bus(csr_of(key), [node.host], now=now)
        tls = Tls(there / CERTIFICATE, there / CERTIFICATE, there / ROOTS)
        text = node_configuration(node, nodes, tls, store or there / KEPT, seeds).encode()
        held = read_secret(folder / CONFIGURATION)
        if held is None:
            write_secret(folder / CONFIGURATION, text)
        write_secret(folder / CERTIFICATE, key_pem(key) + issued.certificate)
        write_secret(folder / ROOTS, authority.bundle)
        out.append(Written(folder, issued.not_after, held is not None and held != text))
    return out
