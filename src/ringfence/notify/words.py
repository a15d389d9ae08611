"""A notice in people's words: one line for a subject, a few for a body, and the document machines get.

INVARIANT: a notice's texts are single lines without control characters, so lines here are ours alone.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from ringfence.ports.notifier import News, Notice

_NEWS: dict[News, str] = {
    "opened": "",
    "reopened": "again: ",
    "raised": "worse: ",
    "again": "still: ",
    "flapping": "comes and goes: ",
    "resolved": "over: ",
    "summary": "",
}


def title(notice: Notice) -> str:
    """`[error] tampering: web-1: a chain is gone`."""
    return f"[{notice.severity}] {_NEWS[notice.news]}{notice.kind}: {notice.message}"


def body(notice: Notice) -> str:
    """Where, by which rule, since when, how often, and what to run next, a line each."""
    rows = (
        ("where", notice.where),
        ("from", _end(notice.source, notice.source_identity, notice.source_address)),
        ("to", _end(notice.destination, notice.destination_identity, notice.destination_address)),
        ("service", notice.service),
        ("rule", notice.rule),
        ("verdict", notice.verdict),
        ("count", f"{notice.count} ({notice.more} since the last notice)" if notice.more else str(notice.count)),
        ("since", _time(notice.first)),
        ("last", _time(notice.last)),
        ("alert", notice.alert),
    )
    told = [f"{name}: {text}" for name, text in rows if text]
    examples = [f"  {example}" for example in notice.examples]
    commands = ["next:", *(f"  {command}" for command in notice.commands)] if notice.commands else []
    return "\n".join([notice.message, *told, *examples, *commands])


def document(notice: Notice) -> dict[str, Any]:
    """`{"type": "alert.opened", "timestamp": ..., "data": {...}}`, as the Standard Webhooks specification shapes it."""
    data = msgspec.to_builtins(notice)
    return {"type": f"alert.{notice.news}", "timestamp": data["at"], "data": data}


def _end(name: str, identity: str, address: str) -> str:
    others = ", ".join(dict.fromkeys(text for text in (identity, address) if text and text != name))
    return f"{name} ({others})" if name and others else name or others


def _time(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC" if at else ""
