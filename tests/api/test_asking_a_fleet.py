"""`explain`, `decide` and `reach` asked of a controller: the words and exit codes they have for an estate on disk."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fleet import Fleet, fleet_in
from serving import SHOP, refused

from ringfence.controller import audit
from ringfence.core.engine.questions import Question
from ringfence.ports.state import Change, Where, WorkloadRecord
from ringfence.wire import api
from ringfence.wire.questions import AskReach, Decide, Explain

OPEN = SHOP.replace("tcp/5432}\ntests", "tcp/5432}\n  - allow: {from: role=web, to: role=db, service: tcp/22}\ntests")
NOW = datetime(2026, 3, 3, tzinfo=UTC)
LINES = "".join(
    json.dumps(one) + "\n"
    for one in (
        {"source": "web", "destination": "db", "service": "tcp/5432"},
        {"source": "web", "destination": "nobody", "service": "tcp/22"},
        {"source": "web"},
        {"source": "web", "destination": "db", "service": "tcp/22"},
    )
)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with fleet_in(tmp_path_factory.mktemp("asking")) as made:
        made.publish()
        inventory = made.estate / "inventory"
        inventory.mkdir()
        uuids = {one.name: one.uuid for one in made.client.workloads()}
        (inventory / "hosts.yaml").write_text(
            "".join(
                f"- {{name: {name}, uuid: {uuids[name]}, mode: enforce, labels: {{app: shop, role: {name}}},"
                f" addresses: [{address}]}}\n"
                for name, address in (("web", "10.0.0.1"), ("db", "10.0.0.2"))
            )
        )
        yield made


@pytest.mark.parametrize("service", ["tcp/5432", "tcp/22"])
def test_explain_says_the_same_of_a_controller(fleet: Fleet, service: str) -> None:
    """Word for word and with the same exit code; only the file is called what the version calls it."""
    here = fleet.ring("explain", "web", "db", service)
    there = fleet.ring("explain", "web", "db", service, "--fleet")

    assert (there.exit_code, there.stderr) == (here.exit_code, "")
    assert here.stdout.replace("policies/shop.yaml", "shop.yaml") == there.stdout
    assert there.exit_code == (0 if service == "tcp/5432" else 1)
    document = [fleet.json("explain", "web", "db", service, *more) for more in ((), ("--fleet",))]
    assert {**document[0], "file": None, "nearest": None} == {**document[1], "file": None, "nearest": None}


def test_a_server_is_named_or_the_one_logged_in_to(fleet: Fleet) -> None:
    """`--server` asks that one; one nobody logged in to is bad input."""
    url = fleet.served.controller.settings.url
    assert fleet.ring("explain", "web", "db", "tcp/5432", "--server", url).exit_code == 0
    other = fleet.ring("explain", "web", "db", "tcp/5432", "--server", "https://localhost:1")
    assert (other.exit_code, "not-logged-in" in other.output) == (2, True)


def test_a_draft_is_judged_in_place_of_what_is_in_force(fleet: Fleet, tmp_path: Path) -> None:
    """The same question under an estate's policies as they are written; nothing is changed by asking."""
    (tmp_path / "policies").mkdir()
    (tmp_path / "ringfence.toml").write_text("")
    (tmp_path / "policies" / "shop.yaml").write_text(OPEN)
    under = ("--fleet", "--draft", str(tmp_path))

    assert fleet.ring("explain", "web", "db", "tcp/22", "--fleet").exit_code == 1
    assert fleet.ring("explain", "web", "db", "tcp/22", *under).exit_code == 0
    lines = [json.loads(x) for x in fleet.ring("decide", *under, stdin=LINES).stdout.splitlines()]
    assert lines[3]["verdict"] == "allowed"
    reached = fleet.json("reach", "role=db", *under)["reached"]
    assert [(one["who"], one["services"]) for one in reached] == [("app=shop,role=web", ["tcp/22", "tcp/5432"])]
    assert len(fleet.client.versions()) == 1
    alone = fleet.ring("explain", "web", "db", "tcp/22", "--draft", str(tmp_path))
    assert (alone.exit_code, "contradictory-options" in alone.output) == (2, True)


def test_a_draft_that_cannot_be_read_is_refused(fleet: Fleet) -> None:
    """With the language's own finding, as exit code 2 tells."""
    broken = api.Draft({"shop.yaml": "policy: shop\nruls: []\n"}, 1)
    with pytest.raises(Exception, match="unknown-key"):
        fleet.client.explain(Explain("web", "db", "tcp/22", draft=broken))


def test_decide_answers_every_line(fleet: Fleet) -> None:
    """In order, what cannot be answered with its line; as offline, byte for byte but for the file's name."""
    here, there = fleet.ring("decide", stdin=LINES), fleet.ring("decide", "--fleet", stdin=LINES)

    assert there.exit_code == here.exit_code == 2
    assert there.stdout == here.stdout.replace("policies/shop.yaml", "shop.yaml")
    lines = [json.loads(line) for line in there.stdout.splitlines()]
    assert [line.get("verdict") or line["error"] for line in lines] == [
        "allowed", "unknown-endpoint", "bad-question", "blocked",
    ]  # fmt: skip
    assert [line.get("line") for line in lines] == [5, 2, 3, None]


def test_reach_says_the_same_of_a_controller(fleet: Fleet) -> None:
    """Both ways, on one service, of a workload: the words of the estate on disk."""
    for words in (("role=db",), ("web", "--from"), ("role=db", "--service", "tcp/5432"), ("db", "--hops", "2")):
        here, there = fleet.ring("reach", *words), fleet.ring("reach", *words, "--fleet")
        assert (there.exit_code, there.stdout) == (0, here.stdout), words
    assert refused(lambda: fleet.client.reach(AskReach("nobody"))) == "unknown-endpoint"


def test_a_quarantine_in_force_is_in_the_answers(fleet: Fleet) -> None:
    """What the controller holds counts at once; a mode that is supposed does not lift it."""
    fleet.client.quarantine(api.Contain(("web",), "it beacons"))
    try:
        (one,) = fleet.client.decide(Decide((Question("web", "db", "tcp/5432"),), as_mode="observe"))
        assert one.answer is not None
        assert (one.answer.verdict, one.answer.reason) == ("blocked", "quarantine")
    finally:
        fleet.client.release(api.Release(("web",), "it was a test"))


@pytest.fixture
def bare(fleet: Fleet) -> Iterator[str]:
    """A workload that nobody runs an agent on, in enforce as somebody wrote."""
    controller, uuid = fleet.served.controller, "00000000-0000-4000-8000-0000000000ff"
    record = WorkloadRecord(
        uuid, "printer", {"app": "print"}, NOW, origin="file", mode_in="enforce", mode_out="enforce"
    )

    def add(tx: Change) -> None:
        tx.add(record)
        audit.record(tx, at=NOW, actor="test", action="workload.enrol")

    def remove(tx: Change) -> None:
        tx.remove(WorkloadRecord, Where("uuid", uuid))
        audit.record(tx, at=NOW, actor="test", action="workload.retire")

    fleet.served.run(controller.state.write(add))
    fleet.served.run(controller.refresh(uuid))
    yield "printer"
    fleet.served.run(controller.state.write(remove))
    fleet.served.run(controller.refresh(uuid))


def test_what_nobody_enforces_is_blocked_on_paper(fleet: Fleet, bare: str) -> None:
    """Where only ends without an agent would block, the answer says what policy says, and that nothing stops it; where
    an agent is at an end that blocks, it is blocked. In words, JSON, and lines."""
    loose = fleet.ring("explain", bare, "203.0.113.9", "tcp/22", "--fleet")
    assert loose.exit_code == 1
    assert loose.stdout.startswith("BLOCKED ON PAPER")
    assert "policy says blocked; no agent of ours runs on printer, so nothing stops it" in loose.stdout
    assert fleet.json("explain", bare, "203.0.113.9", "tcp/22", "--fleet")["unheld"] == [bare]
    held = fleet.ring("explain", "web", bare, "tcp/22", "--fleet")
    assert held.stdout.startswith("BLOCKED  ")
    assert "destination  printer   no agent" in held.stdout
    line = json.dumps({"source": bare, "destination": "203.0.113.9", "service": "tcp/22"}) + "\n"
    assert json.loads(fleet.ring("decide", "--fleet", stdin=line).stdout)["unheld"] == [bare]
    reached = fleet.ring("reach", "role=db", "--fleet")
    assert "as if every host enforced; 1 workload has no agent: it holds nobody back" in reached.stderr
    assert "on paper: no agent runs there" in fleet.ring("status", bare).stdout


def test_an_isolation_without_an_agent_is_held_by_peers(fleet: Fleet, bare: str) -> None:
    """It is said before, and of the quarantine: only those that run an agent drop what is the host's."""
    shown = fleet.ring("quarantine", bare, "--plan")
    assert "1 of them without an agent: only their peers would drop what is theirs" in shown.stdout
    assert "2 other hosts would drop" in shown.stdout
    done = fleet.ring("quarantine", bare, "--why", "it prints money")
    assert (done.exit_code, "verified by peers: no agent on it" in done.stdout) == (0, True), done.output
    assert fleet.ring("release", bare, "--why", "it was a test", "--yes").exit_code == 0
