"""The four ways a packet meets this host's policy: two hooks, and at each the beginning of a flow or an answer to it.

A connection is always judged on its original direction. So an answer is judged by the same cells with its ports and
addresses read the other way round.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from ringfence.core.identity.workload import Direction
from ringfence.targets.nftables.statements import AddressField, PortField

HookName = Literal["input", "output"]


class View(NamedTuple):
    name: str
    """`in`, `out`, `in_reply`, `out_reply`: the direction judged, and whether the packet is an answer."""
    direction: Direction
    hook: HookName
    remote: AddressField
    local: AddressField
    port: PortField
    """Where the packet carries the service's port."""
    is_reply: bool


IN = View("in", "in", "input", "saddr", "daddr", "dport", False)
OUT = View("out", "out", "output", "daddr", "saddr", "dport", False)
IN_REPLY = View("in_reply", "in", "output", "daddr", "saddr", "sport", True)
OUT_REPLY = View("out_reply", "out", "input", "saddr", "daddr", "sport", True)
VIEWS = (IN, OUT, IN_REPLY, OUT_REPLY)
FORWARD: dict[HookName, View] = {"input": IN, "output": OUT}
ANSWER: dict[HookName, View] = {"input": OUT_REPLY, "output": IN_REPLY}
"""The view of answers met at this hook."""
