"""`ringfence explain`, `decide` and `reach`: who may talk to whom, and why."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import msgspec
import typer
from rich.console import RenderableType
from rich.text import Text

from ringfence.cli.as_draft import draft_of
from ringfence.cli.remote import ServerOption, at_controller
from ringfence.cli.session import BAD_INPUT, CLEAN, FINDINGS, Session, command
from ringfence.cli.streams import discard
from ringfence.cli.tables import Rows, count
from ringfence.client.client import Client
from ringfence.controller.study import asking
from ringfence.core.engine import Engine
from ringfence.core.engine.questions import Question
from ringfence.core.engine.reach import Reach
from ringfence.core.errors import InputError
from ringfence.core.identity.workload import Mode, parse_mode_name, utc
from ringfence.estate import Estate
from ringfence.wire import api
from ringfence.wire.questions import MOST, AskReach, Case, Decide, Decided, Explain, Explained, Fault

COLOURS = {"allowed": "green", "would-block": "yellow", "blocked": "bold red"}


if TYPE_CHECKING:
    from io import BufferedReader

_READ_BYTES = 1 << 16
FleetOption = Annotated[bool, typer.Option("--fleet", help="Ask the controller one is logged in to: what is in force.")]
DraftOption = Annotated[
    Path | None,
    typer.Option("--draft", metavar="DIR", help="With --fleet: as if the policies of that estate were in force."),
]
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
    fleet: FleetOption = False,
    server: ServerOption = None,
    draft: DraftOption = None,
) -> int:
    """The verdict of a connection, the rule with its line, both ends, and what would have allowed it.

    Exit 0 when it passes, 1 when it is or would be blocked.
    """
    facts = (source, dest, service, parse_at(at), mutual_tls, from_process, to_process)
    mode = parse_mode(as_)
    if not _is_remote(server, draft, is_fleet=fleet):
        return _tell(session, asking.explain(session.estate.world(as_mode=mode), Question(*facts)))
    asked = Explain(*facts, None if mode is None else mode.inbound, _draft_in(draft))
    return at_controller(session, server, lambda client: _tell(session, client.explain(asked)))


def _is_remote(server: str | None, draft: Path | None, *, is_fleet: bool) -> bool:
    """Whether a controller is asked. Raises InputError `contradictory-options`."""
    if server is not None or is_fleet:
        return True
    if draft is not None:
        help_ = "add --fleet; without it the estate itself is asked (--estate DIR)"
        raise InputError("contradictory-options", "--draft is for a controller, and none is asked", help=help_)
    return False


def _draft_in(folder: Path | None) -> api.Draft | None:
    return None if folder is None else draft_of(Estate.find(folder), 0)


def _tell(session: Session, found: Explained) -> int:
    more = {"nearest": found.nearest, "others": found.others, "unheld": found.unheld, "late": found.late}
    document = {**msgspec.to_builtins(found.answer), **more}
    session.emit(document, *_render(found))
    return CLEAN if found.answer.verdict == "allowed" else FINDINGS


def _render(found: Explained) -> list[RenderableType]:
    answer, case = found.answer, found.case or Case(found.answer.source, found.answer.destination, found.answer.service)
    loose = _loose(found)
    word, colour = ("BLOCKED ON PAPER", "bold yellow") if loose else (answer.verdict.upper(), COLOURS[answer.verdict])
    head = Text.assemble((word, colour), f"  {case.source} -> {case.destination} {case.service}")
    because = f"because of {answer.reason}" + (f": {answer.rule}" if answer.rule else "")
    if answer.file:
        because += f"  ({answer.file}:{answer.line or 0})"
    table = Rows(("end", "workload", "mode", "says", "because of", "rule"), heads=2)
    for end in answer.ends:
        says = Text(end.verdict, COLOURS[end.verdict])
        mode = "no agent" if end.workload in found.unheld else end.mode
        if end.workload in found.late:
            mode = f"{mode}, {found.late[end.workload]}"
        table.add(end.end, end.workload, mode, says, end.reason, end.rule or "")
    out: list[RenderableType] = [head, because]
    if loose:
        names = " or ".join(loose)
        out.append(Text(f"policy says blocked; no agent of ours runs on {names}, so nothing stops it", "bold yellow"))
    for name, state in found.late.items():
        words = f"{name} is {state}: what it enforces may not be this (`ringfence status {name}`)"
        out.append(Text(words, "bold yellow"))
    out.append(table if answer.ends else "neither end has an enforcement point")
    if answer.unless:
        out.append(f"unless: {', '.join(answer.unless)}")
    if found.nearest is not None:
        missed = found.nearest
        out.append(f"nearest rule: {missed.rule} ({missed.file}:{missed.line}) {say_missing(missed.missing)}")
    if found.others:
        out.append(
            "of the connections this stands for: " + ", ".join(f"{n} {v}" for v, n in sorted(found.others.items()))
        )
    return out


def _loose(found: Explained) -> tuple[str, ...]:
    """Who alone blocks it, where nobody enforces that: no agent runs there."""
    answer = found.answer
    if answer.verdict != "blocked":
        return ()
    saying = tuple(dict.fromkeys(end.workload for end in answer.ends if end.verdict == "blocked"))
    return saying if set(saying) <= set(found.unheld) else ()


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


def decide(
    session: Session,
    at: AtOption = None,
    as_: AsOption = None,
    fleet: FleetOption = False,
    server: ServerOption = None,
    draft: DraftOption = None,
) -> int:
    """JSON lines {"source","destination","service"} on stdin -> verdicts on stdout, one line each.

    A line that cannot be answered gets {"error", "message", "help", "line"} and the next is read; exit 2 then, else 0.
    """
    mode = parse_mode(as_)
    if not _is_remote(server, draft, is_fleet=fleet):
        engine = Engine.compile(session.estate.world(at=parse_at(at), as_mode=mode))
        return _answer_lines(lambda questions: [_decided(engine, question) for question in questions])
    frame = Decide((), parse_at(at), None if mode is None else mode.inbound, _draft_in(draft))
    return at_controller(session, server, lambda client: _answer_lines(_asker(client, frame)))


def _asker(client: Client, frame: Decide) -> Callable[[list[Question]], list[Decided]]:
    def ask_(questions: list[Question]) -> list[Decided]:
        some = (tuple(questions[at : at + MOST]) for at in range(0, len(questions), MOST))
        return [one for part in some for one in client.decide(msgspec.structs.replace(frame, questions=part))]

    return ask_


def _decided(engine: Engine, question: Question) -> Decided:
    try:
        return asking.decided(engine, question)
    except Exception:  # the lines that follow are somebody's questions too
        traceback.print_exc()
        help_ = "report it with the line and what stands on stderr"
        return Decided(fault=Fault("internal-error", "this is a fault in Ringfence", help_))


def _answer_lines(answers: Callable[[list[Question]], list[Decided]]) -> int:
    """Every line of stdin as it comes: those that came together are asked together."""
    failed, number = False, 0
    for lines in _lines_at_once():
        read = [(at, _question(line)) for at, line in enumerate(lines, number + 1) if line.strip()]
        number += len(lines)
        given = iter(answers([asked for _, asked in read if isinstance(asked, Question)]))
        for at, asked in read:
            reply = next(given) if isinstance(asked, Question) else Decided(fault=asked)
            failed |= reply.fault is not None
            if not _put_line(_line_of(reply, at)):
                return BAD_INPUT if failed else CLEAN
    return BAD_INPUT if failed else CLEAN


def _line_of(reply: Decided, at: int) -> object:
    """An answer, with the ends that nobody enforces if there are; or what is wrong with the question, and its line."""
    if reply.answer is None:
        return {**msgspec.to_builtins(reply.fault), "line": at}
    fleet: dict[str, object] = {"unheld": reply.unheld, "late": reply.late}
    more = {name: value for name, value in fleet.items() if value}
    return {**msgspec.to_builtins(reply.answer), **more} if more else reply.answer


def _lines_at_once() -> Iterator[list[bytes]]:
    """Whole lines, as many as are there without waiting for more."""
    rest = b""
    source = cast("BufferedReader", sys.stdin.buffer)
    while piece := source.read1(_READ_BYTES):
        *lines, rest = (rest + piece).split(b"\n")
        if lines:
            yield lines
    if rest:
        yield [rest]


def _question(line: bytes) -> Question | Fault:
    """One line, or what is wrong with it."""
    try:
        return msgspec.json.decode(line, type=Question)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        help_ = 'write {"source": "web-1", "destination": "db-1", "service": "tcp/5432"}'
        return Fault("bad-question", _not_a_question(error), help_)


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
    fleet: FleetOption = False,
    server: ServerOption = None,
    draft: DraftOption = None,
) -> int:
    """Who can reach a segment, or what it can reach, as if everything were enforced."""
    is_remote = _is_remote(server, draft, is_fleet=fleet)
    asked = AskReach(selector, "to" if to else "from", hops, service or "", parse_at(at), _draft_in(draft))

    def tell(result: Reach) -> int:
        session.emit(result, *_render_reach(result, selector))
        return CLEAN

    if not is_remote:
        return tell(asking.reach(session.estate.world(), asked))

    def remotely(client: Client) -> int:
        found = tell(client.reach(asked))
        status = client.status()
        if loose := status.workloads - sum(status.agents.values()):
            whose = "workload has no agent: it holds" if loose == 1 else "workloads have no agent: they hold"
            session.warn(f"as if every host enforced; {loose:,} {whose} nobody back")
        return found

    return at_controller(session, server, remotely)


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
