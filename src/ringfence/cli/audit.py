"""`ringfence audit`: who did what, and whether the log is as it was written."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import msgspec
import typer

from ringfence.cli.remote import fleet, say_time
from ringfence.cli.session import CLEAN, FINDINGS, Session, write_out
from ringfence.cli.tables import Rows, count
from ringfence.client.client import Client
from ringfence.core.errors import InputError
from ringfence.wire.api import AuditEntry

_FEW = 50
_PAGE = 1000


def register(app: typer.Typer) -> None:
    """Add the command to the root."""
    fleet(app, "audit", epilog="Example: ringfence audit --subject web-1 --limit 20")(audit)


def audit(
    session: Session,
    client: Client,
    action: Annotated[str | None, typer.Argument(metavar="[verify]", help="Check the whole log instead.")] = None,
    actor: Annotated[str, typer.Option(help="Only what they did.")] = "",
    what: Annotated[str, typer.Option("--action", help="Only this, as in policy.publish.")] = "",
    subject: Annotated[str, typer.Option(help="Only about this: as it stands there, or a workload's name.")] = "",
    before: Annotated[int, typer.Option(help="Only entries with smaller numbers.")] = 0,
    limit: Annotated[int | None, typer.Option(min=1, help=f"So many; else {_FEW}, and with --csv all.")] = None,
    is_csv: Annotated[bool, typer.Option("--csv", help="As CSV, for a spreadsheet.")] = False,
) -> int:
    """Who did what, the latest first. `verify` reads all of it; exit 1 when an entry is not as it was written."""
    if action == "verify":
        return _verify(session, client)
    if action is not None:
        raise InputError("bad-action", f"`{action}` is nothing to do with the log", help="`ringfence audit verify`")
    asked: dict[str, Any] = {"actor": actor, "action": what, "subject": subject, "before": before}
    if is_csv:
        if session.is_json:
            raise InputError("contradictory-options", "one answer is CSV or JSON", help="leave out --csv or --json")
        write_out(client.audit_csv(**asked, limit=limit or 0))
        return CLEAN
    found = _entries(client, asked, limit or _FEW)
    table = Rows(("entry>", "at", "who", "did", "about", "details"), heads=4)
    for one in found:
        who, about = _called(one.actor, one.actor_name), _called(one.subject, one.name)
        table.add(str(one.seq), say_time(one.at), who, one.action, about, details_words(one.details))
    session.emit([_document(one) for one in found], table)
    return CLEAN


def _entries(client: Client, asked: dict[str, Any], limit: int) -> list[AuditEntry]:
    """So many, page by page."""
    found: list[AuditEntry] = []
    while len(found) < limit:
        many = min(_PAGE, limit - len(found))
        page = client.audit(**asked, limit=many)
        found += page
        if len(page) < many or page[-1].seq == 1:
            break
        asked = asked | {"before": page[-1].seq}
    return found


def _called(said: str, name: str | msgspec.UnsetType) -> str:
    return f"{name} ({said})" if name else said


def _document(one: AuditEntry) -> dict[str, Any]:
    """Its details as they are, where they are kept as text."""
    said: dict[str, Any] = msgspec.to_builtins(one)
    return said | {"details": json.loads(one.details)}


def details_words(text: str) -> str:
    """What an entry adds, without what is empty; what was before and after as far as it differs."""
    details = json.loads(text)
    before, after = _inner(details.get("before")), _inner(details.get("after"))
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        rest = {key: value for key, value in details.items() if key not in ("before", "after")}
        return "; ".join((*_changed(before, after), *_pairs(rest)))
    return "; ".join(_pairs(details))


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    for key in sorted(before.keys() | after.keys()):
        if before.get(key) != after.get(key):
            yield f"{key}: {_word(before.get(key)) or 'none'} -> {_word(after.get(key)) or 'none'}"


def _pairs(details: Mapping[str, Any]) -> Iterator[str]:
    for key, value in details.items():
        if word := _word(_inner(value)):
            yield f"{key}: {word}"


def _word(value: Any) -> str:
    """Empty: it says nothing."""
    if isinstance(value, Mapping):
        return " ".join(f"{key}={word}" for key, one in value.items() if (word := _word(one)))
    if isinstance(value, list):
        return ",".join(filter(None, map(_word, value)))
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _inner(value: Any) -> Any:
    """JSON in JSON, as what was before and after is kept."""
    try:
        return json.loads(value) if isinstance(value, str) and value[:1] in ("{", "[") else value
    except ValueError:
        return value


def _verify(session: Session, client: Client) -> int:
    checked = client.verify_audit()
    said = f"{count(checked.entries, 'entry', 'entries')} in order, signed up to entry {checked.signed}"
    if checked.is_intact and checked.signed < checked.entries:
        said += "; the rest is signed some seconds after the last change"
    session.emit(checked, said)
    if checked.broken is not None:
        session.show_findings((checked.broken,))
    return CLEAN if checked.is_intact else FINDINGS
