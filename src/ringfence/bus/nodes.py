"""Servers that somebody else runs for a controller: one, or a cluster. What each must be told.

INVARIANT: the same rules hold as for our own child: mutual TLS before a word is said, accounts by key, and everybody
but the controller enters through its callout. Between servers a certificate of our roots is not enough, since every
agent has one: it must name a server of the cluster, and its bearer must know a secret that only the servers have.

Facts: docs.nats.io, "Securing NATS" and "Clustering"; `verify_cert_and_check_known_urls` compares DNS names only.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from ringfence.bus.accounts import Seeds
from ringfence.bus.server import LIMITS, PORT, Tls, accounts_block, jetstream_block, quoted, tls_lines
from ringfence.core.errors import InputError
from ringfence.core.net.address import parse_address

ROUTES_ABOVE: Final = 2000
"""Servers of a cluster talk to each other on the port so far above the one for clients: 6222 for 4222."""
_CALLOUT_S: Final = 10.0
_USER: Final = "ringfence"
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")
_MOST_STORED: Final = 8 << 30


class Node(NamedTuple):
    """One server, as agents and the other servers reach it."""

    host: str
    port: int = PORT

    @property
    def name(self) -> str:
        return self.host if self.port == PORT else f"{self.host}-{self.port}"

    @property
    def place(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host

    @property
    def url(self) -> str:
        return f"tls://{self.place}:{self.port}"


def parse_urls(text: str) -> tuple[Node, ...]:
    """`tls://one:4222,tls://two:4222`. Raises InputError `bad-bus-url`."""
    nodes = tuple(parse_node(part.strip()) for part in text.split(",") if part.strip())
    if not nodes or len(set(nodes)) != len(nodes):
        raise _bad(text, "no server is named, or one is named twice")
    return nodes


def parse_node(text: str) -> Node:
    """`HOST`, `HOST:PORT` or `tls://HOST:PORT`. Raises InputError `bad-bus-url`."""
    parts = urlsplit(text if "://" in text else f"tls://{text}")
    try:
        host, port = parts.hostname or "", parts.port or PORT
    except ValueError as error:
        raise _bad(text, "its port is none") from error
    if parts.scheme not in ("tls", "nats"):
        raise _bad(text, f"`{parts.scheme}` is not spoken here")
    if parts.username is not None or parts.path.strip("/") or parts.query or parts.fragment:
        raise _bad(text, "it has more than a host and a port: the controller enters by its own key")
    if not _HOST.fullmatch(host) and not is_address(host):
        raise _bad(text, "its host is none")
    return Node(host, port)


def is_address(host: str) -> bool:
    try:
        parse_address(host)
    except ValueError:
        return False
    return True


def _bad(text: str, why: str) -> InputError:
    help_ = "write tls://HOST:PORT; several servers of one cluster with commas between them"
    return InputError("bad-bus-url", f"`{text}` is no address of a bus: {why}", help=help_)


def check_cluster(nodes: Sequence[Node]) -> None:
    """Raises InputError `bad-bus-url`."""
    if len(nodes) < 2:
        return
    for node in nodes:
        if is_address(node.host):
            raise _bad(node.place, "servers of a cluster know each other by DNS names, never by addresses")


def node_configuration(node: Node, nodes: Sequence[Node], tls: Tls, store: Path, seeds: Seeds) -> str:
    """The configuration file of one server."""
    cluster = _cluster(node, nodes, tls, seeds) if len(nodes) > 1 else ""
    return f"""# Written by `ringfence nats-config`. The servers of one cluster differ in names and paths only.
# Everybody who enters is a host of Ringfence or its controller: this server is for nothing else.
server_name: {quoted(node.name)}
listen: {quoted(f"0.0.0.0:{node.port}")}
{LIMITS}
tls {{
{tls_lines(tls, _CALLOUT_S)}
  handshake_first: true
}}
{jetstream_block(store, _MOST_STORED)}
{cluster}{accounts_block(seeds.public, _CALLOUT_S)}"""


def _cluster(node: Node, nodes: Sequence[Node], tls: Tls, seeds: Seeds) -> str:
    secret = _secret(seeds)
    others = (one for one in nodes if one != node)
    routes = ", ".join(quoted(f"nats-route://{_USER}:{secret}@{one.place}:{one.port + ROUTES_ABOVE}") for one in others)
    return f"""cluster {{
  name: ringfence
  listen: {quoted(f"0.0.0.0:{node.port + ROUTES_ABOVE}")}
  no_advertise: true
  authorization {{ user: {_USER}, password: {quoted(secret)}, timeout: {_CALLOUT_S:g} }}
  tls {{
  {tls_lines(tls, _CALLOUT_S).replace(chr(10), chr(10) + "  ")}
    verify_cert_and_check_known_urls: true
  }}
  routes: [ {routes} ]
}}
"""


def _secret(seeds: Seeds) -> str:
    """What servers know each other by: nobody without the controller's keys can say it."""
    return hmac.new(seeds.issuer.encode(), b"ringfence routes between bus servers", hashlib.sha256).hexdigest()
