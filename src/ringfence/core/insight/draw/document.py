"""The map as one JSON document: the stable shape that `ringfence map --json` prints and the picture reads.

    kind      always `ringfence.map`; version 1: fields may be added, none changes meaning
    by        the label keys, outermost first
    judged    whether verdicts are present
    first, last   RFC 3339 UTC; null when the map is empty
    summary   groups, edges, connections, bytes; statuses: for each status its edges, connections and bytes
    groups    id, name, kind, labels {key: value or null}, selector (null unless a rule could be written with it),
              workloads, controlled, is_controlled, modes, addresses, members
    edges     source and destination (group ids), direction (east-west or north-south), status, verdict, rules,
              connections, packets, bytes, first, last, reported, guessed_direction, pairs, talkers,
              services: [{service, points, point_count, status, verdict, reason, rule, connections, packets, bytes,
              first, last}], worst first

`status` is `allowed`, `no-policy` (not judged, or no controlled end), `would-block` or `blocked`; an edge has its
worst. In `summary.statuses` connections are counted at the status of their own service, edges at their worst.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ringfence.core.insight.draw.words import rfc3339
from ringfence.core.insight.map import ON_DISK, Edge, FlowMap, Group, Use, Volume

VERSION = 1


def document(flow_map: FlowMap) -> dict[str, Any]:
    """The document as plain values."""
    edges = flow_map.edges
    return {
        "kind": "ringfence.map",
        "version": VERSION,
        "by": list(flow_map.by),
        "judged": flow_map.is_judged,
        "first": rfc3339(min(edge.volume.first for edge in edges)) if edges else None,
        "last": rfc3339(max(edge.volume.last for edge in edges)) if edges else None,
        "summary": _summary(flow_map),
        "groups": [_group(group, flow_map.by) for group in flow_map.groups],
        "edges": [_edge(edge, flow_map.groups) for edge in edges],
    }


def draw_json(flow_map: FlowMap) -> str:
    """The document as text, indented, with a final newline."""
    return msgspec.json.format(msgspec.json.encode(document(flow_map)), indent=2).decode() + "\n"


def _summary(flow_map: FlowMap) -> dict[str, Any]:
    statuses = {status: {"edges": 0, "connections": 0, "bytes": 0} for status in ON_DISK}
    for edge in flow_map.edges:
        statuses[edge.status]["edges"] += 1
        for use in edge.uses:
            statuses[use.status]["connections"] += use.volume.connections
            statuses[use.status]["bytes"] += use.volume.bytes
    return {
        "groups": len(flow_map.groups),
        "edges": len(flow_map.edges),
        "connections": sum(edge.volume.connections for edge in flow_map.edges),
        "bytes": sum(edge.volume.bytes for edge in flow_map.edges),
        "statuses": statuses,
    }


def _group(group: Group, by: tuple[str, ...]) -> dict[str, Any]:
    return {
        "id": group.id,
        "name": group.name,
        "kind": group.kind,
        "labels": dict(zip(by, group.values, strict=True)) if group.kind == "workloads" else {},
        "selector": group.peer,
        "workloads": len(group.members),
        "controlled": group.controlled,
        "is_controlled": group.is_controlled,
        "modes": group.modes,
        "addresses": group.addresses,
        "members": list(group.members),
    }


def _edge(edge: Edge, groups: tuple[Group, ...]) -> dict[str, Any]:
    return {
        "source": groups[edge.source].id,
        "destination": groups[edge.destination].id,
        "direction": "north-south" if edge.is_north_south else "east-west",
        "status": edge.status,
        "verdict": edge.verdict,
        "rules": list(edge.rules),
        **_volume(edge.volume),
        "reported": edge.reported,
        "guessed_direction": edge.guessed,
        "pairs": edge.pairs,
        "talkers": [msgspec.to_builtins(talker) for talker in edge.talkers],
        "services": [_use(use) for use in edge.uses],
    }


def _use(use: Use) -> dict[str, Any]:
    return {
        "service": use.service,
        "points": list(use.points),
        "point_count": use.point_count,
        "status": use.status,
        "verdict": use.verdict,
        "reason": use.reason,
        "rule": use.rule,
        **_volume(use.volume),
    }


def _volume(volume: Volume) -> dict[str, Any]:
    return {
        "connections": volume.connections,
        "packets": volume.packets,
        "bytes": volume.bytes,
        "first": rfc3339(volume.first),
        "last": rfc3339(volume.last),
    }
