"""Findings as people read them: place, code, what, and what to do next."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.text import Text

from ringfence.core.errors import Finding

_STYLE = {"error": "bold red", "warning": "yellow", "info": "cyan"}


def findings_table(findings: Iterable[Finding]) -> RenderableType:
    """One block a finding, in the order of files and lines."""
    return Group(*(_block(finding) for finding in sorted(findings, key=lambda f: f.sort_key)))


def _block(finding: Finding) -> Text:
    text = Text()
    text.append(f"{finding.severity}", _STYLE[finding.severity])
    text.append(f"[{finding.code}] ", "dim")
    text.append(finding.message)
    if finding.subject and finding.subject not in finding.message:
        text.append(f"  ({finding.subject})", "dim")
    if str(finding.where):
        text.append(f"\n  at {finding.where}", "dim")
    if finding.help:
        text.append(f"\n  help: {finding.help}", "green")
    return text


def summary(findings: Iterable[Finding]) -> str:
    """`2 errors, 1 warning` or `no findings`."""
    counts: dict[str, int] = {}
    for finding in findings:
        counts[finding.severity] = counts.get(finding.severity, 0) + 1
    words = [f"{n} {s}{'s' if n > 1 and s != 'info' else ''}" for s in _STYLE if (n := counts.get(s, 0))]
    return ", ".join(words) or "no findings"
