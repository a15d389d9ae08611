"""Acts of enforcing: a version goes to a canary, then to everybody; then hosts hold it, the canary first."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Final

import msgspec
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from ringfence.lab import tables
from ringfence.lab.defend import intents
from ringfence.lab.story.learning import draft
from ringfence.lab.story.scene import Scene, await_
from ringfence.lab.story.telling import in_words
from ringfence.wire import api

CANARY: Final = "env=dev"
OTHERS: Final = "env!=dev"
_LOOK_S: Final = 0.25
_DONE_S: Final = 120.0
_PROVEN_S: Final = 60.0
_QUIET_S: Final = 3.0


class Seen(msgspec.Struct):
    """A rollout as it was watched."""

    stages: list[str] = []
    confirmed: dict[str, float] = {}
    """Host -> seconds until it said that it read the version back."""
    last: api.RolloutView | None = None


def apply(scene: Scene) -> None:
    """The version on every host, the canary's first."""
    story = scene.story
    story.step(f"Apply: a canary first ({CANARY}), on trial, then everybody")
    began = time.monotonic()
    applied = scene.client.apply(api.Apply(draft(scene), api.How(canary=CANARY)))
    first = {one.name for one in scene.workloads() if CANARY in [f"{k}={v}" for k, v in one.labels.items()]}
    with story.console.status(f"   {', '.join(sorted(first))} must be well for 20 s before the others follow"):
        seen = _watch(scene, applied.version.number, began)
    story.show(_table(scene, seen, first))
    is_done = seen.last is not None and seen.last.stage == "done" and len(seen.confirmed) == scene.hosts
    story.claim(f"version {applied.version.number} was read back from the kernel on {len(seen.confirmed)} of"
                f" {scene.hosts} hosts", holds=is_done, measured=in_words(time.monotonic() - began))  # fmt: skip
    others = [at for name, at in seen.confirmed.items() if name not in first]
    latest = max((seen.confirmed.get(name, _DONE_S) for name in first), default=_DONE_S)
    lead = min(others, default=0.0) - latest
    story.claim("no other host had it before the canary was well", holds=lead > 0, measured=f"{in_words(lead)} later")


def _watch(scene: Scene, version: int, began: float) -> Seen:
    """Until the rollout is over one way or the other."""
    seen = Seen()
    while time.monotonic() - began < _DONE_S:
        for one in scene.workloads():
            if one.policy_version == version and one.state == "realised":
                seen.confirmed.setdefault(one.name, time.monotonic() - began)
        seen.last = scene.client.rollout()
        if seen.last.stage not in seen.stages:
            seen.stages.append(seen.last.stage)
        if seen.last.stage in ("done", "stopped"):
            break
        time.sleep(_LOOK_S)
    return seen


def _table(scene: Scene, seen: Seen, first: Collection[str]) -> Table:
    out = tables.table("host", "goes", "read back after>", "state")
    states = {one.name: one.state for one in scene.workloads()}
    for name, at in sorted(seen.confirmed.items(), key=lambda item: item[1]):
        order = Text("first, as canary", "cyan") if name in first else Text("with the rest", "dim")
        colour = "green" if states[name] == "realised" else "red"
        out.add_row(name, order, in_words(at), Text(states[name], colour))
    return out


def enforce(scene: Scene) -> None:
    """From now on what no rule allows is dropped: on the canary, then on every host."""
    story = scene.story
    story.step("Enforce: what no rule allows is dropped, while applications keep talking")
    scene.steady.start_probing()
    began = time.monotonic()
    for who in (CANARY, OTHERS):
        changed = scene.client.set_mode(api.SetMode((who,), "enforce", "enforce", "the traffic was learned"))
        story.say(f"[bold]ringfence mode '{who}' --both enforce[/]: {changed} hosts")
        await_(lambda: _proven(scene) == scene.hosts, within_s=_PROVEN_S)
    took = time.monotonic() - began
    story.show(_digests(scene))
    proven = _proven(scene)
    story.claim("what each host read back from its kernel has the digest of the intent compiled anew",
                holds=proven == scene.hosts, measured=f"{proven} of {scene.hosts}, after {in_words(took)}")  # fmt: skip
    scene.lab.wait(_QUIET_S)
    kept = scene.steady.kept()
    for problem in kept.problems[:3]:
        story.say(f"[red]{escape(problem)}")
    story.claim("no application lost anything while this happened", holds=kept.is_whole, measured=str(kept))


def _intended(scene: Scene) -> dict[str, str]:
    """Host -> the digest of what it should enforce, compiled here."""
    return {name: intent.digest for name, intent in intents(scene.lab, scene.engine()).items()}


def _proven(scene: Scene) -> int:
    """Hosts that read back what is meant, in the mode that is meant."""
    intended = _intended(scene)
    return sum(one.state == "realised" and one.digest == intended[one.name] for one in scene.workloads())


def _digests(scene: Scene) -> Table:
    out, intended = tables.table("host", "in", "out", "state", "intended", "read back"), _intended(scene)
    for one in scene.workloads():
        colour = "green" if one.digest == intended[one.name] and one.state == "realised" else "red"
        read = Text(one.digest[:12], colour)
        state = Text(one.state, colour)
        out.add_row(one.name, one.mode.inbound, one.mode.outbound, state, Text(intended[one.name][:12], "dim"), read)
    return out
