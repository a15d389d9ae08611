"""A draft under the pen: its findings, lint and tests are those of the library; words for completion."""

from __future__ import annotations

import threading

import pytest
from explored import DRAFTED, FILES, SHOP, Explored
from serving import refused

from ringfence.controller.publishing.versions import failing
from ringfence.core.engine import Engine, lint
from ringfence.core.engine.prove import prove
from ringfence.core.engine.questions import witness_answer
from ringfence.core.errors import Finding
from ringfence.core.identity.workload import Mode
from ringfence.core.net.service import WELL_KNOWN
from ringfence.core.policy.check import check
from ringfence.core.policy.parse import parse_policies
from ringfence.core.world import World
from ringfence.wire import study

WRONG = SHOP.replace("from: web, to: api, service: tcp/8080}", "from: wbe, to: api, service: tcp/80800}", 1)
LEAKY = DRAFTED.replace("{from: web, to: db, expect: blocked}", "{from: api, to: db, expect: blocked}")
DOUBLE = DRAFTED.replace(
    "  - name: spare", "  - name: again\n    allow: {from: web, to: api, service: tcp/8080}\n  - name: spare"
)


def asked(estate: Explored, text: str) -> study.Checked:
    return estate.client.explore.check(study.Check({"shop.yaml": text}))


def test_faults_have_their_place_and_what_to_do(estate: Explored) -> None:
    """Each fault of the text, with code, file, line, column and help, as the language's own reader tells it; there
    are no tests of what cannot be read."""
    told = asked(estate, WRONG)
    wanted = parse_policies(FILES | {"shop.yaml": WRONG}).findings

    assert told.findings == wanted
    assert not told.is_sound
    assert all(f.where.line and f.where.column and f.where.file == "shop.yaml" for f in told.findings)
    assert "did you mean `web`" in " ".join(f.help for f in told.findings)
    assert told.tests == ()


@pytest.mark.parametrize("text", [SHOP, DRAFTED, LEAKY, DOUBLE], ids=["in force", "more", "leaky", "double"])
def test_findings_and_tests_are_the_librarys(estate: Explored, text: str) -> None:
    """Warnings of the inventory, lint over the whole estate, every test with its counterexample."""
    told = asked(estate, text)
    files = FILES | {"shop.yaml": text}
    world: World = estate.world(files)
    wanted: set[Finding] = set(check(world.policies, world.inventory, world.at, names=world.names))
    wanted |= set(lint.lint(estate.engine(files)))
    engine = Engine.compile(World(world.inventory, world.policies, at=world.at, as_mode=Mode.both("enforce")))
    proofs = prove(engine)
    wanted |= set(failing(proofs, "error"))
    assert any(f.code == "test-failed" for f in wanted) == (text == LEAKY)

    assert set(told.findings) == wanted
    assert [(t.policy, t.name, t.outcome, t.pairs, t.violations, t.line) for t in told.tests] == [
        (p.policy, p.name, p.outcome, p.pairs, p.violations, p.where.line) for p in proofs
    ]
    for test, proof in zip(told.tests, proofs, strict=True):
        shown = witness_answer(proof.counterexample) if proof.counterexample is not None else None
        assert (test.counterexample and test.counterexample.source) == (shown and shown.source)
        assert (test.counterexample and test.counterexample.rule) == (shown and shown.rule)
    assert told.is_sound == all(p.outcome in ("proven", "warning") for p in proofs)


def test_a_leak_and_a_double_are_found(estate: Explored) -> None:
    """The test that a new rule breaks fails by the name of that rule; a rule said twice is found."""
    leaky = asked(estate, LEAKY)
    failed = [test for test in leaky.tests if test.outcome == "failed"]
    assert [test.allowed_by for test in failed] == [("shop/queries",)]
    assert [f.code for f in asked(estate, DOUBLE).findings if f.code == "duplicate"] == ["duplicate"]


@pytest.mark.parametrize("text", ["", "\n  \n", "# to come\n"])
def test_a_file_that_says_nothing_is_found(estate: Explored, text: str) -> None:
    """At its first line, with what to do; one that begins to say something is not."""
    told = asked(estate, text)
    assert [(f.code, f.where.file, f.where.line) for f in told.findings if f.where.file == "shop.yaml"] == [
        ("empty-file", "shop.yaml", 1)
    ]
    assert "empty-file" not in {f.code for f in asked(estate, "rules: []\n").findings}


def test_files_alone_and_files_removed(estate: Explored) -> None:
    """`alone` leaves out what is in force; a removed file is not read; what is not there cannot be removed."""
    client = estate.client.explore
    assert client.check(study.Check({"x.yaml": SHOP}, alone=True)).policies == 1
    assert client.check(study.Check({}, remove=("guard.yaml",))).policies == 1
    assert client.check(study.Check({"shop.yaml": SHOP})).policies == 2
    assert refused(lambda: client.check(study.Check({}, remove=("nope.yaml",)))) == "unknown-file"
    assert refused(lambda: client.check(study.Check({"shop.txt": SHOP}))) == "not-a-policy"


def test_settings_that_cannot_be_read_are_findings(estate: Explored) -> None:
    """Of `ringfence.toml`, with the line; settings that can be read count."""
    client = estate.client.explore
    told = client.check(study.Check({}, settings="[identity]\nignroe = []\n"))
    assert {(f.code, f.where.file, f.where.line) for f in told.findings} == {("bad-settings", "ringfence.toml", 2)}
    told = client.check(study.Check({}, settings='[identity]\nignore = ["env"]\n'))
    assert not told.is_sound


def test_the_words_of_an_estate(estate: Explored) -> None:
    """Labels and their values with as many workloads as carry them; segments with as many as they pick; services;
    policies with their files."""
    words = estate.client.explore.words()
    labels = [w.labels for w in estate.inventory.workloads]

    assert {word.key for word in words.labels} == {"app", "env", "role"}
    for word in words.labels:
        assert word.workloads == sum(word.key in each for each in labels)
        assert word.values == {v: sum(each.get(word.key) == v for each in labels) for v in word.values}
    assert {s.name: (s.workloads, s.is_crown_jewel) for s in words.segments} == {
        "shop.web": (2, False), "shop.api": (2, False), "shop.db": (2, True),
    }  # fmt: skip
    assert {s.name for s in words.services} >= set(WELL_KNOWN)
    assert {(p.name, p.file, p.rules) for p in words.policies} == {("shop", "shop.yaml", 3), ("guard", "guard.yaml", 1)}


@pytest.mark.parametrize("path", ["explain", "decide", "reach"])
def test_a_draft_keeps_nobody_waiting(estate: Explored, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    """While one is read, however long that takes, everybody else is answered."""
    controller, begun, may_end = estate.served.controller, threading.Event(), threading.Event()
    plain = controller._world_of

    def slow(settings: str) -> World:
        begun.set()
        may_end.wait(30)
        return plain(settings)

    monkeypatch.setattr(controller, "_world_of", slow)
    about = {"source": "internet", "destination": "shop-prod-web-1", "service": "https"}
    asked = {"explain": about, "decide": {"questions": [about]}, "reach": {"of": "shop-prod-web-1"}}[path]
    draft = {"files": FILES, "base": 0}
    asking = threading.Thread(target=lambda: estate.post(f"/{path}", **asked, draft=draft))
    asking.start()
    assert begun.wait(30)
    try:
        with estate.served.client() as other:
            assert other.me().name
        assert asking.is_alive()
    finally:
        may_end.set()
        asking.join(30)
