"""`ringfence.toml`: the settings of an estate, read strictly.

INVARIANT: a key that is not known, or a value that cannot be meant, is refused with its place; nothing is ignored.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import msgspec

from ringfence.core.errors import InputError, Location
from ringfence.core.net.address import parse_address, parse_cidr
from ringfence.core.net.intervals import union
from ringfence.core.net.service import WELL_KNOWN, parse_service
from ringfence.core.policy.suggest import did_you_mean
from ringfence.core.world import Answer, Failsafe

HELP = "docs/reference/settings.md lists every key"
Natural = Annotated[int, msgspec.Meta(ge=0)]


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

    max_days: Natural = 90
    max_bytes: Natural = 10_000_000_000
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


def read_settings(path: Path) -> Settings:
    """The settings in a file; the defaults where there is none. Raises InputError `bad-settings`, `unreadable-file`."""
    try:
        text = path.read_bytes().decode("utf-8")
        return msgspec.convert(tomllib.loads(text), Settings)
    except FileNotFoundError:
        return Settings()
    except OSError as error:
        message = f"cannot read `{path.name}`: {(error.strerror or '').lower()}"
        raise InputError(
            "unreadable-file", message, where=Location(str(path)), help="it must be a text file"
        ) from error
    except UnicodeDecodeError as error:
        refuse(path, f"byte {error.start + 1} of the file is not UTF-8", "save the file as UTF-8")
    except tomllib.TOMLDecodeError as error:
        _refuse_syntax(path, str(error))
    except msgspec.ValidationError as error:
        refuse(path, *_explained(str(error)))


def failsafe_of(settings: Settings, path: Path) -> tuple[Failsafe, ...]:
    """The failsafe list as values. Raises InputError `bad-settings`."""
    return tuple(_failsafe(entry, path) for entry in settings.failsafe)


def _failsafe(entry: FailsafeEntry, path: Path) -> Failsafe:
    try:
        remote = parse_cidr(entry.cidr)
    except ValueError:
        refuse(path, f"`{entry.cidr}` under `failsafe` is not a CIDR", "write it as in `192.0.2.0/28`")
    try:
        words = WELL_KNOWN.get(entry.service, entry.service).split()
        return Failsafe(entry.direction, remote, union(parse_service(word) for word in words))
    except ValueError:
        guess = did_you_mean(entry.service, WELL_KNOWN) or "write it as in `ssh` or `tcp/22`"
        refuse(path, f"`{entry.service}` under `failsafe` is not a service", guess)


def names_of(settings: Settings, path: Path) -> dict[str, tuple[Answer, ...]]:
    """The names as answers that never expire. Raises InputError `bad-settings`."""
    return {name: (Answer(tuple(_addresses(name, texts, path))),) for name, texts in settings.names.items()}


def _addresses(name: str, texts: tuple[str, ...], path: Path) -> Iterator[int]:
    for text in texts:
        try:
            yield parse_address(text)
        except ValueError:
            refuse(
                path, f"`{text}` under `names` for `{name}` is not an address", "write one address, as in `203.0.113.9`"
            )


def refuse(path: Path, message: str, help: str = HELP, *, line: int = 0, column: int = 0) -> NoReturn:
    raise InputError("bad-settings", message, where=Location(str(path), line, column), help=help)


def _refuse_syntax(path: Path, text: str) -> NoReturn:
    place = re.search(r" \(at line (\d+), column (\d+)\)| \(at end of document\)", text)
    what = text[: place.start()] if place else text
    line, column = (int(place[1]), int(place[2])) if place and place[1] else (0, 0)
    message = f"this is not TOML: {what[:1].lower()}{what[1:]}" + ("" if line else " at the end of the file")
    refuse(path, message, "texts are quoted, lists are in [ ], tables begin with [name]", line=line, column=column)


_WORDS = {
    "int": "a whole number", "str": "a text", "array": "a list", "object": "a table", "bool": "true or false",
    "float": "a number", "null": "nothing",
}  # fmt: skip


def _explained(text: str) -> tuple[str, str]:
    """A decoder's complaint in the file's own words, and the next step."""
    what, _, where = text.partition(" - at `")
    key = ".".join(part for part in where.rstrip("`").removeprefix("$").split(".") if part)
    place = f" under `{key}`" if key else ""
    if unknown := re.fullmatch(r"Object contains unknown field `(.+)`", what):
        known = _keys(key.partition("[")[0])
        return f"there is no key `{unknown[1]}`{place}", did_you_mean(unknown[1], known) or f"known: {', '.join(known)}"
    if missing := re.fullmatch(r"Object missing required field `(.+)`", what):
        return f"`{missing[1]}` is missing{place}", HELP
    if enum := re.fullmatch(r"Invalid enum value '(.*)'", what):
        return f"`{enum[1]}` cannot stand{place}", HELP
    if wrong := re.fullmatch(r"Expected `([^`]+)`, got `([^`]+)`", what):
        expected, got = (" or ".join(_WORDS.get(w, w) for w in x.split(" | ")) for x in wrong.groups())
        return f"`{key}` is {got}, not {expected}", HELP
    if "Expected `int` >= 0" in what:
        return f"`{key}` is less than 0", "give 0 or more"
    return f"{what[:1].lower()}{what[1:]}{place}", HELP


def _keys(table: str) -> tuple[str, ...]:
    """The keys a table of the settings may have."""
    return tuple(sorted(field.name for field in msgspec.structs.fields(_TABLES.get(table, Settings))))


_TABLES: dict[str, type[msgspec.Struct]] = {
    "identity": IdentitySettings, "flows": FlowSettings, "labels": LabelSettings, "failsafe": FailsafeEntry,
}  # fmt: skip
