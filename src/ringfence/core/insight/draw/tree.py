"""Groups as a tree of containers: the values of every label key but the last nest the groups."""

from __future__ import annotations

from dataclasses import dataclass, field

from ringfence.core.insight.map import FlowMap
from ringfence.core.insight.places import MISSING


@dataclass
class Branch:
    """A container (`children`) or one group (`group`, an index into the map's)."""

    id: str
    name: str
    """`env=prod` of a container; a group's own name."""
    group: int | None = None
    children: list[Branch] = field(default_factory=list)


def branches(flow_map: FlowMap) -> list[Branch]:
    """The roots, in the map's order: containers and groups of workloads, then places."""
    root = Branch("", "")
    containers: dict[tuple[str | None, ...], Branch] = {(): root}
    for index, group in enumerate(flow_map.groups):
        parent = root
        for depth in range(1, len(group.values)):
            path = group.values[:depth]
            if path not in containers:
                value = MISSING if path[-1] is None else path[-1]
                containers[path] = Branch(f"c{len(containers)}", f"{flow_map.by[depth - 1]}={value}")
                parent.children.append(containers[path])
            parent = containers[path]
        parent.children.append(Branch(f"g{index}", group.name, group=index))
    return root.children
