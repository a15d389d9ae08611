"""Act one: a controller that serves, and hosts that join it."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from ringfence.lab import tables
from ringfence.lab.story.scene import Scene, await_
from ringfence.lab.story.telling import in_words
from ringfence.lab.world import Host
from ringfence.wire import api

_AT_ONCE: Final = 4
_JOINED_S: Final = 90.0


def start_controller(scene: Scene) -> None:
    story, lab = scene.story, scene.lab
    story.step(f"A real estate: {scene.hosts} hosts, each with a network of its own")
    story.show(tables.hosts(lab.world))
    story.say("look around while it runs, from another terminal:")
    story.say(f"  [bold]ip netns exec {lab.namespace(lab.world.managed[0].name)} bash[/]")
    story.step("A controller: ringfence up")
    began = time.monotonic()
    scene.served.start()
    status = scene.client.status()
    parts = ", ".join(f"{part.name} {part.state}" for part in status.parts)
    story.say(f"one process, one directory, its message bus as a child: {parts}")
    story.claim("the controller serves, its CA and its administrator made", holds=status.is_well,
                measured=in_words(time.monotonic() - began))  # fmt: skip


def join_hosts(scene: Scene) -> None:
    story, hosts = scene.story, scene.lab.world.managed
    story.step(f"{len(hosts)} agents join, each with a token")
    tokens = {host.name: "" for host in hosts} | _tokens(scene, hosts)
    began = time.monotonic()
    with story.progress("joining", float(len(hosts))) as on_tick, ThreadPoolExecutor(_AT_ONCE) as pool:
        joining = pool.map(lambda host: scene.fleet.enrol(host.name, tokens[host.name]), hosts)
        for number, _ in enumerate(joining, 1):
            on_tick(float(number))
    is_here, _ = await_(lambda: _realised(scene) == len(hosts), within_s=_JOINED_S)
    joined = scene.workloads()
    story.say("each made its own key, which never left it, and has a certificate for its identity:")
    story.say(f"  {joined[0].name}  [dim]{joined[0].spiffe}[/]")
    distinct = len({one.spiffe for one in joined})
    story.claim(f"{distinct} of {len(hosts)} hosts joined, are heard, and observe: nothing is blocked yet",
                holds=is_here and distinct == len(hosts), measured=in_words(time.monotonic() - began))  # fmt: skip


def _tokens(scene: Scene, hosts: tuple[Host, ...]) -> dict[str, str]:
    """A join token for each host, one a kind of host."""
    tokens: dict[str, str] = {}
    for profile in sorted({_profile(host) for host in hosts}):
        labels = next(host.labels for host in hosts if _profile(host) == profile)
        scene.client.make_profile(api.NewProfile(profile, dict(labels)))
        tokens[profile] = scene.client.invite(api.Invite(profile, uses=None)).token
    return {host.name: tokens[_profile(host)] for host in hosts}


def _profile(host: Host) -> str:
    return "-".join(host.labels.values())


def _realised(scene: Scene) -> int:
    return sum(one.state == "realised" for one in scene.workloads())
