"""The entries of `tests:` -> Expectations."""

from __future__ import annotations

from ringfence.core.policy.bodies import BodyReader
from ringfence.core.policy.definitions import Draft, read_optional
from ringfence.core.policy.model import Expectation
from ringfence.core.policy.texts import Expected, read_expect, read_process
from ringfence.core.policy.times import read_moment
from ringfence.core.policy.yaml import Mapping, Node

TEST_KEYS = frozenset({"name", "from", "to", "service", "expect", "at", "mutual_tls", "from_process", "to_process"})


class ExpectationReader:
    """Reads the tests of one policy."""

    def __init__(self, draft: Draft, bodies: BodyReader) -> None:
        self.draft = draft
        self.report = draft.report
        self.bodies = bodies
        self._lines: dict[str, int] = {}

    def read(self, node: Node) -> Expectation | None:
        self.report.subject = self.draft.vocabulary.policy
        before = len(self.report.findings)
        mapping = self.report.mapping(node, "a test")
        if mapping is None:
            return None
        self.report.keys(mapping, TEST_KEYS, "a test")
        name, expect, at = self._name(mapping), self._expect(mapping), self._at(mapping)
        mutual_tls = self.report.boolean(mapping.get("mutual_tls"), "`mutual_tls`")
        from_process, to_process = (self._process(mapping, key) for key in ("from_process", "to_process"))
        body = self.bodies.read(mapping, "a test", None)
        implied = self.bodies.implied_process(body, to_process) if body else None
        if body is None or expect is None or len(self.report.findings) > before:
            return None
        return Expectation(
            sources=body.sources,
            destinations=body.destinations,
            services=body.services.services,
            service_words=body.services.words,
            expect=expect,
            mutual_tls=mutual_tls,
            from_process=from_process,
            to_process=to_process or implied,
            at=at,
            name=name,
            is_process_implied=implied is not None,
            is_any_written=body.is_any_written,
            where=self.report.at(mapping),
            comments=self.draft.margins.of(mapping),
        )

    def _name(self, mapping: Mapping) -> str:
        name = read_optional(self.report, mapping, "name")
        if name and name in self._lines:
            node = mapping.entries["name"][1]
            self.report.error("duplicate-name", node, f"`{name}` is already the test on line {self._lines[name]}")
        self._lines.setdefault(name, mapping.line)
        return name

    def _expect(self, mapping: Mapping) -> Expected | None:
        node = mapping.get("expect")
        if node is None:
            self.report.missing(mapping, "expect", "a test", "add `expect: allowed` or `expect: blocked`")
            return None
        text = self.report.text(node, "`expect`")
        return read_expect(self.report, node, text) if text else None

    def _at(self, mapping: Mapping) -> str | None:
        text = read_optional(self.report, mapping, "at")
        return read_moment(self.report, mapping.entries["at"][1], text) if text else None

    def _process(self, mapping: Mapping, key: str) -> str | None:
        text = read_optional(self.report, mapping, key)
        return read_process(self.report, mapping.entries[key][1], text) if text else None
