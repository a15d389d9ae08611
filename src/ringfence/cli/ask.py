"""`ringfence explain`, `decide` and `reach`: who may talk to whom, and why."""

from __future__ import annotations

import sys
import traceback
from datetime import datetime
from typing import Annotated

import msgspec
import numpy as np
import typer
from rich.console import RenderableType
from rich.text import Text

from ringfence.cli.session import BAD_INPUT, CLEAN, FINDINGS, Session, command, discard
from ringfence.cli.tables import Rows, count
from ringfence.core.engine import Engine, ask
from ringfence.core.engine.ends import endpoints, segments, selector_text
from ringfence.core.engine.prove import present
from ringfence.core.engine.questions import Answer, Near, Question, answer_of, class_of_end, near, worst
from ringfence.core.engine.reach import Reach, Reachability
from ringfence.core.errors import InputError, RingfenceError
from ringfence.core.identity.workload import Mode, parse_mode_name, utc
from ringfence.core.net.address import format_address
from ringfence.core.net.service import ANY, format_point
from ringfence.core.policy.model import Workloads
from ringfence.core.world import Endpoint, Flow, Verdict

COLOURS = {"allowed": "green", "would-block": "yellow", "blocked": "bold red"}


AsOption = Annotated[str | None, typer.Option("--as", metavar="MODE", help="Judge as if every end were in this mode.")]
AtOption = Annotated[str | None, typer.Option("--at", metavar="TIME", help="RFC 3339; now by default.")]


def parse_mode(text: str | None) -> Mode | None:
    return None if text is None else Mode.both(parse_mode_name(text))


def parse_at(text: str | None) -> datetime | None:
    try:
        return utc(datetime.fromisoformat(text)) if text else None
    except (ValueError, OverflowError) as error:
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
    source: Annotated[str, typer.Argument(help="A workload, selector, segment (`shop.db`), address or `internet`.")],
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
    missed = near(engine, flow) if verdict.verdict != "allowed" and verdict.reason in ("default", "deny") else None
    document = {**msgspec.to_builtins(_answer(question, verdict)), "nearest": missed, "others": others}
    session.emit(document, *_render(flow, verdict, missed, others))
    return CLEAN if verdict.verdict == "allowed" else FINDINGS


def _answer(question: Question, verdict: Verdict) -> Answer:
    return answer_of(question.source, question.destination, question.service, verdict)


def say_end(end: Endpoint) -> str:
    if end.workload is not None:
        return end.workload.name
    return end.name or (format_address(end.address) if end.address is not None else "?")


def _render(flow: Flow, verdict: Verdict, missed: Near | None, others: dict[str, int]) -> list[RenderableType]:
    head = Text.assemble(
        (verdict.verdict.upper(), COLOURS[verdict.verdict]),
        f"  {say_end(flow.source)} -> {say_end(flow.destination)} {format_point(flow.point)}",
    )
    because = f"because of {verdict.reason}" + (f": {verdict.rule}" if verdict.rule else "")
    if verdict.where is not None and verdict.where.file:
        because += f"  ({verdict.where.file}:{verdict.where.line})"
    table = Rows(("end", "workload", "mode", "says", "because of", "rule"), heads=2)
    for end in verdict.ends:
        says = Text(end.verdict, COLOURS[end.verdict])
        table.add(end.end, end.workload, end.mode, says, end.reason, end.rule or "")
    out: list[RenderableType] = [head, because, table if verdict.ends else "neither end has an enforcement point"]
    if verdict.unless:
        out.append(f"unless: {', '.join(verdict.unless)}")
    if missed is not None:
        out.append(f"nearest rule: {missed.rule} ({missed.file}:{missed.line}) {say_missing(missed.missing)}")
    if others:
        out.append("of the connections this stands for: " + ", ".join(f"{n} {v}" for v, n in sorted(others.items())))
    return out


def say_missing(missing: tuple[str, ...]) -> str:
    """What a rule would have needed, as the rest of a sentence: `would allow it from `api`, with mutual TLS`."""
    if not missing:
        return "allows it, but does not count here"
    owner = [part for part in missing if part.startswith(_OWNER)]
    rest = [_MISSING_WORDS.get(part, part) for part in missing if part not in owner]
    ended = [part.removeprefix("until ") for part in rest if part.startswith("until ")]
    parts = [part for part in rest if not part.startswith("until ")]
    said = [f"would allow it {', '.join(parts)}"] if parts else []
    said += [f"would need {part}" for part in owner]
    said += [f"ended on {day}" for day in ended]
    return ", and ".join(said)


_OWNER = "the destination's owner"
_MISSING_WORDS = {"mutual-tls": "with mutual TLS"}


def decide(session: Session, at: AtOption = None, as_: AsOption = None) -> int:
    """JSON lines {"source","destination","service"} on stdin -> verdicts on stdout, one line each.

    A line that cannot be answered gets {"error", "message", "help", "line"} and the next is read; exit 2 then, else 0.
    """
    engine = Engine.compile(session.estate.world(at=parse_at(at), as_mode=parse_mode(as_)))
    failed = False
    for number, line in enumerate(sys.stdin.buffer, 1):
        if not line.strip():
            continue
        reply, is_answer = _reply(engine, line, number)
        failed |= not is_answer
        if not _put_line(reply):
            break
    return BAD_INPUT if failed else CLEAN


def _reply(engine: Engine, line: bytes, number: int) -> tuple[object, bool]:
    """The answer to one line, or what is wrong with it."""
    try:
        question = msgspec.json.decode(line, type=Question)
        return _answer(question, worst(engine, question)[1]), True
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        help_ = 'write {"source": "web-1", "destination": "db-1", "service": "tcp/5432"}'
        return {"error": "bad-question", "message": _not_a_question(error), "help": help_, "line": number}, False
    except RingfenceError as error:
        return {"error": error.code, "message": error.message, "help": error.help, "line": number}, False
    except Exception:  # the lines that follow are somebody's questions too
        traceback.print_exc()
        message, help_ = "this is a fault in Ringfence", "report it with the line and what stands on stderr"
        return {"error": "internal-error", "message": message, "help": help_, "line": number}, False


def _not_a_question(error: Exception) -> str:
    """What is wrong with the line, without the decoder's type names."""
    if not isinstance(error, msgspec.ValidationError):
        return "the line is not one JSON object in UTF-8"
    what, _, where = str(error).partition(" - at `$.")
    if where:
        return f"`{where.rstrip('`')}` is not {_FIELD_KINDS.get(where.rstrip('`'), 'a text')}"
    name = what.split("`")[1] if "`" in what else ""
    if "unknown field" in what:
        return f"a question has no key `{name}`"
    return f"a question needs `{name}`" if "required" in what else "a question is a JSON object"


_FIELD_KINDS = {"at": "a time like 2026-03-03T02:10:00Z", "mutual_tls": "true or false"}


def _put_line(document: object) -> bool:
    """One line of JSON on stdout; False when its reader has left."""
    try:
        sys.stdout.buffer.write(msgspec.json.encode(document) + b"\n")
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        discard(sys.stdout)
        return False
    return True


def reach(
    session: Session,
    selector: Annotated[
        str, typer.Argument(help="Whose reach: a selector, segment (`shop.db`), workload, address or `internet`.")
    ],
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
    start = np.unique([class_of_end(engine, end) for end in endpoints(engine, selector, takes_names=False)])
    if picked := _as_workloads(engine, selector):
        start = np.union1d(start, present(engine, (picked,)))
    result = Reachability(engine, wanted).of(start, "to" if to else "from", hops=hops)
    session.emit(result, *_render_reach(result, selector))
    return CLEAN


def _as_workloads(engine: Engine, text: str) -> Workloads | None:
    """The selector or segment, unless a workload bears its name."""
    if engine.world.inventory.find(text) is not None:
        return None
    segment = segments(engine).get(text)
    wanted = selector_text(segment) if segment is not None else text
    return Workloads((ask.selector_of_text(wanted),), text) if any(sign in wanted for sign in "=!,( ") else None


def _render_reach(result: Reach, selector: str) -> list[RenderableType]:
    table = Rows(("hop>", "who", "workloads>", "on", "next to"), heads=2)
    for row in result.reached:
        workloads = "" if row.is_bare else str(row.workloads)
        table.add(str(row.hop), row.who, workloads, short(row.services), row.via)
    total = count(sum(r.workloads for r in result.reached), "workload")
    if bare := sum(r.is_bare for r in result.reached):
        total += f" and {count(bare, 'range', 'ranges')} of other addresses"
    way = "can reach" if result.way == "to" else "can be reached from"
    return [table, f"{total} {way} {selector}"]


def short(services: tuple[str, ...], most: int = 6) -> str:
    """The first services of many, and how many more there are."""
    more = f" and {len(services) - most:,} more" if len(services) > most else ""
    return " ".join(services[:most]) + more
