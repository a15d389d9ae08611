"""From nothing to a policy, in a real browser: the demo estate in, rules taken one by one, what would stop, how far a
breach goes; hosts paired, files imported, tokens granted."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pages import Theme, log_in, picture, tab, violations
from playwright.sync_api import Browser, Page, expect
from serving import Host, Serving, eventually, serving

from ringfence.controller.intake import jobs
from ringfence.wire import api, explore, study

APP = "app=shop,env=prod"
RECOMMEND = "/recommend?app=app%3Dshop%2Cenv%3Dprod"
DRAFT = """\
policy: shortcut
scope: app=shop,env=prod
rules:
  - name: shortcut
    allow: {from: role=web, to: role=db, service: tcp/5432}
"""


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """The recorded estate, under its recommended policies, its database critical; nothing is enforced."""
    with serving(tmp_path_factory.mktemp("demo") / "c") as served:
        client = served.client()
        client.explore.demo()
        told = client.explore.recommend(study.AskRecommend(where=APP))
        files = {one.file: one.text for one in told.files}
        segment = re.compile(r"^  db: .*$", re.MULTILINE)
        files["shop-prod.yaml"] = segment.sub("  db: {selector: role=db, crown_jewel: true}", files["shop-prod.yaml"])
        client.apply(api.Apply(api.Draft(files, 0, note="the shop"), api.How(trial_s=None, live="keep")))
        eventually(lambda: client.rollout().stage == "done" and client.explore.rules().total > 0)
        client.close()
        yield served


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """The recorded estate without a policy."""
    with serving(tmp_path_factory.mktemp("bare") / "c") as served:
        client = served.client()
        client.explore.demo()
        client.close()
        yield served


def url_of(served: Serving) -> str:
    return served.controller.settings.url


def settle(page: Page) -> None:
    expect(page.get_by_label("Loading")).to_have_count(0)


def share(page: Page) -> int:
    text = page.get_by_role("region", name="Coverage").locator("p b").inner_text()
    return int(text.removesuffix(" %"))


def test_rules_are_taken_one_by_one(browser: Browser, bare: Serving) -> None:
    """The bar says what the controller says of all rules, falls by the share of the one that is rejected, and the
    address keeps it; the text has the others only, and the controller's own answer to the same choice is that text."""
    client = bare.client()
    told = client.explore.recommend(study.AskRecommend(where=APP))
    biggest = told.curve[0]
    with tab(browser, url_of(bare), slower=6) as page:  # a box is as it was clicked, however busy the page
        log_in(page, bare.token, "/recommend")
        page.get_by_role("row", name=APP, exact=True).click()
        expect(page.get_by_text(f"{len(told.rules)} of {len(told.rules)} rules accepted")).to_be_visible()
        assert share(page) == round(100 * told.share)
        page.get_by_label(f"Accept {biggest.rule}", exact=True).uncheck()
        expect(page.get_by_text(f"{len(told.rules) - 1} of {len(told.rules)} rules accepted")).to_be_visible()
        wanted = told.coverage.learned + told.coverage.already_allowed + told.coverage.uncovered
        assert share(page) == round(100 * (told.share - biggest.connections / wanted))
        page.reload()
        expect(page.get_by_label(f"Accept {biggest.rule}", exact=True)).not_to_be_checked()
        take = page.get_by_role("button", name="Take to Policies")
        for width in (320, 1440):
            page.set_viewport_size({"width": width, "height": 700})
            expect(take).to_be_in_viewport()
        page.get_by_role("tab", name="As text").click()
        rest = tuple(one.rule for one in told.rules if one.rule != biggest.rule)
        some = client.explore.recommend(study.AskRecommend(where=APP, accept=rest))
        for file in some.files:
            shown = page.get_by_role("region", name=file.file).locator("code").inner_text()
            assert shown.strip() == file.text.strip()
            assert biggest.rule.split("/")[1] not in file.text
        page.get_by_role("tab", name="Rules").click()
        take.click()
        expect(page).to_have_url(re.compile("/policies"))
        kept: dict[str, Any] = json.loads(page.evaluate("localStorage.getItem('ringfence.drafts.administrator')"))
        assert {name: draft["text"] for name, draft in kept.items()} == {one.file: one.text for one in some.files}
    assert client.status().policy_version == 0
    client.close()


def test_what_would_stop_is_what_the_simulation_says(browser: Browser, bare: Serving) -> None:
    """With every rule accepted: kinds by service, connections over time as a picture and as a table; a kind opens the
    verdicts of both ends. With none accepted, more would stop."""
    client = bare.client()
    files = client.explore.recommend(study.AskRecommend(where=APP)).files
    pen = explore.Pen({one.file: one.text for one in files})
    told = client.explore.simulate(study.AskSimulate(draft=pen, where=APP))
    with tab(browser, url_of(bare)) as page:
        log_in(page, bare.token, f"{RECOMMEND}&tab=breaks")
        panel = page.get_by_role("tabpanel", name="What would stop")
        first = told.breaks[0]
        expect(panel.get_by_role("button", name=first.destination).first).to_be_visible()
        assert panel.locator("li button").count() == len(told.breaks)
        label = f"{sum(told.series.allowed):,} pass, and would, {sum(told.series.escaped):,} pass now, would stop"
        expect(panel.get_by_role("img", name=re.compile(label))).to_be_visible()
        panel.get_by_role("button", name="As a table").click()
        row = panel.get_by_role("row", name=re.compile(f"{told.series.escaped[-1]:,}"))
        row.get_by_role("button", name=re.compile("Only from")).click()
        expect(page).to_have_url(re.compile("span="))
        settle(page)
        panel.locator("li button").first.click()
        expect(page.get_by_role("dialog")).to_contain_text("no rule allows it")
        expect(page.get_by_role("dialog")).to_contain_text("destination")
        page.keyboard.press("Escape")
        page.goto(f"{RECOMMEND}&tab=breaks&none=1")
        settle(page)
        none = client.explore.simulate(study.AskSimulate(where=APP))
        expect(panel.locator("li button")).to_have_count(len(none.breaks))
        assert len(none.breaks) > len(told.breaks)
    client.close()


def test_how_far_a_breach_goes(browser: Browser, demo: Serving) -> None:
    """From a web server to the database in as many hops as the controller says; an unsaved rule brings it nearer, and
    the step there says by which rule."""
    client = demo.client()
    told = client.explore.blast_radius(study.AskBlast("prod-web-1"))
    database = next(one for one in told.in_force.reached if "role=db" in one.who)
    draft = {"text": DRAFT, "was": None, "version": 1, "at": "2026-01-01T00:00:00Z"}
    with tab(browser, url_of(demo)) as page:
        log_in(page, demo.token, "/reach")
        page.get_by_role("textbox", name="Compromised").or_(page.get_by_role("combobox", name="Compromised")).fill(
            "prod-web-1"
        )
        page.get_by_role("button", name="Show").click()
        hop = page.get_by_role("region", name=f"Hop {database.hop}")
        expect(hop.get_by_role("button", name=re.compile("role=db"))).to_contain_text("crown jewel")
        assert database.hop == 2
        for one in told.in_force.hops:
            expect(page.get_by_role("region", name=f"Hop {one.hop}")).to_contain_text(f"{one.workloads} workload")
        page.evaluate(
            "text => localStorage.setItem('ringfence.drafts.administrator', text)", json.dumps({"a.yaml": draft})
        )
        page.reload()
        page.get_by_role("group", name="Policy").get_by_role("button", name="Draft").click()
        nearer = page.get_by_role("region", name="Hop 1").get_by_role("button", name=re.compile("role=db"))
        expect(nearer).to_contain_text("nearer")
        nearer.click()
        expect(page.get_by_role("region", name=database.who)).to_contain_text("shortcut/shortcut")
        expect(page).to_have_url(re.compile("draft=.*path=|path=.*draft="))
        page.goto("/reach?to=shop-prod.db")
        expect(
            page.get_by_role("region", name="Hop 1").get_by_role("button", name=re.compile("role=bastion"))
        ).to_be_visible()
    client.close()


def test_from_nothing_to_the_demo(browser: Browser, tmp_path: Path) -> None:
    """Home of an empty controller loads the recorded estate, and then offers it no more."""
    with serving(tmp_path / "c") as served, tab(browser, url_of(served)) as page:
        log_in(page, served.token)
        page.get_by_role("button", name="Load it").click()
        page.get_by_role("dialog").get_by_role("button", name="Load it").click()
        expect(page).to_have_url(re.compile("/map"))
        with served.client() as client:
            assert len(list(client.workloads())) > 10
        page.goto("/setup")
        expect(page.get_by_text("Only while there is no workload and no policy.")).to_be_visible()


def test_a_host_is_paired(browser: Browser, tmp_path: Path) -> None:
    """A profile and an invitation are made; the token that is shown lets a host in, and the light turns green."""
    with serving(tmp_path / "c") as served, tab(browser, url_of(served)) as page:
        log_in(page, served.token, "/setup?do=host")
        page.get_by_label("Name of the profile").fill("web")
        labels = page.get_by_placeholder("app=shop, env=prod, role=web")
        labels.fill("app")
        expect(page.get_by_role("button", name="Make the invitation")).to_be_disabled()
        labels.fill("app=shop, role=web")
        page.get_by_role("button", name="Make the invitation").click()
        expect(page.get_by_text("Waiting for the first host")).to_be_visible()
        assert violations(page) == []
        command = page.get_by_role("dialog").locator("pre code").first.inner_text()
        host = Host(tmp_path / "host", served.run, "10.0.0.9")
        uuid = host.join(command.removeprefix("ringfence-agent enrol --token ").strip())
        expect(page.get_by_role("status").filter(has_text="is here")).to_be_visible()
        with served.client() as client:
            joined = client.workload(uuid)
            assert (joined.labels, joined.mode.inbound) == ({"app": "shop", "role": "web"}, "observe")
        page.goto("/setup?tab=invitations")
        expect(page.get_by_role("row", name=re.compile("used up"))).to_be_visible()


def test_files_are_imported(browser: Browser, tmp_path: Path, shots: Path | None) -> None:
    """An inventory is planned before it is applied; flow logs chosen together are one import, however many: what both
    ends report counts once, and each file says what became of it."""
    inventory = tmp_path / "estate.csv"
    inventory.write_text("name,addresses,kind,label:app\nsan-1,10.7.0.1,vm,storage\nsan-2,10.7.0.2,vm,storage\n")
    fields = "version account-id interface-id srcaddr dstaddr srcport dstport protocol packets bytes start end"
    line = "10.7.0.2 10.7.0.1 40000 443 6 5 500 1790000000 1790000060 ACCEPT OK\n"
    logs = [tmp_path / f"vpc-{n}.log" for n in range(18)]
    for n, log in enumerate(logs):
        log.write_text(
            f"{fields} action log-status\n2 1 eni-{n % 2} {line}" + f"2 1 eni-{n} {line.replace('443', f'{5000 + n}')}"
        )
    noise = tmp_path / "noise.bin"
    noise.write_bytes(b"\x00\x01nothing" * 20)
    with serving(tmp_path / "c") as served, tab(browser, url_of(served)) as page, served.client() as client:
        log_in(page, served.token, "/setup?do=inventory")
        page.locator("input[type=file]").set_input_files(inventory)
        expect(page.get_by_text("san-1, san-2")).to_be_visible()
        assert list(client.workloads()) == []
        page.get_by_role("button", name="Apply 2 changes").click()
        expect(page.get_by_role("dialog")).to_have_count(0)
        assert {one.name for one in client.workloads()} == {"san-1", "san-2"}
        page.goto("/setup?do=flows")
        page.locator("input[type=file]").set_input_files([*logs, noise])
        expect(page.get_by_text("36 records · 19 connections")).to_be_visible()
        files = page.get_by_role("list", name="Files").get_by_role("listitem")
        expect(files.filter(has_text="imported")).to_have_count(18)
        expect(files.filter(has_text="noise.bin")).to_contain_text("refused")
        picture(page, shots, "flows-together")
        page.locator("input[type=file]").set_input_files(noise)
        expect(page.get_by_role("listitem").filter(has_text="failed")).to_have_count(1)
        assert client.status().workloads == 2
        assert served.controller.flows.totals().connections == 19


def test_uploads_wait_for_their_turn(browser: Browser, tmp_path: Path) -> None:
    """A controller that reads as many as it takes at once is asked again, by itself, until it takes the file."""
    log = tmp_path / "vpc.log"
    log.write_text(
        "version account-id interface-id srcaddr dstaddr srcport dstport protocol packets bytes start end action"
        " log-status\n2 1 e 10.7.0.2 10.7.0.1 40000 443 6 5 500 1790000000 1790000060 ACCEPT OK\n"
    )
    with serving(tmp_path / "c") as served, tab(browser, url_of(served)) as page:
        log_in(page, served.token, "/setup?do=flows")
        served.controller.studies.jobs._arriving = jobs.MOST_WAITING
        with page.expect_response(lambda said: "/v1/flows/import" in said.url and not said.ok):
            page.locator("input[type=file]").set_input_files(log)
        expect(page.get_by_role("listitem").filter(has_text="vpc.log")).to_contain_text("queued")
        expect(page.get_by_role("alert")).to_have_count(0)
        served.controller.studies.jobs._arriving = 0
        expect(page.get_by_text("1 record · 1 connection")).to_be_visible()


def test_tokens_are_granted_and_revoked(browser: Browser, tmp_path: Path) -> None:
    """A secret is shown once and works with no more than its roles; revoked, it is refused."""
    with serving(tmp_path / "c") as served, tab(browser, url_of(served)) as page:
        log_in(page, served.token, "/setup?tab=tokens")
        page.get_by_role("button", name="Grant a token").click()
        page.get_by_label("For whom").fill("ann")
        page.get_by_label("responder").check()
        page.get_by_role("button", name="Grant", exact=True).click()
        secret = page.get_by_role("dialog").locator("pre code").inner_text().strip()
        page.get_by_role("button", name="I have it").click()
        with served.client(secret) as ann:
            assert set(ann.me().roles) == {"viewer", "responder"}
        assert secret not in page.content()
        page.get_by_role("button", name="Revoke the token of ann").click()
        page.get_by_role("dialog").get_by_role("button", name="Revoke", exact=True).click()
        expect(page.get_by_role("row", name=re.compile("ann")).get_by_text("revoked")).to_be_visible()
        with served.client() as client:
            (known,) = (one for one in client.tokens() if one.name == "ann")
            assert known.revoked_at is not None


LOOKS = {
    "recommend-apps": "/recommend",
    "recommend-rules": f"{RECOMMEND}&rule=shop-prod/web-to-api",
    "recommend-breaks": f"{RECOMMEND}&tab=breaks",
    "recommend-aside": f"{RECOMMEND}&tab=aside",
    "recommend-text": f"{RECOMMEND}&tab=text",
    "reach": "/reach",
    "reach-from": "/reach?from=prod-web-1",
    "reach-to": "/reach?to=app%3Dshop%2Crole%3Ddb",
    "setup": "/setup",
    "setup-host": "/setup?do=host",
    "setup-flows": "/setup?do=flows",
    "setup-inventory": "/setup?do=inventory",
    "setup-profiles": "/setup?tab=profiles",
    "setup-invitations": "/setup?tab=invitations",
    "setup-tokens": "/setup?tab=tokens",
}


@pytest.mark.parametrize("width", [1440, 900])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_deciding_is_for_everybody(
    browser: Browser, bare: Serving, shots: Path | None, theme: Theme, width: int
) -> None:
    """axe finds nothing serious on recommend, reach and setup, with and without a policy in force."""
    found = {}
    with tab(browser, url_of(bare), theme=theme, width=width) as page:
        log_in(page, bare.token)
        for name, path in LOOKS.items():
            page.goto(path)
            expect(page.get_by_role("heading", level=1)).to_be_visible()
            settle(page)
            picture(page, shots, f"{name}-{theme}-{width}")
            found[name] = violations(page)
            assert not page.evaluate("document.documentElement.scrollWidth > innerWidth"), name
    assert {name: wrong for name, wrong in found.items() if wrong} == {}
