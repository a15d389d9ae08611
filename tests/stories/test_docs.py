"""The documentation, executed: every file in it is read, every command runs and prints what it is shown to print."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer
from story import blocks_of, play, steps_of

from ringfence.agent.main import parser
from ringfence.cli.main import app
from ringfence.codes import AREAS
from ringfence.core.net.service import WELL_KNOWN
from ringfence.core.policy import conditions, definitions, expectations, rules
from ringfence.core.policy.model import WORDS
from ringfence.core.policy.yaml import read
from ringfence.inventory.files import csv_reader, label_rules, yaml_reader

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
ELSEWHERE = {"cli.md", "codes.md", "json.md", "settings.md"}
"""Reference pages held against the program by tests/cli/test_reference_pages.py."""
PAGES = sorted(
    page
    for folder in ("tutorial", "howto", "explanation", "reference")
    for page in (DOCS / folder).glob("*.md")
    if page.name not in ELSEWHERE
)
EVERY = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
LINK = re.compile(r"\]\(([^)#\s]+)(?:#([^)\s]+))?\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(DOCS)))
def test_the_page_tells_what_the_program_does(page: Path, tmp_path: Path) -> None:
    """Its files are written, its commands run in order, and each shown line is printed, in the order shown."""
    wrong = play(page, tmp_path)

    assert not wrong, "\n\n".join(wrong)


def test_a_page_that_lies_is_noticed(tmp_path: Path) -> None:
    """The test itself bites: a wrong line, a wrong order and a wrong exit code are each told."""
    page = tmp_path / "page.md"
    page.write_text("```console\n$ printf 'a\\nb\\n'\nb\na\n$ echo c\nd\n$ exit 7\n$ echo fine\nfine\n```\n")

    wrong = play(page, tmp_path / "lies")

    assert [text.splitlines()[0] for text in wrong] == ["$ printf 'a\\nb\\n'", "$ echo c", "$ exit 7"]


def test_an_example_nobody_runs_is_refused(tmp_path: Path) -> None:
    """A YAML block without a file's name could say anything."""
    page = tmp_path / "page.md"
    page.write_text("```yaml\npolicy: x\n```\n")

    with pytest.raises(AssertionError, match="not executable"):
        blocks_of(page)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(DOCS)))
def test_files_shown_are_yaml_and_root_commands_exist(page: Path) -> None:
    """Every YAML file parses; a command that is not run here exists, with every option it is given."""
    for block in blocks_of(page):
        if block.kind == "yaml":
            assert not read(block.text, block.info).findings
        if (block.kind, block.info) == ("console", "root"):
            for step in steps_of(block):
                _is_command(step.command)


def _is_command(text: str) -> None:
    words = text.removeprefix("sudo ").split()
    if words[0] in ("ringfence-agent", "systemctl"):
        assert words[0] == "systemctl" or _is_agents(words[1:]), text
        return
    assert words.pop(0) == "ringfence", text
    command = typer.main.get_command(app)
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]  # type: ignore[attr-defined]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    assert {word.partition("=")[0] for word in words if word.startswith("-")} <= known, text


def _is_agents(words: list[str]) -> bool:
    """Whether the agent's own program takes these words."""
    return bool(vars(parser().parse_args(words)))


@pytest.mark.parametrize("page", EVERY, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    """Relative links name files that are there, and headings that are in them."""
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    for target, heading in LINK.findall(text):
        if not target.startswith(("http:", "https:", "mailto:")):
            there = page.parent / target
            assert there.exists(), target
            assert not heading or heading in _headings(there), f"{target}#{heading}"


def _headings(page: Path) -> set[str]:
    heads = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def test_every_page_is_in_the_index() -> None:
    """docs/README.md leads to every page."""
    linked = {(DOCS / target).resolve() for target, _ in LINK.findall((DOCS / "README.md").read_text("utf-8"))}

    assert [str(p) for p in [*PAGES, *(DOCS / "reference").glob("*.md")] if p.resolve() not in linked] == []


LANGUAGE = {
    "keys of a policy": definitions.POLICY_KEYS | definitions.SEGMENT_KEYS | definitions.SERVICE_KEYS,
    "keys of a rule": rules.RULE_KEYS | rules.BODY_KEYS | conditions.CONDITION_KEYS,
    "keys of a test": expectations.TEST_KEYS,
    "words for peers": frozenset(WORDS) | {"global:"},
    "services": frozenset(WELL_KNOWN),
}
INVENTORY = {
    "keys of a workload": frozenset(yaml_reader.KEYS) | frozenset(yaml_reader.ADDRESS_KEYS),
    "columns": frozenset(csv_reader.COLUMNS) | {"label:KEY"},
    "label rules": frozenset((*label_rules.RULE_KEYS, *label_rules.WHEN_KEYS, *label_rules.ATTRIBUTES)),
}


@pytest.mark.parametrize("what", [*LANGUAGE, *INVENTORY])
def test_the_language_page_has_every_word(what: str) -> None:
    """A word of the language or a column of the inventory that the reader knows is on its page, in backticks."""
    page = DOCS / "reference" / ("language.md" if what in LANGUAGE else "inventory.md")
    told = set(re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)))

    assert sorted((LANGUAGE | INVENTORY)[what] - told) == []


@pytest.mark.parametrize("page", [p for p in EVERY if "adr" not in p.parts], ids=lambda p: str(p.relative_to(ROOT)))
def test_codes_that_pages_name_exist(page: Path) -> None:
    """`error[some-code]` in a page is a code of the product."""
    known = {code for codes in AREAS.values() for code in codes}

    assert set(re.findall(r"(?:error|warning|info)\[([a-z-]+)\]", page.read_text("utf-8"))) <= known
