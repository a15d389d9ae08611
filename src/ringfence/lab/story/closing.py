"""The last act: the record is intact, the picture is drawn, and what to do next."""

from __future__ import annotations

from ringfence.core.insight.map import group
from ringfence.lab.record import write_inventory
from ringfence.lab.story.learning import MAP_BY
from ringfence.lab.story.scene import Scene
from ringfence.lab.story.telling import Story


def close(scene: Scene) -> None:
    """Audit, map, estate."""
    story = scene.story
    story.step("The record, and the map with verdicts")
    checked = scene.client.verify_audit()
    story.claim("the audit log is as it was written, hash after hash, over the crash",
                holds=checked.is_intact and checked.entries > 0, measured=f"{checked.entries} entries")  # fmt: skip
    checks = scene.lab.check_paths()
    broken = [check for check in checks if not check.worked]
    for check in broken[:3]:
        story.say(f"[red]{check.path} over IPv{check.family}: {check.problem}")
    story.claim("every application path works at the end, IPv4 and IPv6", holds=not broken,
                measured=f"{len(checks) - len(broken)} of {len(checks)}")  # fmt: skip
    engine, inventory, found = scene.engine(), scene.inventory(), scene.flows()
    rules = [rule.ref for rule in engine.rules]
    drawn = group(found, inventory, MAP_BY, judgement=engine.judge(found), rules=rules)
    picture = story.folder / "map.html"
    picture.write_text(scene.views.picture(drawn), encoding="utf-8")
    write_inventory(inventory, story.folder / "inventory" / "workloads.yaml")
    story.say(f"the map of what passed and what was blocked, one self-contained page: [bold]{picture}[/]")


def what_next(story: Story) -> None:
    """Commands to go on with."""
    story.say(f"policies and inventory to play with:   [bold]cd {story.folder} && ringfence policy test[/]")
    story.say("a controller of your own:              [bold]ringfence up DIR --name HOST[/]")
    story.say("hosts of your own:                     [bold]docs/howto/run-a-fleet.md[/]")
