"""The act in the dark: controller and bus are killed, an intruder strikes, and everything comes back."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Final

from rich.markup import escape
from rich.text import Text

from ringfence.lab import tables
from ringfence.lab.attack import Intrusion, Reached, attack, disarm, permitted, rearm
from ringfence.lab.served import is_alive
from ringfence.lab.story.scene import Scene, await_
from ringfence.lab.story.telling import Story, in_words
from ringfence.ports.state import Alert
from ringfence.targets.nftables import NftablesTarget

_BACK_S: Final = 60.0
_ALERTS_SHOWN: Final = 6


def knock_before(scene: Scene, intruder: str) -> Intrusion:
    """What an intruder reaches while nothing is enforced."""
    story = scene.story
    story.step(f"Attack, before: somebody owns {intruder}, and knocks at every host")
    return _knock(scene, intruder)


def survive(scene: Scene, intruder: str, before: Intrusion) -> None:
    """Kill -9 the controller and the bus; strike; bring them back."""
    story, lab = scene.story, scene.lab
    story.step("Kill the controller and the bus; the hosts are on their own")
    scene.steady.kept()
    pids, killed = scene.served.pids, datetime.now(UTC)
    scene.served.kill()
    is_dead = not any(map(is_alive, pids)) and not scene.served.answers()
    story.claim(f"kill -9 of the controller and its bus ({len(pids)} processes): nobody answers", holds=is_dead)
    allowed = permitted(lab.world, scene.known(), scene.last_engine.decide, intruder, datetime.now(UTC))
    scene.fleet.kill_agent(intruder)
    disarm(lab, intruder)
    story.say(f"meanwhile root on [bold]{intruder}[/] kills its agent and runs [bold]nft flush ruleset[/]")
    after = _knock(scene, intruder)
    story.show(tables.reach(intruder, before.reached, after.reached, allowed))
    claim_exact(story, after, allowed)
    _rearm(scene, intruder)
    kept = scene.steady.kept()
    for problem in kept.problems[:3]:
        story.say(f"[red]{escape(problem)}")
    story.claim("applications went on without controller and bus", holds=kept.is_whole, measured=str(kept))
    _come_back(scene, intruder, killed)


def _rearm(scene: Scene, intruder: str) -> None:
    """The agent starts as its service would, from disk: there is nobody to ask."""
    began, story = time.monotonic(), scene.story
    rearm(scene.lab, intruder)
    scene.fleet.start_agent(intruder)
    target = NftablesTarget(scene.lab.namespace(intruder))
    is_back, _ = await_(lambda: target.observe().state == "realised", within_s=_BACK_S)
    story.claim(f"the agent of {intruder} comes back and puts its rules back from disk", holds=is_back,
                measured=in_words(time.monotonic() - began))  # fmt: skip


def _come_back(scene: Scene, intruder: str, killed: datetime) -> None:
    story, began, restarted = scene.story, time.monotonic(), datetime.now(UTC)
    scene.served.start()
    story.say(
        f"[bold]ringfence up[/] again, from the same directory: it serves after {in_words(time.monotonic() - began)}"
    )
    is_back, _ = await_(lambda: _heard(scene, restarted) == scene.hosts, within_s=_BACK_S)
    story.claim(f"{_heard(scene, restarted)} of {scene.hosts} agents are back, each proven as it was", holds=is_back,
                measured=in_words(time.monotonic() - began))  # fmt: skip
    told: list[Alert] = []

    def has_come() -> bool:
        told[:] = _told(scene, intruder, killed, restarted)
        return bool(told)

    has_arrived, _ = await_(has_come, within_s=_BACK_S)
    show_alerts(scene, told)
    attempts = sum(one.count for one in told)
    story.claim("what was tried in the dark was kept on the hosts, and is told now", holds=has_arrived,
                measured=f"{len(told)} alerts, {attempts:,} attempts")  # fmt: skip


def _heard(scene: Scene, since: datetime) -> int:
    return sum(one.seen is not None and one.seen > since and one.state == "realised" for one in scene.workloads())


def _told(scene: Scene, intruder: str, begin: datetime, end: datetime) -> list[Alert]:
    """Alerts of blocked attempts by the intruder between two times."""
    found = [alert for alert in scene.client.alerts(all=True) if begin <= alert.last and alert.first <= end]
    return [a for a in found if a.kind == "violation" and f": {intruder} (" in a.message and "would" not in a.message]


def show_alerts(scene: Scene, found: list[Alert]) -> None:
    table = tables.table("severity", "attempts>", "alert")
    for one in found[:_ALERTS_SHOWN]:
        colour = "yellow" if one.severity == "warning" else "red"
        table.add_row(Text(one.severity, colour), f"{one.count:,}", Text(one.message))
    scene.story.show(table)
    if len(found) > _ALERTS_SHOWN:
        scene.story.say(f"[dim]and {len(found) - _ALERTS_SHOWN} more")


def _knock(scene: Scene, intruder: str) -> Intrusion:
    with scene.story.console.status(f"   {intruder} tries every likely TCP and UDP port of every host"):
        found = attack(scene.lab, intruder, low_ports=False)
    doors = f"[bold]{len(found.reached)}[/] doors opened"
    scene.story.say(f"from {intruder}: {found.probes:,} probes on every host, IPv4 and IPv6: {doors}")
    return found


def claim_exact(story: Story, intrusion: Intrusion, allowed: frozenset[Reached]) -> None:
    """That the other ends let in what policy allows, no more and no less."""
    for door in sorted(intrusion.reached - allowed):
        story.say(f"[red]reached against policy: {door}")
    for door in sorted(allowed - intrusion.reached):
        story.say(f"[red]allowed, yet not reached: {door}")
    text = f"{intrusion.attacker} reaches exactly what policy allows it, no more and no less"
    story.claim(text, holds=intrusion.reached == allowed, measured=f"{len(intrusion.reached)} of {len(allowed)} doors")
