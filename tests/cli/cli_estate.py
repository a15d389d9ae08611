"""A small estate on disk, its traffic, and a way to run a command as its users would."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from ringfence.cli.main import app

WORKLOADS = """\
- {name: web-1, labels: {app: shop, env: prod, role: web}, addresses: [10.0.1.1, "fd00::11"], mode: enforce}
- {name: web-2, labels: {app: shop, env: prod, role: web}, addresses: [10.0.1.2]}
- {name: api-1, labels: {app: shop, env: prod, role: api}, addresses: [10.0.2.1], mode: enforce}
- {name: db-1, labels: {app: shop, env: prod, role: db}, addresses: [10.0.3.1], mode: enforce}
- {name: dev-1, labels: {app: shop, env: dev, role: api}, addresses: [10.1.2.1]}
- {name: printer, kind: device, labels: {app: print, env: office}, addresses: [10.9.0.1]}
"""
SHOP = """\
policy: shop
owner: team-shop
scope: app=shop,env=prod

segments:
  web: role=web
  api: role=api
  db:  role=db

services:
  postgres: tcp/5432

rules:
  # the shop window
  - name: window
    allow: {from: internet, to: web, service: https}
  - name: calls
    allow: {from: web, to: api, service: tcp/8080}
  - name: orders
    allow: {from: api, to: db, service: postgres, require: mutual-tls}
    because: orders are stored in PostgreSQL
    until: 2199-03-01

tests:
  - {from: web, to: api, service: tcp/8080, expect: allowed}
  - {from: web, to: db, expect: blocked}
"""
GUARDRAILS = """\
policy: guardrails
owner: security

rules:
  - name: no-dev-in-prod
    forbid: {from: env=dev, to: env=prod}
"""
HEADER = (
    "version account-id interface-id srcaddr dstaddr srcport dstport protocol packets bytes start end action log-status"
)


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class ShopEstate:
    """An estate in a directory."""

    def __init__(self, root: Path, *, policies: bool = True) -> None:
        self.root = root
        self.write("inventory/workloads.yaml", WORKLOADS)
        if policies:
            self.write("policies/shop.yaml", SHOP)
            self.write("policies/guardrails.yaml", GUARDRAILS)

    def write(self, name: str, text: str | bytes) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    def run(self, *words: str, stdin: str | bytes = "", columns: int | None = 120) -> Ran:
        return run(*words, "--estate", str(self.root), stdin=stdin, columns=columns)

    def with_traffic(self) -> ShopEstate:
        """The estate with a day of flows imported."""
        log = self.write("flows.log", flow_log())
        ran = self.run("flows", "import", str(log))
        assert ran.code == 0, ran.err
        return self


def run(*words: str, stdin: str | bytes = "", columns: int | None = 120) -> Ran:
    """One command, in this process; `columns` None is an output that is no window."""
    env = {"COLUMNS": None if columns is None else str(columns), "TERM": "dumb", "NO_COLOR": "1"}
    result = CliRunner(env=env).invoke(app, list(words), input=stdin)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Ran(result.exit_code, result.stdout, result.stderr)


def flow_log(*, at: datetime | None = None, more: tuple[str, ...] = ()) -> str:
    """VPC flow log lines of the shop: clients, calls, orders, and a web server that asks the database itself."""
    start = at or datetime.now(UTC).replace(minute=0, second=0) - timedelta(days=1)
    pairs = (
        ("203.0.113.7", "10.0.1.1", 443),
        ("10.0.1.1", "10.0.2.1", 8080),
        ("10.0.2.1", "10.0.3.1", 5432),
        ("10.0.1.1", "10.0.3.1", 5432),
    )
    lines = [
        _line(start + timedelta(seconds=60 * n + 10 * i), source, destination, 40_000 + 7 * n + i, port)
        for n, (source, destination, port) in enumerate(pairs)
        for i in range(6)
    ]
    return "\n".join([HEADER, *lines, *more]) + "\n"


def _line(at: datetime, source: str, destination: str, source_port: int, port: int) -> str:
    start = int(at.timestamp())
    return f"2 1 eni-1 {source} {destination} {source_port} {port} 6 10 1000 {start} {start + 5} ACCEPT OK"
