"""The map as a Mermaid flowchart: containers as subgraphs, edges coloured by status.

INVARIANT: no text of the estate is syntax. Every character but letters, digits and a few marks is written as an entity
code (https://mermaid.js.org/syntax/flowchart.html, "Entity codes to escape characters"), and ids are our own.
"""

from __future__ import annotations

from ringfence.core.errors import InputError
from ringfence.core.insight.draw.tree import Branch, branches
from ringfence.core.insight.draw.words import STATUS_MARKS, STATUS_WORDS, printable, services_text
from ringfence.core.insight.map import STATUSES, FlowMap, Group, Status

MOST_EDGES = 500
"""Mermaid refuses larger charts (`maxEdges`), and a chart may not raise the limit itself."""
COLOURS: dict[Status, str] = {
    "allowed": "#18794e", "no-policy": "#5f6b7a", "would-block": "#ad5700", "blocked": "#c62a47",
}  # fmt: skip
DASHES: dict[Status, str] = {"allowed": "0", "no-policy": "2 4", "would-block": "7 4", "blocked": "0"}
_PLAIN = frozenset(" .,-_/:+*=()!?✓✕→")


def draw_mermaid(flow_map: FlowMap, *, services: int = 2) -> str:
    """The flowchart, each edge with its `services` busiest services. Raises InputError `map-too-large-for-mermaid`."""
    if len(flow_map.edges) > MOST_EDGES:
        message = f"the map has {len(flow_map.edges)} edges and Mermaid draws at most {MOST_EDGES}"
        raise InputError("map-too-large-for-mermaid", message, help="group by fewer labels, or use `--format html`")
    lines = ["flowchart LR"]
    for branch in branches(flow_map):
        lines += _branch(branch, flow_map.groups, 1)
    for edge in flow_map.edges:
        label = f"{STATUS_MARKS[edge.status]} {services_text(edge, services)}"
        lines.append(f'  g{edge.source} -->|"{_text(label)}"| g{edge.destination}')
    return "\n".join([*lines, *_link_styles(flow_map), ""])


def _branch(branch: Branch, groups: tuple[Group, ...], depth: int) -> list[str]:
    indent = "  " * depth
    if branch.group is not None:
        return [indent + _node(branch.group, groups[branch.group])]
    inner = [line for child in branch.children for line in _branch(child, groups, depth + 1)]
    return [f'{indent}subgraph {branch.id}["{_text(branch.name)}"]', *inner, f"{indent}end"]


def _node(index: int, group: Group) -> str:
    if group.kind == "workloads":
        name = group.values[-1] if group.values[-1] is not None else "-"
        return f'g{index}["{_text(name)}<br/>{_text(group.size_text)}"]'
    return f'g{index}(["{_text(group.name)}"])'


def _link_styles(flow_map: FlowMap) -> list[str]:
    lines: list[str] = []
    for status in STATUSES:
        numbers = [str(number) for number, edge in enumerate(flow_map.edges) if edge.status == status]
        if numbers:
            style = f"stroke:{COLOURS[status]},color:{COLOURS[status]},stroke-dasharray:{DASHES[status]}"
            lines += [f"  %% {STATUS_WORDS[status]}", f"  linkStyle {','.join(numbers)} {style}"]
    return lines


def _text(text: str) -> str:
    return "".join(char if char.isalnum() or char in _PLAIN else f"#{ord(char)};" for char in printable(text))
