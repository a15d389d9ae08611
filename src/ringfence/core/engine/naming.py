"""Say which classes a set of classes is, in the words of the labels: `role=web,env=prod` rather than forty numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cached_property
from types import MappingProxyType

from ringfence.core.engine.bits import lowest, members, of_ids
from ringfence.core.engine.classes import ClassTable
from ringfence.core.engine.engine import Engine
from ringfence.core.net.address import format_ranges
from ringfence.core.policy.model import Cidr, Everywhere

Label = tuple[str, str]
_LISTED = 3
_PREFERRED = ("app", "env", "role", "loc")


class Naming:
    """Names for sets of one engine's classes; the classes of each label are worked out once."""

    def __init__(self, engine: Engine, names: Mapping[int, str] = MappingProxyType({})) -> None:
        """`names`: the classes that are a DNS name without an address."""
        self._engine, self._classes = engine, engine.classes
        self.names = names

    def name(self, ids: Iterable[int]) -> str:
        """The shortest selector that picks exactly these classes of the present ones, else a short list."""
        wanted = set(ids)
        labelled = of_ids(c for c in wanted if self._classes.labels[c] is not None)
        parts = [self._selector(labelled)] if labelled else []
        parts += self._bare_names({c for c in wanted if self._classes.labels[c] is None})
        return ", ".join(parts[: _LISTED + 1]) + (
            f" and {len(parts) - _LISTED - 1} more" if len(parts) > _LISTED + 1 else ""
        )

    def _selector(self, wanted: int) -> str:
        """Labels all of them carry, then keys none of them carries, as far as they pick exactly these; else a list."""
        labels = self._classes.labels[lowest(wanted)] or {}
        common = [f"{k}={v}" for k, v in sorted(labels.items(), key=_rank) if not wanted & ~self._carriers[f"{k}={v}"]]
        lacking = sorted(term for term, lack in self._lacking.items() if not wanted & ~lack)
        for terms in (common, common + lacking):
            if terms and self._picks_exactly(terms, wanted):
                return ",".join(self._minimal(terms, wanted))
        names = sorted(self._describe(c) for c in members(wanted))
        return " | ".join(names[:_LISTED]) + (f" | {len(names) - _LISTED} more" if len(names) > _LISTED else "")

    def _minimal(self, terms: list[str], wanted: int) -> list[str]:
        """Drop the least telling terms as long as the rest still picks exactly the same classes."""
        kept = list(terms)
        for term in reversed(terms):
            fewer = [x for x in kept if x != term]
            if fewer and self._picks_exactly(fewer, wanted):
                kept = fewer
        return kept

    def _picks_exactly(self, terms: Iterable[str], wanted: int) -> bool:
        picked = self._present | wanted
        for term in terms:
            picked &= self._lacking[term] if term.startswith("!") else self._carriers[term]
        return picked == wanted

    def _describe(self, class_: int) -> str:
        """One class in its own labels, and where it is if others with these labels are elsewhere."""
        said = describe_labels(self._classes, class_)
        inside = _places(self._engine, class_) if self._alike[said] > 1 else []
        return said + (f" in {'+'.join(inside)}" if inside else "")

    @cached_property
    def _alike(self) -> Counter[str]:
        """How many present classes are described by the same labels."""
        return Counter(describe_labels(self._classes, c) for c in members(self._present))

    @cached_property
    def _present(self) -> int:
        """The classes some workload is in, as a bitset."""
        return of_ids(c for c, count in enumerate(self._classes.workloads) if count)

    @cached_property
    def _carriers(self) -> dict[str, int]:
        """The classes that carry each label, as bitsets."""
        lists: dict[str, list[int]] = {}
        for class_, labels in enumerate(self._classes.labels):
            for key, value in (labels or {}).items():
                lists.setdefault(f"{key}={value}", []).append(class_)
        return {label: of_ids(ids) for label, ids in lists.items()}

    @cached_property
    def _lacking(self) -> dict[str, int]:
        """The labelled classes that lack each key, by the term `!key`."""
        labelled = of_ids(c for c, labels in enumerate(self._classes.labels) if labels is not None)
        carrying: dict[str, int] = {}
        for label, ids in self._carriers.items():
            key = label.partition("=")[0]
            carrying[key] = carrying.get(key, 0) | ids
        return {f"!{key}": labelled & ~ids for key, ids in carrying.items()}

    def _bare_names(self, bare: set[int]) -> list[str]:
        """Address classes by the largest words, CIDRs and names that lie wholly among them, the rest by the smallest
        that contains each.
        """
        if not bare:
            return []
        out, left = [], set(bare)
        for text, inside in self._areas:
            if inside <= bare and inside & left:
                out.append(text)
                left -= inside
        out += [name for c, name in self.names.items() if c in bare and "internet" not in out]
        left -= self.names.keys()
        return sorted(out) + sorted({self._part(class_, bare) for class_ in left})

    def _part(self, class_: int, bare: set[int]) -> str:
        """A class no area of which lies wholly among these: the least area that contains it, less what is elsewhere."""
        areas = [(text, inside) for text, inside in self._areas if class_ in inside]
        ranges = format_ranges(self._classes.ranges[class_])
        if not areas:
            return ranges[0] if len(ranges) == 1 else "addresses that no rule names"
        text, inside = areas[-1]
        elsewhere = sorted(area for area, within in self._areas if within < inside and not within & bare)
        return f"{text} but {', '.join(elsewhere)}" if 0 < len(elsewhere) <= _LISTED else f"part of {text}"

    @cached_property
    def _areas(self) -> list[tuple[str, set[int]]]:
        """Each word, CIDR and name with the classes of addresses nobody holds in it, the largest first."""
        classes, peers = self._classes, self._engine.peers
        inside: dict[int, set[int]] = {}
        for class_, ranges in enumerate(classes.ranges):
            for peer in members(classes.membership[class_] & peers.all_addresses) if ranges else ():
                inside.setdefault(peer, set()).add(class_)
        named = [(peers.peers[peer], ids) for peer, ids in inside.items() if peers.peers[peer] != Everywhere("anyone")]
        order = sorted(named, key=lambda area: (-self._size(area[1]), isinstance(area[0], Cidr), area[0].text))
        return [(peer.text, ids) for peer, ids in order]

    def _size(self, classes: Iterable[int]) -> int:
        return sum(self._classes.ranges[c].size for c in classes)


def name_classes(engine: Engine, ids: Iterable[int]) -> str:
    """One set of classes in words; see `Naming.name`."""
    return Naming(engine).name(ids)


def describe_labels(classes: ClassTable, class_: int) -> str:
    """One class in its own labels, the conventional keys first."""
    ordered = sorted((classes.labels[class_] or {}).items(), key=_rank)
    return ",".join(f"{key}={value}" for key, value in ordered) or "unlabelled"


def _rank(label: Label) -> tuple[int, Label]:
    key = label[0]
    return (_PREFERRED.index(key) if key in _PREFERRED else len(_PREFERRED), label)


def _places(engine: Engine, class_: int) -> list[str]:
    """The CIDRs and words, but `anyone`, that contain the addresses of a class."""
    inside = (engine.peers.peers[n] for n in members(engine.classes.membership[class_] & engine.peers.all_addresses))
    return sorted(peer.text for peer in inside if peer != Everywhere("anyone"))
