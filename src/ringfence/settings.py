"""`ringfence.toml`: the settings of an estate, read strictly.

INVARIANT: a key that is not known, or a value that cannot be meant, is refused with its place, all of them at once;
nothing is ignored.
INVARIANT: a text takes seconds at most, whatever is in it: anybody who may ask a controller may send one. Past a bound
it is refused, its faults are not listed, or told without their line.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_left
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin

import msgspec

from ringfence.core.errors import Finding, FindingsError, InputError, Location
from ringfence.core.labels.selector import LABEL_KEY
from ringfence.core.net.address import parse_address, parse_cidr
from ringfence.core.net.intervals import IntervalSet, union
from ringfence.core.net.service import WELL_KNOWN, parse_service
from ringfence.core.policy.peers import host_bits_help, is_dns_name, without_host_bits
from ringfence.core.policy.suggest import did_you_mean
from ringfence.core.world import Answer, Failsafe

HELP = "docs/reference/settings.md lists every key"
Natural = Annotated[int, msgspec.Meta(ge=0)]
MOST_CHARACTERS = 1 << 19
MOST_FAULTS = 1_000
_MOST_DOTS = 20
"""Outside of texts and comments in one line: reading a key of `n` parts costs `n` squared."""
_TOO_DEEP = "Nested too deeply"
_MOST_READ = 2 << 20
"""Characters, to find the lines of all faults."""
_ASIDE = re.compile(r"\"[^\"\n]*\"|'[^'\n]*'|#[^\n]*")


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
    """The settings in a file; the defaults where there is none.

    Raises FindingsError with every `bad-settings` of the file at once, InputError `unreadable-file`.
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        return Settings()
    except OSError as error:
        message = f"cannot read `{path.name}`: {(error.strerror or '').lower()}"
        where, help_ = Location(path.name), "it must be a text file"
        raise InputError("unreadable-file", message, where=where, help=help_) from error
    except UnicodeDecodeError as error:
        what = f"byte {error.start + 1} of the file is not UTF-8"
        raise FindingsError([_finding(path, what, "save the file as UTF-8")]) from error
    return parse_settings(text, path)


def parse_settings(text: str, path: Path) -> Settings:
    """The settings a text says; `path` is where it was written. Raises FindingsError."""
    if len(text) > MOST_CHARACTERS:
        what = f"{len(text):,} characters are too many"
        raise FindingsError([_finding(path, what, f"say it in {MOST_CHARACTERS:,}")])
    try:
        document = _document(text)
    except tomllib.TOMLDecodeError as error:
        raise FindingsError([_syntax(path, str(error))]) from error
    faults = list(islice(_misshapen(document, Settings, ()), MOST_FAULTS))
    if len(faults) < MOST_FAULTS:
        faults += islice(_unmeant(document, but={fault.at for fault in faults}), MOST_FAULTS - len(faults))
    if faults:
        places = _Places(text)
        raise FindingsError(_finding(path, f.message, f.help, line=places.line_of(f.at)) for f in faults)
    return msgspec.convert(document, Settings)


def _document(text: str) -> dict[str, Any]:
    """Raises tomllib.TOMLDecodeError."""
    try:
        if all(line.count(".") <= _MOST_DOTS for line in _ASIDE.sub("", text).split("\n")):
            return tomllib.loads(text)
    except RecursionError as error:
        raise tomllib.TOMLDecodeError(_TOO_DEEP) from error
    raise tomllib.TOMLDecodeError(_TOO_DEEP)


def failsafe_of(settings: Settings) -> tuple[Failsafe, ...]:
    """The failsafe list of settings that were read, as values."""
    return tuple(Failsafe(e.direction, parse_cidr(e.cidr), _services(e.service)) for e in settings.failsafe)


def names_of(settings: Settings) -> dict[str, tuple[Answer, ...]]:
    """The names of settings that were read, as DNS compares them, as answers that never expire."""
    answers: dict[str, tuple[Answer, ...]] = {}
    for name, texts in settings.names.items():
        answers[_folded(name)] = (*answers.get(_folded(name), ()), Answer(tuple(map(parse_address, texts))))
    return answers


def _services(text: str) -> IntervalSet:
    return union(parse_service(word) for word in WELL_KNOWN.get(text, text).split())


def _folded(name: str) -> str:
    """A name without regard to case and the root's dot (RFC 4343)."""
    return name.lower().removesuffix(".")


# ---- faults --------------------------------------------------------------------------------------------------------

Key = tuple[str | int, ...]
"""Where in the document: `("failsafe", 0, "cidr")`."""


class _Fault(NamedTuple):
    at: Key
    message: str
    help: str


def _finding(path: Path, message: str, help: str, *, line: int = 0, column: int = 0) -> Finding:
    return Finding("bad-settings", message, where=Location(path.name, line, column), help=help)


def _syntax(path: Path, text: str) -> Finding:
    place = re.search(r" \(at line (\d+), column (\d+)\)| \(at end of document\)", text)
    what = text[: place.start()] if place else text
    line, column = (int(place[1]), int(place[2])) if place and place[1] else (0, 0)
    message = f"this is not TOML: {what[:1].lower()}{what[1:]}" + ("" if line else " at the end of the file")
    help_ = "texts are quoted, lists are in [ ], tables begin with [name]"
    return _finding(path, message, help_, line=line, column=column)


def _misshapen(value: Any, kind: Any, at: Key) -> Iterator[_Fault]:
    """Every key that is not known, every key that is missing, and every value of another kind than it must be."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and isinstance(value, dict):
        yield from _misshapen_table(value, kind, at)
    elif get_origin(kind) is dict and isinstance(value, dict):
        for key, item in value.items():
            yield from _misshapen(item, get_args(kind)[1], (*at, key))
    elif get_origin(kind) is tuple and isinstance(value, list):
        for number, item in enumerate(value):
            yield from _misshapen(item, get_args(kind)[0], (*at, number))
    else:
        try:
            msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            yield _Fault(at, *_explained(str(error), at, value, kind))


def _misshapen_table(table: dict[str, Any], kind: type[msgspec.Struct], at: Key) -> Iterator[_Fault]:
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    for key, value in table.items():
        if key in fields:
            yield from _misshapen(value, fields[key].type, (*at, key))
            continue
        help_ = did_you_mean(key, fields) or _elsewhere(key) or f"known: {', '.join(sorted(fields))}"
        yield _Fault((*at, key), f"there is no key `{key}`{_under(at)}", help_)
    for name, field in fields.items():
        if field.required and name not in table:
            yield _Fault(at, f"`{name}` is missing{_under(at)}", HELP)


def _elsewhere(key: str) -> str:
    """A key that stands in the wrong table."""
    tables = (f for f in msgspec.structs.fields(Settings) if isinstance(f.type, type))
    home = next((f.name for f in tables if key in getattr(f.type, "__struct_fields__", ())), None)
    return f"did you mean `{key}` under `[{home}]`?" if home else ""


def _under(at: Key) -> str:
    return f" under `{_say(at)}`" if at else ""


def _say(at: Key) -> str:
    """`("failsafe", 0, "cidr")` -> `failsafe[0].cidr`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in at).removeprefix(".")


_WORDS = {
    "int": "a whole number", "str": "a text", "array": "a list", "object": "a table", "bool": "true or false",
    "float": "a number", "datetime": "a time", "date": "a date", "time": "a time of day",
}  # fmt: skip


def _explained(text: str, at: Key, value: Any, kind: Any) -> tuple[str, str]:
    """A decoder's complaint about one value in the file's own words, and the next step."""
    key = _say(at)
    if wrong := re.match(r"Expected `([^`]+)`, got `([^`]+)`", text):
        expected, got = (" or ".join(_WORDS.get(w, w) for w in x.split(" | ") if w != "null") for x in wrong.groups())
        return f"`{key}` is {got}, not {expected}", HELP
    if get_origin(kind) is Literal:
        choices = [str(choice) for choice in get_args(kind)]
        guess = did_you_mean(str(value), choices) or f"write {' or '.join(f'`{x}`' for x in choices)}"
        return f"`{value}` cannot stand under `{key}`", guess
    if "Expected `int` >= 0" in text:
        return f"`{key}` is less than 0", "give 0 or more"
    return f"`{key}`: {text[:1].lower()}{text[1:]}", HELP


def _unmeant(document: dict[str, Any], *, but: set[Key]) -> Iterator[_Fault]:
    """Every text of the right kind that says nothing."""
    for at, text in _leaves(document, ()):
        judge = _MEANINGS.get(tuple("*" if isinstance(part, int) else part for part in at))
        judge = judge or (_address_fault if at[0] == "names" else None)
        if judge is None or not isinstance(text, str) or at in but:
            continue
        told = judge(text, at)
        if told is not None:
            yield _Fault(at, *told)
    names = document.get("names")
    for name in names if isinstance(names, dict) else ():
        if "*" in name or not is_dns_name(_folded(name)):
            yield _Fault(("names", name), f"`{name}` under `names` is not a DNS name", 'write `"api.example.com"`')


def _leaves(value: Any, at: Key) -> Iterator[tuple[Key, Any]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if items is None:
        yield at, value
        return
    for key, item in items:
        yield from _leaves(item, (*at, key))


Told = tuple[str, str] | None
"""What is wrong with a text and the next step, or nothing."""


def _cidr_fault(text: str, _: Key) -> Told:
    try:
        parse_cidr(text)
    except ValueError:
        network = without_host_bits(text)
        if network:
            return f"`{text}` under `failsafe` has host bits set", host_bits_help(text, network)
        return f"`{text}` under `failsafe` is not a CIDR", "write it as in `192.0.2.0/28`"
    return None


def _service_fault(text: str, _: Key) -> Told:
    try:
        _services(text)
    except ValueError:
        guess = did_you_mean(text, WELL_KNOWN) or "write it as in `ssh` or `tcp/22`"
        return f"`{text}` under `failsafe` is not a service", guess
    return None


def _address_fault(text: str, at: Key) -> Told:
    try:
        parse_address(text)
    except ValueError:
        help_ = "write one address, as in `203.0.113.9`"
        return f"`{text}` under `names` for `{at[1]}` is not an address", help_
    return None


def _label_fault(text: str, at: Key) -> Told:
    if LABEL_KEY.fullmatch(text):
        return None
    return f"`{text}` under `{at[0]}` is no label key", "use letters, digits, `.`, `_` and `-`"


_MEANINGS: dict[Key, Callable[[str, Key], Told]] = {
    ("failsafe", "*", "cidr"): _cidr_fault,
    ("failsafe", "*", "service"): _service_fault,
    ("identity", "ignore", "*"): _label_fault,
    ("labels", "application"): _label_fault,
    ("labels", "environment"): _label_fault,
    ("labels", "role"): _label_fault,
}


class _UnplacedError(Exception):
    """The line is not looked for any longer."""


class _Places:
    """The line on which each key of a document begins, found by reading ever longer beginnings of its text.

    INVARIANT: nothing here knows TOML's grammar; a beginning that ends inside a value does not parse and is passed
    over.
    """

    def __init__(self, text: str) -> None:
        self._lines = text.split("\n")
        self._parsed: dict[int, dict[str, Any] | None] = {0: {}}
        self._left = _MOST_READ

    def line_of(self, at: Key) -> int:
        """The line after the longest beginning that parses and lacks the key; 0: it takes too long to tell."""
        try:
            return self._line_of(at)
        except _UnplacedError:
            return 0

    def _line_of(self, at: Key) -> int:
        complete = bisect_left(range(len(self._lines)), True, key=lambda n: _holds(self._beginning(n)[1], at))
        return self._beginning(complete - 1)[0] + 1

    def _beginning(self, lines: int) -> tuple[int, dict[str, Any]]:
        """The longest beginning of at most so many lines that parses: its length and what it says."""
        while (said := self._parse(lines)) is None:
            lines -= 1
        return lines, said

    def _parse(self, lines: int) -> dict[str, Any] | None:
        if lines not in self._parsed:
            text = "\n".join(self._lines[:lines]) + "\n"
            self._left -= len(text)
            if self._left < 0:
                raise _UnplacedError
            try:
                self._parsed[lines] = tomllib.loads(text)
            except tomllib.TOMLDecodeError:
                self._parsed[lines] = None
        return self._parsed[lines]


def _holds(value: Any, at: Key) -> bool:
    """Whether the document has that key or item."""
    try:
        for part in at:
            value = value[part]
    except (KeyError, IndexError, TypeError):
        return False
    return True
