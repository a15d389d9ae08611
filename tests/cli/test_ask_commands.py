"""`ringfence explain`, `decide` and `reach`: the answers a security engineer and a script rely on."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from cli_estate import ShopEstate

from ringfence.core.engine import Engine
from ringfence.core.engine.questions import Answer
from ringfence.core.world import Flow, Verdict

ANSWER = {field.name for field in msgspec.structs.fields(Answer)}


def test_explain_allowed_names_the_rule_and_its_line(shop: ShopEstate) -> None:
    """verdict, reason, rule, file, line and both ends; exit 0."""
    ran = shop.run("explain", "web-1", "api-1", "tcp/8080", "--json")

    answer = ran.json
    assert ran.code == 0
    assert set(answer) >= ANSWER
    assert (answer["verdict"], answer["reason"], answer["rule"]) == ("allowed", "allow", "shop/calls")
    assert (answer["file"], answer["line"]) == ("policies/shop.yaml", 17)
    assert [(e["end"], e["workload"], e["mode"], e["verdict"]) for e in answer["ends"]] == [
        ("source", "web-1", "enforce", "allowed"),
        ("destination", "api-1", "enforce", "allowed"),
    ]
    assert answer["nearest"] is None


def test_explain_blocked_tells_the_nearest_rule_in_english(shop: ShopEstate) -> None:
    """What was missing and only that, as a sentence; exit 1."""
    ran = shop.run("explain", "web-1", "db-1", "postgres", columns=None)

    assert ran.code == 1
    assert ran.out.splitlines()[:2] == ["BLOCKED  web-1 -> db-1 tcp/5432", "because of default"]
    sentence = "nearest rule: shop/orders (policies/shop.yaml:19) would allow it from `api`, with mutual TLS"
    assert sentence in ran.out.splitlines()


def test_explain_leaves_out_of_the_nearest_what_was_stated(shop: ShopEstate) -> None:
    """A stated condition is not missing, a date that has not passed is not either."""
    near = shop.run("explain", "web-1", "db-1", "postgres", "--mutual-tls", "--json").json["nearest"]

    assert near == {"rule": "shop/orders", "file": "policies/shop.yaml", "line": 19, "missing": ["from `api`"]}


def test_explain_says_when_the_nearest_rule_has_ended(shop: ShopEstate) -> None:
    """A rule past its last day says so."""
    words = ("explain", "api-1", "db-1", "postgres", "--mutual-tls", "--at", "2199-03-02T00:00:00Z")

    out = shop.run(*words, columns=None).out

    assert "nearest rule: shop/orders (policies/shop.yaml:19) ended on 2199-03-01" in out


def test_explain_says_which_condition_would_have_held(shop: ShopEstate) -> None:
    """An unstated condition does not hold, and the answer says so; stated, it passes."""
    assert shop.run("explain", "api-1", "db-1", "postgres", "--json").json["unless"] == ["mutual-tls"]
    assert shop.run("explain", "api-1", "db-1", "postgres", "--mutual-tls").code == 0


def test_explain_names_the_forbid(shop: ShopEstate) -> None:
    """No nearest rule is offered against a forbid: no allow lifts it."""
    answer = shop.run("explain", "dev-1", "db-1", "postgres", "--as", "enforce", "--json").json

    assert (answer["verdict"], answer["reason"], answer["rule"]) == ("blocked", "forbid", "guardrails/no-dev-in-prod")
    assert answer["nearest"] is None


def test_explain_of_an_observing_end_would_block(shop: ShopEstate) -> None:
    """In observe nothing is dropped and the verdict says what would be; exit 1 all the same."""
    ran = shop.run("explain", "web-2", "printer", "tcp/631", "--json")

    assert (ran.code, ran.json["verdict"], ran.json["ends"][0]["mode"]) == (1, "would-block", "observe")


def test_explain_of_no_controlled_end_is_uncontrolled(shop: ShopEstate) -> None:
    """Nobody enforces between two strangers: allowed, and said so; nothing fails for want of a rule."""
    ran = shop.run("explain", "192.0.2.1", "192.0.2.2", "tcp/1")

    assert ran.code == 0
    assert "because of uncontrolled" in ran.out
    assert "neither end has an enforcement point" in ran.out


@pytest.mark.parametrize("source", ["web-1", "10.0.1.1", "role=web", "::ffff:10.0.1.1"])
def test_explain_takes_names_addresses_and_selectors(shop: ShopEstate, source: str) -> None:
    """However an end is named, the answer is the same rule."""
    assert shop.run("explain", source, "api-1", "tcp/8080", "--json").json["rule"] == "shop/calls"


def test_explain_of_many_gives_the_worst_and_counts_the_rest(shop: ShopEstate) -> None:
    """A selector stands for all its workloads."""
    answer = shop.run("explain", "app=shop", "api-1", "tcp/8080", "--as", "enforce", "--json").json

    assert answer["verdict"] == "blocked"
    assert answer["others"]["allowed"] >= 2
    assert answer["others"]["blocked"] >= 2


@pytest.mark.parametrize("columns", [80, 140])
def test_explain_is_readable_at_any_width(shop: ShopEstate, columns: int) -> None:
    """No line is longer than the window and no word is cut."""
    out = shop.run("explain", "web-1", "db-1", "postgres", columns=columns).out

    assert max(map(len, out.splitlines())) <= columns
    assert "…" not in out
    assert "would allow it from `api`, with mutual TLS" in " ".join(out.split())


def test_a_workload_name_is_never_markup(shop: ShopEstate) -> None:
    """A name such as `[red]:bug:` is printed as it is."""
    shop.write("inventory/odd.yaml", '- {name: "[red]x:bug:", labels: {app: odd, env: prod}, addresses: [10.7.0.1]}\n')

    ran = shop.run("explain", "[red]x:bug:", "db-1", "postgres")

    assert ran.out.splitlines()[0].endswith("[red]x:bug: -> db-1 tcp/5432")


# ---- decide --------------------------------------------------------------------------------------------------------


def questions(*documents: Any) -> str:
    return "".join(f"{d if isinstance(d, str) else json.dumps(d)}\n" for d in documents)


def asked(source: str, destination: str, service: str, **more: Any) -> dict[str, Any]:
    return {"source": source, "destination": destination, "service": service, **more}


def test_decide_answers_line_by_line(shop: ShopEstate) -> None:
    """One JSON line an answer, in order, with the fields of explain; blank lines are skipped."""
    stdin = questions(
        asked("web-1", "api-1", "tcp/8080"), "", asked("api-1", "db-1", "postgres", mutual_tls=True),
        asked("api-1", "db-1", "postgres", mutual_tls=True, at="2199-03-02T00:00:00Z"),
    )  # fmt: skip

    ran = shop.run("decide", stdin=stdin)

    answers = [json.loads(line) for line in ran.out.splitlines()]
    assert ran.code == 0
    assert all(set(answer) == ANSWER for answer in answers)
    assert [answer["verdict"] for answer in answers] == ["allowed", "allowed", "blocked"]


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        ("x", "bad-question", "the line is not one JSON object in UTF-8"),
        ("[]", "bad-question", "a question is a JSON object"),
        ("{}", "bad-question", "a question needs `source`"),
        ('{"source":1,"destination":"a","service":"b"}', "bad-question", "`source` is not a text"),
        (questions(asked("a", "b", "c", at="noon")), "bad-question", "`at` is not a time like 2026-03-03T02:10:00Z"),
        (questions(asked("a", "b", "c", mutual_tls=1)), "bad-question", "`mutual_tls` is not true or false"),
        (questions(asked("a", "b", "c", colour=1)), "bad-question", "a question has no key `colour`"),
        (b"\xff\n", "bad-question", "the line is not one JSON object in UTF-8"),
        (questions(asked("web-9", "db-1", "ssh")), "unknown-endpoint", ""),
        (questions(asked("web-1", "db-1", "tcp/70000")), "unknown-service", ""),
        (questions(asked("app=none", "db-1", "ssh")), "unmatched", ""),
        (questions(asked("web-1", "db-1", "")), "unknown-service", ""),
        (questions(asked("", "db-1", "ssh")), "unknown-endpoint", ""),
        (questions(asked("web-1", "10.0.0.0/8", "ssh")), "unknown-endpoint", ""),
        (questions(asked("web-1", "a..b", "ssh")), "unknown-endpoint", ""),
        (questions(asked("web-1", "db-1", "ssh", at="9999-12-31T23:59:59-14:00")), "bad-time", ""),
        (questions(asked("web-1", "db-1", "ssh", at="0001-01-01T00:00:00+14:00")), "bad-time", ""),
    ],
)
def test_decide_refuses_one_line_and_goes_on(shop: ShopEstate, line: str | bytes, code: str, message: str) -> None:
    """A line that cannot be answered is told with code, help and number; the rest is answered; exit 2."""
    first = line if isinstance(line, bytes) else line.strip().encode() + b"\n"

    ran = shop.run("decide", stdin=first + questions(asked("web-1", "api-1", "tcp/8080")).encode())

    error, answer = (json.loads(text) for text in ran.out.splitlines())
    assert ran.code == 2
    assert (error["error"], error["line"]) == (code, 1)
    assert error["help"]
    assert message in error["message"]
    assert "str" not in error["message"].split()
    assert answer["verdict"] == "allowed"


@pytest.mark.parametrize("at", ["2026-01-01T00:00:00", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z"])
def test_decide_answers_at_any_time_of_the_calendar(shop: ShopEstate, at: str) -> None:
    """A time without a zone is UTC; the first and the last moment there are have a verdict."""
    ran = shop.run("decide", stdin=questions(asked("api-1", "db-1", "postgres", mutual_tls=True, at=at)))

    assert (ran.code, json.loads(ran.out)["verdict"]) == (0, "blocked" if at.startswith("9999") else "allowed")


def test_a_fault_of_ours_does_not_end_the_stream(shop: ShopEstate, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line is told as `internal-error`, the next one is answered; exit 2."""
    real, asks = Engine.decide, iter(range(9))

    def decide(self: Engine, flow: Flow) -> Verdict:
        if next(asks) == 0:
            raise ZeroDivisionError
        return real(self, flow)

    monkeypatch.setattr(Engine, "decide", decide)
    ran = shop.run("decide", stdin=questions(*[asked("web-1", "api-1", "tcp/8080")] * 2))

    error, answer = (json.loads(text) for text in ran.out.splitlines())
    assert (ran.code, error["error"], error["line"], answer["verdict"]) == (2, "internal-error", 1, "allowed")
    assert "ZeroDivisionError" in ran.err


def test_decide_of_nothing_says_nothing(shop: ShopEstate) -> None:
    """No question, no answer, exit 0."""
    assert (shop.run("decide").code, shop.run("decide").out) == (0, "")


# ---- reach ---------------------------------------------------------------------------------------------------------


def test_reach_tells_who_can_come_in(shop: ShopEstate) -> None:
    """Who can reach the API in one hop, on which service."""
    ran = shop.run("reach", "role=api,env=prod", "--json")

    assert ran.code == 0
    assert {(r["who"], r["services"][0]) for r in ran.json["reached"]} == {("app=shop,env=prod,role=web", "tcp/8080")}
    assert ran.json["reached"][0]["workloads"] == 2


def test_reach_says_so_when_it_is_nobody(shop: ShopEstate) -> None:
    """No empty table; the sentence counts nobody."""
    assert shop.run("reach", "dev-1").out == "0 workloads can reach dev-1\n"
    ends = "0 workloads and 2 ranges of other addresses can be reached from printer"
    assert shop.run("reach", "printer", "--from").out.splitlines()[-1] == ends


def test_a_segment_is_an_end(shop: ShopEstate) -> None:
    """`shop.db`, or `db` where one policy only has it, is what its selector and its scope pick."""
    selector = shop.run("reach", "app=shop,env=prod,role=db", "--json").json
    for name in ("shop.db", "db"):
        assert shop.run("reach", name, "--json").json == selector
        explained = shop.run("explain", "shop.api", name, "postgres", "--mutual-tls", "--json")
        assert (explained.code, explained.json["rule"]) == (0, "shop/orders")


def test_a_segment_of_two_policies_is_asked_for_by_its_policy(shop: ShopEstate) -> None:
    """A bare name that two policies define is refused; a misspelt one is told the nearest."""
    shop.write("policies/crm.yaml", "policy: crm\nscope: app=print\nsegments: {db: kind=db}\nrules: []\n")

    assert "write `POLICY.db`" in shop.run("reach", "db").err
    assert "did you mean `shop.api`?" in shop.run("explain", "web-1", "shop.apj", "ssh").err
    assert "did you mean `web`?" in shop.run("reach", "wbe").err
    assert "error[unknown-endpoint]" in shop.run("reach", "api.example.com").err, "a name has no reach"
    assert "did you mean `shop.api`?" in shop.run("reach", "shop.apj").err
    assert shop.run("reach", "shop.db").code == 0


def test_reach_follows_hops(shop: ShopEstate) -> None:
    """The internet reaches the API in two hops and not in one."""

    def hops(most: str) -> set[int]:
        reached = shop.run("reach", "internet", "--from", "--hops", most, "--json").json["reached"]
        return {r["hop"] for r in reached if r["who"] == "app=shop,env=prod,role=api"}

    assert hops("1") == set()
    assert hops("2") == {2}
