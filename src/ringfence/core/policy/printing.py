"""Policies -> canonical YAML, and `policy fmt`.

INVARIANT: `parse(print(p)) == p` up to locations, and formatting twice is formatting once. Every comment stays, next to
what it was next to; a comment on or inside an item moves above the item.

It prints what was written (segment names, selectors as spelt), not what it resolves to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from ringfence.core.policy.margins import END
from ringfence.core.policy.model import Expectation, Named, Peer, Policy, Rule
from ringfence.core.policy.parse import parse_files
from ringfence.core.policy.scalars import WIDTH, Field, block_text, flow_mapping, plain_or_quoted
from ringfence.core.policy.services import ANY_WORD
from ringfence.core.policy.texts import MUTUAL_TLS
from ringfence.core.policy.yaml import read


def print_policy(policy: Policy) -> str:
    """The policy as one YAML document, ending in a newline."""
    margin = dict(policy.margin)
    head = [*_comments(policy.comments), *_head(policy, margin)]
    groups = [head, *_sections(policy, margin), _comments(margin.get(END, ()))]
    return "\n\n".join("\n".join(group) for group in groups if group) + "\n"


def format_text(text: str, file: str, *, others: Mapping[str, str] | None = None, ignore: Iterable[str] = ()) -> str:
    """The file's text in canonical form. `others` are the estate's other files, whose segments it may name.

    Raises FindingsError if the file has errors: what is not understood is not rewritten.
    """
    parsed = parse_files({**(others or {}), file: text}, ignore=ignore)[file]
    policies = parsed.raise_if_errors()
    if not policies:
        return "".join(f"{line}\n" for line in _comments(comment.text for comment in read(text, file).comments))
    return "---\n".join(map(print_policy, policies))


def _comments(comments: Iterable[str], indent: int = 0) -> list[str]:
    return [f"{' ' * indent}{_comment(text)}" for text in comments]


def _comment(text: str) -> str:
    if not text:
        return "#"
    return f"#{text}" if text[0] in "#!" else f"# {text}"


def _head(policy: Policy, margin: Mapping[str, Sequence[str]]) -> Iterator[str]:
    yield f"policy: {plain_or_quoted(policy.name, in_flow=False)}"
    scope = str(policy.scope) if policy.scope else ""
    for key, value in (("owner", policy.owner), ("because", policy.because), ("scope", scope)):
        yield from _comments(margin.get(key, ()))
        if value:
            yield f"{key}: {block_text(value, 2)}"


def _sections(policy: Policy, margin: Mapping[str, Sequence[str]]) -> Iterator[list[str]]:
    width = max((len(rule.action) for rule in policy.rules), default=0)
    yield _section("segments", "{}", margin, _definitions(policy.segments, _segment))
    yield _section("services", "{}", margin, _definitions(policy.services, _service))
    rules = (line for rule in policy.rules for line in (*_comments(rule.comments, 2), *_rule(rule, width)))
    yield _section("rules", "[]", margin, rules)
    tests = (line for test in policy.tests for line in (*_comments(test.comments, 2), *_test(test)))
    yield _section("tests", "[]", margin, tests)


def _section(key: str, empty: str, margin: Mapping[str, Sequence[str]], lines: Iterable[str]) -> list[str]:
    above, below = _comments(margin.get(key, ())), _comments(margin.get(f"{key}.{END}", ()), 2)
    body = list(lines)
    if not (above or body or below):
        return []
    return [*above, f"{key}:" if body else f"{key}: {empty}", *body, *below]


def _definitions(named: Sequence[Named], fields_of: Callable[[Named], list[Field]]) -> Iterator[str]:
    """`web: role=web` lines, their values aligned. A definition of one field is only its text."""
    keys = [f"{plain_or_quoted(n.name, in_flow=False)}:" for n in named]
    width = max(map(len, keys), default=0)
    for key, n in zip(keys, named, strict=True):
        yield from _comments(n.comments, 2)
        fields = fields_of(n)
        simple = fields[0].flow.partition(": ")[2] if len(fields) == 1 else flow_mapping(fields)
        line = f"  {key:<{width}} {simple}"
        if len(line) <= WIDTH or len(fields) == 1:
            yield line
        else:
            yield f"  {key}"
            yield from (line for field in fields for line in field.block(4))


def _segment(segment: Named) -> list[Field]:
    jewel = [Field("crown_jewel", ("true",), True)] if segment.is_crown_jewel else []
    return [Field("selector", (segment.text,)), *jewel, *_optional("because", segment.because)]


def _service(service: Named) -> list[Field]:
    ports = Field("ports", tuple(service.text.split()))
    return [ports, *_optional("process", service.process), *_optional("because", service.because)]


def _optional(key: str, text: str | None) -> list[Field]:
    return [Field(key, (text,))] if text else []


def _rule(rule: Rule, width: int) -> Iterator[str]:
    conditions = rule.conditions
    lines = [f"name: {plain_or_quoted(rule.name, in_flow=False)}"] if rule.is_named else []
    lines += _body(f"{rule.action}:", width + 1, _rule_fields(rule))
    lines += [f"because: {block_text(rule.because, 6)}"] if rule.because else []
    lines += [f"until: {conditions.until.isoformat()}"] if conditions.until else []
    lines += [f"within: {conditions.within.text}"] if conditions.within else []
    yield from _item(lines)


def _body(key: str, width: int, fields: Sequence[Field]) -> list[str]:
    line = f"{key:<{width}} {flow_mapping(fields)}"
    if len(line) + 4 <= WIDTH:
        return [line]
    return [key, *(line for field in fields for line in field.block(2))]


def _item(lines: Sequence[str]) -> Iterator[str]:
    """The lines as one item of a block list. Lines of a literal text are indented already."""
    for number, line in enumerate(lines):
        first, *rest = line.split("\n")
        yield f"  {'- ' if number == 0 else '  '}{first}"
        yield from rest


def _rule_fields(rule: Rule) -> list[Field]:
    conditions = rule.conditions
    says_service = rule.action == "allow" or rule.is_any_written or rule.service_words != (ANY_WORD,)
    return [
        *_ends(rule.sources, rule.destinations),
        *([Field("service", rule.service_words)] if says_service else []),
        *([Field("require", (MUTUAL_TLS,))] if conditions.mutual_tls else []),
        *_optional("from_process", conditions.from_process),
        *_optional("to_process", None if rule.is_process_implied else conditions.to_process),
    ]


def _test(test: Expectation) -> Iterator[str]:
    says_service = test.is_any_written or test.service_words != (ANY_WORD,)
    fields = [
        *_optional("name", test.name),
        *_ends(test.sources, test.destinations),
        *([Field("service", test.service_words)] if says_service else []),
        Field("expect", (test.expect,)),
        *_optional("at", test.at),
        *([Field("mutual_tls", ("true",), True)] if test.mutual_tls else []),
        *_optional("from_process", test.from_process),
        *_optional("to_process", None if test.is_process_implied else test.to_process),
    ]
    line = f"  - {flow_mapping(fields)}"
    if len(line) <= WIDTH:
        yield line
    else:
        yield from _item([line for field in fields for line in field.block(0)])


def _ends(sources: Sequence[Peer], destinations: Sequence[Peer]) -> list[Field]:
    return [Field("from", tuple(p.text for p in sources)), Field("to", tuple(p.text for p in destinations))]
