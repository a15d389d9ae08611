"""Say which classes a set of classes is, in the words of the labels: `role=web,env=prod` rather than forty numbers."""

from __future__ import annotations

from collections.abc import Iterable

from ringfence.core.engine.classes import ClassTable
from ringfence.core.engine.engine import Engine
from ringfence.core.net.address import format_ranges
from ringfence.core.policy.model import Everywhere

_LISTED = 3
_PREFERRED = ("app", "env", "role", "loc")


def name_classes(engine: Engine, ids: Iterable[int]) -> str:
    """The shortest `key=value` selector that picks exactly these classes of the present ones, else a short list."""
    classes = engine.classes
    wanted = set(ids)
    labelled = {c for c in wanted if classes.labels[c] is not None}
    bare = wanted - labelled
    parts = [_selector(classes, labelled)] if labelled else []
    parts += _bare_names(engine, bare)
    return ", ".join(parts[: _LISTED + 1]) + (
        f" and {len(parts) - _LISTED - 1} more" if len(parts) > _LISTED + 1 else ""
    )


def _selector(classes: ClassTable, wanted: set[int]) -> str:
    common = set.intersection(*(set((classes.labels[c] or {}).items()) for c in wanted))
    ranked = sorted(common, key=lambda kv: (_PREFERRED.index(kv[0]) if kv[0] in _PREFERRED else len(_PREFERRED), kv))
    if common and _picks_exactly(classes, dict(ranked), wanted):
        return ",".join(f"{key}={value}" for key, value in _minimal(classes, ranked, wanted))
    names = sorted(describe_labels(classes, c) for c in wanted)
    return " | ".join(names[:_LISTED]) + (f" | {len(names) - _LISTED} more" if len(names) > _LISTED else "")


def _minimal(classes: ClassTable, ranked: list[tuple[str, str]], wanted: set[int]) -> list[tuple[str, str]]:
    """Drop the least telling labels as long as the rest still picks exactly the same classes."""
    kept = list(ranked)
    for label in reversed(ranked):
        fewer = [x for x in kept if x != label]
        if fewer and _picks_exactly(classes, dict(fewer), wanted):
            kept = fewer
    return kept


def _picks_exactly(classes: ClassTable, selector: dict[str, str], wanted: set[int]) -> bool:
    items = selector.items()
    present = (
        c for c, labels in enumerate(classes.labels) if labels is not None and (classes.workloads[c] or c in wanted)
    )
    return {c for c in present if items <= (classes.labels[c] or {}).items()} == wanted


def describe_labels(classes: ClassTable, class_: int) -> str:
    """One class in its own labels, the conventional keys first."""
    labels = classes.labels[class_] or {}
    ordered = sorted(labels.items(), key=lambda kv: (_PREFERRED.index(kv[0]) if kv[0] in _PREFERRED else 9, kv))
    return ",".join(f"{key}={value}" for key, value in ordered) or "unlabelled"


def _bare_names(engine: Engine, bare: set[int]) -> list[str]:
    """Address classes by the CIDRs and words that contain them, `internet` and `private` before ranges."""
    out = set()
    for class_ in bare:
        bits = engine.classes.membership[class_]
        texts = [p.text for n, p in enumerate(engine.peers.peers) if bits >> n & 1 and p != Everywhere("anyone")]
        ranges = format_ranges(engine.classes.ranges[class_])
        out.add(min(texts, key=len) if texts else ranges[0] if len(ranges) == 1 else "other addresses")
    return sorted(out)
