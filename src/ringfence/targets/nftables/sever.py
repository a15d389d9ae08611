"""End the host's own TCP connections that the realised rules let pass no more, so that programs learn of it at once.

The rules have cut them already: without this a program that only listens waits for its own timeout. What each
connection's next packet would meet is asked of the rules as read back, under the mark it bears in conntrack, so what
lasts (`keep`, `drain`) is left alone for as long as it lasts.

INVARIANT: a socket is ended only if its next packet would be dropped or rejected. Nothing depends on this: a kernel
without SOCK_DESTROY (CONFIG_INET_DIAG_DESTROY) cuts all the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from ringfence.core.errors import TargetError
from ringfence.core.net.address import parse_cidr
from ringfence.core.net.service import TCP
from ringfence.targets.nftables import conntrack
from ringfence.targets.nftables.cgroups import lineages
from ringfence.targets.nftables.evaluate import Machine, Packet
from ringfence.targets.nftables.expressions import SocketGroup
from ringfence.targets.nftables.layout import Layout
from ringfence.targets.nftables.netlink import Netlink
from ringfence.targets.nftables.sockets import Connected, Socket, destroy, listed

_LOOPBACK = parse_cidr("127.0.0.0/8") | parse_cidr("::1/128")
_ACK = 0x10
_ANY_PORT = 0
Lineage = tuple[int, ...]


def sever(netns: str | None, netlink: Netlink, layout: Layout, cgroup_root: Path | None = None) -> int:
    """End what the rules refuse; returns how many sockets were.

    Of rules that are about to come (`layout.timers` says what lasts then) the peers are told too: the resets go out
    while the old rules stand. Where processes have rules of their own, a socket whose control group is not known is
    left alone. Raises TargetError `sockets-unreadable`, `kernel-lacks-feature`.
    """
    groups = lineages(cgroup_root) if _has_processes(layout) else None
    try:
        return destroy(netns, tuple(_refused(netns, netlink, layout, groups)))
    except OSError as error:
        raise TargetError(
            "kernel-lacks-feature",
            f"the kernel does not end sockets: {error.strerror}",
            help="cut connections end by their own timeouts; build with CONFIG_INET_DIAG_DESTROY",
        ) from error


def _has_processes(layout: Layout) -> bool:
    return any(isinstance(e, SocketGroup) for c in layout.chains.values() for r in c.rules for e in r.expressions)


def _refused(
    netns: str | None, netlink: Netlink, layout: Layout, groups: Mapping[int, Lineage] | None
) -> Iterator[Socket]:
    """`groups`: every control group, where that decides anything."""
    machine, known = Machine(layout), dict[Packet, bool]()
    sockets = listed(netns)
    ends = {(s.local, s.remote) for s, _ in sockets}
    outside = [(s, c) for s, c in sockets if s.remote[0] not in _LOOPBACK and (s.remote, s.local) not in ends]
    marks = conntrack.tcp_marks(netlink, [(s.local, s.remote) for s, _ in outside])
    for found, connected in outside:
        if groups is not None and found.cgroup not in groups:
            continue
        packet = _next(found, connected, marks, groups[found.cgroup] if groups is not None else ())
        if packet not in known:
            known[packet] = machine.run(packet).ending in ("drop", "reject")
        if known[packet]:
            yield found


def _next(found: Socket, connected: Connected, marks: Mapping[conntrack.Tuple, int], lineage: Lineage) -> Packet:
    """A packet of the connection in its original direction, as conntrack knows it, else as the sockets tell."""
    ways = [(found.local, found.remote), (found.remote, found.local)]
    source, destination = next((way for way in ways if way in marks), (connected.client, connected.server))
    mark = marks.get((source, destination))
    return Packet(
        "output" if source == found.local else "input",
        source[0],
        destination[0],
        TCP,
        (_ANY_PORT, destination[1]),
        tcp_flags=_ACK if mark is not None else 0x02,
        state="established" if mark is not None else "new",
        mark=mark or 0,
        cgroups=lineage,
    )
