"""What rules of other programs do to connection marks, whose highest byte is ours (`marks`). Pure.

Registers are followed through a rule as bits that are the connection's own, and bits that are zero; whatever is not
known to be either may be anything.

INVARIANT: a rule that may change our byte is told; one that is not followed wholly counts as such.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import NamedTuple

from ringfence.targets.nftables import expressions as x
from ringfence.targets.nftables.marks import MASK
from ringfence.targets.nftables.wire import as_int, as_text, attribute_map

_ALL = 0xFFFFFFFF
_OR = 4
"""NFT_BITWISE_OR (nf_tables.h)."""
_CONNMARK = struct.Struct("=III")
"""`struct xt_connmark_tginfo1` (xt_connmark.h): the value, the bits of the connection's mark, those of the packet's."""
_SET, _SAVE = 0, 1
_WRITERS = (b"ct\0", b"CONNMARK\0")
"""A rule that is not about either is not read: there may be many thousands."""


class _Bits(NamedTuple):
    own: int = 0
    """Those that are as they are in the connection's mark."""
    zero: int = 0


def overwrites_marks(expressions: bytes) -> bool:
    """Whether a rule (`NFTA_RULE_EXPRESSIONS`) writes connection marks without leaving our byte as it was."""
    if not any(word in expressions for word in _WRITERS):
        return False
    try:
        return _overwrites(x.decode_all(expressions))
    except (KeyError, IndexError, ValueError, struct.error):
        return True


def _overwrites(rule: Iterable[x.Expression]) -> bool:
    registers: dict[int, _Bits] = {}
    for e in rule:
        if isinstance(e, x.Ct) and e.key == x.CT_MARK and e.source is not None:
            if MASK & ~registers.get(e.source, _Bits()).own:
                return True
        elif isinstance(e, x.Foreign) and e.name == "target":
            if MASK & ~_left_by_target(e.content):
                return True
        else:
            _follow(e, registers)
    return False


def _follow(e: x.Expression, registers: dict[int, _Bits]) -> None:
    if isinstance(e, x.Ct | x.Meta) and e.to is not None:
        registers[e.to] = _Bits(_ALL) if isinstance(e, x.Ct) and e.key == x.CT_MARK else _Bits()
    elif isinstance(e, x.Immediate):
        registers[e.to] = _Bits(0, _ALL & ~_number(e.value)) if len(e.value) == 4 else _Bits()
    elif isinstance(e, x.Bitwise):
        source = registers.get(e.source, _Bits())
        registers[e.to] = _masked(source, _number(e.mask), _number(e.xor)) if len(e.mask) == 4 else _Bits()
    elif isinstance(e, x.Foreign) and e.name == "bitwise":
        parts = attribute_map(e.content)
        registers[as_int(parts[2])] = _joined(parts, registers)
    elif isinstance(e, x.Payload | x.SocketGroup) or (isinstance(e, x.Lookup) and e.to is not None):
        registers[e.to or 0] = _Bits()
    elif isinstance(e, x.Foreign):
        registers.clear()


def _masked(bits: _Bits, mask: int, xor: int) -> _Bits:
    return _Bits(bits.own & mask & ~xor, (bits.zero | (_ALL & ~mask)) & ~xor)


def _joined(parts: dict[int, bytes], registers: dict[int, _Bits]) -> _Bits:
    """Of two registers; of any other operation nothing is known."""
    if as_int(parts.get(6, bytes(4))) != _OR or 8 not in parts:
        return _Bits()
    one, other = (registers.get(as_int(parts[kind]), _Bits()) for kind in (1, 8))
    return _Bits((one.own & other.zero) | (other.own & one.zero), one.zero & other.zero)


def _left_by_target(content: bytes) -> int:
    """The bits of the connection's mark that a target of xtables leaves alone (iptables-extensions(8), CONNMARK)."""
    parts = attribute_map(content)
    if as_text(parts[1]) != "CONNMARK":
        return _ALL
    info = parts[3]
    value, own, packet = (int(word) for word in _CONNMARK.unpack_from(info))
    is_shifted = as_int(parts[2]) > 1
    mode = info[_CONNMARK.size + 2 * is_shifted]
    if mode == _SET:
        return _ALL & ~(own | value)
    if mode == _SAVE:
        shifted = _shifted(packet, *info[_CONNMARK.size : _CONNMARK.size + 2]) if is_shifted else packet
        return _ALL & ~(own | shifted)
    return _ALL


def _shifted(bits: int, direction: int, by: int) -> int:
    return (bits >> by if direction else bits << by) & _ALL


def _number(value: bytes) -> int:
    number: int = struct.unpack("=I", value)[0]
    return number
