"""An estate: one directory with `ringfence.toml`, `inventory/`, `policies/` and `.ringfence/` (its data).

Reads files and hands the core values. INVARIANT: nothing wrong is dropped: every finding of every file is kept,
and a world is only built from files without errors. It decides nothing.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import msgspec

from ringfence.core.errors import Finding, FindingsError, InputError, Location, errors_among
from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import Mode
from ringfence.core.insight.parties import LabelKeys
from ringfence.core.policy.model import Policy
from ringfence.core.policy.parse import Parsed, parse_files
from ringfence.core.world import Failsafe, World
from ringfence.inventory.files import Loaded, load_paths
from ringfence.settings import Settings, failsafe_of, names_of, read_settings

CONFIG = "ringfence.toml"
POLICY_SUFFIXES = (".yaml", ".yml")
BESIDE_POLICIES = frozenset({".md", ".txt", ".json"})
"""What may lie beside policies: notes, and the schema for editors."""


@dataclass(frozen=True)
class Estate:
    """A directory of files, read once."""

    root: Path

    @staticmethod
    def find(start: Path) -> Estate:
        """The estate of a directory, found upwards like git. Raises InputError `no-estate`."""
        if not start.is_dir():
            what = "is a file" if start.exists() else "does not exist"
            raise InputError("no-estate", f"`{start}` {what}", help="name a directory with --estate DIR")
        start = start.resolve()
        for folder in (start, *start.parents):
            if any((folder / name).exists() for name in (CONFIG, "policies", "inventory")):
                return Estate(folder)
        raise InputError(
            "no-estate", f"`{start}` is in no estate", help="run `ringfence init` here, or name one with --estate DIR"
        )

    @property
    def data(self) -> Path:
        """`.ringfence/`: flow store and other derived data."""
        return self.root / ".ringfence"

    @cached_property
    def settings(self) -> Settings:
        return read_settings(self.root / CONFIG)

    @cached_property
    def failsafe(self) -> tuple[Failsafe, ...]:
        return failsafe_of(self.settings)

    @cached_property
    def label_keys(self) -> LabelKeys:
        """The keys the settings name, else the conventional ones that some workload carries."""
        found, set_ = LabelKeys.found_in(self.inventory), self.settings.labels
        return LabelKeys(
            set_.application or found.application, set_.environment or found.environment, set_.role or found.role
        )

    @cached_property
    def loaded(self) -> Loaded:
        """The inventory files with their findings."""
        folder = self._folder("inventory")
        loaded = load_paths([folder]) if folder else Loaded()
        return msgspec.structs.replace(loaded, findings=tuple(self._as_shown(f) for f in loaded.findings))

    @cached_property
    def inventory(self) -> Inventory:
        """The inventory. Raises FindingsError when a file has an error."""
        if errors_among(self.loaded.findings):
            raise FindingsError(self.loaded.findings)
        return Inventory(self.loaded.workloads, ignore=self.settings.identity.ignore)

    def policy_files(self) -> list[Path]:
        folder = self._folder("policies")
        return _policies_in(folder) if folder else []

    def _folder(self, name: str) -> Path | None:
        """A folder of the estate, None if there is none. Raises InputError `not-a-folder`."""
        folder = self.root / name
        if folder.exists() and not folder.is_dir():
            raise InputError(
                "not-a-folder", f"`{name}` is a file", help=f"make `{name}` a folder", where=Location(name)
            )
        return folder if folder.is_dir() else None

    def parse(self, paths: list[Path] | None = None) -> Parsed:
        """The estate's policies, or those of the paths (files and folders), with their findings.

        Paths among the estate's own policies may name the segments of the others, so an error there counts too.
        """
        own = self.policy_files()
        files = own if paths is None else expand(paths)
        wanted = {self.shown(file): file for file in files}
        beside = {self.shown(file): file for file in own} if set(wanted) <= {self.shown(file) for file in own} else {}
        texts = {name: read(file) for name, file in (beside | wanted).items()}
        parsed = parse_files(texts, ignore=self.settings.identity.ignore)
        findings = tuple(sorted((f for one in parsed.values() for f in one.findings), key=lambda f: f.sort_key))
        if errors_among(findings):
            return Parsed((), findings)
        return Parsed(tuple(policy for name in wanted for policy in parsed[name].policies), findings)

    @cached_property
    def policies(self) -> tuple[Policy, ...]:
        """The policies. Raises FindingsError when a file has an error."""
        return self.parse().raise_if_errors()

    def world(
        self, *, at: datetime | None = None, policies: tuple[Policy, ...] | None = None, as_mode: Mode | None = None
    ) -> World:
        """Everything a decision depends on, at a time (now, unless given)."""
        return World(
            inventory=self.inventory,
            policies=self.policies if policies is None else policies,
            failsafe=self.failsafe,
            names=names_of(self.settings),
            at=at or datetime.now(UTC),
            as_mode=as_mode,
        )

    def _as_shown(self, finding: Finding) -> Finding:
        where = finding.where
        if not where.file:
            return finding
        there = msgspec.structs.replace(where, file=self.shown(Path(where.file)))
        return msgspec.structs.replace(finding, where=there)

    def shown(self, path: Path) -> str:
        """A path as people would write it: relative to the estate where it is inside."""
        resolved = path.resolve()
        return str(resolved.relative_to(self.root)) if resolved.is_relative_to(self.root) else str(path)


def expand(paths: list[Path]) -> list[Path]:
    """Files and folders -> policy files. Raises InputError `missing-file`."""
    out: list[Path] = []
    for path in paths:
        if not path.exists():
            help_ = "give a policy file, or a folder of them"
            raise InputError("missing-file", f"`{path}` does not exist", where=Location(str(path)), help=help_)
        out += _policies_in(path) if path.is_dir() else [path]
    return out


def _policies_in(folder: Path) -> list[Path]:
    """The policy files below a folder; hidden ones are somebody else's. Raises InputError `dangling-link`,
    `not-a-policy`, `unreadable-file`: a file nobody reads might hold the `forbid` that somebody counts on.
    """
    _check_listed(folder)
    shown = (p for p in sorted(folder.rglob("*")) if not any(x.startswith(".") for x in p.relative_to(folder).parts))
    found = []
    for path in shown:
        if not path.exists():
            help_ = "mend the link or remove it"
            raise InputError("dangling-link", f"`{path}` leads nowhere", where=Location(str(path)), help=help_)
        if path.is_dir() and path.is_symlink():
            help_ = "link its files one by one, or put them here"
            message = f"`{path}` is a link to a folder and would not be read"
            raise InputError("not-a-policy", message, where=Location(str(path)), help=help_)
        if path.is_dir():
            _check_listed(path)
            continue
        if path.suffix.lower() in BESIDE_POLICIES:
            continue
        if path.suffix.lower() not in POLICY_SUFFIXES:
            help_ = f"name it {' or '.join(f'*{x}' for x in POLICY_SUFFIXES)}, or move it elsewhere"
            raise InputError("not-a-policy", f"`{path}` would not be read", where=Location(str(path)), help=help_)
        found.append(path)
    return found


def _check_listed(folder: Path) -> None:
    """`rglob` passes without a word over folders it may not list, and over links to folders."""
    try:
        os.listdir(folder)
    except OSError as error:
        message = f"cannot list `{folder}`: {(error.strerror or str(error)).lower()}"
        help_ = "check its permissions: policies that are not read are not in force"
        raise InputError("unreadable-file", message, where=Location(str(folder)), help=help_) from error


def read(path: Path) -> bytes:
    """Raises InputError `unreadable-file`."""
    try:
        return path.read_bytes()
    except OSError as error:
        message = f"cannot read `{path}`: {(error.strerror or str(error)).lower()}"
        help_ = "check the path and its permissions"
        raise InputError("unreadable-file", message, where=Location(str(path)), help=help_) from error
