"""`ringfence policy ...`, as an application team and a CI job use it."""

from __future__ import annotations

import json

import pytest
from cli_estate import SHOP, ShopEstate


def test_check_of_a_clean_estate_counts_what_it_read(shop: ShopEstate) -> None:
    """Exit 0, and the plural of one thing is not used."""
    ran = shop.run("policy", "check")

    assert ran.code == 0
    assert ran.out == "2 policies, 4 rules, 6 workloads: no findings\n"
    one = shop.run("policy", "check", "policies/guardrails.yaml")
    assert one.out.startswith("1 policy, 1 rule, 6 workloads")


def test_check_tells_every_error_with_place_code_and_help(shop: ShopEstate) -> None:
    """Two faults in one file are both told; exit 2."""
    shop.write("policies/shop.yaml", SHOP.replace("role=db", "role in db").replace("service: https", "servce: https"))

    ran = shop.run("policy", "check", "--json")

    assert ran.code == 2
    found = {f["code"]: f for f in ran.json["findings"]}
    assert {"bad-selector", "unknown-key"} <= set(found)
    assert found["unknown-key"]["where"]["file"] == "policies/shop.yaml"
    assert found["unknown-key"]["where"]["line"] == 16
    assert found["unknown-key"]["help"] == "did you mean `service`?"


def test_check_exits_1_on_a_warning(shop: ShopEstate) -> None:
    """A segment that nobody uses is a warning, not an error."""
    shop.write("policies/shop.yaml", SHOP.replace("  web: role=web\n", "  web: role=web\n  old: role=api,env=prod\n"))

    ran = shop.run("policy", "check", "--json")

    assert (ran.code, [f["code"] for f in ran.json["findings"]]) == (1, ["unused-segment"])


def test_check_of_one_file_knows_the_segments_of_the_others(shop: ShopEstate) -> None:
    """A policy may name `shop.db`; checking it alone does not lose the name."""
    text = "policy: backup\nrules:\n  - allow: {from: role=api, to: shop.db, service: ssh}\n"
    shop.write("policies/backup.yaml", text)

    ran = shop.run("policy", "check", "policies/backup.yaml", "--json")

    assert "unknown-segment" not in {f["code"] for f in ran.json["findings"]}
    assert ran.json["policies"] == 1


def test_a_broken_neighbour_is_told_when_one_file_is_checked(shop: ShopEstate) -> None:
    """A file is never judged against half of what it refers to."""
    shop.write("policies/guardrails.yaml", "policy: [")

    ran = shop.run("policy", "test", "policies/shop.yaml")

    assert ran.code == 2
    assert "policies/guardrails.yaml" in ran.err


def test_test_proves_every_entry(shop: ShopEstate) -> None:
    """Exit 0 when all are proven."""
    ran = shop.run("policy", "test")

    assert ran.code == 0
    assert ran.out.splitlines()[-1] == "2 of 2 tests proven"


def test_test_answers_a_failure_with_a_counterexample_like_explain(shop: ShopEstate) -> None:
    """verdict, reason, rule, file, line and ends: the contract that scripts rely on."""
    shop.write("policies/shop.yaml", SHOP + "  - {from: web, to: api, expect: blocked}\n")

    ran = shop.run("policy", "test", "--json")

    assert ran.code == 1
    failed = ran.json["tests"][-1]
    assert (failed["outcome"], failed["file"], failed["line"]) == ("failed", "policies/shop.yaml", 27)
    shown = failed["counterexample"]
    assert (shown["verdict"], shown["reason"], shown["rule"]) == ("allowed", "allow", "shop/calls")
    assert (shown["file"], shown["line"]) == ("policies/shop.yaml", 17)
    assert {end["end"] for end in shown["ends"]} == {"source", "destination"}
    assert ran.json["proven"] == 2
    assert "FAILED" in shop.run("policy", "test").out


def test_a_test_that_picks_nobody_is_no_pass(shop: ShopEstate) -> None:
    """An `unmatched` test fails the run."""
    shop.write("policies/shop.yaml", SHOP + "  - {from: role=ghost, to: db, expect: blocked}\n")

    ran = shop.run("policy", "test", "--json")

    assert (ran.code, ran.json["tests"][-1]["outcome"]) == (1, "unmatched")


@pytest.mark.parametrize("path", ["policies/guardrails.yaml", "empty"])
def test_no_tests_is_no_success(shop: ShopEstate, path: str) -> None:
    """Nothing to prove is not a proof: exit 1, said with how to write a test, for policies without any and for none."""
    (shop.root / "empty").mkdir()

    ran = shop.run("policy", "test", path)

    assert ran.code == 1
    assert "warning[no-tests]" in ran.out
    assert "- {from: web, to: db, expect: blocked}" in ran.out
    assert ran.out.endswith("nothing is proven\n")
    told = shop.run("policy", "test", path, "--json")
    assert (told.code, told.json["tests"], [f["code"] for f in told.json["findings"]]) == (1, [], ["no-tests"])


def test_a_connection_that_should_be_blocked_names_the_rule_that_lets_it_pass(shop: ShopEstate) -> None:
    """With file, line and the author's reason, once where both ends say the same."""
    text = SHOP.replace("service: tcp/8080}\n  - name", "service: tcp/8080}\n    because: pages need data\n  - name")
    shop.write("policies/shop.yaml", text + "  - {from: web, to: api, expect: blocked}\n")

    told = " ".join(shop.run("policy", "test").out.split())

    assert "at both ends it passes by shop/calls (policies/shop.yaml:17), because pages need data" in told
    ends = shop.run("policy", "test", "--json").json["tests"][-1]["deciders"]
    assert [(e["end"], e["rule"], e["file"], e["line"]) for e in ends] == [
        ("source", "shop/calls", "policies/shop.yaml", 17),
        ("destination", "shop/calls", "policies/shop.yaml", 17),
    ]


def test_a_proven_connection_names_the_rule_that_allows_it(shop: ShopEstate) -> None:
    """`expect: allowed` is proven by a rule, and the row says by which, once where both ends say the same."""
    assert "by shop/calls" in shop.run("policy", "test").out
    by = shop.run("policy", "test", "--json").json["tests"][0]["allowed_by"]
    assert [(r["end"], r["rule"], r["line"]) for r in by] == [
        ("source", "shop/calls", 17),
        ("destination", "shop/calls", 17),
    ]


def test_every_rule_that_lets_it_pass_is_named(shop: ShopEstate) -> None:
    """Mending the first alone would not close it: the second is told as well."""
    extra = "policy: wide\nrules:\n  - name: open\n    allow: {from: env=prod, to: env=prod, service: tcp/8080}\n"
    shop.write("policies/wide.yaml", extra)
    test = "  - {from: web, to: api, service: tcp/8080, expect: blocked}\n"
    shop.write("policies/shop.yaml", SHOP.replace("tests:\n", "tests:\n" + test))

    out = shop.run("policy", "test").out

    assert "at both ends it passes by shop/calls (policies/shop.yaml:17)" in out
    assert "so would wide/open (policies/wide.yaml:3)" in out


def test_diff_says_when_what_it_opens_is_open(shop: ShopEstate) -> None:
    """A rule with a window is an opening at any hour it is looked at, marked with the window."""
    shop.write("old/shop.yaml", SHOP)
    night = "    within: daily 22:00-06:00 UTC\n"
    text = SHOP.replace(
        "\ntests:", "  - name: dump\n    allow: {from: web, to: db, service: ssh}\n" + night + "\ntests:"
    )
    shop.write("new/shop.yaml", text)

    (box,) = shop.run("policy", "diff", "old", "new", "--json").json["boxes"]

    assert (box["change"], box["when"]) == ("opened", ["within daily 22:00-06:00 UTC"])
    assert "within daily 22:00-06:00 UTC" in shop.run("policy", "diff", "old", "new").out


def test_each_end_names_its_own_rule(shop: ShopEstate) -> None:
    """Where the ends are opened by different policies both rules are named, each beside its end."""
    crm = "policy: crm\nscope: env=dev\nrules:\n  - name: out\n    allow: {from: env=dev, to: anyone, service: ssh}\n"
    shop.write("policies/crm.yaml", crm)
    shop.write("policies/guardrails.yaml", "")
    into = "  - name: in\n    allow: {from: 'global: env=dev', to: db, service: ssh}\n\ntests:"
    text = SHOP.replace("\ntests:", into) + "  - {from: 'global: env=dev', to: db, service: ssh, expect: blocked}\n"
    shop.write("policies/shop.yaml", text)

    out = shop.run("policy", "test").out

    assert "at the source (dev-1) it passes by crm/out (policies/crm.yaml:4)" in out
    assert "at the destination (db-1) it passes by shop/in (policies/shop.yaml:23)" in out


def test_a_connection_that_should_pass_names_the_nearest_rule(shop: ShopEstate) -> None:
    """A failed `expect: allowed` says which end stops it, for which reason, and the rule that nearly lets it pass."""
    shop.write("policies/shop.yaml", SHOP + "  - {from: web, to: db, service: postgres, expect: allowed}\n")

    out = shop.run("policy", "test").out

    assert "at both ends it is blocked: no rule allows it" in out
    assert "nearest rule: shop/orders (policies/shop.yaml:19) would allow it from `api`, with mutual TLS" in out
    nearest = shop.run("policy", "test", "--json").json["tests"][-1]["nearest"]
    assert (nearest["rule"], nearest["line"]) == ("shop/orders", 19)


def test_a_connection_that_is_forbidden_names_the_forbid_and_no_nearest_rule(shop: ShopEstate) -> None:
    """No allow would lift a forbid, so none is offered."""
    test = "  - {from: 'global: env=dev', to: web, service: https, expect: allowed}\n"
    shop.write("policies/shop.yaml", SHOP + test)

    out = shop.run("policy", "test").out

    assert "it is blocked by forbid guardrails/no-dev-in-prod (policies/guardrails.yaml:5)" in out
    assert "nearest rule" not in out


def test_tests_are_proven_at_a_time(shop: ShopEstate) -> None:
    """`--at` moves the clock: what holds today fails once the rule has ended; a test's own `at` stays."""
    passes = "{from: api, to: db, service: postgres, mutual_tls: true, expect: allowed"
    shop.write("policies/shop.yaml", SHOP + f"  - {passes}}}\n  - {passes}, at: '2100-01-01T00:00:00Z'}}\n")

    assert shop.run("policy", "test").code == 0
    later = shop.run("policy", "test", "--at", "2199-03-02T00:00:00Z", "--json")

    assert (later.code, [t["outcome"] for t in later.json["tests"]]) == (1, ["proven", "proven", "failed", "proven"])
    assert "ended on 2199-03-01" in shop.run("policy", "test", "--at", "2199-03-02T00:00:00Z").out
    assert shop.run("policy", "test", "--at", "someday").code == 2


def test_lint_names_a_rule_that_changes_nothing(shop: ShopEstate) -> None:
    """A rule inside another is found; exit 1."""
    extra = "  - name: again\n    allow: {from: web, to: api, service: tcp/8080}\n\ntests:"
    shop.write("policies/shop.yaml", SHOP.replace("\ntests:", extra))

    ran = shop.run("policy", "lint", "--json")

    assert ran.code == 1
    assert any("shop/again" in (f["subject"], *f["message"].split("`")) for f in ran.json["findings"])


def test_fmt_writes_the_canonical_form_and_keeps_comments(shop: ShopEstate) -> None:
    """--check changes nothing and exits 1; fmt writes; a second run finds nothing."""
    ugly = SHOP.replace("  db:  role=db", "  db: role=db")
    path = shop.write("policies/shop.yaml", ugly)
    path.chmod(0o640)

    checked = shop.run("policy", "fmt", "--check")
    assert (checked.code, path.read_text()) == (1, ugly)
    assert "-  db: role=db\n+  db:  role=db" in checked.out
    assert checked.out.endswith("1 file would change\n")

    assert shop.run("policy", "fmt").out == "1 file changed\n"
    assert path.read_text() == SHOP
    assert path.stat().st_mode & 0o777 == 0o640
    assert shop.run("policy", "fmt", "--check", "--json").json == {"changed": []}
    assert [p.name for p in sorted(path.parent.iterdir())] == ["guardrails.yaml", "shop.yaml"]


def test_fmt_touches_no_file_when_one_cannot_be_read(shop: ShopEstate) -> None:
    """All files are formatted or none."""
    ugly = SHOP.replace("  db:  role=db", "  db: role=db")
    path = shop.write("policies/shop.yaml", ugly)
    shop.write("policies/zz.yaml", "policy: zz\nrules: {")

    ran = shop.run("policy", "fmt")

    assert (ran.code, path.read_text()) == (2, ugly)


def test_fmt_knows_the_segments_of_other_files(shop: ShopEstate) -> None:
    """`shop.db` in another file is no unknown segment to the formatter."""
    shop.write(
        "policies/backup.yaml", "policy: backup\nrules:\n  - allow: {from: role=api, to: shop.db, service: ssh}\n"
    )

    assert shop.run("policy", "fmt", "policies/backup.yaml").code == 0


def test_diff_tells_what_opens_and_closes(shop: ShopEstate) -> None:
    """Exit 1 when anything differs, with an example judged where it passes; 0 when nothing does."""
    shop.write(
        "old/shop.yaml", SHOP.replace("service: tcp/8080}\n  - name: orders", "service: tcp/8081}\n  - name: orders")
    )

    ran = shop.run("policy", "diff", "old/shop.yaml", "policies/shop.yaml", "--json")

    assert ran.code == 1
    boxes = {box["change"]: box for box in ran.json["boxes"]}
    assert boxes["opened"]["services"] == ["tcp/8080"]
    assert boxes["closed"]["services"] == ["tcp/8081"]
    assert boxes["opened"]["example"]["verdict"] == "allowed"
    assert boxes["opened"]["example"]["rule"] == "shop/calls"
    assert ran.json["opened"] == boxes["opened"]["workload_pairs"]
    same = shop.run("policy", "diff", "policies", "policies")
    assert (same.code, same.out) == (0, "no difference in what passes\n")


def test_diff_of_any_shows_few_words(shop: ShopEstate) -> None:
    """A rule narrowed from `any` does not print every port there is."""
    shop.write("old/shop.yaml", SHOP.replace("service: https", "service: any"))

    ran = shop.run("policy", "diff", "old", "policies", columns=80)

    assert ran.code == 1
    assert len(ran.out.splitlines()) < 20


def test_schema_is_a_json_schema(shop: ShopEstate) -> None:
    """Editors can read it."""
    assert json.loads(shop.run("policy", "schema").out)["$schema"].startswith("https://json-schema.org/")


@pytest.mark.parametrize("columns", [80, 120, None])
def test_tables_are_never_cut(shop: ShopEstate, columns: int | None) -> None:
    """At any width every cell is there whole."""
    shop.write("policies/shop.yaml", SHOP + "  - {from: web, to: api, expect: blocked}\n")

    out = " ".join(shop.run("policy", "test", columns=columns).out.split())

    assert "…" not in out
    assert "policies/shop.yaml:27" in out


def test_fmt_keeps_an_any_that_somebody_wrote_and_adds_none(shop: ShopEstate) -> None:
    """`service: any` on a forbid and in a test is said twice on purpose; where it was left out it stays out."""
    text = (
        "policy: edges\n\nrules:\n"
        "  - forbid: {from: env=dev, to: env=prod, service: any}\n"
        "  - deny:   {from: anyone, to: env=prod}\n\n"
        "tests:\n"
        "  - {from: env=dev, to: env=prod, service: any, expect: blocked}\n"
        "  - {from: env=office, to: env=prod, expect: blocked}\n"
    )
    path = shop.write("policies/edges.yaml", text)

    assert (shop.run("policy", "fmt").code, path.read_text()) == (0, text)


def test_an_empty_list_is_not_advised_into_everything(shop: ShopEstate) -> None:
    """`service: []` on a forbid would mean every service if it were left out; the help says the word instead."""
    shop.write("policies/edges.yaml", "policy: edges\nrules:\n  - forbid: {from: env=dev, to: env=prod, service: []}\n")

    (found,) = shop.run("policy", "check", "--json").json["findings"]

    assert (found["code"], "leave" in found["help"], "`any`" in found["help"]) == ("empty-list", False, True)
