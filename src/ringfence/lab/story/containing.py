"""Acts of containment: an attack is told as it happens, its host is cut off, and given back."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Final

from rich.markup import escape

from ringfence.core.errors import RingfenceError
from ringfence.lab.fleet import Prober
from ringfence.lab.probing import Aim, Outcome
from ringfence.lab.story.scene import Scene, await_
from ringfence.lab.story.telling import in_words
from ringfence.wire import api

_TOLD_S: Final = 30.0
_VERIFIED_S: Final = 30.0
_PORTS: Final = (22, 443, 3389, 5432, 5672, 6379, 8080, 9100)
_FAST: Final = 0.01


class Following:
    """The first blocked attempt of a host that the controller tells of, and when it was told."""

    def __init__(self, scene: Scene, intruder: str) -> None:
        self.at: float | None = None
        self.message = ""
        self._client, self._intruder = scene.served.another_client(), intruder
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        try:
            for event in self._client.follow():
                if event.kind == "violation" and event.message.startswith(f"{self._intruder} "):
                    self.message, self.at = event.message, time.monotonic()
                    return
        except RingfenceError as error:
            self.message = str(error)
        finally:
            self._client.close()


def catch(scene: Scene, intruder: str, target: str) -> None:
    """An attack with everything alive: blocked, and told with the reason."""
    story = scene.story
    story.step(f"Attack again: {intruder} scans {target}")
    following = Following(scene, intruder)
    time.sleep(0.5)  # the stream is open by then, or the figure is worse than it need be
    began = time.monotonic()
    seen = scene.lab.scan(intruder, tcp=_PORTS, targets=[target])
    story.claim(f"nothing of {target} opens", holds=not seen.open, measured=f"0 of {len(seen.sightings)} probes"
                if not seen.open else f"{len(seen.open)} of {len(seen.sightings)} probes")  # fmt: skip
    is_told, _ = await_(lambda: following.at is not None, within_s=_TOLD_S, every_s=0.01)
    story.say(f"[bold yellow]violation[/] {escape(following.message)}")
    took = (following.at or began) - began
    story.claim("it is told as it happens, with what stopped it", holds=is_told, measured=f"after {in_words(took)}")


def contain(scene: Scene, suspect: str, session: tuple[str, str, int], path: tuple[str, str, int]) -> None:
    """Quarantine a host, and release it. `session`: a live connection (from, to, port) that it has; `path`: what it
    opens, over and over."""
    story = scene.story
    story.step(f"Quarantine {suspect}: ahead of every rule, on itself and on every peer")
    held, opening = _probers(scene, session, path)
    try:
        _await_passing(held, opening)
        scene.steady.kept()
        _cut(scene, suspect, held, opening)
        story.step(f"Release {suspect}")
        _give_back(scene, suspect, held, opening)
    finally:
        held.close()
        opening.close()


def _probers(scene: Scene, session: tuple[str, str, int], path: tuple[str, str, int]) -> tuple[Prober, Prober]:
    def aim(kind: str, ends: tuple[str, str, int]) -> Aim:
        address = scene.lab.world.by_name[ends[1]].addresses[0]
        return Aim(kind, address, ends[2], every_s=_FAST, timeout_s=0.2)  # type: ignore[arg-type]

    return (
        scene.fleet.probe(session[0], [aim("held-tcp", session)]),
        scene.fleet.probe(path[0], [aim("tcp", path)]),
    )


def _await_passing(*probers: Prober) -> None:
    for prober in probers:
        await_(lambda prober=prober: any(one.passed for one in prober.take()), within_s=_TOLD_S)  # type: ignore[misc]


def _cut(scene: Scene, suspect: str, held: Prober, opening: Prober) -> None:
    story, began = scene.story, time.monotonic()
    order = api.Contain((suspect,), why="it scans the databases")
    (made,) = scene.client.quarantine(order)
    answered = time.monotonic() - began
    found = [made]

    def is_verified() -> bool:
        found[:] = [one for one in scene.client.quarantines() if one.id == made.id]
        return bool(found) and found[0].is_verified

    is_proven, _ = await_(is_verified, within_s=_VERIFIED_S, every_s=0.02)
    proven = time.monotonic() - began
    scene.lab.wait(1.0)
    story.show(scene.views.contained(found))
    story.say(f"[bold]ringfence quarantine {suspect}[/] was answered after {in_words(answered)}")
    _claim_cut(scene, "its live SSH session was dead", held.take(), began)
    _claim_cut(scene, "it opened nothing new", opening.take(), began)
    peers = f"{found[0].verified_peers} of {found[0].peers} peers" if found else "nobody"
    story.claim("read back by itself and by every peer", holds=is_proven, measured=f"{peers}, {in_words(proven)}")
    kept = scene.steady.kept(without=suspect)
    story.claim("nobody else lost anything", holds=kept.is_whole, measured=str(kept))


def _claim_cut(scene: Scene, text: str, outcomes: Sequence[Outcome], began: float) -> None:
    """That nothing passed any more soon after the order, and never again."""
    later = [one for one in outcomes if one.began >= began]
    blocked = [one for one in later if not one.passed]
    last = max((one.ended for one in later if one.passed), default=began)
    holds = bool(blocked) and blocked[-1].began > last
    scene.story.claim(text, holds=holds, measured=f"{in_words(last - began)} after the order")


def _give_back(scene: Scene, suspect: str, held: Prober, opening: Prober) -> None:
    held.take(), opening.take()
    began = time.monotonic()
    scene.client.release(api.Release((suspect,), why="it was rebuilt"))
    for text, prober in (("its applications open connections again", opening), ("a new session stands", held)):
        found: list[float] = []

        def passes(prober: Prober = prober, found: list[float] = found) -> bool:
            found += [one.ended for one in prober.take() if one.passed and one.began >= began]
            return bool(found)

        is_back, _ = await_(passes, within_s=_TOLD_S, every_s=0.02)
        took = min(found, default=began) - began
        scene.story.claim(text, holds=is_back, measured=f"{in_words(took)} after the release")
