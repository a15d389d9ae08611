"""The audit log as auditors ask it: by a workload's name, whatever becomes of it, in words, as JSON and as CSV."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from fleet import Fleet, fleet_in
from serving import eventually

from ringfence.cli.audit import details_words
from ringfence.controller import audit
from ringfence.controller.records import reviewing

WHY = ("--why", "a test", "--yes")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A host that is relabelled, one that is retired, and a fleet that has a version."""
    with fleet_in(tmp_path_factory.mktemp("auditors")) as made:
        made.publish()
        assert made.ring("label", "web", "--put", "stage=one", *WHY).exit_code == 0
        assert made.ring("mode", "web", "--in", "observe", *WHY).exit_code == 0
        made.hosts.pop("db").close()
        assert made.ring("agent", "retire", "db", *WHY).exit_code == 0
        eventually(lambda: made.client.verify_audit().is_intact)
        yield made


def actions(entries: list[dict[str, Any]]) -> set[str]:
    return {one["action"] for one in entries}


def test_a_name_finds_what_is_about_its_uuid(fleet: Fleet) -> None:
    """As the UUID does, with the join that knew no UUID yet and the profile of that name; the name stands beside it, in
    words and in JSON."""
    uuid = fleet.client.workload("web").uuid
    named, about = fleet.json("audit", "--subject", "web"), fleet.json("audit", "--subject", uuid)

    assert actions(about) >= {"agent.enrol", "workload.labels", "workload.mode"}
    assert actions(named) == actions(about) | {"join.redeem", "profile.make"}
    assert {one["name"] for one in about} == {"web"}
    assert f"web ({uuid})" in fleet.ring("audit", "--subject", "web").stdout
    assert [one.subject for one in fleet.client.audit(subject="web", action="workload.labels")] == [uuid]
    assert fleet.json("audit", "--subject", "nobody") == []


def test_the_name_of_a_host_that_is_gone_finds_it(fleet: Fleet) -> None:
    """Nobody has it any more; what was done to who had it is found, and is called by it."""
    (retired,) = fleet.client.audit(action="workload.retire")
    found = fleet.json("audit", "--subject", "db")
    assert actions(found) >= {"agent.enrol", "workload.retire", "join.redeem"}
    assert {(one["subject"], one.get("name")) for one in found} == {(retired.subject, "db"), ("db", None)}


def test_details_are_said_and_are_no_text_in_json(fleet: Fleet) -> None:
    """With --json they are an object, of which the hash can be computed as the API's text; words leave out what is
    empty, and say what became another."""
    told = fleet.json("audit", "--limit", "100")
    kept = fleet.client.audit(limit=100)
    assert [one["details"] for one in told] == [json.loads(one.details) for one in kept]
    for one in told:
        stored = {key: one[key] for key in ("seq", "at", "actor", "action", "subject", "previous")}
        text = msgspec.json.encode(one["details"]).decode()
        said = msgspec.json.encode(stored | {"details": text}, order="deterministic")
        assert hashlib.sha256(said).hexdigest() == one["hash"]
    words = fleet.ring("audit", "--subject", "web").stdout
    assert "stage: none -> one" in words
    assert "in: enforce -> observe" in words
    assert all("trial" not in line for line in fleet.ring("audit", "--action", "rollout.begin").stdout.splitlines())


@pytest.mark.parametrize(
    ("details", "words"),
    [
        ({"manner": {"trial": {}, "live": "drain", "n": 0}, "canary": 0}, "manner: live=drain n=0; canary: 0"),
        ({"a": "", "b": None, "c": [], "d": [""], "e": {"f": ""}}, ""),
        (
            {"before": '{"role":"web"}', "after": '{"role":"db","x":"1"}', "why": "s"},
            "role: web -> db; x: none -> 1; why: s",
        ),
        ({"before": ["10.0.0.0/8"], "after": ["fd00::/8"]}, "before: 10.0.0.0/8; after: fd00::/8"),
        ({"why": "{not JSON", "failing": False}, "why: {not JSON; failing: false"),
        ({}, ""),
    ],
)
def test_words_leave_out_what_is_empty(details: dict[str, object], words: str) -> None:
    """A default is no word; no and nothing are."""
    assert details_words(json.dumps(details)) == words


def test_csv_is_all_of_it_unless_it_is_told_how_many(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Page by page, each entry once, the latest first, as JSON has it; filters and --limit count as they do there."""
    monkeypatch.setattr(reviewing, "_PAGE", 3)
    rows = list(csv.DictReader(io.StringIO(fleet.ring("audit", "--csv").stdout)))
    kept = fleet.client.audit(limit=1000)

    assert tuple(rows[0]) == reviewing.COLUMNS
    assert [(int(row["seq"]), row["hash"], row["details"]) for row in rows] == [
        (k.seq, k.hash, k.details) for k in kept
    ]
    for limit in (1, 3, 4):
        some = list(csv.DictReader(io.StringIO(fleet.ring("audit", "--csv", "--limit", str(limit)).stdout)))
        assert some == rows[:limit]
    about = list(csv.DictReader(io.StringIO(fleet.ring("audit", "--csv", "--subject", "web").stdout)))
    assert {row["name"] for row in about} == {"web", ""}
    both = fleet.ring("audit", "--csv", "--json")
    assert (both.exit_code, json.loads(both.stdout)["error"]) == (2, "contradictory-options")


def test_a_spreadsheet_computes_nothing_of_it(fleet: Fleet) -> None:
    """A cell that begins like a formula begins with an apostrophe."""
    run, state = fleet.served.run, fleet.served.controller.state
    at, formula = fleet.served.controller.clock(), "=HYPERLINK(1)"
    run(state.write(lambda tx: audit.record(tx, at=at, actor="@eve", action="test", subject=formula)))
    (row,) = csv.DictReader(io.StringIO(fleet.client.audit_csv(limit=1)))
    assert (row["actor"], row["subject"]) == ("'@eve", f"'{formula}")
    assert fleet.json("audit", "--limit", "1")[0]["subject"] == formula


def test_more_than_a_page_is_listed_where_it_is_asked_for(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each entry once."""
    monkeypatch.setattr("ringfence.cli.audit._PAGE", 4)
    kept = [one.seq for one in fleet.client.audit(limit=1000)]
    assert [one["seq"] for one in fleet.json("audit", "--limit", "9")] == kept[:9]
    assert [one["seq"] for one in fleet.json("audit", "--limit", "9000")] == kept
