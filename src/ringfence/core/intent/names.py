"""What classes and groups go by: words, keys and numbers that depend only on what they are.

INVARIANT: a name stays when others come and go, so nothing that did not change is sent again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cached_property

from ringfence.core.engine.bits import members
from ringfence.core.engine.engine import Engine
from ringfence.core.intent.membership import Kind, Membership, Seen
from ringfence.core.intent.model import UNKNOWN_CLASS

Networks = frozenset[str]


class Names:
    """The names of one engine's classes and groups."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._texts: dict[Seen, str] = {}
        self._numbers: dict[str, int] = {}
        self._keys: dict[tuple[Networks, Kind], str] = {}

    def key(self, networks: Networks, kind: Kind) -> str:
        """What a group goes by."""
        known = (networks, kind)
        if known not in self._keys:
            texts = (self.text(kind.seen), self.text(kind.fallback))
            words = "\n".join((",".join(sorted(networks)), *texts, self._line))
            self._keys[known] = hashlib.sha256(words.encode()).hexdigest()[:32]
        return self._keys[known]

    @cached_property
    def _line(self) -> str:
        """How the policies cut the address line, and whether they tell apart whose word is believed: a class of the
        same words under another cut is another group."""
        peers = self.engine.peers
        cuts = sorted(peers.peers[number].text for number in members(peers.all_addresses))
        return "\n".join([*cuts, *(["(believed: told apart)"] if Membership.is_believing(self.engine) else [])])

    def numbers(self, classes: Iterable[Seen]) -> dict[Seen, int]:
        """A number for each class: 31 bits of SHA-256; on the (rare) collision the later text takes the next free
        one.
        """
        out = {seen: self._number(self.text(seen)) for seen in classes}
        return out if len({UNKNOWN_CLASS, *out.values()}) > len(out) else self._told_apart(out)

    def _told_apart(self, classes: Iterable[Seen]) -> dict[Seen, int]:
        out: dict[Seen, int] = {}
        taken = {UNKNOWN_CLASS}
        for text, seen in sorted((self.text(seen), seen) for seen in classes):
            number = self._number(text)
            while number in taken:
                number = number % 0x7FFFFFFE + 1
            out[seen] = number
            taken.add(number)
        return out

    def _number(self, text: str) -> int:
        if text not in self._numbers:
            self._numbers[text] = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1 or 1
        return self._numbers[text]

    def text(self, seen: Seen) -> str:
        """What the class is, in words that no other class shares."""
        if seen not in self._texts:
            believed = [name for name, is_ in zip(("sends", "receives"), seen.believed, strict=True) if is_]
            words = " | ".join(sorted(map(self._class_text, seen.classes)))
            self._texts[seen] = words + (f" (believed: {' '.join(believed)})" if believed else "")
        return self._texts[seen]

    def _class_text(self, class_: int) -> str:
        classes, peers = self.engine.classes, self.engine.peers
        inside = classes.membership[class_] & self._address_bits
        where = "+".join(sorted(peers.peers[n].text for n in members(inside)))
        labels = classes.labels[class_]
        if labels is None:
            return where or "unknown"
        named = ",".join(f"{key}={value}" for key, value in labels.items()) or "unlabelled"
        unmanaged = "" if classes.is_controlled[class_] else " (unmanaged)"
        return named + unmanaged + (f" in {where}" if where else "")

    @cached_property
    def _address_bits(self) -> int:
        everyone = self.engine.peers.of_address(None, is_held=False)
        return self.engine.peers.all_addresses & ~everyone
