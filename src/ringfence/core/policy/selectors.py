"""Selector text as it stands in a policy -> Selector, with its faults as findings."""

from __future__ import annotations

from collections.abc import Iterable

from ringfence.core.labels.selector import Selector, meant_by, parse_selector
from ringfence.core.policy.report import Report
from ringfence.core.policy.vocabulary import is_possible, join
from ringfence.core.policy.yaml import Node


def read_selector(report: Report, node: Node, text: str, ignore: frozenset[str]) -> Selector | None:
    """Text -> Selector. Reports `empty-selector`, `bad-selector`, `impossible-selector` or `ignored-label-key`."""
    if not text.strip():
        report.error("empty-selector", node, "the selector is empty")
        return None
    try:
        selector = parse_selector(text)
    except ValueError as error:
        meant = meant_by(text)
        report.error("bad-selector", node, str(error), *([f"did you mean `{meant}`?"] if meant else []))
        return None
    ignored = sorted(selector.keys & ignore)
    if ignored:
        report.error("ignored-label-key", node, f"`{text}` tests `{ignored[0]}`, a key that makes no identities")
        return None
    if not selector.is_satisfiable:
        report.error("impossible-selector", node, f"no workload can match `{text}`", "remove one of its requirements")
        return None
    return selector


def read_joined(
    report: Report, node: Node, text: str, selectors: Iterable[Selector], scope: Selector | None
) -> tuple[Selector, ...] | None:
    """The selectors joined with the scope. Reports `impossible-selector` where the scope excludes them."""
    joined = join(*selectors, scope)
    if is_possible(joined):
        return joined
    message = f"no workload of the scope `{scope}` can match `{text}`"
    report.error("impossible-selector", node, message, f'did you mean "global: {text}", which leaves the scope?')
    return None
