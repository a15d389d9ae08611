"""`ringfence explain`, `decide` and `reach`: who may talk to whom, and why."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import Annotated

import msgspec
import numpy as np
import typer
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from ringfence.cli.session import BAD_INPUT, CLEAN, FINDINGS, Session, command
from ringfence.core.engine import Engine, ask
from ringfence.core.engine.nearest import Nearest, nearest
from ringfence.core.engine.prove import present
from ringfence.core.engine.reach import Reach, Reachability
from ringfence.core.errors import InputError, RingfenceError
from ringfence.core.identity.workload import MODES, Mode, utc
from ringfence.core.net.address import format_address
from ringfence.core.net.service import ANY, format_point
from ringfence.core.policy.model import Workloads
from ringfence.core.world import VERDICTS, Endpoint, Flow, Verdict

COLOURS = {"allowed": "green", "would-block": "yellow", "blocked": "bold red"}
_MAX_CASES = 4096


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of `ringfence decide`."""

    source: str
    destination: str
    service: str
    at: datetime | None = None
    mutual_tls: bool = False
    from_process: str | None = None
    to_process: str | None = None


class Answer(msgspec.Struct, frozen=True, omit_defaults=False):
    """The contract of `--json` for explain and decide."""

    source: str
    destination: str
    service: str
    verdict: str
    reason: str
    rule: str | None
    file: str | None
    line: int | None
    ends: tuple[object, ...]
    unless: tuple[str, ...] = ()


AsOption = Annotated[str | None, typer.Option("--as", metavar="MODE", help="Judge as if every end were in this mode.")]
AtOption = Annotated[str | None, typer.Option("--at", metavar="TIME", help="RFC 3339; now by default.")]


def parse_mode(text: str | None) -> Mode | None:
    if text is None:
        return None
    if text not in MODES:
        raise InputError("unknown-mode", f"`{text}` is not a mode", help=f"one of {', '.join(MODES)}")
    return Mode.both(text)


def parse_at(text: str | None) -> datetime | None:
    try:
        return utc(datetime.fromisoformat(text)) if text else None
    except ValueError as error:
        raise InputError("bad-time", f"`{text}` is not a time", help="write it like 2026-03-03T02:10:00Z") from error


def register(app: typer.Typer) -> None:
    """Add the commands to the root."""
    command(app, "explain", epilog="Example: ringfence explain web-1 db-1 tcp/5432")(explain)
    command(
        app,
        "decide",
        epilog='Example: echo \'{"source":"web-1","destination":"db-1","service":"tcp/5432"}\' | ringfence decide',
    )(decide)
    command(app, "reach", epilog="Example: ringfence reach role=db --to --hops 3")(reach)


def explain(
    session: Session,
    source: Annotated[str, typer.Argument(help="A workload, selector, address or `internet`.")],
    dest: Annotated[str, typer.Argument(help="The same, or a DNS name.")],
    service: Annotated[str, typer.Argument(help="`tcp/5432`, `https`, `icmp/echo`, ...")],
    at: AtOption = None,
    as_: AsOption = None,
    mutual_tls: Annotated[bool, typer.Option("--mutual-tls", help="The peer proved its identity.")] = False,
    from_process: Annotated[str | None, typer.Option(help="The connecting unit or path.")] = None,
    to_process: Annotated[str | None, typer.Option(help="The listening unit or path.")] = None,
) -> int:
    """The verdict of a connection, the rule with its line, both ends, and what would have allowed it.

    Exit 0 when it passes, 1 when it is or would be blocked.
    """
    question = Question(source, dest, service, parse_at(at), mutual_tls, from_process, to_process)
    engine = Engine.compile(session.estate.world(at=question.at, as_mode=parse_mode(as_)))
    flow, verdict, others = worst(engine, question)
    near = _nearest(engine, flow) if verdict.verdict != "allowed" and verdict.reason in ("default", "deny") else None
    document = {**msgspec.to_builtins(_answer(question, verdict)), "nearest": near, "others": others}
    session.emit(document, *_render(flow, verdict, near, others))
    return CLEAN if verdict.verdict == "allowed" else FINDINGS


def worst(engine: Engine, question: Question) -> tuple[Flow, Verdict, dict[str, int]]:
    """The worst case of everything the question stands for, and how many cases had each verdict."""
    sources, destinations = ask.endpoints(engine, question.source), ask.endpoints(engine, question.destination)
    points = ask.points(engine, ask.services(engine, question.service))
    if len(sources) * len(destinations) * len(points) > _MAX_CASES:
        raise InputError(
            "too-broad",
            "this question stands for too many connections",
            help="`ringfence reach` and `policy test` answer those",
        )
    facts = (None, question.mutual_tls, question.from_process, question.to_process, question.at)
    flows = [Flow(s, d, p, *facts) for s in sources for d in destinations for p in points]
    verdicts = [engine.decide(flow) for flow in flows]
    index = max(range(len(flows)), key=lambda i: VERDICTS.index(verdicts[i].verdict))
    counts: dict[str, int] = {}
    for verdict in verdicts:
        counts[verdict.verdict] = counts.get(verdict.verdict, 0) + 1
    return flows[index], verdicts[index], counts if len(flows) > 1 else {}


def _answer(question: Question, verdict: Verdict) -> Answer:
    where = verdict.where
    place = (where.file or None, where.line or None) if where is not None else (None, None)
    return Answer(
        question.source,
        question.destination,
        question.service,
        verdict.verdict,
        verdict.reason,
        verdict.rule,
        *place,
        verdict.ends,
        verdict.unless,
    )


def _nearest(engine: Engine, flow: Flow) -> Nearest | None:
    classes = [_class(engine, end) for end in (flow.source, flow.destination)]
    return nearest(engine, classes[0], classes[1], flow.point)


def _class(engine: Engine, end: Endpoint) -> int:
    workload, at = end.workload, engine.world.at
    if workload is None and end.address is not None:
        workload = next(iter(engine.world.inventory.holders(end.address, at, end.network)), None)
    address = end.address
    if workload is not None and address is None:
        address = next((lease.address for lease in workload.live_addresses(at)), None)
    return engine.class_of(workload, address)


def say_end(end: Endpoint) -> str:
    if end.workload is not None:
        return end.workload.name
    return end.name or (format_address(end.address) if end.address is not None else "?")


def _render(flow: Flow, verdict: Verdict, near: Nearest | None, others: dict[str, int]) -> list[RenderableType]:
    head = Text.assemble(
        (verdict.verdict.upper(), COLOURS[verdict.verdict]),
        f"  {say_end(flow.source)} -> {say_end(flow.destination)} {format_point(flow.point)}",
    )
    because = f"because of {verdict.reason}" + (f": {verdict.rule}" if verdict.rule else "")
    if verdict.where is not None and verdict.where.file:
        because += f"  ({verdict.where.file}:{verdict.where.line})"
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 3, 0, 0))
    for column in ("end", "workload", "mode", "says", "because of", "rule"):
        table.add_column(column)
    for end in verdict.ends:
        table.add_row(
            end.end, end.workload, end.mode, Text(end.verdict, COLOURS[end.verdict]), end.reason, end.rule or ""
        )
    out: list[RenderableType] = [
        head,
        because,
        *([table] if verdict.ends else ["neither end has an enforcement point"]),
    ]
    if verdict.unless:
        out.append(f"unless: {', '.join(verdict.unless)}")
    if near is not None:
        needs = " and ".join(near.missing) or "its conditions to hold"
        out.append(f"nearest rule: {near.rule} ({near.where.file}:{near.where.line}) would allow it {needs}")
    if others:
        out.append("of the connections this stands for: " + ", ".join(f"{n} {v}" for v, n in sorted(others.items())))
    return out


def decide(session: Session, at: AtOption = None, as_: AsOption = None) -> int:
    """JSON lines {"source","destination","service"} on stdin -> verdicts on stdout, one line each.

    A line that cannot be answered gets {"error", "message", "line"}; exit 2 then, else 0.
    """
    engine = Engine.compile(session.estate.world(at=parse_at(at), as_mode=parse_mode(as_)))
    decoder, encoder = msgspec.json.Decoder(Question), msgspec.json.Encoder()
    failed = False
    for number, line in enumerate(sys.stdin.buffer, 1):
        if not line.strip():
            continue
        try:
            question = decoder.decode(line)
            answer: object = _answer(question, worst(engine, question)[1])
        except msgspec.DecodeError as error:
            failed, answer = True, {"error": "bad-question", "message": str(error), "line": number}
        except RingfenceError as error:
            failed, answer = True, {"error": error.code, "message": error.message, "help": error.help, "line": number}
        sys.stdout.buffer.write(encoder.encode(answer) + b"\n")
    sys.stdout.flush()
    return BAD_INPUT if failed else CLEAN


def reach(
    session: Session,
    selector: Annotated[str, typer.Argument(help="Whose reach: a selector, workload, address or `internet`.")],
    to: Annotated[bool, typer.Option("--to/--from", help="Who can reach it, or what it can reach.")] = True,
    hops: Annotated[int, typer.Option(min=1, max=64, help="How many connections in a row.")] = 1,
    service: Annotated[str | None, typer.Option(help="Only on this service.")] = None,
    at: AtOption = None,
) -> int:
    """Who can reach a segment, or what it can reach, as if everything were enforced."""
    world = session.estate.world(at=parse_at(at), as_mode=Mode.both("enforce"))
    engine = Engine.compile(world)
    wanted = ask.services(engine, service) if service else ANY
    engine = Engine(world, services=(wanted,))
    ends = ask.endpoints(engine, selector)
    start = np.unique([_class(engine, end) for end in ends])
    if selector_text := _as_selector(selector):
        start = np.union1d(start, present(engine, (selector_text,)))
    result = Reachability(engine, wanted).of(start, "to" if to else "from", hops=hops)
    session.emit(result, *_render_reach(result, selector))
    return CLEAN


def _as_selector(text: str) -> Workloads | None:
    return Workloads((ask.selector_of_text(text),), text) if "=" in text else None


def _render_reach(result: Reach, selector: str) -> list[RenderableType]:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 3, 0, 0))
    for column in ("hop", "who", "workloads", "on", "next to"):
        table.add_column(column, justify="right" if column == "workloads" else "left", overflow="fold")
    for row in result.reached:
        table.add_row(
            str(row.hop), row.who, str(row.workloads) if not row.is_bare else "", " ".join(row.services[:6]), row.via
        )
    total = sum(r.workloads for r in result.reached)
    way = "can reach" if result.way == "to" else "can be reached from"
    return [table, f"{total} workloads {way} {selector}"]
