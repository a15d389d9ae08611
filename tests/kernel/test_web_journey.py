"""The whole journey by clicking, in a real browser on a real controller, with agents in network namespaces: what each
page shows, and what packets do."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from journey_ground import DESK, PRINTER, browser_on, probe, shop, unseen
from pages import CHROMIUM, log_in, picture, tab
from playwright.sync_api import Page, expect

from ringfence.api.web import FOLDER
from ringfence.lab.fleet import ADDRESS, Prober
from ringfence.lab.probing import Outcome
from ringfence.lab.served import PORT
from ringfence.lab.story.scene import Scene, await_
from ringfence.wire import api

APP = "app=shop,env=prod"
OURS = ("web-1", "api-1", "db-1")
SSH = 22
_SOON_S = 60.0
_STORED_S = 90.0

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium: apt-get install chromium"),
    pytest.mark.skipif(not (FOLDER / "index.html").exists(), reason="the web UI is not built: make web"),
]


class Journey:
    """Somebody at a desk, and the packets meanwhile."""

    def __init__(self, scene: Scene, page: Page, shots: Path | None) -> None:
        self.scene, self.page, self._shots = scene, page, shots
        self._taken = 0

    def shot(self, name: str) -> None:
        self._taken += 1
        expect(self.page.get_by_label("Loading")).to_have_count(0)
        picture(self.page, self._shots, f"{self._taken:02}-{name}")

    def go(self, screen: str) -> None:
        """By the navigation, as people do: the page is not loaded anew."""
        self.page.get_by_role("navigation", name="Screens").get_by_role("link", name=re.compile(f"^{screen}")).click()
        expect(self.page.get_by_role("heading", name=screen, exact=True)).to_be_visible()

    def kept(self, *, without: str = "") -> None:
        """Since this was last asked applications talked, and none lost anything."""
        kept = self.scene.steady.kept(without=without)
        assert kept.exchanges > 0, kept
        assert (kept.failed, kept.lost) == (0, 0), kept

    def wait(self, seconds: float) -> None:
        self.page.wait_for_timeout(1000 * seconds)


def soon(holds: Callable[[], bool], *, within_s: float = _SOON_S) -> None:
    assert await_(holds, within_s=within_s)[0]


def comes(prober: Prober, *, passing: bool) -> bool:
    """Whether attempts end so now, within a while."""
    prober.take()
    return await_(lambda: any(one.passed is passing for one in prober.take()), within_s=_SOON_S)[0]


def took(prober: Prober, at: Journey) -> Sequence[Outcome]:
    """What became of attempts that began from now on, for a second."""
    prober.take()
    began = time.monotonic()
    at.wait(1)
    outcomes = [one for one in prober.take() if one.began >= began]
    assert outcomes
    return outcomes


def import_the_printer(at: Journey) -> None:
    """A file is planned, applied, and who it names is a workload beside the hosts with agents."""
    page = at.page
    at.go("Setup")
    page.get_by_role("button", name="Choose a file").click()
    page.locator("input[type=file]").set_input_files(
        {"name": "devices.csv", "mimeType": "text/csv", "buffer": PRINTER.encode()}
    )
    expect(page.get_by_role("dialog")).to_contain_text("printer")
    page.get_by_label("Why").fill("the printer has no agent")
    at.shot("import")
    page.get_by_role("button", name="Apply 1 change").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    at.go("Workloads")
    for name in (*OURS, "jump-1"):
        row = page.get_by_role("row", name=name, exact=True)
        expect(row).to_contain_text("realised")
        expect(row).to_contain_text("observe")
    expect(page.get_by_role("row", name="printer", exact=True)).to_contain_text("unmanaged")
    at.shot("workloads")


def see_the_traffic(at: Journey) -> None:
    """Every application path is an edge of the map, and no rule speaks of any of them."""
    at.scene.steady.start()
    soon(lambda: not unseen(at.scene), within_s=_STORED_S)
    at.go("Map")
    legend = at.page.get_by_role("group", name="Edges by verdict")
    expect(legend.get_by_role("button", name=re.compile("^not covered"))).to_contain_text("5")
    at.shot("map")
    at.page.get_by_role("tab", name="Table").click()
    table = at.page.get_by_role("table", name="Flows")
    for service in ("https", "tcp/8080", "postgres", "ssh", "tcp/631"):
        expect(table.get_by_role("row").filter(has_text=service)).to_have_count(1)
    at.shot("flows")


def recommend(at: Journey, application: str, rules: int) -> None:
    """Every rule that is proposed is accepted, and becomes a draft."""
    page = at.page
    at.go("Recommend")
    page.get_by_role("row", name=application, exact=True).click()
    expect(page.get_by_text(f"{rules} of {rules} rule")).to_be_visible()
    at.shot("recommend")
    page.get_by_role("tab", name="As text").click()
    page.get_by_role("button", name="Take to Policies").click()
    expect(page).to_have_url(re.compile("/policies"))


def plan_and_apply(at: Journey) -> None:
    """Nothing that was seen would break; everybody gets it at once, and it is read back from every kernel."""
    page = at.page
    expect(page.get_by_text("2 drafts", exact=True)).to_be_visible()
    page.get_by_role("button", name="Apply…").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Note").fill("what the shop needs, as it was seen")
    expect(dialog.get_by_role("list", name="What opens and closes")).to_contain_text("role=db")
    expect(dialog.get_by_role("list", name="Traffic that would stop")).to_have_count(0)
    at.shot("plan")
    dialog.get_by_role("radio", name=re.compile("^Everybody")).check()
    dialog.get_by_role("radio", name=re.compile("^Keep")).check()
    dialog.get_by_role("button", name="Apply to 4 hosts").click()
    expect(page.get_by_text("Version 1 is on its way")).to_be_visible()
    expect(page.get_by_role("heading", name="Every host has it")).to_be_visible()
    expect(page.get_by_text("hosts read it back.")).to_be_visible()
    at.shot("rollout")
    at.go("Workloads")
    for one in at.scene.workloads():
        assert (one.state, one.policy_version) == ("realised", 1), one
        expect(page.get_by_role("row", name=one.name, exact=True)).to_contain_text("realised")


def enforce(at: Journey) -> None:
    """The application enforces; its hosts read that back, and applications lose nothing."""
    page = at.page
    at.scene.steady.start_probing()
    for name in OURS:
        page.get_by_label(f"Tick {name}", exact=True).check()
    page.get_by_role("button", name="Change mode").click()
    dialog = page.get_by_role("dialog")
    for direction in ("Inbound", "Outbound"):
        dialog.get_by_role("group", name=direction).get_by_label("Enforce").check()
    expect(dialog).to_contain_text("Nothing but noise stops")
    expect(dialog.get_by_role("list")).to_have_count(0)
    at.shot("mode")
    dialog.get_by_label("Why").fill("nothing but noise would stop")
    dialog.get_by_role("button", name="Change mode").click()
    expect(page.get_by_text("Mode of 3 workloads changed")).to_be_visible()
    for name in OURS:
        row = page.get_by_role("row", name=name, exact=True)
        expect(row).to_contain_text("enforce")
        expect(row).to_contain_text("realised")
    at.shot("enforcing")
    at.wait(2)
    at.kept()


def attack(at: Journey) -> None:
    """Nothing opens, and the alert that says so comes by itself, with who, what and why."""
    page, lab = at.page, at.scene.lab
    at.go("Alerts")
    for source in ("web-1", "jump-1"):
        seen = lab.scan(source, tcp=[SSH], ping=False, targets=["db-1"])
        assert seen.sightings
        assert not seen.open, seen.open
    expect(page.get_by_role("button", name=re.compile("role=web to .*role=db .*22 were blocked"))).to_be_visible()
    told = page.get_by_role("button", name=re.compile("jump-1 to db-1 .*22 was blocked"))
    expect(told).to_be_visible()
    at.shot("alerts")
    told.click()
    drawer = page.get_by_role("region", name=re.compile("jump-1 to db-1"))
    for words in ("no rule allows it", "The nearest allow is shop-prod/", "enforce"):
        expect(drawer).to_contain_text(words)
    at.shot("alert")
    at.kept()


def contain_and_release(at: Journey) -> None:
    """Two clicks from the alert cut the host off, its live session included; peers say so; release gives it back, and
    nobody else notices."""
    held = probe(at.scene, "held-tcp", "jump-1", "web-1", SSH)
    opening = probe(at.scene, "tcp", "jump-1", "web-1", SSH)
    try:
        assert comes(held, passing=True)
        assert comes(opening, passing=True)
        quarantine(at)
        for prober in (held, opening):
            assert not any(one.passed for one in took(prober, at))
        at.kept(without="jump-1")
        release(at)
        assert comes(opening, passing=True)
        assert comes(held, passing=True)
        at.kept(without="jump-1")
    finally:
        held.close()
        opening.close()


def quarantine(at: Journey) -> None:
    page = at.page
    page.get_by_role("region", name=re.compile("jump-1 to db-1")).get_by_role(
        "button", name="Quarantine jump-1"
    ).click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("radio", name=re.compile("^Isolate")).check()
    expect(dialog.get_by_label("Why")).to_have_value(re.compile("jump-1 to db-1 .*22 was blocked"))
    at.shot("quarantine")
    dialog.get_by_role("button", name="Quarantine", exact=True).click()
    page.get_by_role("tab", name=re.compile("^Quarantines")).click()
    row = page.get_by_role("row", name=re.compile("jump-1"))
    expect(row).to_contain_text("verified")
    (contained,) = at.scene.client.quarantines()
    assert (contained.name, contained.level, contained.by) == ("jump-1", "isolate", "ann")
    assert contained.is_verified
    assert contained.peers == contained.verified_peers > 0
    expect(row).to_contain_text(f"{contained.peers} / {contained.peers}")
    at.shot("quarantined")


def release(at: Journey) -> None:
    page = at.page
    page.get_by_role("button", name="Release jump-1").click()
    page.get_by_label("Why").fill("it was rebuilt")
    page.get_by_role("dialog").get_by_role("button", name="Release").click()
    expect(page.get_by_role("heading", name="Nobody is in quarantine")).to_be_visible()
    at.shot("released")


def verify_the_record(at: Journey) -> None:
    """All of it was ann, and the log is as it was written."""
    page = at.page
    at.go("Audit")
    for action in ("inventory.import", "policy.publish", "quarantine.begin", "quarantine.end"):
        expect(page.get_by_role("row", name=f"{action} by ann")).to_have_count(1)
    page.get_by_role("button", name="Verify the log").click()
    expect(page.get_by_text("as written; signed as far as")).to_be_visible()
    at.shot("audit")


def test_from_an_empty_controller_to_an_attack_contained(tmp_path: Path) -> None:
    """Import, map, recommend, plan, apply, enforce, attack, alert, quarantine, release, audit: each step asserts what
    the page shows and what packets do."""
    folder = os.environ.get("RINGFENCE_SHOTS")
    with (
        shop(tmp_path, tmp_path / "api.sock") as scene,
        browser_on(scene, DESK, tmp_path) as browser,
        tab(browser, f"https://{ADDRESS}:{PORT}") as page,
    ):
        at = Journey(scene, page, Path(folder) if folder else None)
        log_in(page, scene.client.grant(api.Grant("ann", ("administrator",))))
        import_the_printer(at)
        see_the_traffic(at)
        recommend(at, APP, rules=4)
        recommend(at, "app=office,env=office", rules=1)
        plan_and_apply(at)
        enforce(at)
        attack(at)
        contain_and_release(at)
        verify_the_record(at)
