"""`ringfence flows`, `map`, `recommend` and `simulate`: from logs to policy."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from cli_estate import GUARDRAILS, SHOP, ShopEstate, flow_log

from ringfence import catalog
from ringfence.cli.map import FORMATS
from ringfence.core.insight.services import named_services
from ringfence.core.policy.parse import parse_policies

# ---- flows ---------------------------------------------------------------------------------------------------------


def test_import_accounts_for_every_line_and_status_agrees(shop: ShopEstate) -> None:
    """Lines, records and connections in the document; exit 0 when nothing was malformed."""
    shop.write("flows.log", flow_log())

    ran = shop.run("flows", "import", "flows.log", "--json")

    assert ran.code == 0
    report = ran.json["report"]
    assert (report["files"][0]["lines"], report["files"][0]["records"], report["connections"]) == (25, 24, 24)
    assert shop.run("flows", "status", "--json").json["connections"] == 24


def test_import_reads_stdin(shop: ShopEstate) -> None:
    """`-` is standard input."""
    assert shop.run("flows", "import", "-", stdin=flow_log(), columns=80).code == 0
    assert shop.run("flows", "status", "--json").json["connections"] == 24


def test_a_malformed_line_is_told_with_its_place(shop: ShopEstate) -> None:
    """Exit 1, the line and column are named, the other lines are kept."""
    shop.write("flows.log", flow_log(more=("2 1 eni-1 bad 10.0.1.1 1 443 6 1 1 1 2 ACCEPT OK",)))

    ran = shop.run("flows", "import", "flows.log")

    assert ran.code == 1
    assert "warning[line-address]" in ran.err
    assert "flows.log:26" in ran.err
    assert shop.run("flows", "status", "--json").json["connections"] == 24


def test_a_file_imported_twice_counts_once(busy_shop: ShopEstate) -> None:
    """The second import is told and changes nothing."""
    ran = busy_shop.run("flows", "import", "flows.log", "--json")

    assert (ran.code, [f["code"] for f in ran.json["findings"]]) == (0, ["flow-file-known"])
    assert busy_shop.run("flows", "status", "--json").json["connections"] == 24


def test_traffic_older_than_retention_is_not_lost_silently(shop: ShopEstate) -> None:
    """What falls out of retention at once is a finding that names the setting."""
    shop.write("old.log", flow_log(at=datetime(2020, 1, 1, tzinfo=UTC)))

    ran = shop.run("flows", "import", "old.log", "--json")

    assert (ran.code, [f["code"] for f in ran.json["findings"]]) == (1, ["flows-forgotten"])
    assert "max_days" in ran.json["findings"][0]["help"]
    assert ran.json["pruned"]["rows"] == 4


def test_import_puts_a_vpc_into_the_network_the_settings_name(shop: ShopEstate) -> None:
    """With `[flows.networks]` the same address in another network is another workload's."""
    shop.write("ringfence.toml", '[flows.networks]\n"vpc-2" = "site-2"\n')
    twin = "- {name: web-of-site-2, labels: {app: crm, env: prod}, addresses: [{address: 10.0.1.1, network: site-2}]}\n"
    shop.write("inventory/site2.yaml", twin)
    start = int(datetime.now(UTC).timestamp()) - 7200
    header = "vpc-id srcaddr dstaddr srcport dstport protocol packets bytes start end action interface-id log-status"
    lines = (f"vpc-2 10.0.1.1 10.0.2.1 {4000 + i} 8080 6 1 1 {start} {start + 5} ACCEPT eni-9 OK" for i in range(6))
    shop.write("vpc.log", "\n".join([header, *lines]) + "\n")

    assert shop.run("flows", "import", "vpc.log").code == 0

    names = {g["name"] for e in [shop.run("map", "--by", "app", "--json").json] for g in e["groups"] if g["workloads"]}
    edges = shop.run("map", "--by", "app", "--json").json["edges"]
    assert "crm" in names
    assert {edge["source"] for edge in edges} == {"app=crm"}


def test_every_source_of_the_catalog_is_built() -> None:
    """Each has a name of its own, and those that name VPCs are told their networks."""
    built = catalog.flow_sources({"vpc-2": "site-2"})

    assert len({source.name for source in built}) == len(built) == len(catalog.FLOW_SOURCES)


def test_prune_forgets_by_age_and_says_how_much(busy_shop: ShopEstate) -> None:
    """Everything older than today is gone; the rest of the commands say there is nothing."""
    ran = busy_shop.run("flows", "prune", "--max-days", "0")

    assert ran.out.startswith("forgot 4 rows of 1 hour; ")
    empty = busy_shop.run("map")
    assert (empty.code, "error[no-flows]" in empty.err) == (2, True)


def test_asking_makes_no_store(shop: ShopEstate) -> None:
    """Commands that only read leave no file behind."""
    for words in (["flows", "status"], ["flows", "prune"], ["map"], ["recommend"], ["simulate"], ["policy", "lint"]):
        shop.run(*words)

    assert not (shop.root / ".ringfence").exists()


# ---- map -----------------------------------------------------------------------------------------------------------

OPENINGS = {"json": "{", "mermaid": "flowchart", "dot": "digraph", "html": "<!doctype html>"}


@pytest.mark.parametrize("format", FORMATS)
def test_map_in_every_format_to_stdout_and_to_a_file(busy_shop: ShopEstate, format: str) -> None:
    """The file has what stdout has; stdout then stays empty."""
    shown = busy_shop.run("map", "-f", format, columns=4096)
    written = busy_shop.run("map", "-f", format, "-o", "map.out")

    text = (busy_shop.root / "map.out").read_text()
    assert (shown.code, written.code, written.out) == (0, 0, "")
    assert "wrote map.out" in written.err
    assert [line.rstrip() for line in shown.out.splitlines()] == [line.rstrip() for line in text.splitlines()]
    assert text.lower().startswith(OPENINGS.get(format, "6 groups by"))


def test_map_json_is_the_same_by_either_option(busy_shop: ShopEstate) -> None:
    """`--json` and `--format json` are one document, and both heed -o."""
    one = busy_shop.run("map", "--json")
    other = busy_shop.run("map", "--format", "json")
    busy_shop.run("map", "--json", "-o", "map.json")

    assert one.json["kind"] == "ringfence.map"
    assert one.out == other.out == (busy_shop.root / "map.json").read_text()


def test_drawings_are_written_raw(busy_shop: ShopEstate) -> None:
    """`:bug:` stays `:bug:` and brackets stay brackets in text for other programs."""
    busy_shop.write(
        "policies/odd.yaml",
        "policy: odd\nrules:\n  - name: web\n    allow: {from: role=web, to: role=db, service: tcp/5432}\n",
    )
    for format in ("dot", "mermaid", "html", "json"):
        ran = busy_shop.run("map", "-f", format, columns=40)
        busy_shop.run("map", "-f", format, "-o", "x", columns=40)
        assert ran.out == (busy_shop.root / "x").read_text()


@pytest.mark.parametrize("columns", [60, 80, 120, 400])
def test_the_map_is_whole_in_any_window(busy_shop: ShopEstate, columns: int) -> None:
    """Names, services and rules in one piece, in columns or as blocks; no line is wider than the window."""
    lines = busy_shop.run("map", columns=columns).out.splitlines()

    for word in ("prod/shop/web", "prod/shop/db", "postgres", "shop/window", "6.0 kB", "✓ allowed"):
        assert any(word in line for line in lines), word
    assert "…" not in "".join(lines)
    assert all(len(line) <= columns for line in lines)


def test_one_connection_is_not_several(shop: ShopEstate) -> None:
    """A count of one has a singular, in the table's blocks and in the tree."""
    shop.write("flows.log", "\n".join(flow_log().splitlines()[:2]) + "\n")
    assert shop.run("flows", "import", "flows.log").code == 0

    for words in (["map"], ["map", "-f", "tree"]):
        assert re.search(r"\b1 connection\b", shop.run(*words, columns=60).out)


@pytest.mark.parametrize("format", ["dot", "table", "html"])
def test_two_documents_are_not_asked_for_at_once(busy_shop: ShopEstate, format: str) -> None:
    """`--json` with another format is refused, not quietly JSON."""
    ran = busy_shop.run("map", "--json", "--format", format)

    assert (ran.code, ran.json["error"]) == (2, "contradictory-options")


def test_two_policies_may_name_one_service_differently() -> None:
    """Different meanings of a name are told apart by their policy; equal ones share it."""
    first = "policy: a\nservices: {x: tcp/1, y: tcp/9}\n"
    second = "policy: b\nservices: {x: tcp/2, y: tcp/9}\n"
    policies = parse_policies({"a.yaml": first, "b.yaml": second}).raise_if_errors()

    assert set(named_services(policies)) == {"a.x", "b.x", "y"}


# ---- recommend -----------------------------------------------------------------------------------------------------


def test_recommend_extends_the_policy_in_its_own_file(busy_shop: ShopEstate) -> None:
    """The policy of the scope comes back where it lives, with its comments and rules, and one rule more."""
    home = busy_shop.write("policies/teams/the-shop.yaml", SHOP)
    (busy_shop.root / "policies/shop.yaml").unlink()

    ran = busy_shop.run("recommend", "-o", "policies", "--json")

    assert ran.code == 1, "a day of traffic is not enough to be ready"
    assert ran.json["files"] == [
        {"policy": "shop", "file": "policies/teams/the-shop.yaml", "change": "extended", "added_rules": 1}
    ]
    assert not (busy_shop.root / "policies/shop.yaml").exists()
    assert home.read_text().startswith(SHOP[: SHOP.index("\ntests:")])
    assert busy_shop.run("policy", "check").code in (0, 1)
    again = busy_shop.run("recommend", "-o", "policies", "--json")
    assert again.json["files"] == []


def test_recommend_never_overwrites_another_file_silently(busy_shop: ShopEstate) -> None:
    """A file that says something else stays as it is, and nothing beside it is written; --force replaces it."""
    mine = busy_shop.write("drafts/shop.yaml", GUARDRAILS)

    ran = busy_shop.run("recommend", "-o", "drafts")

    assert (ran.code, mine.read_text()) == (2, GUARDRAILS)
    assert "error[policy-file-taken]" in ran.err
    assert [p.name for p in mine.parent.iterdir()] == ["shop.yaml"]
    forced = busy_shop.run("recommend", "-o", "drafts", "--force", "--json")
    assert forced.json["files"][0]["change"] == "replaced"
    assert busy_shop.run("recommend", "-o", "drafts", "--json").json["files"][0]["change"] == "unchanged"


def test_recommend_refuses_a_file_of_several_policies(busy_shop: ShopEstate) -> None:
    """Writing one policy would lose the other."""
    both = busy_shop.write("policies/shop.yaml", f"{SHOP}---\n{GUARDRAILS}")
    (busy_shop.root / "policies/guardrails.yaml").unlink()
    before = both.read_text()

    ran = busy_shop.run("recommend", "-o", "policies")

    assert (ran.code, both.read_text()) == (2, before)
    assert "error[policy-file-shared]" in ran.err


def test_recommend_from_nothing_writes_a_policy_that_checks_and_proves(tmp_path: Path) -> None:
    """The whole way of a new user: inventory, flows, recommend, check, test, simulate."""
    estate = ShopEstate(tmp_path, policies=False).with_traffic()

    written = estate.run("recommend", "-o", str(tmp_path / "policies"))

    assert "wrote policies/" in written.err
    for part in ("set aside", "not covered", "not ready to enforce yet"):
        assert part in written.out
    assert estate.run("policy", "check").code in (0, 1)
    assert estate.run("policy", "test").code == 0
    assert estate.run("simulate", "--as", "enforce").code == 0


@pytest.mark.parametrize("columns", [80, 200, None])
def test_recommend_is_whole_at_any_width(busy_shop: ShopEstate, columns: int | None) -> None:
    """The evidence names the rule in one piece, and its times, whether as columns or as a block."""
    rule = busy_shop.run("recommend", "--json").json["evidence"][0]["rule"]

    lines = busy_shop.run("recommend", columns=columns).out.splitlines()

    assert any(line.startswith(rule) for line in lines)
    assert "…" not in "".join(lines)
    assert all(len(line) <= columns for line in lines if columns)


def test_recommend_for_nobody_says_whom_there_is(busy_shop: ShopEstate) -> None:
    """A selector that picks no workload is an error with the label that was probably meant, never an empty answer."""
    helps = {
        words: busy_shop.run("recommend", "--for", words, "--json").json["findings"][0]["help"]
        for words in ("app=shpo", "ap=shop", "env=moon", "app=print,env=prod")
    }

    assert helps["app=shpo"] == "did you mean `shop`?"
    assert helps["ap=shop"] == "did you mean `app`?"
    assert helps["env=moon"] == "values of `env`: `dev`, `office`, `prod`"
    assert "no workload has them all" in helps["app=print,env=prod"]


# ---- simulate ------------------------------------------------------------------------------------------------------


def test_simulate_tells_what_breaks_and_what_would_mend_it(busy_shop: ShopEstate) -> None:
    """Exit 1; the break has its ends, its service, its count and the nearest rule."""
    ran = busy_shop.run("simulate", "--json")

    assert ran.code == 1
    breaks = {(b["source"], b["service"]): b for b in ran.json["breaks"]}
    web = breaks["app=shop,env=prod,role=web", "postgres"]
    assert (web["connections"], web["reason"], web["verdict"]) == (6, "default", "blocked")
    assert "`shop/orders`" in web["hint"]
    assert sum(total["connections"] for total in ran.json["totals"].values()) == 24


def test_simulate_is_clean_when_the_rules_cover_it(busy_shop: ShopEstate) -> None:
    """Exit 0 and it says so."""
    covered = SHOP.replace(
        "from: api, to: db, service: postgres, require: mutual-tls", "from: [api, web], to: db, service: postgres"
    )
    busy_shop.write("drafts/shop.yaml", covered)

    ran = busy_shop.run("simulate", "drafts")

    assert ran.code == 0, ran.out
    assert ran.out.endswith("nothing breaks\n")


def test_simulate_tells_a_break_once(busy_shop: ShopEstate) -> None:
    """What breaks is not listed again as what closes, and one hour draws no time line."""
    ran = busy_shop.run("simulate", columns=200)

    assert ran.out.count("app=shop,env=prod,role=web  ->  app=shop,env=prod,role=db") == 1
    assert not any(line.startswith("closes") for line in ran.out.splitlines())
    assert "by hour" not in ran.out


@pytest.mark.parametrize("columns", [80, 200])
def test_simulate_fits_the_window(busy_shop: ShopEstate, columns: int) -> None:
    """No column header or label is broken in pieces."""
    out = busy_shop.run("simulate", columns=columns).out

    assert "app=shop,env=prod,role=web" in out
    assert "2 kinds of connection break" in out
    assert all(len(line) <= columns for line in out.splitlines())


def test_simulate_shows_what_opens(shop: ShopEstate) -> None:
    """Traffic that was blocked when seen and passes now is listed as opened."""
    shop.write("flows.log", flow_log().replace("ACCEPT", "REJECT"))
    assert shop.run("flows", "import", "flows.log").code == 0

    ran = shop.run("simulate", "--json")
    text = shop.run("simulate", columns=200).out

    opened = {(change["destination"], change["service"]) for change in ran.json["opens"]}
    assert ("app=shop,env=prod,role=api", "tcp/8080") in opened
    assert "opens" in text.split()


def test_the_json_documents_decode_to_values(busy_shop: ShopEstate) -> None:
    """Every `--json` answer is one document and nothing else is on stdout."""
    for words in (["flows", "status"], ["recommend"], ["simulate"], ["map"], ["policy", "lint"]):
        ran = busy_shop.run(*words, "--json")
        assert isinstance(msgspec.json.decode(ran.out), dict)
