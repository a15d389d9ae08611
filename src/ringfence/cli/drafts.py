"""Recommended policies as files: each where it belongs, and nobody's work overwritten.

INVARIANT: a file is replaced only if it is the one the policy was read from, or already says the same; otherwise
nothing at all is written. Every file is checked before the first is written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

import msgspec

from ringfence.cli.session import write_file
from ringfence.cli.tables import count
from ringfence.core.errors import InputError, Location
from ringfence.core.policy.model import Policy
from ringfence.estate import CONFIG, POLICY_SUFFIXES, Estate, read
from ringfence.wire.explore import RuleProposal

Change = Literal["new", "extended", "replaced", "unchanged"]


class Draft(msgspec.Struct, frozen=True):
    """One policy on its way to a file."""

    policy: str
    file: str
    change: Change
    added_rules: int
    text: str = ""

    def __str__(self) -> str:
        rules = count(self.added_rules, "rule")
        words = {
            "new": f"wrote {self.file}: {rules}",
            "extended": f"extended {self.file}: {rules} added to policy `{self.policy}`",
            "replaced": f"replaced {self.file}",
            "unchanged": f"{self.file} says so already",
        }
        return words[self.change]


def plan_drafts(
    estate: Estate, folder: Path, policies: Sequence[Policy], texts: Mapping[str, str], *, force: bool
) -> list[tuple[Path, Draft]]:
    """Where each policy goes. Raises InputError `policy-file-taken`, `policy-file-shared`."""
    existing = {policy.name: policy for policy in estate.policies}
    return [_plan(estate, folder, policy, existing, texts[policy.name], force=force) for policy in policies]


def plan_proposals(
    folder: Path,
    proposals: Sequence[RuleProposal],
    added: Mapping[str, int],
    in_force: Mapping[int, Mapping[str, str]],
    *,
    force: bool,
) -> list[tuple[Path, Draft]]:
    """Where a controller's files go, below `folder`; one that says what its version says is extended.

    `added`: rules that a policy gets; `in_force`: version -> its files. Raises InputError `policy-file-taken`,
    `not-a-policy`.
    """
    texts: dict[str, str] = {}
    for one in proposals:
        demand_inside(folder, one.file)
        if texts.setdefault(one.file, one.text) != one.text:
            raise InputError("policy-file-shared", f"two texts are proposed for `{one.file}`", help="report this")
    return [
        _plan_proposal(folder, one, added.get(one.policy, 0), in_force.get(one.base, {}).get(one.file), force=force)
        for one in proposals
    ]


def _plan_proposal(
    folder: Path, one: RuleProposal, added: int, in_force: str | None, *, force: bool
) -> tuple[Path, Draft]:
    path = folder / one.file
    there = read(path) if path.exists() else None
    change: Change
    if there is None:
        change = "new"
    elif there == one.text.encode():
        change = "unchanged"
    elif in_force is not None and there == in_force.encode():
        change = "extended"
    elif force:
        change = "replaced"
    else:
        first = "" if one.is_new else f"`ringfence pull {one.base}` first, "
        help_ = f"{first}choose another folder with -o, move the file away, or --force to replace it"
        message = f"`{path}` is there already and says something else than version {one.base}"
        raise InputError("policy-file-taken", message, help=help_, where=Location(str(path)))
    return path, Draft(one.policy, str(path), change, added, one.text)


def demand_inside(root: Path, name: str) -> None:
    """A controller names policies, and nothing outside of where they belong. Raises InputError `not-a-policy`."""
    path = PurePosixPath(name)
    is_plain = name.isprintable() and not any(part.startswith((".", "/")) for part in path.parts)
    if not is_plain or (path.suffix.lower() not in POLICY_SUFFIXES and name != CONFIG):
        raise InputError("not-a-policy", f"`{name}` is no name of a policy file", help="rename it where it is in force")
    if not (root / name).resolve().is_relative_to(root.resolve()):
        raise InputError("not-a-policy", f"`{name}` would be written outside of `{root}`", help="move what links there")


def write_drafts(planned: Sequence[tuple[Path, Draft]]) -> None:
    """Raises InputError `unwritable-file`."""
    for path, draft in planned:
        if draft.change != "unchanged":
            path.parent.mkdir(parents=True, exist_ok=True)
            write_file(path, draft.text)


def _plan(
    estate: Estate, folder: Path, policy: Policy, existing: Mapping[str, Policy], text: str, *, force: bool
) -> tuple[Path, Draft]:
    old = existing.get(policy.name)
    home = estate.root / old.where.file if old is not None else None
    added = len(policy.rules) - (len(old.rules) if old is not None else 0)
    if home is not None and home.resolve().is_relative_to(folder.resolve()):
        _refuse_shared(home, policy.name, existing)
        return home, Draft(policy.name, estate.shown(home), "extended", added, text)
    path = folder / f"{policy.name}.yaml"
    if not path.exists():
        return path, Draft(policy.name, estate.shown(path), "new", added, text)
    if read(path) == text.encode():
        return path, Draft(policy.name, estate.shown(path), "unchanged", added, text)
    if not force:
        help_ = "choose another folder with -o, move the file away, or --force to replace it"
        message = f"`{estate.shown(path)}` is there already and says something else"
        raise InputError("policy-file-taken", message, help=help_, where=Location(estate.shown(path)))
    return path, Draft(policy.name, estate.shown(path), "replaced", added, text)


def _refuse_shared(home: Path, name: str, existing: Mapping[str, Policy]) -> None:
    """A file of several policies cannot be written as one of them."""
    others = [p.name for p in existing.values() if p.where.file == existing[name].where.file and p.name != name]
    if others:
        message = f"`{home.name}` holds policy `{name}` and `{others[0]}` as well"
        help_ = "give each policy its own file, or choose another folder with -o"
        raise InputError("policy-file-shared", message, help=help_, where=Location(str(home)))
