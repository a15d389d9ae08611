"""Inventory files -> workloads: CSV, JSON and YAML, many files as one inventory, with the label rules beside them.

Every fault is a finding with file, line and column, all of them at once. Two files are one inventory: a name may stand
in one of them only, and a process in one may run on a host in another.

INVARIANT: the workloads and findings do not depend on the order of the paths, but for the order of the workloads.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec

from ringfence.core.errors import Finding, FindingsError, Location, errors_among
from ringfence.core.identity.workload import Workload
from ringfence.inventory.files.csv_reader import csv_drafts
from ringfence.inventory.files.draft import Draft, Findings
from ringfence.inventory.files.label_rules import Given, LabelRule, apply_label_rules, parse_label_rules
from ringfence.inventory.files.together import compile_together, place
from ringfence.inventory.files.workloads import compile_workload
from ringfence.inventory.files.yaml_reader import yaml_drafts

READERS: dict[str, Callable[[str, str, Findings], list[Draft]]] = {
    ".csv": csv_drafts,
    ".tsv": csv_drafts,
    ".json": yaml_drafts,
    ".yaml": yaml_drafts,
    ".yml": yaml_drafts,
}
"""File suffix -> reader."""
LABEL_RULES = frozenset({"label-rules.yaml", "label-rules.yml", "label-rules.json"})
"""File names that hold label rules, not workloads."""


class Loaded(msgspec.Struct, frozen=True):
    """What the files say. Ask `raise_if_errors` before anything is published: a workload with an error is not in it."""

    workloads: tuple[Workload, ...] = ()
    findings: tuple[Finding, ...] = ()
    drafts: dict[str, Draft] = {}
    """Workload name -> its entry as written."""
    given: Given = {}

    def raise_if_errors(self) -> Loaded:
        """Itself. Raises FindingsError where any finding is an error."""
        if errors_among(self.findings):
            raise FindingsError(self.findings)
        return self

    def why(self, workload: str, key: str) -> str:
        """One sentence on where a workload's label comes from, or why it has none."""
        found = next((w for w in self.workloads if workload in (w.name, w.uuid)), None)
        if found is None:
            return f"no inventory file names `{workload}`"
        label = f"{key}={found.labels[key]}" if key in found.labels else None
        written = next((value for k, value in self.drafts[found.name].labels if k.value == key), None)
        if written is not None:
            return f"`{label}` is written at {self.drafts[found.name].place(written)}"
        rules = " and ".join(rule.text for rule in self.given.get((found.name, key), ()))
        if label is not None:
            return f"`{label}` is set by {rules}"
        if rules:
            return f"`{found.name}` has no `{key}`: {rules} disagree"
        if found.kind == "process" and found.host:
            return f"`{found.name}` has what its host has: {self.why(found.host, key)}"
        return f"`{found.name}` has no `{key}`: neither its entry nor a label rule gives one"


def load_workloads(text: str, file: str) -> Loaded:
    """The workloads of one text; `file` names it in findings and its suffix tells the format."""
    findings = Findings()
    return _loaded(_drafts(text, file, findings), (), findings)


def load_paths(paths: Iterable[Path | str]) -> Loaded:
    """The workloads of files and folders (searched for every known suffix), labelled by the rules among them."""
    findings = Findings()
    drafts: list[Draft] = []
    rules: list[LabelRule] = []
    for file in sorted({file for path in paths for file in _files(Path(path), findings)}):
        text = _text(file, findings)
        if text is None:
            continue
        if file.name in LABEL_RULES:
            rules += parse_label_rules(text, str(file), findings)
        else:
            drafts += _drafts(text, str(file), findings)
    return _loaded(drafts, rules, findings)


def _files(path: Path, findings: Findings) -> list[Path]:
    if path.is_dir():
        return [file for file in _below(path, findings) if file.suffix.lower() in READERS and file.is_file()]
    if not path.is_file():
        findings.add("missing-file", f"`{path}` is no file and no folder", Location(str(path)))
        return []
    return [path]


def _below(folder: Path, findings: Findings) -> Iterator[Path]:
    """Everything in a folder. What `rglob` passes over without a word is a finding: a workload that is not read is a
    bare address."""
    _check_listed(folder, findings)
    for path in folder.rglob("*"):
        if path.is_dir() and path.is_symlink():
            message = f"`{path}` is a link to a folder and would not be read"
            findings.add("missing-file", message, Location(str(path)), help="link its files, or put them here")
        elif path.is_dir():
            _check_listed(path, findings)
        yield path


def _check_listed(folder: Path, findings: Findings) -> None:
    try:
        os.listdir(folder)
    except OSError as error:
        findings.add("missing-file", f"cannot list `{folder}`: {error.strerror}", Location(str(folder)))


def _text(path: Path, findings: Findings) -> str | None:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        findings.add("not-utf8", f"byte {error.start + 1} is not UTF-8", Location(str(path)))
    except OSError as error:
        findings.add("missing-file", f"cannot read `{path}`: {error.strerror}", Location(str(path)))
    return None


def _drafts(text: str, file: str, findings: Findings) -> list[Draft]:
    reader = READERS.get(Path(file).suffix.lower())
    if reader is None:
        known = ", ".join(READERS)
        findings.add("unknown-format", f"`{file}` has none of the suffixes {known}", Location(file))
        return []
    before = len(findings.found)
    drafts = reader(text.removeprefix("\ufeff"), file, findings)
    if not drafts and len(findings.found) == before:
        findings.add("empty-inventory", f"`{file}` names no workload", Location(file), severity="warning")
    return drafts


def _loaded(drafts: Iterable[Draft], rules: Iterable[LabelRule], findings: Findings) -> Loaded:
    read = [(draft, workload) for draft in drafts if (workload := compile_workload(draft, findings)) is not None]
    read = list(compile_together(read, findings))
    workloads, given = apply_label_rules([workload for _, workload in read], tuple(rules), findings)
    named = {draft.texts["name"].value: draft for draft, _ in read}
    _check_labelled(workloads, named, findings)
    return Loaded(workloads, tuple(sorted(findings.found, key=lambda f: f.sort_key)), named, given)


def _check_labelled(workloads: Iterable[Workload], drafts: dict[str, Draft], findings: Findings) -> None:
    """A process has its host's labels, so only the others need their own."""
    for workload in workloads:
        if not workload.labels and workload.kind != "process":
            message = f"`{workload.name}` has no labels"
            where = place(drafts[workload.name])
            findings.add("unlabelled", message, where, subject=workload.name, severity="warning")
