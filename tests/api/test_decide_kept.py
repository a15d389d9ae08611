"""`decide` answers from an index that is kept, and never from one that is out of date."""

from __future__ import annotations

from typing import Any

from explored import SHOP, Explored

from ringfence.controller.controller import ROOT
from ringfence.controller.publishing.versions import Draft
from ringfence.controller.study import asking
from ringfence.wire.questions import Question

NAMES = ("shop-prod-web-1", "shop-prod-api-2", "shop-dev-api-1", "crm-prod-db-1", "printer", "8.8.8.8")
SERVICES = ("tcp/8080", "https", "tcp/22")
ALL = [
    {"source": a, "destination": b, "service": s}
    for a in (*NAMES, "internet", "env=dev,role=web", "nobody")
    for b in NAMES
    for s in (*SERVICES, "no-such")
]


def wanted(estate: Explored, questions: list[dict[str, Any]]) -> list[Any]:
    """As an index made for these questions alone says."""
    engine = estate.engine()
    told = [asking.decided(engine, Question(**one)) for one in questions]
    return [(one.answer.verdict, one.answer.rule) if one.answer else one.fault.error for one in told]  # type: ignore[union-attr]


def told(estate: Explored, questions: list[dict[str, Any]], **more: Any) -> list[Any]:
    answers = estate.post("/decide", questions=questions, **more)
    return [
        (one["answer"]["verdict"], one["answer"]["rule"]) if one["answer"] else one["fault"]["error"] for one in answers
    ]


def test_one_by_one_and_all_at_once_are_the_same(estate: Explored) -> None:
    """Whether a thread answers, or the loop does at once because it is little; each as an index of its own says."""
    expected = wanted(estate, ALL)
    assert told(estate, ALL) == expected
    assert [told(estate, [one])[0] for one in ALL[:24]] == expected[:24]
    assert len(set(map(str, expected))) > 4


def test_a_mode_is_supposed_for_one_question_only(estate: Explored) -> None:
    """The index is shared, what is supposed is not."""
    one = {"source": "shop-prod-web-1", "destination": "crm-prod-db-1", "service": "tcp/22"}
    before = told(estate, [one])
    assert {told(estate, [one], as_mode=mode)[0][0] for mode in ("enforce", "observe")} == {"blocked", "would-block"}
    assert told(estate, [one]) == before == wanted(estate, [one])


def test_what_changes_is_in_the_next_answer(estate: Explored) -> None:
    """A new version, at once, for questions that were answered before."""
    one = {"source": "shop-prod-web-2", "destination": "shop-prod-api-1", "service": "tcp/8080"}
    assert told(estate, [one])[0][1] == "shop/calls"
    controller, run = estate.served.controller, estate.served.run
    files = {"shop.yaml": SHOP.replace("name: calls", "name: renamed")}
    run(controller.versions.publish(Draft(files, 1), by=ROOT))
    run(controller.rollouts.load())
    assert told(estate, [one])[0][1] == "shop/renamed"


def test_only_little_is_answered_at_once(estate: Explored) -> None:
    """Words and selectors, which may stand for thousands, many questions, and services that nobody asked about yet are
    left to a thread."""
    ground = estate.served.controller.studies.grounds.now()
    ground.points.clear()
    plain = Question("shop-prod-web-1", "shop-prod-api-1", "tcp/8080")
    assert asking.decide_at_once(ground, [plain]) is None
    asking.decide_now(ground, [plain])
    assert asking.decide_at_once(ground, [plain]) is not None
    assert asking.decide_at_once(ground, [plain] * 9) is None
    assert asking.decide_at_once(ground, [Question("env=dev", "shop-prod-api-1", "tcp/8080")]) is None
    with ground.lock:
        assert asking.decide_at_once(ground, [plain]) is None
