"""Our table as our own: while a process holds it, the kernel lets nobody else write to it.

A table with the flags OWNER and PERSIST (nf_tables.h; kernel 6.9 and later) belongs to one netlink socket. Others
get EPERM, and `nft flush ruleset` passes it by. When the socket closes, however that comes about, the rules stay, the
table is an orphan that anybody may write to, and the next owner takes it over.

INVARIANT: never OWNER without PERSIST: such a table goes with its process, and the host would stand open.
INVARIANT: while a table changes its flags, which the kernel allows by making it anew only, a copy of it beside it
judges every packet. A copy left over from a process that ended meanwhile is removed by the next.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence

import msgspec

from ringfence.core.errors import TargetError
from ringfence.targets.nftables import messages as m
from ringfence.targets.nftables.layout import DORMANT, HOOKS, OWNER, PERSIST, TABLE, Chain, Layout
from ringfence.targets.nftables.netlink import SUBSYS_NFTABLES, Message, Netlink, Refused
from ringfence.targets.nftables.plan import difference
from ringfence.targets.nftables.wire import as_int, attribute_map, string

OWNED = OWNER | PERSIST
COPY = f"{TABLE}_moving"
"""The table that judges while ours is made anew."""
_PROBE = f"{TABLE}_probe"
_FLAGS, _OWNER = 2, 7
"""NFTA_TABLE_FLAGS, NFTA_TABLE_OWNER."""


class Ownership:
    """An open netlink socket that our table belongs to as long as it is open. Keep it; close it to let go.

    `can_persist`: whether the kernel has PERSIST; None asks it. Without, the table stays free for all as before, and
    only `watch` notices other writers.
    """

    def __init__(self, netns: str | None = None, *, can_persist: bool | None = None) -> None:
        self.netlink = Netlink(netns)
        self.can_persist = has_persist(self.netlink) if can_persist is None else can_persist

    def close(self) -> None:
        """The table becomes an orphan; its rules stay."""
        self.netlink.close()

    def __enter__(self) -> Ownership:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def flags(self) -> int:
        """Of a table this makes."""
        return OWNED if self.can_persist else 0

    def is_held(self) -> bool:
        """Whether our table is there and belongs to this socket."""
        flags, owner = table_state(self.netlink) or (0, 0)
        return bool(flags & OWNER) and owner == self.netlink.port

    def take(self) -> bool:
        """Adopt an orphan; False where the table must be made anew first, or there is none.

        Raises TargetError `owned-by-another` when a living process holds it.
        """
        state = table_state(self.netlink)
        if state is None or not self.can_persist:
            return False
        flags, owner = state
        if flags & OWNER:
            if owner != self.netlink.port:
                raise owned_by_another()
            return True
        if not flags & PERSIST:
            return False
        self.netlink.commit((m.new_table(flags & DORMANT | OWNED),))
        return True


def table_state(netlink: Netlink, name: str = TABLE) -> tuple[int, int] | None:
    """A table's flags, and the port of the socket that owns it (0: nobody); None when there is none."""
    try:
        bodies = netlink.request(SUBSYS_NFTABLES << 8 | m.GETTABLE, 0, string(1, name))
    except Refused as refusal:
        if refusal.errno == errno.ENOENT:
            return None
        raise
    parts = attribute_map(bodies[0])
    return as_int(parts.get(_FLAGS, b"")), as_int(parts.get(_OWNER, b""))


def owned_by_another() -> TargetError:
    return TargetError(
        "owned-by-another",
        "another process owns our table, and the kernel lets nobody else change it",
        help="stop the agent on this host first",
    )


def has_persist(netlink: Netlink) -> bool:
    """Ask the kernel: a table made and deleted within one transaction leaves nothing behind."""
    try:
        netlink.commit((in_table(m.new_table(OWNED), _PROBE), in_table(m.delete_table(), _PROBE)))
    except Refused as refusal:
        if refusal.errno in (errno.EOPNOTSUPP, errno.EINVAL):
            return False
        raise
    return True


def in_table(message: Message, name: str) -> Message:
    """The same message for another table. INVARIANT: every message of `messages` begins with the table's name."""
    head = string(1, TABLE)
    assert message.body.startswith(head)
    return message._replace(body=string(1, name) + message.body[len(head) :])


# -- another set of flags -------------------------------------------------------------------------------------------


def move(netlink: Netlink, layout: Layout, flags: int) -> None:
    """Make the table anew with these flags, without a packet going unjudged or an allowed one lost."""
    drop_copy(netlink)
    open_ = msgspec.structs.replace(layout, flags=flags, chains={n: _open(c) for n, c in layout.chains.items()})
    for step in _whole(msgspec.structs.replace(open_, flags=0)):
        netlink.commit([in_table(message, COPY) for message in step])
    netlink.commit(_stood_down(layout))
    first, *rest = _whole(open_)
    netlink.commit((m.delete_table(), *first))
    for step in rest:
        netlink.commit(step)
    netlink.commit(tuple(m.new_chain(c) for c in layout.chains.values() if c.hook and c.hook.policy == "drop"))
    drop_copy(netlink)


def drop_copy(netlink: Netlink) -> None:
    """Delete the copy, if there is one: its hooks stand down first, so that no packet on its way is lost."""
    if table_state(netlink, COPY) is None:
        return
    for name in HOOKS:
        try:
            netlink.commit((in_table(m.flush_chain(name), COPY),))
        except Refused as refusal:
            if refusal.errno != errno.ENOENT:
                raise
    netlink.commit((in_table(m.delete_table(), COPY),))


def _open(chain: Chain) -> Chain:
    """A base chain is hooked in before its rules are there: meanwhile it lets pass, and the other table judges."""
    if chain.hook is None:
        return chain
    return msgspec.structs.replace(chain, hook=msgspec.structs.replace(chain.hook, policy="accept"))


def _stood_down(layout: Layout) -> tuple[Message, ...]:
    bases = [chain for chain in layout.chains.values() if chain.hook is not None]
    return (*(m.new_chain(_open(chain)) for chain in bases), *(m.flush_chain(chain.name) for chain in bases))


def _whole(layout: Layout) -> Iterator[Sequence[Message]]:
    """The whole table from nothing, in the transactions it takes: ranges before the rules that look them up."""
    found = difference(layout, None)
    timed = [message for name, timers in layout.timers.items() for message in m.add_timed(name, timers)]
    yield from (step for step in (found.preparation, (*found.change, *timed)) if step)
