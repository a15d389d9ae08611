"""What a recommendation is: policies, and the account of every row that led to them.

INVARIANT: every row has one fate, and the connections of all fates add up to what was given.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from ringfence.core.errors import Finding
from ringfence.core.insight.confidence import Confidence
from ringfence.core.insight.evidence import Evidence
from ringfence.core.insight.leftovers import Leftover
from ringfence.core.policy.model import Policy

Fate = Literal["learned", "already-allowed", "set-aside", "uncovered", "not-selected"]
FATES: tuple[Fate, ...] = ("learned", "already-allowed", "set-aside", "uncovered", "not-selected")
LEARNED, ALREADY, ASIDE, UNCOVERED, NOT_SELECTED = range(len(FATES))

Gap = Literal["", "unlabelled", "needs-consent", "forbidden", "conditional"]
GAPS: tuple[Gap, ...] = ("", "unlabelled", "needs-consent", "forbidden", "conditional")
GAP_MEANING: dict[Gap, tuple[str, str]] = {
    "unlabelled": (
        "an end is a workload without labels, and no rule may pick a workload by what it lacks",
        "label it, then recommend again",
    ),
    "needs-consent": (
        "it goes to an application outside the selection, whose owner must allow it",
        "recommend for that application as well, or ask its owner",
    ),
    "forbidden": (
        "an existing `forbid` stands against it, and no allow lifts that",
        "change the forbid, or stop the traffic",
    ),
    "conditional": (
        "an existing allow covers it under a condition (a time, a process, mutual TLS) that does not hold",
        "change the condition if the traffic is wanted; a rule beside it would undo it",
    ),
}


class Coverage(msgspec.Struct, frozen=True):
    """Connections by what became of them."""

    connections: int
    learned: int
    already_allowed: int
    set_aside: int
    uncovered: int
    not_selected: int

    @property
    def share(self) -> float:
        """Of the connections that call for a rule, those that have one."""
        wanted = self.learned + self.already_allowed + self.uncovered
        return 1.0 if not wanted else (wanted - self.uncovered) / wanted


class Permission(msgspec.Struct, frozen=True):
    """How much wider than the traffic the rules are: workload pairs and services, core services and addresses
    apart."""

    permitted: int
    seen: int

    @property
    def precision(self) -> float:
        return 1.0 if not self.permitted else self.seen / self.permitted


@dataclass(frozen=True)
class Recommendation:
    """Policies with everything needed to judge them."""

    policies: tuple[Policy, ...]
    """Ready to print; an existing policy of the same scope comes back extended."""
    evidence: tuple[Evidence, ...]
    """One per new rule, policy by policy, in the rules' order."""
    set_aside: tuple[Leftover, ...]
    uncovered: tuple[Leftover, ...]
    coverage: Coverage
    permission: Permission
    confidence: Confidence
    """Of everything together."""
    by_policy: tuple[Confidence, ...]
    findings: tuple[Finding, ...]
    fate: NDArray[np.uint8]
    """Per row of the conversations: index into FATES."""
    reason: NDArray[np.uint8]
    """Per row: index into `noise.ASIDE` where set aside, into GAPS where uncovered, else 0."""
    rule: NDArray[np.int32]
    """Per row: index into `evidence` of the rule it stands behind, -1 for none."""
