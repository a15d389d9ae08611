"""The whole of Ringfence as one story on a real estate: discover, propose, simulate, enforce, attack, prove.

Each step says what it does, does it, and shows what came of it; what must hold is a `Claim`, and the demo is a
success only if every claim does. `run_live` needs root on Linux; `run_recorded` tells the same story on recorded
flows as far as those go.

What it writes is an ordinary estate: `inventory/`, `policies/`, `flows/` and `map.html`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.rule import Rule
from rich.syntax import Syntax

from ringfence.catalog import flow_sources
from ringfence.core.engine import Engine
from ringfence.core.flow.conversations import Conversations
from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import Mode
from ringfence.core.insight.map import FlowMap, group
from ringfence.core.insight.recommend import recommend
from ringfence.core.insight.recommendation import Recommendation
from ringfence.core.insight.simulate import Simulation, simulate
from ringfence.core.policy.model import Policy
from ringfence.core.policy.printing import print_policy
from ringfence.core.world import World
from ringfence.estate import CONFIG
from ringfence.flows.ingest import read_flows
from ringfence.inventory.files import load_paths
from ringfence.lab import tables
from ringfence.lab.alerts import Alert, alerts
from ringfence.lab.attack import Intrusion, Reached, attack, disarm, permitted, rearm
from ringfence.lab.clients import Tally
from ringfence.lab.defend import audit, defend, intents
from ringfence.lab.lab import Lab
from ringfence.lab.record import recorded_estate, write_inventory

ENFORCE = Mode.both("enforce")
MAP_BY = ("env", "app", "role")
EDGES_SHOWN = 16
SECONDS = 20.0


@dataclass(frozen=True)
class Views:
    """How a flow map is shown; given by the caller, who has the renderers."""

    table: Callable[[FlowMap], RenderableType]
    picture: Callable[[FlowMap], str]


@dataclass(frozen=True)
class Claim:
    """Something the demo says, and whether it was seen to hold."""

    text: str
    holds: bool


@dataclass
class Story:
    """Where the story is told, and what it has claimed so far."""

    console: Console
    folder: Path
    claims: list[Claim] = field(default_factory=list)
    _step: int = 0

    def step(self, title: str) -> None:
        self._step += 1
        self.console.print()
        self.console.print(Rule(f"[bold]{self._step}  {title}", align="left", style="cyan"))

    def say(self, text: str) -> None:
        self.console.print(f"   {text}", highlight=False)

    def show(self, what: RenderableType) -> None:
        self.console.print(Padding(what, (0, 0, 0, 3)))

    def claim(self, text: str, *, holds: bool) -> None:
        self.claims.append(Claim(text, holds))
        self.say(f"[bold green]✓[/] {text}" if holds else f"[bold red]✗ NOT TRUE:[/] {text}")

    def end(self) -> int:
        """The exit code: 0 when everything claimed holds."""
        self.console.print()
        broken = [claim for claim in self.claims if not claim.holds]
        verdict = f"[bold red]{len(broken)} of {len(self.claims)} claims do not hold" if broken else ""
        self.console.print(Rule(verdict or f"[bold green]all {len(self.claims)} claims hold", style="cyan"))
        return 1 if broken else 0


def run_live(
    console: Console,
    views: Views,
    folder: Path,
    *,
    world: str = "shop",
    seconds: float = SECONDS,
    attackers: Sequence[str] = ("laptop", "prod-web-1"),
    every_port: bool = True,
) -> int:
    """The whole story on a lab of real hosts. Returns the exit code; raises what `Lab.up` and the target raise."""
    story = Story(console, _fresh(folder))
    with Lab.up(world, flows_dir=story.folder / "flows") as lab:
        introduce(story, lab)
        talk(story, lab, seconds)
        conversations = discover(story, views, lab.inventory, story.folder / "flows")
        proposal = propose(story, conversations, lab.inventory)
        rehearse(story, conversations, lab.inventory, proposal.policies)
        before = break_in(story, lab, attackers)
        armed = _enforcing(lab.inventory)
        write_inventory(armed, story.folder / "inventory" / "workloads.yaml")
        engine = _engine(armed, proposal.policies)
        enforce(story, lab, engine)
        prove_paths(story, lab)
        after = break_in_again(story, lab, engine, attackers, every_port=every_port)
        compare(story, lab, before, after, engine)
        explain_blocks(story, lab, engine)
        picture(story, views, engine, story.folder / "flows")
    story.say("the lab is gone: its processes, namespaces and rules")
    return story.end()


def run_recorded(console: Console, views: Views, folder: Path) -> int:
    """The story as far as recorded flows go: everything but enforcement and attack."""
    story = Story(console, _fresh(folder))
    recording = recorded_estate()
    shutil.copytree(recording, story.folder, dirs_exist_ok=True)
    (story.folder / CONFIG).write_text("[flows]\nmax_days = 36500 # a recording keeps its dates\n")
    inventory = Inventory(load_paths([story.folder / "inventory"]).workloads)
    story.say("Recorded flows: what the kernels of the lab's hosts reported in an earlier run.")
    conversations = discover(story, views, inventory, story.folder / "flows")
    proposal = propose(story, conversations, inventory)
    rehearse(story, conversations, inventory, proposal.policies)
    picture(story, views, _engine(inventory, proposal.policies), story.folder / "flows")
    story.step("What recorded flows cannot show")
    story.say("Enforcing the policy in real kernels, proving with real connections that every application path still")
    story.say(
        "works, attacking from a compromised host, and the alerts: run [bold]sudo make demo[/] on Linux for those."
    )
    return story.end()


def introduce(story: Story, lab: Lab) -> None:
    story.step(f"A real estate: {len(lab.world.managed)} hosts with an agent, in network namespaces of this kernel")
    story.show(tables.hosts(lab.world))
    story.say(f"look around while it runs: [bold]ip netns exec {lab.namespace(lab.world.managed[0].name)} bash[/]")


def talk(story: Story, lab: Lab, seconds: float) -> None:
    story.step("Applications talk; each host's kernel reports the connections it tracks")
    with _progress(story.console, "talking", seconds) as on_tick:
        tallies = lab.run(seconds, on_tick=on_tick)
    worked, failed = _totals(tallies)
    story.say(f"{worked:,} exchanges over {len(lab.world.paths)} application paths, IPv4 and IPv6, {failed} failed")
    story.claim(f"telemetry made {lab.record_count:,} flow records and lost none", holds=lab.dropped == 0)


def discover(story: Story, views: Views, inventory: Inventory, flows: Path) -> Conversations:
    story.step("Discover: who talks to whom")
    read = read_flows([str(flows)], inventory, among=flow_sources())
    lines, malformed = read.report.total("lines"), read.report.total("malformed")
    story.say(
        f"{lines:,} flow log lines (AWS VPC and Zeek formats) -> {len(read.conversations):,} labelled conversations"
    )
    seen = group(read.conversations, inventory, MAP_BY)
    busiest = sorted(seen.edges, key=lambda edge: -edge.volume.bytes)[:EDGES_SHOWN]
    story.show(views.table(msgspec.structs.replace(seen, edges=tuple(busiest))))
    story.say(f"and {len(seen.edges) - len(busiest)} more edges between {len(seen.groups)} groups")
    story.claim(f"every line is accounted for, {malformed} malformed", holds=malformed == 0)
    return read.conversations


def propose(story: Story, conversations: Conversations, inventory: Inventory) -> Recommendation:
    story.step("Propose: the least policy that explains this traffic, by identity")
    proposal = recommend(conversations, inventory)
    (story.folder / "policies").mkdir(exist_ok=True)
    for policy in proposal.policies:
        (story.folder / "policies" / f"{policy.name}.yaml").write_text(print_policy(policy), encoding="utf-8")
    biggest = max(proposal.policies, key=lambda policy: len(policy.rules))
    story.show(Syntax(print_policy(biggest), "yaml", background_color="default", word_wrap=True))
    others = ", ".join(policy.name for policy in proposal.policies if policy is not biggest)
    story.say(f"and {len(proposal.policies) - 1} more: {others}; all in {story.folder / 'policies'}")
    for left in proposal.set_aside:
        story.say(f"[yellow]set aside[/] {left.connections:,} connections, {left.reason}: {left.why}")
    story.claim(
        f"rules cover {proposal.coverage.share:.1%} of what calls for one", holds=proposal.coverage.share == 1.0
    )
    confidence = proposal.confidence
    story.say(
        f"ready to enforce in a real estate: [bold]{confidence.verdict}[/], because {'; '.join(confidence.why_not)}"
    )
    return proposal


def rehearse(
    story: Story, conversations: Conversations, inventory: Inventory, policies: tuple[Policy, ...]
) -> Simulation:
    story.step("Simulate: what breaks if this is enforced")
    simulation = simulate(_engine(inventory, policies), conversations, as_mode=ENFORCE)
    story.show(tables.simulation(simulation))
    story.claim("nothing that an application needs would break", holds=simulation.is_clean)
    return simulation


def break_in(story: Story, lab: Lab, attackers: Sequence[str]) -> dict[str, Intrusion]:
    story.step("Attack, before: an intruder knocks at every host")
    return {name: _knock(story, lab, name, every_port=False) for name in attackers}


def enforce(story: Story, lab: Lab, engine: Engine) -> None:
    story.step("Enforce on every host, while the applications keep talking")
    lab.start_clients()
    lab.wait(2.0)
    done = defend(lab, intents(lab, engine))
    lab.wait(4.0)
    worked, failed = _totals(lab.stop_clients())
    story.show(tables.defended(done))
    proven = all(one.state == "realised" for one in done)
    story.claim(f"read back from the kernel and proven equal to the intent on all {len(done)} hosts", holds=proven)
    text = f"{worked:,} exchanges went on meanwhile, established connections included, {failed} failed"
    story.claim(text, holds=failed == 0 and worked > 0)


def prove_paths(story: Story, lab: Lab) -> None:
    story.step("Prove with real connections that every application path still works")
    checks = lab.check_paths()
    broken = [check for check in checks if not check.worked]
    for check in broken:
        story.say(f"[red]{check.path} over IPv{check.family}: {check.problem}")
    story.claim(f"{len(checks) - len(broken)} of {len(checks)} paths work, IPv4 and IPv6", holds=not broken)


def break_in_again(
    story: Story, lab: Lab, engine: Engine, attackers: Sequence[str], *, every_port: bool
) -> dict[str, Intrusion]:
    story.step("Attack, after: the intruder knocks again")
    return {name: _attack_as_root(story, lab, engine, name, every_port=every_port) for name in attackers}


def _attack_as_root(story: Story, lab: Lab, engine: Engine, attacker: str, *, every_port: bool) -> Intrusion:
    """The intruder owns its host: whatever enforcement is there goes first, and is put back afterwards."""
    if lab.world.by_name[attacker].kind != "host":
        return _knock(story, lab, attacker, every_port=every_port)
    disarm(lab, attacker)
    story.say(f"root on [bold]{attacker}[/] ran [bold]nft flush ruleset[/]: what stops it now are the other ends")
    drifted = [one.host for one in audit(lab, intents(lab, engine)) if one.state != "realised"]
    story.claim(f"the audit sees it at once: {', '.join(drifted) or 'nobody'} drifted", holds=drifted == [attacker])
    found = _knock(story, lab, attacker, every_port=every_port)
    rearm(lab, attacker)
    (repaired,) = defend(lab, intents(lab, engine, [attacker]))
    story.claim("its rules are put back and proven", holds=repaired.state == "realised")
    return found


def _knock(story: Story, lab: Lab, attacker: str, *, every_port: bool) -> Intrusion:
    scope = "all 65,535 TCP ports and the likely UDP ports" if every_port else "the likely TCP and UDP ports"
    with story.console.status(f"   {attacker} tries {scope} of every host"):
        found = attack(lab, attacker, every_port=every_port)
    sent = found.probes + (found.syn.sent if found.syn else 0)
    doors = f"[bold]{len(found.reached)}[/] doors opened"
    story.say(f"from {attacker}: {sent:,} probes on {scope} of every host, IPv4 and IPv6: {doors}")
    return found


def compare(story: Story, lab: Lab, before: dict[str, Intrusion], after: dict[str, Intrusion], engine: Engine) -> None:
    story.step("What the intruder reaches, before and after, and what policy allows")
    now = datetime.now(UTC)
    allowed = {name: permitted(lab.world, lab.inventory, engine.decide, name, now) for name in after}
    for name, intrusion in after.items():
        story.show(tables.reach(name, before[name].reached, intrusion.reached, allowed[name]))
        _claim_exact(story, intrusion, allowed[name])


def _claim_exact(story: Story, intrusion: Intrusion, allowed: frozenset[Reached]) -> None:
    for door in sorted(intrusion.reached - allowed):
        story.say(f"[red]reached against policy: {door}")
    for door in sorted(allowed - intrusion.reached):
        story.say(f"[red]allowed, yet not reached: {door}")
    text = (
        f"from {intrusion.attacker} exactly what policy allows is reached: {len(allowed)} doors, no more and no fewer"
    )
    story.claim(text, holds=intrusion.reached == allowed)


def explain_blocks(story: Story, lab: Lab, engine: Engine) -> tuple[Alert, ...]:
    story.step("Blocked attempts, each with what stopped it")
    attempts = lab.blocked()
    found = alerts(attempts, lab.inventory, engine.decide)
    story.show(tables.alerts(found))
    story.say(f"{len(attempts):,} logged packets (logs are limited per host and second; counters are not)")
    agree = all(alert.is_consistent for alert in found)
    story.claim("the kernel's verdict and the engine's explanation agree on each", holds=agree and bool(found))
    return found


def picture(story: Story, views: Views, engine: Engine, flows: Path) -> None:
    story.step("The map, with verdicts")
    inventory = engine.world.inventory
    seen = read_flows([str(flows)], inventory, among=flow_sources()).conversations
    judged = engine.judge(seen)
    drawn = group(seen, inventory, MAP_BY, judgement=judged, rules=[rule.ref for rule in engine.rules])
    path = story.folder / "map.html"
    path.write_text(views.picture(drawn), encoding="utf-8")
    story.say(f"one self-contained page: [bold]{path}[/]")
    story.say(f"the estate to go on with: [bold]cd {story.folder} && ringfence policy test[/]")


def _engine(inventory: Inventory, policies: tuple[Policy, ...]) -> Engine:
    return Engine.compile(World(inventory, policies, at=datetime.now(UTC)))


def _enforcing(inventory: Inventory) -> Inventory:
    """The same workloads, every controlled one in `enforce`."""
    return Inventory(msgspec.structs.replace(w, mode=ENFORCE) if w.is_controlled else w for w in inventory.workloads)


def _totals(tallies: Sequence[Tally]) -> tuple[int, int]:
    return sum(tally.worked for tally in tallies), sum(tally.failed for tally in tallies)


def _fresh(folder: Path) -> Path:
    """The folder, without what an earlier demo wrote into it."""
    for name in ("flows", "policies", "inventory"):
        shutil.rmtree(folder / name, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _progress(console: Console, word: str, seconds: float) -> _Ticking:
    return _Ticking(console, word, seconds)


class _Ticking:
    """A progress bar that is told how many seconds have gone by."""

    def __init__(self, console: Console, word: str, seconds: float) -> None:
        self._bar = Progress(
            TextColumn(f"   {word}"), BarColumn(), TimeRemainingColumn(), console=console, transient=True
        )
        self._task = self._bar.add_task("", total=seconds)

    def __enter__(self) -> Callable[[float], None]:
        self._bar.start()
        return lambda gone: self._bar.update(self._task, completed=gone)

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
