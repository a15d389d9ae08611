"""Hits: how often each cell of the intent decided, read from the counters of the elements themselves.

A hit is one judgement: a new connection, a connection judged again after a change, or one refused packet.
INVARIANT: counters of cells that a change leaves alone keep counting; a rewritten cell starts at zero.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import msgspec

from ringfence.core.identity.workload import Direction
from ringfence.core.policy.model import Action
from ringfence.targets.nftables.layout import CLASS, PORT, PROTOCOL, Layout, SetSpec
from ringfence.targets.nftables.marks import ACTIONS
from ringfence.targets.nftables.netlink import Netlink
from ringfence.targets.nftables.observe import Element, dump_elements, read_counters


class Hit(msgspec.Struct, frozen=True):
    """The counter of one element: one class on one port, or on one group of services."""

    direction: Direction
    peer: int
    services: str
    """`6/443` (protocol number and port), or the words of a group of services."""
    action: Action
    rule: str
    """Cut to the length of a kernel comment."""
    packets: int
    size_bytes: int
    table: str
    """The map that holds it."""


class Totals(msgspec.Struct, frozen=True):
    """Packets judged, by step: what passed, what was blocked, what would have been."""

    direction: Direction
    step: str
    """`allowed`, `forbid_blocked`, `forbid_would`, ... `quarantine`, `invalid`."""
    packets: int
    size_bytes: int


def hits(netlink: Netlink, layout: Layout) -> tuple[Hit, ...]:
    """Every cell's counter. `layout` tells which maps there are."""
    counted = [spec for spec in layout.sets.values() if spec.is_counted]
    return tuple(_hit(spec, element) for spec in counted for element in dump_elements(netlink, spec.name))


def totals(netlink: Netlink) -> tuple[Totals, ...]:
    return tuple(_totals(netlink))


def _totals(netlink: Netlink) -> Iterator[Totals]:
    for name, (packets, size_bytes) in read_counters(netlink).items():
        side, _, step = name.partition("_")
        if side in ("in", "out"):
            yield Totals("in" if side == "in" else "out", step, packets, size_bytes)


def _hit(spec: SetSpec, element: Element) -> Hit:
    words = spec.comment
    if spec.key == (CLASS, PROTOCOL, PORT):
        words = f"{element.key[4]}/{int.from_bytes(element.key[8:10], 'big')}"
    peer: int = struct.unpack("=I", element.key[:4])[0]
    code: int = struct.unpack("=I", element.value)[0] if isinstance(element.value, bytes) else 0
    return Hit(
        "out" if "_out" in spec.name else "in",
        peer,
        words,
        ACTIONS[code],
        element.comment,
        element.packets,
        element.bytes_,
        spec.name,
    )
