"""`ringfence pull`: the policies in force as files of an estate, so that nobody types again what was made in the UI.

INVARIANT: a file that says something else is never replaced unless --force means it, and nothing is deleted; nothing is
written outside the estate, whatever a controller names its files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
import typer

from ringfence.cli.drafts import demand_inside
from ringfence.cli.remote import fleet
from ringfence.cli.session import CLEAN, FINDINGS, Session, write_file
from ringfence.cli.tables import Rows
from ringfence.client.client import Client
from ringfence.core.errors import InputError
from ringfence.estate import CONFIG, Estate, read

Became = Literal["written", "replaced", "unchanged", "differs", "not in force"]
POLICIES = "policies"


class Pulled(msgspec.Struct, frozen=True):
    """What became of one file."""

    file: str
    """From the estate's root."""
    became: Became


def register(app: typer.Typer) -> None:
    """Add the command to the root."""
    fleet(app, "pull", epilog="Example: ringfence pull --estate my-estate")(pull)


def pull(
    session: Session,
    client: Client,
    version: Annotated[
        int | None, typer.Argument(metavar="[VERSION]", help="That one.", show_default="the newest")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that say something else.")] = False,
) -> int:
    """Write the policies and settings of the newest version into the estate here (or in --estate DIR).

    A file that says something else is left as it is unless --force replaces it, and what is not in force is named.
    Exit 1 when the estate says something else in the end.
    """
    text = client.version(_newest(client) if version is None else version)
    root = _root(session.folder)
    wanted = {f"{POLICIES}/{name}": content for name, content in text.files.items()}
    wanted |= {CONFIG: text.settings} if text.settings else {}
    for name in wanted:
        demand_inside(root, name)
    pulled = [_pull(root, name, content, force=force) for name, content in sorted(wanted.items())]
    pulled += [Pulled(name, "not in force") for name in _others(root, wanted)]
    table = Rows(("file", f"version {text.number}"))
    for one in pulled:
        table.add(one.file, one.became)
    if any(one.became == "differs" for one in pulled):
        session.warn("what differs was left as it is; --force replaces it")
    session.emit({"version": text.number, "estate": str(root), "files": pulled}, table)
    return FINDINGS if any(one.became in ("differs", "not in force") for one in pulled) else CLEAN


def _newest(client: Client) -> int:
    """Raises InputError `unknown-version`."""
    newest = next(iter(client.versions(limit=1)), None)
    if newest is None:
        raise InputError("unknown-version", "nothing was published yet", help="`ringfence apply` publishes")
    return newest.number


def _root(folder: Path) -> Path:
    """The estate of a folder; else the folder itself becomes one."""
    try:
        return Estate.find(folder).root
    except InputError:
        if folder.exists() and not folder.is_dir():
            raise
        return folder


def _pull(root: Path, name: str, content: str, *, force: bool) -> Pulled:
    path = root / name
    is_there = path.exists()
    if is_there and read(path) == content.encode():
        return Pulled(name, "unchanged")
    if is_there and not force:
        return Pulled(name, "differs")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, content)
    return Pulled(name, "replaced" if is_there else "written")


def _others(root: Path, wanted: dict[str, str]) -> list[str]:
    """What `ringfence apply` would add."""
    found = [str(path.relative_to(root)) for path in Estate(root).policy_files()]
    found += [CONFIG] if (root / CONFIG).exists() else []
    return sorted(set(found) - wanted.keys())
