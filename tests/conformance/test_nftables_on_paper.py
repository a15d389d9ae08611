"""Oracle = rendered nftables table, run and read on paper: every case file, and generated worlds. Needs no root."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest
from conformance.case_hearings import Heard, case_hearings, disagreements
from conformance.hearings import REASONS, REFUSED
from conformance.random_hearings import differences, questions, shown
from conformance.realised import Estate, on_paper

from ringfence.core.decide import decide
from ringfence.core.identity.workload import Mode
from ringfence.core.intent.model import Intent

BLOCKS, WORLDS, QUESTIONS = 4, 60, 12
UNHEARD = {
    "conditions/all of them must hold [1]": "mutual-tls",
    "conditions/all of them must hold [2]": "mutual-tls",
    "essential/loopback passes although everything is forbidden [3]": "families",
    "essential/neighbour and router discovery and MLD pass [2]": "no-packet",
    "fqdn/a wildcard matches every name below it [3]": "name",
    "fqdn/a wildcard matches every name below it [4]": "name",
    "fqdn/a wildcard matches every name below it [5]": "name",
    "fqdn/a wildcard matches every name below it [6]": "name",
    "fqdn/asked by name the name itself matches [1]": "name",
    "fqdn/asked by name the name itself matches [2]": "name",
    "fqdn/names are compared without regard to case, and a final dot adds nothing [1]": "name",
    "mutual-tls/a second allow without it passes [2]": "mutual-tls",
    "mutual-tls/it passes when the peer proved itself [1]": "mutual-tls",
    "networks/internet leaves out workloads of the network in question [1]": "holder",
    "processes/it may have a mode of its own [1]": "process-mode",
    "quarantine/of a process binds that process on its own host [1]": "process-quarantine",
    "quarantine/of a process binds that process on its own host [2]": "process-quarantine",
}
"""The probes that no packet can ask, and why (`REASONS`)."""


def test_every_case_is_realised_as_it_is_decided() -> None:
    """Verdict, step and rule of every controlled end, and their sum, are those each case wants of every probe."""
    heard, _ = case_hearings()
    assert len(heard) >= 490
    assert list(disagreements(heard, on_paper)) == []


def test_the_probes_that_no_packet_can_ask_are_exactly_these() -> None:
    """None is left out without its reason; one that can be asked after all leaves the list."""
    _, silent = case_hearings()
    for probe in silent:
        print(f"{probe.about}: {probe.unheard}")
    assert {probe.about: probe.unheard.reason for probe in silent} == UNHEARD


def test_what_a_host_cannot_check_it_refuses_by_code() -> None:
    """A probe that turns on a proven identity, or on a process's own mode or quarantine, is refused by its host."""
    _, silent = case_hearings()
    refusing = [probe for probe in silent if probe.unheard.reason in REFUSED]
    assert {probe.unheard.reason for probe in refusing} == set(REFUSED)
    for probe in refusing:
        assert probe.unheard.host is not None
        intent = Estate(probe.world, on_paper).intent(probe.unheard.host)
        assert REFUSED[probe.unheard.reason] in {finding.code for finding in intent.refusals}, probe.about


@pytest.mark.parametrize("block", range(BLOCKS))
def test_generated_worlds_are_realised_as_they_are_decided(block: int) -> None:
    """The realised tables of 240 worlds give the oracle's verdict, step and rule on 2,000 questions and more."""
    unheard: Counter[str] = Counter()
    judged = 0
    for seed in range(block * WORLDS, (block + 1) * WORLDS):
        asked = list(questions(seed, QUESTIONS, unheard))
        judged += sum(len(question.hearings) for question in asked)
        for question, differs in differences(asked, on_paper):
            pytest.fail(shown(question, differs, on_paper))
    print(f"{judged} decisions; not asked: {dict(unheard)}")
    assert judged >= 2000 / BLOCKS
    assert unheard.keys() <= REASONS.keys()


def observing(intent: Intent) -> Intent:
    return msgspec.structs.replace(intent, mode=Mode())


def is_default(question: Heard) -> bool:
    return decide(question.world, question.flow).reason == "default"


def test_an_answer_that_is_wrong_is_noticed() -> None:
    """The comparison bites: were every host to observe, each probe that the default blocks would disagree."""
    heard, _ = case_hearings()
    wrong = [h for h in heard if h.probe.want == "blocked" and is_default(h)]
    assert len(wrong) > 100
    found = list(disagreements(tuple(wrong), lambda intent: on_paper(observing(intent))))
    assert len(found) == len(wrong)
