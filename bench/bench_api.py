"""The API under load: `decide` (one question, and a thousand at once) and `map`, beside an empty handler on the same
server behind the same TLS.

wrk asks over TLS 1.3 on connections that are kept, at three widths, with no limit on requests. The controller, a real
one on SQLite with an estate, policies and traffic, is a process of its own; controller and wrk share this machine, so a
machine of many cores answers a little faster. The server is one process on one core; the limit is what uvicorn answers
on it with no framework, no token and no question.

    empty          the limit: two bytes, straight from the server
    alive          through the framework, for everybody
    me             and recognised by a token
    decide         one question, another one each time
    decide 1,000   so many questions in one request
    map            the same question about the map, which is kept; and another one each time

.venv/bin/python -m bench.bench_api [--quick] [--workloads 10000] [--rows 200000] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple
from unittest.mock import patch

import msgspec
import numpy as np

from bench.bench_map import inventory_of, traffic
from bench.measure import Figure, show
from ringfence.api import serve
from ringfence.api.web import Web
from ringfence.controller import audit
from ringfence.controller.access.rates import Rates
from ringfence.controller.controller import ROOT, Controller, Settings
from ringfence.controller.publishing.versions import Draft
from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import Mode
from ringfence.ports.state import Change, LeaseRecord, WorkloadRecord

WIDTHS: Final = (1, 16, 64)
BATCH: Final = 1000
EMPTY: Final = "/bench/empty"
_VARIANTS: Final = 256
_UNITS: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}


class Load(NamedTuple):
    """What is asked, over and over."""

    name: str
    path: str
    bodies: tuple[str, ...] = ()
    """One after the other; none: GET."""
    each: int = 1
    """Questions in a request."""


class Measured(NamedTuple):
    """What wrk saw."""

    rate: float
    """Requests a second."""
    p50_s: float
    p99_s: float


# ---- the server ------------------------------------------------------------------------------------------------------


class Beside(Web):
    """The pages and the API, and beside them the least that this server can answer."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope.get("path") != EMPTY:
            await super().__call__(scope, receive, send)
            return
        headers = [(b"content-type", b"application/json"), (b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"{}", "more_body": False})


def estate(count: int) -> Inventory:
    """The workloads of the map's bench, a third of them enforcing."""
    modes = [Mode.both("enforce"), Mode.both("selective"), Mode.both("observe")]
    known = inventory_of(count)
    return Inventory(
        msgspec.structs.replace(one, mode=modes[number % 3], origin="agent")
        for number, one in enumerate(known.workloads)
    )


def policies() -> dict[str, str]:
    """One for each of the fifty applications, of three rules, and a guardrail."""
    shops = {f"e{e}-a{a}.yaml": _policy(f"e{e}", f"a{a}") for e in range(5) for a in range(10)}
    guard = "policy: guard\nowner: security\nrules:\n  - name: apart\n    forbid: {from: env=e4, to: env=e0}\n"
    return {**shops, "guard.yaml": guard}


def _policy(env: str, app: str) -> str:
    pairs = (("r0", "r1", "tcp/443"), ("r1", "r2", "tcp/8080"), ("r2", "r3", "tcp/5432"))
    rules = "".join(
        f"  - name: to-{to}\n    allow: {{from: role={of}, to: role={to}, service: {on}}}\n" for of, to, on in pairs
    )
    return f"policy: {env}-{app}\nowner: team-{app}\nscope: env={env},app={app}\nrules:\n{rules}"


async def _serve(folder: Path, count: int, rows: int) -> None:
    """Tell where it is, on a line of stdout; until stdin ends."""
    known = estate(count)
    first = Controller(Settings(folder, host="127.0.0.1", port=0, bus_port=0))
    token = await first.start()
    await first.state.write(lambda tx: _put(tx, known))
    await first.close()
    with serve.listen("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        unlimited = Rates(requests_s=0, strangers_s=0)
        controller = Controller(Settings(folder, host="127.0.0.1", port=port, bus_port=0, limits=unlimited))
        await controller.start()
        begun, _ = traffic(known, rows)
        now = int(datetime.now(UTC).timestamp()) // 3600 * 3600 - 3600
        at = np.full(len(begun), now, np.int64)
        controller.flows.append(replace(begun, hour=at, first=at + 1, last=at + 60))
        await controller.versions.publish(Draft(policies(), 0), by=ROOT)
        await controller.rollouts.load()
        with patch.object(serve, "Web", Beside):
            api = serve.Api(controller, listening)
        await api.start()
        sys.stdout.write(json.dumps({"url": controller.settings.url, "token": token}) + "\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)
        await api.stop()
        await controller.close()


def _put(tx: Change, inventory: Inventory) -> None:
    now = datetime.now(UTC) - timedelta(days=2)
    for workload in inventory.workloads:
        tx.add(WorkloadRecord.of(workload, now))
        tx.add(*(LeaseRecord(one.network, one.address, workload.uuid) for one in workload.addresses))
    audit.record(tx, at=now, actor="bench", action="workload.make", subject="all", details={})


# ---- the load --------------------------------------------------------------------------------------------------------


def loads(count: int) -> Iterator[Load]:
    draw = np.random.default_rng(11)

    def question() -> dict[str, str]:
        source, destination = draw.integers(0, count, 2).tolist()
        return {
            "source": f"w{source}",
            "destination": f"w{destination}",
            "service": ("tcp/443", "tcp/5432", "tcp/22", "udp/53")[int(draw.integers(0, 4))],
        }

    def asked(questions: int) -> str:
        return json.dumps({"questions": [question() for _ in range(questions)]})

    yield Load("empty", EMPTY)
    yield Load("alive", "/v1/alive")
    yield Load("me", "/v1/me")
    yield Load("decide", "/v1/decide", tuple(asked(1) for _ in range(_VARIANTS)))
    yield Load(f"decide {BATCH:,}", "/v1/decide", tuple(asked(BATCH) for _ in range(16)), BATCH)
    yield Load("map, kept", "/v1/map", ('{"by":["env","app"]}',))
    yield Load(
        "map, another each time", "/v1/map",
        tuple(json.dumps({"where": f"env=e{n % 5},app=a{n // 5 % 10},role=r{n // 50 % 4}"}) for n in range(200)),
    )  # fmt: skip


def script_of(load: Load, token: str, folder: Path) -> Path:
    """What wrk sends: a file in Lua."""
    lines = [f'wrk.headers["Authorization"] = "Bearer {token}"', 'wrk.headers["Content-Type"] = "application/json"']
    if load.bodies:
        bodies = ",\n".join(f"[==[{body}]==]" for body in load.bodies)
        lines += [
            f"local bodies = {{{bodies}}}",
            "local number = 0",
            "request = function()",
            "  number = number % #bodies + 1",
            f'  return wrk.format("POST", "{load.path}", nil, bodies[number])',
            "end",
        ]
    path = folder / "load.lua"
    path.write_text("\n".join(lines))
    return path


def measured(url: str, load: Load, token: str, width: int, seconds: int, folder: Path) -> Measured:
    """Raises SystemExit: something else than 200 came back."""
    words = ["wrk", "-t1", f"-c{width}", f"-d{seconds}s", "--timeout", "30s", "--latency"]
    words += ["-s", str(script_of(load, token, folder)), f"{url}{load.path}"]
    told = subprocess.run(words, check=True, capture_output=True, text=True, timeout=seconds + 60).stdout
    if "Non-2xx" in told or "Socket errors" in told:
        raise SystemExit(f"{load.name} at {width}: not every request was answered\n{told}")
    rate = float(_found(r"Requests/sec:\s+([\d.]+)", told)[0])
    p50, p99 = (float(n) * _UNITS[unit] for n, unit in (_found(rf"{q}%\s+([\d.]+)(us|ms|s|m)", told) for q in (50, 99)))
    return Measured(rate, p50, p99)


def _found(pattern: str, text: str) -> tuple[str, ...]:
    match = re.search(pattern, text)
    if match is None:
        raise SystemExit(f"wrk says something else:\n{text}")
    return match.groups()


def figures_of(width: int, load: Load, found: Measured, limit: Measured) -> Iterator[Figure]:
    """Rate and p99, each with its ratio to the limit."""
    name = f"{load.name}, {width} at once"
    what = "answers/s" if load.each > 1 else "requests/s"
    slow = f"p99 {1000 * found.p99_s:.2f} ms, p50 {1000 * found.p50_s:.2f} ms"
    if load.path == EMPTY:
        yield Figure(name, found.rate, what, note=f"the limit; {slow}")
        return
    times = limit.rate / found.rate
    note = f"{times:.1f} x the limit's time; {slow}"
    if load.each > 1:
        note += f"; {found.rate:,.1f} requests/s, {times / load.each:.3f} x the limit's time a question"
    yield Figure(name, found.rate * load.each, what, note=note)


def run(url: str, token: str, chosen: argparse.Namespace) -> list[Figure]:
    out: list[Figure] = []
    with tempfile.TemporaryDirectory() as folder:
        for width in WIDTHS:
            limit: Measured | None = None
            for load in loads(chosen.workloads):
                measured(url, load, token, min(width, 4), 1, Path(folder))
                found = measured(url, load, token, width, chosen.seconds, Path(folder))
                limit = limit or found
                out += figures_of(width, load, found, limit)
                sys.stderr.write(f"{out[-1].name}: {out[-1].value:,.0f} {out[-1].unit}; {out[-1].note}\n")
    return out


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--workloads", type=int, default=10_000)
    options.add_argument("--rows", type=int, default=200_000)
    options.add_argument("--quick", action="store_true")
    options.add_argument("--json", action="store_true")
    options.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.serve:
        asyncio.run(_serve(chosen.serve, chosen.workloads, chosen.rows))
        return
    chosen.seconds = 2 if chosen.quick else 6
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-m", "bench.bench_api", "--serve", f"{folder}/c"]
        words += ["--workloads", str(chosen.workloads), "--rows", str(chosen.rows)]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            try:
                told = json.loads(server.stdout.readline())
                figures = run(told["url"], told["token"], chosen)
            finally:
                server.communicate("", timeout=60)
    show("the API under load", figures, as_json=chosen.json)


if __name__ == "__main__":
    main()
