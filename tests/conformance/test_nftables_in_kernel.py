"""Oracle = nftables tables as read back from a kernel: every case file, and generated worlds."""

from __future__ import annotations

import itertools
import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from conformance.case_hearings import REFUSED_WHOLE, Heard, case_hearings, disagreements
from conformance.random_hearings import differences, questions, shown
from conformance.realised import Estate, InKernel, is_accepted, on_paper

from ringfence.core.errors import FindingsError
from ringfence.core.intent.model import Intent

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can make network namespaces"),
]
WORLDS, QUESTIONS = 40, 10
FIRST_SEED = 10_000
"""Other worlds than those judged on paper."""
_numbers = itertools.count()


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[InKernel]:
    """One namespace whose table turns into one host's after another's; control groups are directories here."""
    name = f"rfc{os.getpid()}x{next(_numbers)}"
    subprocess.run(["ip", "netns", "add", name], check=True, timeout=30)
    try:
        yield InKernel(name, tmp_path)
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True, timeout=30)


def test_every_case_is_read_back_as_it_is_decided(kernel: InKernel) -> None:
    """Each host's table is applied over the one before, proven equal by read-back, and gives the wanted verdict."""
    heard, _ = case_hearings()
    assert list(disagreements([question for question in heard if question.about not in REFUSED_WHOLE], kernel)) == []


def test_what_would_open_by_lapse_is_refused_and_nothing_else(kernel: InKernel) -> None:
    """Exactly the hosts of the probes that are left out are refused, by code."""
    heard, _ = case_hearings()
    refused = {question.about for question in heard if not all(map(is_accepted, intents_of(question)))}
    for question in (question for question in heard if question.about in REFUSED_WHOLE):
        with pytest.raises(FindingsError) as error:
            list(map(kernel, intents_of(question)))
        assert error.value.code == "process-part-narrower"

    assert refused == REFUSED_WHOLE.keys()


def intents_of(question: Heard) -> list[Intent]:
    estate = Estate(question.world, on_paper)
    return [estate.intent(hearing.host) for hearing in question.hearings]


def test_generated_worlds_are_read_back_as_they_are_decided(kernel: InKernel) -> None:
    """Verdict, step and rule of 300 decisions and more about 40 worlds are those of the oracle."""
    unheard: Counter[str] = Counter()
    judged = 0
    for seed in range(FIRST_SEED, FIRST_SEED + WORLDS):
        asked = list(questions(seed, QUESTIONS, unheard))
        judged += sum(len(question.hearings) for question in asked)
        for question, differs in differences(asked, kernel):
            pytest.fail(f"read back: {differs}\n{shown(question, differs, on_paper)}")
    print(f"{judged} decisions; not asked: {dict(unheard)}")
    assert judged >= 300
