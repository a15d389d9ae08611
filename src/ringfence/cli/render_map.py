"""The map in a terminal: a Rich table and a Rich tree.

INVARIANT: a label is never markup nor a control sequence: every cell is a `Text` of printable characters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from ringfence.core.insight.draw.tree import Branch, branches
from ringfence.core.insight.draw.words import (
    STATUS_MARKS,
    STATUS_WORDS,
    format_bytes,
    format_count,
    format_time,
    printable,
    services_text,
)
from ringfence.core.insight.map import STATUSES, Edge, FlowMap, Group, Status
from ringfence.core.world import Reason

STYLES: dict[Status, str] = {"allowed": "green", "no-policy": "bright_black", "would-block": "yellow", "blocked": "red"}
ATTENTION: tuple[Status, ...] = ("would-block", "no-policy", "blocked", "allowed")
"""Unprotected first: what passes although no rule lets it, then what is stopped, then what a rule allows."""

_ABSENCE: dict[Reason | None, str] = {
    None: "not judged", "uncontrolled": "not controlled", "essential": "essential", "quarantine": "quarantine",
}  # fmt: skip
"""What stands in a rule's place where none is named, by reason."""
_NATURAL = 100_000
"""Wider than any table: what a table would take if it could."""
_INDENT = 2
_WITHOUT_YEAR = slice(5, None)
"""Of `2026-11-22 03:20`, what tells edges apart in a terminal; the JSON has it whole."""


def by_attention(flow_map: FlowMap) -> list[Edge]:
    """The edges in the order a person should read them; within a status the busiest first."""
    return sorted(
        flow_map.edges,
        key=lambda e: (ATTENTION.index(e.status), -e.volume.connections, e.source, e.destination),
    )


def map_table(flow_map: FlowMap, *, services: int = 3) -> RenderableType:
    """One entry of two lines an edge, unprotected first: in columns where they fit, else each line as long as it is."""
    return _Entries(_title(flow_map), tuple(_entry(flow_map, edge, services) for edge in by_attention(flow_map)))


class _Entry(NamedTuple):
    source: Text
    destination: Text
    services: Text
    connections: str
    bytes: str
    first: str
    last: str
    verdict: Text
    rule: Text


def _entry(flow_map: FlowMap, edge: Edge, services: int) -> _Entry:
    volume = edge.volume
    return _Entry(
        _name(flow_map.groups[edge.source]),
        _name(flow_map.groups[edge.destination]),
        Text(services_text(edge, services)),
        format_count(volume.connections),
        format_bytes(volume.bytes),
        format_time(volume.first)[_WITHOUT_YEAR],
        format_time(volume.last)[_WITHOUT_YEAR],
        _verdict(edge.status),
        _rules(edge),
    )


@dataclass(frozen=True)
class _Entries:
    """INVARIANT: nothing is cut off, and nothing that fits a line is broken in pieces."""

    title: Text
    entries: tuple[_Entry, ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table = self._table()
        if Measurement.get(console, options.update(width=_NATURAL), table).maximum <= options.max_width:
            yield table
            return
        yield self.title
        for entry in self.entries:
            yield _Hanging(entry)

    def _table(self) -> Table:
        table = Table(box=box.SIMPLE_HEAD, title=self.title, title_justify="left", title_style="", pad_edge=False)
        for name in ("source", "destination", "services"):
            table.add_column(name, no_wrap=True)
        table.add_column("connections\nbytes", justify="right", no_wrap=True)
        table.add_column("first seen\nlast seen", no_wrap=True)
        table.add_column("verdict\nrule", no_wrap=True)
        for e in self.entries:
            volume, times = Text(f"{e.connections}\n{e.bytes}"), Text(f"{e.first}\n{e.last}")
            table.add_row(e.source, e.destination, e.services, volume, times, Text("\n").join((e.verdict, e.rule)))
        return table


@dataclass(frozen=True)
class _Hanging:
    """An entry in a window too narrow for columns: the connection, and under it what is known of it."""

    entry: _Entry

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        e = self.entry
        yield Text.assemble(e.verdict, "  ", e.source, " → ", e.destination, "  ", e.services)
        connections = f"{e.connections} connection{'s' * (e.connections != '1')}"
        times = e.first if e.first == e.last else f"{e.first} to {e.last}"
        about = Text(" · ", "bright_black").join((e.rule, Text(connections), Text(e.bytes), Text(times)))
        yield Padding(about, (0, 0, 0, _INDENT))


def map_tree(flow_map: FlowMap, *, services: int = 3) -> Tree:
    """Containers, their groups, and under each group what it opens, unprotected first."""
    outgoing: dict[int, list[Edge]] = {}
    for edge in by_attention(flow_map):
        outgoing.setdefault(edge.source, []).append(edge)
    tree = Tree(_title(flow_map), guide_style="bright_black")
    for branch in branches(flow_map):
        _grow(tree, branch, flow_map, outgoing, services)
    return tree


def _grow(tree: Tree, branch: Branch, flow_map: FlowMap, outgoing: dict[int, list[Edge]], services: int) -> None:
    if branch.group is None:
        node = tree.add(Text(printable(branch.name), style="bold"))
        for child in branch.children:
            _grow(node, child, flow_map, outgoing, services)
        return
    group = flow_map.groups[branch.group]
    leaf = tree.add(_leaf(group))
    for edge in outgoing.get(branch.group, ()):
        connections = f"{format_count(edge.volume.connections)} connection{'s' * (edge.volume.connections != 1)}"
        volume = f"{connections}, {format_bytes(edge.volume.bytes)}"
        line = (
            Text("→ ")
            .append_text(_name(flow_map.groups[edge.destination]))
            .append(f"  {services_text(edge, services)}  ")
        )
        leaf.add(line.append(volume, style="bright_black").append("  ").append_text(_verdict(edge.status)))


def _leaf(group: Group) -> Text:
    if group.kind != "workloads":
        return Text(printable(group.name), style="italic")
    last = group.values[-1]
    modes = ", ".join(f"{count} {mode}" for mode, count in group.modes.items()) or "not controlled"
    return Text("-" if last is None else printable(last), style="bold").append(
        f"  {group.size_text}, {modes}", style="not bold bright_black"
    )


def _title(flow_map: FlowMap) -> Text:
    counts = {status: sum(edge.status == status for edge in flow_map.edges) for status in STATUSES}
    text = Text(f"{len(flow_map.groups)} groups by {printable(', '.join(flow_map.by))}, {len(flow_map.edges)} edges: ")
    parts = [Text(f"{counts[s]} {STATUS_WORDS[s]}", style=STYLES[s]) for s in ATTENTION if counts[s]]
    return text.append_text(Text(", ").join(parts))


def _name(group: Group) -> Text:
    return Text(printable(group.name), style="" if group.kind == "workloads" else "italic")


def _verdict(status: Status) -> Text:
    return Text(f"{STATUS_MARKS[status]} {STATUS_WORDS[status]}", style=STYLES[status])


def _rules(edge: Edge) -> Text:
    """What decided the worst of it: the rules of the uses with the edge's own verdict, never those of better ones."""
    worst = [use for use in edge.uses if use.status == edge.status]
    rules = sorted({use.rule for use in worst if use.rule is not None})
    if rules:
        return Text(printable(rules[0]) + (f" +{len(rules) - 1}" if len(rules) > 1 else ""))
    share = sum(use.volume.connections for use in worst)
    part = f" ({share:,} of {edge.volume.connections:,})" if share < edge.volume.connections else ""
    return Text(_ABSENCE.get(worst[0].reason, "no rule") + part, style="bright_black")
