"""Say which classes a set of classes is, in the words of the labels: `role=web,env=prod` rather than forty numbers."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

from ringfence.core.engine.bits import lowest, members, of_ids
from ringfence.core.engine.classes import ClassTable
from ringfence.core.engine.engine import Engine
from ringfence.core.net.address import format_ranges
from ringfence.core.policy.model import Everywhere

Label = tuple[str, str]
_LISTED = 3
_PREFERRED = ("app", "env", "role", "loc")


class Naming:
    """Names for sets of one engine's classes; the classes of each label are worked out once."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self._classes = engine, engine.classes

    def name(self, ids: Iterable[int]) -> str:
        """The shortest `key=value` selector that picks exactly these classes of the present ones, else a short list."""
        wanted = set(ids)
        labelled = of_ids(c for c in wanted if self._classes.labels[c] is not None)
        parts = [self._selector(labelled)] if labelled else []
        parts += _bare_names(self._engine, (c for c in wanted if self._classes.labels[c] is None))
        return ", ".join(parts[: _LISTED + 1]) + (
            f" and {len(parts) - _LISTED - 1} more" if len(parts) > _LISTED + 1 else ""
        )

    def _selector(self, wanted: int) -> str:
        labels = self._classes.labels[lowest(wanted)] or {}
        common = sorted((x for x in labels.items() if not wanted & ~self._carriers[x]), key=_rank)
        if common and self._picks_exactly(common, wanted):
            return ",".join(f"{key}={value}" for key, value in self._minimal(common, wanted))
        names = sorted(describe_labels(self._classes, c) for c in members(wanted))
        return " | ".join(names[:_LISTED]) + (f" | {len(names) - _LISTED} more" if len(names) > _LISTED else "")

    def _minimal(self, common: list[Label], wanted: int) -> list[Label]:
        """Drop the least telling labels as long as the rest still picks exactly the same classes."""
        kept = list(common)
        for label in reversed(common):
            fewer = [x for x in kept if x != label]
            if fewer and self._picks_exactly(fewer, wanted):
                kept = fewer
        return kept

    def _picks_exactly(self, labels: Iterable[Label], wanted: int) -> bool:
        picked = self._present | wanted
        for label in labels:
            picked &= self._carriers[label]
        return picked == wanted

    @cached_property
    def _present(self) -> int:
        """The classes some workload is in, as a bitset."""
        return of_ids(c for c, count in enumerate(self._classes.workloads) if count)

    @cached_property
    def _carriers(self) -> dict[Label, int]:
        """The classes that carry each label, as bitsets."""
        lists: dict[Label, list[int]] = {}
        for class_, labels in enumerate(self._classes.labels):
            for label in (labels or {}).items():
                lists.setdefault(label, []).append(class_)
        return {label: of_ids(ids) for label, ids in lists.items()}


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


def _bare_names(engine: Engine, bare: Iterable[int]) -> list[str]:
    """Address classes by the CIDRs and words that contain them, `internet` and `private` before ranges."""
    out = set()
    for class_ in bare:
        inside = (engine.peers.peers[n] for n in members(engine.classes.membership[class_]))
        texts = [peer.text for peer in inside if peer != Everywhere("anyone")]
        ranges = format_ranges(engine.classes.ranges[class_])
        out.add(min(texts, key=len) if texts else ranges[0] if len(ranges) == 1 else "other addresses")
    return sorted(out)
