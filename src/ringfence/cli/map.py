"""`ringfence map`: who talks to whom."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from ringfence.cli.ask import AsOption, parse_mode
from ringfence.cli.flow_store import SinceOption, UntilOption, read
from ringfence.cli.picture import draw_html
from ringfence.cli.render_map import map_table, map_tree
from ringfence.cli.session import CLEAN, OutputOption, Session, command, write_file, write_out
from ringfence.core.engine import Engine
from ringfence.core.errors import InputError
from ringfence.core.flow.conversations import Conversations
from ringfence.core.insight.draw.document import draw_json
from ringfence.core.insight.draw.dot import draw_dot
from ringfence.core.insight.draw.mermaid import draw_mermaid
from ringfence.core.insight.map import FlowMap, default_keys, group
from ringfence.core.insight.services import named_services
from ringfence.core.world import World

_PAGE = 4096
FORMATS = ("table", "tree", "json", "mermaid", "dot", "html")


def register(app: typer.Typer) -> None:
    """Add the command to the root."""
    command(app, "map", epilog="Example: ringfence map --by app,env --format html -o map.html")(map_)


def map_(
    session: Session,
    by: Annotated[str | None, typer.Option("--by", help="Label keys, comma separated.")] = None,
    format: Annotated[
        str | None, typer.Option("--format", "-f", help="table (the default), tree, json, mermaid, dot or html.")
    ] = None,
    output: OutputOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    as_: AsOption = None,
) -> int:
    """Who talks to whom, by any labels, judged against the current policies."""
    drawing = _drawing(format, is_json=session.is_json)
    estate = session.estate
    keys = tuple(key.strip() for key in by.split(",")) if by else default_keys(estate.inventory)
    flow_map = map_of(estate.world(as_mode=parse_mode(as_)), read(session, since, until), keys)
    if drawing in ("table", "tree"):
        _show_map(session, flow_map, drawing, output)
        return CLEAN
    drawers = {"json": draw_json, "mermaid": draw_mermaid, "dot": draw_dot}
    text = drawers[drawing](flow_map) if drawing in drawers else draw_html(flow_map, title=estate.root.name)
    text = text.rstrip("\n") + "\n"
    if output is None:
        write_out(text)
        return CLEAN
    write_file(output, text)
    session.say(Text(f"wrote {output}"))
    return CLEAN


def _drawing(format: str | None, *, is_json: bool) -> str:
    if format is not None and format not in FORMATS:
        raise InputError("unknown-format", f"`{format}` is not a format", help=f"one of {', '.join(FORMATS)}")
    if is_json and format not in (None, "json"):
        message = f"`--json` and `--format {format}` ask for two documents"
        raise InputError("contradictory-options", message, help=f"leave out `--json` for {format}, else `--format`")
    return "json" if is_json else format or "table"


def _show_map(session: Session, flow_map: FlowMap, drawing: str, output: Path | None) -> None:
    """The table or the tree; into a file as wide as it needs."""
    drawn = map_table(flow_map) if drawing == "table" else map_tree(flow_map)
    if output is None:
        session.page.print(drawn)
        return
    page = Console(width=_PAGE, file=StringIO(), highlight=False, emoji=False)
    page.print(drawn)
    lines = page.file.getvalue().splitlines()  # type: ignore[attr-defined]
    write_file(output, "".join(f"{line.rstrip()}\n" for line in lines))
    session.say(Text(f"wrote {output}"))


def map_of(world: World, conversations: Conversations, keys: tuple[str, ...]) -> FlowMap:
    """The map of conversations judged by the world's policies (unjudged where there are none)."""
    if not world.policies:
        return group(conversations, world.inventory, keys)
    engine = Engine.compile(world)
    rules = tuple(rule.ref for rule in engine.rules)
    return group(
        conversations,
        world.inventory,
        keys,
        judgement=engine.judge(conversations),
        rules=rules,
        services=named_services(world.policies),
    )
