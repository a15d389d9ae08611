"""The map as a Graphviz digraph: containers as clusters, edges coloured by status, width by volume.

INVARIANT: every text is a double-quoted string in which backslash, quote and ampersand are escaped, so that neither
DOT's `\\N`-like escapes nor its HTML entities apply (https://graphviz.org/doc/info/lang.html); no label is HTML-like.
"""

from __future__ import annotations

from math import log10

from ringfence.core.insight.draw.mermaid import COLOURS
from ringfence.core.insight.draw.tree import Branch, branches
from ringfence.core.insight.draw.words import STATUS_MARKS, printable, services_text
from ringfence.core.insight.map import Edge, FlowMap, Group, Status

STYLES: dict[Status, str] = {"allowed": "solid", "no-policy": "dotted", "would-block": "dashed", "blocked": "solid"}
HEADS: dict[Status, str] = {"allowed": "normal", "no-policy": "vee", "would-block": "normal", "blocked": "tee"}
_OPENING = """digraph ringfence {
  graph [rankdir=LR, newrank=true, nodesep=0.35, ranksep=1.1];
  graph [fontname="Helvetica", fontsize=12, color="#c4ccd6", style=rounded];
  node [shape=box, style="rounded,filled", fillcolor="#f6f8fa", color="#8a94a3", fontname="Helvetica", fontsize=11];
  edge [fontname="Helvetica", fontsize=9];"""


def draw_dot(flow_map: FlowMap, *, services: int = 3) -> str:
    """The digraph, each edge with its `services` busiest services."""
    lines = [_OPENING]
    for branch in branches(flow_map):
        lines += _branch(branch, flow_map.groups, 1)
    lines += [_edge(edge, services) for edge in flow_map.edges]
    return "\n".join([*lines, "}", ""])


def _branch(branch: Branch, groups: tuple[Group, ...], depth: int) -> list[str]:
    indent = "  " * depth
    if branch.group is not None:
        return [indent + _node(branch.group, groups[branch.group])]
    inner = [line for child in branch.children for line in _branch(child, groups, depth + 1)]
    return [f"{indent}subgraph cluster_{branch.id} {{", f"{indent}  label={_text(branch.name)};", *inner, f"{indent}}}"]


def _node(index: int, group: Group) -> str:
    if group.kind == "workloads":
        name = group.values[-1] if group.values[-1] is not None else "-"
        return f"g{index} [label={_text(name, group.size_text)}, tooltip={_text(group.id)}];"
    return f"g{index} [label={_text(group.name)}, shape=oval, tooltip={_text(group.id)}];"


def _edge(edge: Edge, services: int) -> str:
    label = f"{STATUS_MARKS[edge.status]} {services_text(edge, services)}"
    colour = COLOURS[edge.status]
    look = f'style={STYLES[edge.status]}, arrowhead={HEADS[edge.status]}, color="{colour}", fontcolor="{colour}"'
    width = min(5.0, 1 + log10(edge.volume.connections + 1) / 2)
    return f"  g{edge.source} -> g{edge.destination} [label={_text(label)}, {look}, penwidth={width:.1f}];"


def _text(*lines: str) -> str:
    safe = [printable(line).replace("\\", "\\\\").replace('"', '\\"').replace("&", "&amp;") for line in lines]
    return '"' + "\\n".join(safe) + '"'
