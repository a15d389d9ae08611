"""What a plan does in words of rules, with what somebody else did to our table told apart from what the intent asks.

INVARIANT: drift is told by what is in the kernel alone. A table that was meant to realise this very intent and does not
is drift from end to end. Of one that was meant to realise another, only the parts that depend on no rule or address are
called drift by name: what else was changed in it cannot be told from what the intent changes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping

import msgspec

from ringfence.core.intent.model import Intent
from ringfence.targets.nftables.areas import CgroupRef, units_of
from ringfence.targets.nftables.layout import Hash, Layout
from ringfence.targets.nftables.plan import difference
from ringfence.targets.nftables.policy_change import Change, change
from ringfence.targets.nftables.readback import about, generation_in
from ringfence.targets.nftables.render import render

_OF_RULES = (
    "about", "classes", "peer", "prefix", "range", "isolated", "look_", "here_", "unit_", "exact_", "atom_",
    "services_", "service_", "ports_", "types_", "failsafe_", "passage_", "quarantine_",
)  # fmt: skip
"""How the names of sets and chains begin that follow rules and addresses (`render`, `lookups`)."""
_FOUND = {"+": "missing", "-": "added", "~": "changed"}


class Changes(msgspec.Struct, frozen=True):
    """What applying does to connections."""

    policy: Change = Change()
    """Of the intent: since the one that is realised, or from no firewall."""
    is_first: bool = False
    """Nothing of ours is there yet."""
    is_touched: bool = False
    """Somebody else changed the table since it was applied."""
    repairs: Change = Change()
    """What putting that back does to connections, where it can be told from a change of intent."""
    foreign: tuple[str, ...] = ()
    """What is in the table that this target does not write, or lacks that it does: put right."""


def changes(
    intent: Intent,
    layout: Layout | None,
    realised: Intent | None,
    groups: Mapping[str, CgroupRef],
    *,
    is_untouched: bool,
) -> Changes:
    """Compare an intent with what was read back: the layout, and the intent it parses to (None: unreadable)."""
    if layout is None:
        return Changes(change(None, intent), is_first=True)
    if realised is None:
        return Changes(is_touched=True, foreign=("the table cannot be read any more and is written anew",))
    policy = change(realised, intent, class_texts(layout))
    if is_untouched:
        return Changes(policy)
    if about(layout).digest == intent.digest:
        written = render(intent, generation_in(layout) or 1, groups)
        found = (line for line in difference(written, layout).summary if not line.endswith(" of about"))
        return Changes(is_touched=True, repairs=policy, foreign=tuple(map(_as_found, found)))
    return Changes(policy, is_touched=True, foreign=tuple(_foreign(layout, realised, groups)))


def class_texts(layout: Layout) -> dict[int, str]:
    """What each class in the table is called there."""
    elements = layout.elements.get("classes")
    if not isinstance(elements, Hash) or not elements.comments:
        return {}
    numbers = (struct.unpack("=I", key.tobytes())[0] for key in elements.keys)
    return dict(zip(numbers, elements.comments, strict=True))


def _foreign(layout: Layout, realised: Intent, groups: Mapping[str, CgroupRef]) -> Iterator[str]:
    """Where the table is not what its own meaning would be written as, as far as that is one way only."""
    if any(unit not in groups for unit in units_of(realised)):
        yield "a control group it names is not there any more"
        return
    written = render(realised, generation_in(layout) or 1, groups)
    yield from (_as_found(line) for line in difference(_fixed(written), _fixed(layout)).summary)


def _fixed(layout: Layout) -> Layout:
    """What of a table depends on mode, quarantine and failsafe alone, and what is in it under any other name."""
    sets = {name: spec for name, spec in layout.sets.items() if not name.startswith(_OF_RULES)}
    return Layout(
        layout.counters,
        sets,
        {name: layout.elements[name] for name in sets},
        {name: chain for name, chain in layout.chains.items() if not name.startswith(_OF_RULES)},
        layout.strangers,
        flags=layout.flags,
    )


def _as_found(repair: str) -> str:
    """What putting right does, as what was found: `+ 2 elements of peer4` -> `missing: 2 elements of peer4`."""
    sign, what = repair[0], repair[2:]
    return f"{_FOUND[sign]}: {what.partition(':')[0] if what.startswith('chain') else what}"
