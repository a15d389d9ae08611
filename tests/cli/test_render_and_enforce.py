"""`ringfence render` and `enforce --plan`: what would be realised, shown and not done."""

from __future__ import annotations

import ipaddress
import os
import re
import subprocess
from collections.abc import Iterator

import pytest
from cli_estate import SHOP, ShopEstate

from ringfence.core.net.service import parse_service

FAILSAFE = '[[failsafe]]\ndirection = "in"\ncidr = "192.0.2.0/28"\nservice = "ssh"\n'


def test_render_prints_the_rules_raw(shop: ShopEstate) -> None:
    """The text nft would read: never wrapped, at whatever width."""
    narrow, wide = (shop.run("render", "nftables", "web-1", columns=columns) for columns in (40, 400))

    assert narrow.code == 0
    assert narrow.out == wide.out
    assert narrow.out.startswith("table inet ringfence {\n")
    assert '"shop/calls"' in narrow.out


def test_render_as_json_is_the_intent_and_its_digest(shop: ShopEstate) -> None:
    """The digest is that of the intent, and two runs agree."""
    one, other = (shop.run("render", "nftables", "web-1", "--at", "2026-03-03T00:00:00Z", "--json") for _ in range(2))

    assert one.json == other.json
    assert set(one.json) == {"intent", "digest", "refusals"}
    assert one.json["intent"]["name"] == "web-1"
    assert len(one.json["digest"]) == 64


def test_render_as_json_has_addresses_and_services_as_text(shop: ShopEstate) -> None:
    """Nothing in the document is a number that stands for an address or a service."""
    intent = shop.run("render", "nftables", "web-1", "--json").json["intent"]

    ends = [*intent["own"], *(a for peer in intent["peers"] for a in (*peer["addresses"], *peer["ranges"]))]
    services = [s for part in intent["parts"] for cell in part["cells"] for s in cell["services"]]
    assert ends
    assert all(ipaddress.ip_network(text) for text in ends)
    assert services
    assert all(parse_service(text) for text in services)


def test_a_process_is_rendered_on_any_machine(shop: ShopEstate) -> None:
    """A unit that is not on this machine is shown by its name, and nothing is refused for its sake."""
    process = "- {name: nginx, kind: process, host: web-1, unit: rf-nowhere.service, labels: {tier: proxy}}\n"
    shop.write("inventory/processes.yaml", process)
    shop.write(
        "policies/proxy.yaml",
        "policy: proxy\nowner: web\nrules:\n  - allow: {from: tier=proxy, to: 192.0.2.0/24, service: any}\n",
    )

    ran = shop.run("render", "nftables", "web-1")

    assert "process-cgroup-missing" not in ran.err
    assert ran.code == 0
    assert ran.out.startswith("# control group `rf-nowhere.service` is looked up on the host")
    assert 'socket cgroupv2 level 1 "rf-nowhere.service"' in ran.out


def test_a_condition_the_target_cannot_express_is_refused_and_told(shop: ShopEstate) -> None:
    """`require: mutual-tls` cannot be enforced by nftables: exit 1, with the code, and the allow stays closed."""
    ran = shop.run("render", "nftables", "db-1", "--json")

    assert ran.code == 1
    assert [f["severity"] for f in ran.json["refusals"]]
    assert {f["subject"] for f in ran.json["refusals"]} == {"shop/orders"}
    assert f"[{ran.json['refusals'][0]['code']}]" in shop.run("render", "nftables", "db-1").err
    assert '"shop/orders"' not in shop.run("render", "nftables", "db-1").out


@pytest.fixture
def netns() -> Iterator[str]:
    """An empty network namespace of this test's own."""
    name = f"rf-cli-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True, timeout=20)
    yield name
    subprocess.run(["ip", "netns", "del", name], check=False, timeout=20)


@pytest.mark.kernel
def test_a_plan_shows_the_changes_and_makes_none(shop: ShopEstate, netns: str) -> None:
    """Exit 1 while something would change, the failsafe list shown; nothing is in the kernel afterwards."""
    shop.write("ringfence.toml", FAILSAFE)

    ran = shop.run("enforce", "nftables", "web-1", "--plan", "--netns", netns, "--json")

    assert ran.code == 1
    assert ran.json["changes"]
    assert ran.json["failsafe"] == [{"direction": "in", "remote": ["192.0.2.0/28"], "services": ["tcp/22"]}]
    listed = subprocess.run(
        ["ip", "netns", "exec", netns, "nft", "list", "ruleset"], capture_output=True, text=True, timeout=20, check=True
    )
    assert listed.stdout == ""


@pytest.mark.kernel
def test_after_enforce_the_plan_is_empty(shop: ShopEstate, netns: str) -> None:
    """Enforced, read back, and then there is nothing to change: exit 0."""
    shop.write("policies/shop.yaml", SHOP.replace(", require: mutual-tls", ""))
    accepted = ("--another-host", "--accept-expiry")

    done = shop.run("enforce", "nftables", "web-1", "--netns", netns, *accepted, "--json")
    plan = shop.run("enforce", "nftables", "web-1", "--plan", "--netns", netns)

    assert (done.code, done.json["state"]) == (0, "realised")
    assert (plan.code, plan.out.splitlines()[0]) == (0, "nothing to change")


@pytest.mark.kernel
def test_a_first_plan_is_told_in_words_of_rules(shop: ShopEstate, netns: str) -> None:
    """In 80 columns: what stays and which rule lets it, what closes, and how much moves."""
    ran = shop.run("enforce", "nftables", "web-1", "--plan", "--netns", netns, "--as", "enforce", columns=80)

    assert "web-1 has no firewall of ours yet: everything passes\n" in ran.out
    assert all(len(line) <= 80 for line in ran.out.splitlines())
    words = " ".join(ran.out.split())
    assert "stays tcp/8080 to app=shop,env=prod,role=api · because shop/calls" in words
    assert "closes everything else from anyone · because no rule" in words
    assert "failsafe: nothing" in words
    assert re.search(r"in the kernel: \d+ elements added, 0 removed, \d+ rules written", words)


@pytest.mark.kernel
def test_what_somebody_else_changed_is_shown_apart(shop: ShopEstate, netns: str) -> None:
    """A rule added by hand is drift and no change of policy; with a change of policy as well, both are told."""
    shop.write("policies/shop.yaml", SHOP.replace(", require: mutual-tls", ""))
    shop.run("enforce", "nftables", "web-1", "--netns", netns, "--another-host", "--accept-expiry")
    by_hand = ("nft", "add", "rule", "inet", "ringfence", "judge_in", "accept")
    subprocess.run(["ip", "netns", "exec", netns, *by_hand], check=True, timeout=20)
    plan = ("enforce", "nftables", "web-1", "--plan", "--netns", netns, "--json")

    alone = shop.run(*plan).json
    both = shop.run(*plan, "--as", "observe").json

    assert alone["drift"]["is_touched"]
    assert alone["drift"]["foreign"] == ["changed: chain judge_in"]
    assert (alone["policy"]["opens"], alone["policy"]["closes"], alone["policy"]["modes"]) == ([], [], [])
    assert both["drift"]["foreign"] == ["changed: chain judge_in"]
    assert {"direction": "in", "was": "enforce", "now": "observe"} in both["policy"]["modes"]
    words = shop.run("enforce", "nftables", "web-1", "--plan", "--netns", netns).out
    assert words.startswith("changed by somebody else since it was applied, and put back:\n  changed: chain judge_in\n")


@pytest.mark.kernel
def test_a_namespace_that_is_not_there_is_unreachable(shop: ShopEstate) -> None:
    """Exit 3: it could not be reached."""
    ran = shop.run("enforce", "nftables", "web-1", "--plan", "--netns", "rf-cli-none")

    assert (ran.code, "error[namespace-missing]" in ran.err) == (3, True)


@pytest.mark.kernel
def test_enforce_refuses_what_it_cannot_express(shop: ShopEstate, netns: str) -> None:
    """Without --accept-refused nothing is applied when an allow would stay closed; exit 2, with the rule."""
    ran = shop.run("enforce", "nftables", "db-1", "--netns", netns)

    assert ran.code == 2
    assert "error[refusals-not-accepted] 1 rule cannot be expressed here" in ran.err
    assert "shop/orders" in ran.err
    agreed = ("--accept-refused", "--another-host", "--accept-expiry")
    accepted = shop.run("enforce", "nftables", "db-1", "--netns", netns, *agreed, "--json")
    assert accepted.json["state"] in ("realised", "refused")


@pytest.mark.kernel
def test_a_host_is_not_given_another_hosts_firewall(shop: ShopEstate, netns: str) -> None:
    """A namespace without any address of the workload, or that enforces another one, is refused: exit 2."""
    ran = shop.run("enforce", "nftables", "web-1", "--netns", netns, "--accept-expiry", "--accept-refused")

    assert ran.code == 2
    assert "error[another-host]" in ran.err


@pytest.mark.kernel
def test_what_a_date_opens_is_not_enforced_unattended(shop: ShopEstate, netns: str) -> None:
    """A rule that ends on a day needs somebody who enforces again: refused until said so."""
    ran = shop.run("enforce", "nftables", "db-1", "--netns", netns, "--accept-refused", "--another-host")

    assert ran.code == 2
    assert "error[needs-renewal]" in ran.err
