"""The story where no lab can run: everything that recorded flows can show."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime

from ringfence.catalog import flow_sources
from ringfence.core.engine import Engine
from ringfence.core.flow.conversations import Conversations
from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import Mode
from ringfence.core.insight.map import group
from ringfence.core.insight.simulate import simulate
from ringfence.core.policy.model import Policy
from ringfence.core.world import World
from ringfence.estate import CONFIG
from ringfence.flows.ingest import read_flows
from ringfence.inventory.files import load_paths
from ringfence.lab import tables
from ringfence.lab.record import recorded_estate
from ringfence.lab.story.learning import MAP_BY, propose, show_map
from ringfence.lab.story.telling import Story, Views


def tell(story: Story, views: Views) -> None:
    """Discover, propose, simulate, draw."""
    shutil.copytree(recorded_estate(), story.folder, dirs_exist_ok=True)
    (story.folder / CONFIG).write_text("[flows]\nmax_days = 36500 # a recording keeps its dates\n")
    inventory = Inventory(load_paths([story.folder / "inventory"]).workloads)
    story.say("Recorded flows: what the kernels of the lab's hosts reported in an earlier run.")
    found = _discover(story, views, inventory)
    proposal = propose(story, found, inventory)
    _rehearse(story, found, inventory, proposal.policies)
    _picture(story, views, _engine(inventory, proposal.policies), found)
    story.step("What recorded flows cannot show")
    story.say(
        "A controller and agents that enforce this in real kernels, an attack that is stopped and told, a quarantine,"
    )
    story.say("and what happens when controller and bus are killed: run [bold]sudo make demo[/] on Linux for those.")


def _discover(story: Story, views: Views, inventory: Inventory) -> Conversations:
    story.step("Discover: who talks to whom")
    read = read_flows([str(story.folder / "flows")], inventory, among=flow_sources())
    lines, malformed = read.report.total("lines"), read.report.total("malformed")
    rows = f"{len(read.conversations):,} labelled conversations"
    story.say(f"{lines:,} flow log lines (AWS VPC and Zeek formats) -> {rows}")
    show_map(story, views.table, group(read.conversations, inventory, MAP_BY))
    story.claim("every line is accounted for", holds=malformed == 0, measured=f"{malformed} malformed")
    return read.conversations


def _rehearse(story: Story, found: Conversations, inventory: Inventory, policies: tuple[Policy, ...]) -> None:
    story.step("Simulate: what breaks if this is enforced")
    simulation = simulate(_engine(inventory, policies), found, as_mode=Mode.both("enforce"))
    story.show(tables.simulation(simulation))
    story.claim("nothing that an application needs would break", holds=simulation.is_clean)


def _picture(story: Story, views: Views, engine: Engine, found: Conversations) -> None:
    story.step("The map, with verdicts")
    rules = [rule.ref for rule in engine.rules]
    drawn = group(found, engine.world.inventory, MAP_BY, judgement=engine.judge(found), rules=rules)
    path = story.folder / "map.html"
    path.write_text(views.picture(drawn), encoding="utf-8")
    story.say(f"one self-contained page: [bold]{path}[/]")
    story.say(f"the estate to go on with: [bold]cd {story.folder} && ringfence policy test[/]")


def _engine(inventory: Inventory, policies: tuple[Policy, ...]) -> Engine:
    return Engine.compile(World(inventory, policies, at=datetime.now(UTC)))
