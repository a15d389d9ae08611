"""Acts of learning: the applications talk, the agents tell, a policy is proposed and planned."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path as FilePath
from typing import Final

import msgspec
from rich.console import RenderableType
from rich.markup import escape
from rich.syntax import Syntax

from ringfence.core.flow.conversations import Conversations
from ringfence.core.identity.inventory import Inventory
from ringfence.core.insight.map import FlowMap, group
from ringfence.core.insight.recommend import recommend
from ringfence.core.insight.recommendation import Recommendation
from ringfence.core.policy.model import Policy
from ringfence.core.policy.printing import print_policy
from ringfence.estate import CONFIG
from ringfence.lab.story.scene import Scene
from ringfence.lab.story.telling import Story, in_words
from ringfence.lab.world import Family, Path, World
from ringfence.wire import api

MAP_BY: Final = ("env", "app", "role")
_EDGES_SHOWN: Final = 12
_STORED_S: Final = 120.0
_PEEK_S: Final = 1.0
_OFTEN: Final = 2


def discover(scene: Scene, seconds: float) -> Conversations:
    """The flows that the controller has, once every application path is among them."""
    story, paths = scene.story, every_path(scene.lab.world)
    story.step("Discover: applications talk, each agent tells what its kernel saw")
    scene.steady.start()
    with story.progress("talking", seconds) as on_tick:
        scene.lab.wait(seconds, on_tick=on_tick)
    began, found = time.monotonic(), scene.flows()
    with story.console.status("   the last reports are on their way"):
        while missing(found, paths) and time.monotonic() - began < _STORED_S:
            time.sleep(_PEEK_S)
            found = scene.flows()
    inventory = scene.inventory()
    show_map(story, scene.views.table, group(found, inventory, MAP_BY))
    lacking = missing(found, paths)
    for path in sorted(lacking, key=str)[:3]:
        story.say(f"[red]not seen: {escape(str(path))}")
    count = int(found.connections.sum())
    story.claim(f"{len(paths) - len(lacking)} of {len(paths)} application paths are in the controller's flow store",
                holds=not lacking, measured=f"{count:,} connections")  # fmt: skip
    return found


Seen = tuple[str | None, str | None, int]
"""Who opened to whom (None: no workload of ours), and the service point."""


def every_path(world: World) -> frozenset[Seen]:
    """Each application path over each family as a flow store must have it."""
    managed = {host.name for host in world.managed}

    def seen(path: Path, family: Family) -> Seen:
        service = world.by_name[path.server].service(path.service)
        assert service is not None
        client, server = (name if name in managed else None for name in (path.client, path.server))
        return client, server, service.point(family)

    return frozenset(seen(path, family) for path in world.paths for family in world.families(path))


def missing(found: Conversations, paths: frozenset[Seen]) -> set[Seen]:
    """The paths that were not seen often enough for a rule: what is seen once may be a mistake."""
    names = [end.workload.name if end.workload is not None else None for end in found.endpoints]
    columns = (found.source, found.destination, found.point, found.connections)
    seen: Counter[Seen] = Counter()
    for source, destination, point, connections in zip(*(column.tolist() for column in columns), strict=True):
        seen[names[source], names[destination], point] += connections
    return {path for path in paths if seen[path] < _OFTEN}


def show_map(story: Story, table: Callable[[FlowMap], RenderableType], seen: FlowMap) -> None:
    """The busiest edges of a map."""
    busiest = sorted(seen.edges, key=lambda edge: -edge.volume.bytes)[:_EDGES_SHOWN]
    story.show(table(msgspec.structs.replace(seen, edges=tuple(busiest))))
    more = len(seen.edges) - len(busiest)
    if more:
        story.say(f"[dim]and {more} more edges between {len(seen.groups)} groups")


def propose(story: Story, found: Conversations, inventory: Inventory) -> Recommendation:
    """The least policy for what was seen, written down."""
    story.step("Propose: the least policy that explains this traffic, by identity")
    proposal = recommend(found, inventory)
    write_policies(story.folder, proposal.policies)
    biggest = max(proposal.policies, key=lambda policy: len(policy.rules))
    story.show(Syntax(print_policy(biggest), "yaml", background_color="default", word_wrap=True))
    others = ", ".join(policy.name for policy in proposal.policies if policy is not biggest)
    story.say(f"and {len(proposal.policies) - 1} more ({others}), all in [bold]{story.folder / 'policies'}[/]")
    for left in proposal.set_aside:
        story.say(f"[yellow]set aside[/] {left.connections:,} connections, {left.reason}: {left.why}")
    share = proposal.coverage.share
    story.claim("rules cover all that calls for one", holds=share == 1.0, measured=f"{share:.1%}")
    why = "; ".join(proposal.confidence.why_not)
    story.say(f"[dim]for a real estate it says: {proposal.confidence.verdict}{f' ({why})' if why else ''}")
    return proposal


def write_policies(folder: FilePath, policies: Iterable[Policy]) -> None:
    (folder / "policies").mkdir(exist_ok=True)
    for policy in policies:
        (folder / "policies" / f"{policy.name}.yaml").write_text(print_policy(policy), encoding="utf-8")


def plan(scene: Scene, proposal: Recommendation) -> None:
    """What the controller says it would do; nothing is changed."""
    story = scene.story
    story.step("Plan: what would open, close and break, before anything changes")
    (story.folder / CONFIG).touch()
    scene.policies = proposal.policies
    scene.files = {f"{policy.name}.yaml": print_policy(policy) for policy in proposal.policies}
    began = time.monotonic()
    planned = scene.client.plan(api.Plan(draft(scene), days=1))
    took = time.monotonic() - began
    for shown in scene.views.plan(planned):
        story.show(shown)
    proven = sum(proof.outcome in ("proven", "warning") for proof in planned.proofs)
    story.claim("the policies' own tests are proven over every pair of workloads",
                holds=proven == len(planned.proofs) > 0, measured=f"{proven} of {len(planned.proofs)}")  # fmt: skip
    is_clean = planned.impact is not None and planned.impact.connections > 0 and not planned.impact.broken
    story.claim("nothing that was seen would break", holds=is_clean, measured=f"planned in {in_words(took)}")


def draft(scene: Scene) -> api.Draft:
    newest = next((version.number for version in scene.client.versions(limit=1)), 0)
    return api.Draft(scene.files, newest, note="what the demo learned")
