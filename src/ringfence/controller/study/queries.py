"""A query over stored traffic -> the rows it picks, with what policy in force and a draft say of each.

    rows of the span -> ends, service, verdict -> View

It decides nothing: verdicts are the engine's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ringfence.controller.study.grounds import Ground, Grounds, Texts
from ringfence.core.engine import Engine, Judgement, ask
from ringfence.core.engine.ends import segments
from ringfence.core.errors import InputError
from ringfence.core.flow.conversations import Conversations
from ringfence.core.insight.map import STATUSES, default_keys
from ringfence.core.labels.selector import Labels, Selector
from ringfence.core.net.address import INTERNET_RANGE, PRIVATE, parse_address, parse_cidr
from ringfence.core.net.intervals import IntervalSet
from ringfence.core.world import REASONS, VERDICTS, Endpoint
from ringfence.wire.explore import Query

Mask = NDArray[np.bool_]
_WORDS = {"internet": INTERNET_RANGE, "private": PRIVATE}
_UNCONTROLLED, _DEFAULT = REASONS.index("uncontrolled"), REASONS.index("default")
_NO_POLICY, _UNHELD = STATUSES.index("no-policy"), STATUSES.index("unheld")
_STATUS_OF_VERDICT = np.array([STATUSES.index(name) for name in VERDICTS], np.uint8)


@dataclass(frozen=True)
class View:
    """What a query picks."""

    query: Query
    by: tuple[str, ...]
    ground: Ground
    rows: Conversations
    judgement: Judgement | None
    """None: there is no policy."""
    draft_ground: Ground | None
    draft: Judgement | None
    is_whole: bool
    """Nothing but the span was asked for."""


def view_of(grounds: Grounds, query: Query, texts: Texts) -> View:
    """Raises InputError `bad-time`, `bad-selector`, `unknown-endpoint`, `unknown-service`, `draft-missing`,
    FindingsError."""
    ground = grounds.now()
    after = grounds.drafted(ground, query.draft, texts) if query.draft is not None else None
    if after is None and query.verdict in ("opens", "closes"):
        help_ = "send the policy files as `draft`"
        raise InputError("draft-missing", f"`{query.verdict}` asks what a draft changes, and there is none", help=help_)
    rows = grounds.rows(ground, *span_of(query))
    judgement = grounds.judged(ground, rows, query.as_mode) if ground.is_judging else None
    draft = grounds.judged(after, rows, query.as_mode) if after is not None else None
    mask = _ends(query, rows, ground.engine) & _service(query, rows, ground.engine)
    mask &= _verdict(query, rows, judgement, draft)
    is_whole = not any((query.where, query.source, query.destination, query.service, query.verdict))
    chosen = rows if mask.all() else rows.where(mask)
    by = query.by or default_keys(ground.world.inventory)
    return View(query, by, ground, chosen, _some(judgement, mask), after, _some(draft, mask), is_whole)


def span_of(query: Query) -> tuple[int | None, int | None]:
    """Seconds since the epoch; None: open."""
    since, until = (None if time is None else int(time.timestamp()) for time in (query.since, query.until))
    return since, until


def _some(judgement: Judgement | None, mask: Mask) -> Judgement | None:
    if judgement is None or mask.all():
        return judgement
    return judgement.where(mask)


# ---- ends -----------------------------------------------------------------------------------------------------------


def _ends(query: Query, rows: Conversations, engine: Engine) -> Mask:
    mask = np.ones(len(rows), np.bool_)
    if query.where:
        picked = picked_ends(query.where, rows.endpoints, engine)
        mask &= picked[rows.source] | picked[rows.destination]
    if query.source:
        mask &= picked_ends(query.source, rows.endpoints, engine)[rows.source]
    if query.destination:
        mask &= picked_ends(query.destination, rows.endpoints, engine)[rows.destination]
    return mask


def picked_ends(text: str, endpoints: tuple[Endpoint, ...], engine: Engine) -> Mask:
    """Which ends a text means. Raises InputError `bad-selector`, `unknown-endpoint`."""
    means = meaning(text, engine)
    return np.fromiter((means(end) for end in endpoints), np.bool_, len(endpoints))


def meaning(text: str, engine: Engine) -> Callable[[Endpoint], bool]:
    """A workload, a word, a segment, an address, a CIDR or a selector. Raises InputError `bad-selector`,
    `unknown-endpoint`."""
    inventory = engine.world.inventory
    if (workload := inventory.find(text)) is not None:
        return lambda end: end.workload is not None and end.workload.uuid == workload.uuid
    if (addresses := addresses_of(text)) is not None:
        is_word = text in _WORDS
        return lambda end: (
            end.address is not None and end.address in addresses and not (is_word and end.workload is not None)
        )
    segment = segments(engine).get(text)
    if segment is not None:
        return lambda end: end.workload is not None and segment_picks(segment.selectors, _labels(engine, end))
    if not any(sign in text for sign in "=!,( "):
        message = f"`{text}` is no workload, selector, segment, address or word"
        help_ = "write a workload's name, `key=value`, a segment like `shop.db`, an address or `internet`"
        raise InputError("unknown-endpoint", message, help=help_)
    selector = ask.selector_of_text(text)
    return lambda end: end.workload is not None and selector.matches(_labels(engine, end))


def segment_picks(selectors: tuple[Selector, ...], labels: Labels) -> bool:
    """Whether a segment picks these labels."""
    return all(selector.matches(labels) for selector in selectors)


def _labels(engine: Engine, end: Endpoint) -> Labels:
    assert end.workload is not None
    return engine.world.inventory.labels_of(end.workload)


def addresses_of(text: str) -> IntervalSet | None:
    if text in _WORDS:
        return _WORDS[text]
    try:
        return parse_cidr(text) if "/" in text else IntervalSet.single(parse_address(text))
    except ValueError:
        return None


# ---- service and verdict --------------------------------------------------------------------------------------------


def _service(query: Query, rows: Conversations, engine: Engine) -> Mask:
    if not query.service:
        return np.ones(len(rows), np.bool_)
    mask = np.zeros(len(rows), np.bool_)
    for first, last in ask.services(engine, query.service):
        mask |= (rows.point >= first) & (rows.point <= last)
    return mask


def _verdict(query: Query, rows: Conversations, now: Judgement | None, draft: Judgement | None) -> Mask:
    if query.verdict is None:
        return np.ones(len(rows), np.bool_)
    if query.verdict == "uncovered":
        return uncovered(now, len(rows))
    if query.verdict in ("opens", "closes"):
        before, after = passes(now, len(rows)), passes(draft, len(rows))
        return after & ~before if query.verdict == "opens" else before & ~after
    is_shown: Mask = status_codes(now, len(rows)) == STATUSES.index(query.verdict)
    return is_shown


def status_codes(judgement: Judgement | None, rows: int) -> NDArray[np.uint8]:
    """Per row the index into the map's STATUSES."""
    if judgement is None:
        return np.full(rows, _NO_POLICY, np.uint8)
    codes = np.where(judgement.unheld, _UNHELD, _STATUS_OF_VERDICT[judgement.verdict])
    return np.where(judgement.reason == _UNCONTROLLED, _NO_POLICY, codes).astype(np.uint8)


def uncovered(judgement: Judgement | None, rows: int) -> Mask:
    """Per row whether no rule speaks of it, although one could: an end is controlled."""
    if judgement is None:
        return np.ones(rows, np.bool_)
    is_default: Mask = judgement.reason == _DEFAULT
    return is_default


def passes(judgement: Judgement | None, rows: int) -> Mask:
    """Per row whether a rule lets it pass, or nothing could stop it. What only a mode lets through does not pass."""
    if judgement is None:
        return np.ones(rows, np.bool_)
    is_allowed: Mask = judgement.verdict == VERDICTS.index("allowed")
    return is_allowed
