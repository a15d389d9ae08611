"""Small texts of the language that are neither peers nor services: processes, requirements, expectations."""

from __future__ import annotations

import re
from typing import Literal

from ringfence.core.policy.report import Report
from ringfence.core.policy.suggest import did_you_mean
from ringfence.core.policy.yaml import Node

MUTUAL_TLS = "mutual-tls"
Expected = Literal["allowed", "blocked"]
_PATH = re.compile(r"/[^\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]*")
"""Absolute paths without characters that hide what they are."""
_UNIT = re.compile(r"[A-Za-z0-9:_.@\\/-]+")
"""Unit names (systemd.unit(5)) and cgroup paths below the root."""


def read_process(report: Report, node: Node, text: str) -> str | None:
    """A systemd unit, a cgroup or an absolute path. Reports `bad-process`."""
    if _PATH.fullmatch(text) or _UNIT.fullmatch(text):
        return text
    report.error("bad-process", node, f"`{text}` is neither a unit nor an absolute path")
    return None


def read_require(report: Report, node: Node, text: str) -> bool | None:
    """`mutual-tls` -> True. Reports `bad-require`."""
    if text == MUTUAL_TLS:
        return True
    report.error("bad-require", node, f"`{text}` is no requirement", f"did you mean `{MUTUAL_TLS}`?")
    return None


def read_expect(report: Report, node: Node, text: str) -> Expected | None:
    """`allowed` or `blocked`. Reports `bad-expect`."""
    if text == "allowed":
        return "allowed"
    if text == "blocked":
        return "blocked"
    help_ = _EXPECT_SYNONYMS.get(text.lower()) or did_you_mean(text, ("allowed", "blocked"))
    report.error("bad-expect", node, f"`{text}` is no expectation", help_)
    return None


_EXPECT_SYNONYMS = {
    word: f"did you mean `{ours}`?"
    for ours, words in {"allowed": ("allow", "accept", "pass"), "blocked": ("block", "deny", "denied", "drop")}.items()
    for word in words
}
