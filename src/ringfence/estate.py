"""An estate: one directory with `ringfence.toml`, `inventory/`, `policies/` and `.ringfence/` (its data).

Reads files and hands the core values. INVARIANT: nothing wrong is dropped: every finding of every file is kept,
and a world is only built from files without errors. It decides nothing.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Literal, NoReturn

import msgspec

from ringfence.core.errors import FindingsError, InputError, Location, errors_among
from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import Mode
from ringfence.core.insight.parties import LabelKeys
from ringfence.core.net.address import parse_cidr
from ringfence.core.net.intervals import union
from ringfence.core.net.service import WELL_KNOWN, parse_service
from ringfence.core.policy.model import Policy
from ringfence.core.policy.parse import Parsed, parse_policies
from ringfence.core.world import Answer, Failsafe, World
from ringfence.inventory.files import Loaded, load_paths

CONFIG = "ringfence.toml"
POLICY_SUFFIXES = (".yaml", ".yml")


class FailsafeEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[[failsafe]]`: what always passes, whatever policy says. Shown in every plan."""

    direction: Literal["in", "out"]
    cidr: str
    service: str


class IdentitySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[identity]`."""

    ignore: tuple[str, ...] = ()
    """Label keys that make no identities and may not be selected on."""


class FlowSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[flows]`: how long observed traffic is kept, and which network a source's addresses belong to."""

    max_days: int = 90
    max_bytes: int = 10_000_000_000
    networks: dict[str, str] = {}
    """VPC id -> network, for sources that name the VPC."""


class LabelSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[labels]`: which keys mean the application, its environment and a role in it; found by convention if unset."""

    application: str | None = None
    environment: str | None = None
    role: str | None = None


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of `ringfence.toml`; every key is optional."""

    identity: IdentitySettings = IdentitySettings()
    flows: FlowSettings = FlowSettings()
    labels: LabelSettings = LabelSettings()
    failsafe: tuple[FailsafeEntry, ...] = ()
    names: dict[str, tuple[str, ...]] = {}
    """DNS name -> addresses, for `to: api.example.com` where no resolver feeds the estate."""


@dataclass(frozen=True)
class Estate:
    """A directory of files, read once."""

    root: Path

    @staticmethod
    def find(start: Path) -> Estate:
        """The estate of a directory, found upwards like git. Raises InputError `no-estate`."""
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
        path = self.root / CONFIG
        if not path.is_file():
            return Settings()
        try:
            return msgspec.convert(tomllib.loads(path.read_text("utf-8")), Settings)
        except (tomllib.TOMLDecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
            _refuse_settings(path, error)

    @cached_property
    def failsafe(self) -> tuple[Failsafe, ...]:
        return tuple(self._failsafe(entry) for entry in self.settings.failsafe)

    def _failsafe(self, entry: FailsafeEntry) -> Failsafe:
        try:
            words = WELL_KNOWN.get(entry.service, entry.service).split()
            return Failsafe(entry.direction, parse_cidr(entry.cidr), union(parse_service(word) for word in words))
        except ValueError as error:
            _refuse_settings(self.root / CONFIG, error)

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
        folder = self.root / "inventory"
        return load_paths([folder]) if folder.is_dir() else Loaded()

    @cached_property
    def inventory(self) -> Inventory:
        """The inventory. Raises FindingsError when a file has an error."""
        if errors_among(self.loaded.findings):
            raise FindingsError(self.loaded.findings)
        return Inventory(self.loaded.workloads, ignore=self.settings.identity.ignore)

    def policy_files(self) -> list[Path]:
        folder = self.root / "policies"
        return (
            sorted(p for p in folder.rglob("*") if p.suffix in POLICY_SUFFIXES and p.is_file())
            if folder.is_dir()
            else []
        )

    def parse(self, paths: list[Path] | None = None) -> Parsed:
        """The estate's policies, or those of the paths (files and folders), with their findings."""
        files = self.policy_files() if paths is None else expand(paths)
        return parse_policies({self.shown(file): read(file) for file in files}, ignore=self.settings.identity.ignore)

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
            names=self._names(),
            at=at or datetime.now(UTC),
            as_mode=as_mode,
        )

    def _names(self) -> dict[str, tuple[Answer, ...]]:
        try:
            names = self.settings.names.items()
            return {name: (Answer(tuple(parse_cidr(a).ranges[0][0] for a in addresses)),) for name, addresses in names}
        except ValueError as error:
            _refuse_settings(self.root / CONFIG, error)

    def shown(self, path: Path) -> str:
        """A path as people would write it: relative to the estate where it is inside."""
        resolved = path.resolve()
        return str(resolved.relative_to(self.root)) if resolved.is_relative_to(self.root) else str(path)


def expand(paths: list[Path]) -> list[Path]:
    """Files and folders -> policy files. Raises InputError `missing-file`."""
    out: list[Path] = []
    for path in paths:
        if not path.exists():
            raise InputError("missing-file", f"`{path}` does not exist", where=Location(str(path)))
        out += (
            sorted(p for p in path.rglob("*") if p.suffix in POLICY_SUFFIXES and p.is_file())
            if path.is_dir()
            else [path]
        )
    return out


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(
            "unreadable-file", f"cannot read `{path}`: {error.strerror}", where=Location(str(path))
        ) from error


def _refuse_settings(path: Path, error: Exception) -> NoReturn:
    message = str(error).replace("\n", " ")
    raise InputError(
        "bad-settings",
        message[:1].lower() + message[1:],
        where=Location(str(path)),
        help="see docs/reference/settings.md",
    ) from error
