"""How far a breach goes: from whoever is compromised, or towards what is critical, now and under a draft."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator

import msgspec

from ringfence.controller.study.asking import reach
from ringfence.controller.study.grounds import Ground, Grounds, Kept, Texts
from ringfence.controller.study.queries import addresses_of, meaning
from ringfence.controller.thinking import think
from ringfence.core.engine.naming import describe_labels
from ringfence.core.engine.prove import present
from ringfence.core.engine.reach import Reached
from ringfence.core.insight.exposure import Exposures
from ringfence.core.net.intervals import EMPTY
from ringfence.core.world import Endpoint
from ringfence.wire.questions import AskReach
from ringfence.wire.study import AskBlast, Blast, BlastView, Hop


class Blasting:
    """Answers about breaches."""

    def __init__(self, grounds: Grounds, texts: Callable[[], Awaitable[Texts]]) -> None:
        self._grounds, self._texts = grounds, texts
        self._exposures: Kept[Exposures] = Kept(2)
        self._views: Kept[BlastView] = Kept(16)

    async def of(self, asked: AskBlast) -> BlastView:
        """Raises InputError `unknown-endpoint`, `unmatched`, `unknown-service`, FindingsError (the draft)."""
        texts = await self._texts()
        return await think(self._of, asked, texts)

    def _of(self, asked: AskBlast, texts: Texts) -> BlastView:
        now = self._grounds.now()
        draft = self._grounds.drafted(now, asked.draft, texts) if asked.draft is not None else None
        key = (msgspec.json.encode(asked), now.number, draft.number if draft is not None else 0)
        return self._views.get(key, lambda: self._view(asked, now, draft))

    def _view(self, asked: AskBlast, now: Ground, draft: Ground | None) -> BlastView:
        in_force = _blast(asked, now)
        with now.lock:
            is_meant = meaning(asked.of, now.engine)
            exposures = self._exposures.get(now.number, lambda: Exposures(now.engine))
            picked = frozenset(w.uuid for w in now.world.inventory.workloads if is_meant(Endpoint(w)))
            at_once = exposures.now(picked, asked.way, addresses_of(asked.of) or EMPTY)
        drafted = _blast(asked, draft) if draft is not None else None
        loose = sum(w.is_host and not w.has_agent for w in now.world.inventory.workloads)
        return BlastView(asked.of, len(picked), asked.way, at_once, in_force, drafted, loose)


def _blast(asked: AskBlast, ground: Ground) -> Blast:
    found = reach(ground.world, AskReach(asked.of, asked.way, asked.hops, asked.service)).reached
    with ground.lock:
        jewels = _jewels(ground)
    told = found[: asked.limit]
    names = {one.who for one in told}
    critical = {name: tuple(sorted(who & names)) for name, who in jewels.items() if who & names}
    return Blast(tuple(_hops(found, jewels)), told, max(0, len(found) - asked.limit), critical)


def _hops(found: tuple[Reached, ...], jewels: dict[str, frozenset[str]]) -> Iterator[Hop]:
    total = 0
    for hop in sorted({one.hop for one in found}):
        here = [one for one in found if one.hop == hop and not one.is_bare]
        names = {one.who for one in here}
        workloads = sum(one.workloads for one in here)
        total += workloads
        yield Hop(hop, len(names), workloads, total, tuple(n for n, who in jewels.items() if not who.isdisjoint(names)))


def _jewels(ground: Ground) -> dict[str, frozenset[str]]:
    """Each critical segment and what its classes are called."""
    engine = ground.engine
    return {
        f"{policy.name}.{segment.name}": frozenset(
            describe_labels(engine.classes, class_) for class_ in present(engine, (segment.peer,)).tolist()
        )
        for policy in ground.world.policies
        for segment in policy.segments
        if segment.is_crown_jewel and segment.peer is not None
    }
