"""The estate's flow store, and the times people ask it for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from ringfence import catalog
from ringfence.cli.session import Session
from ringfence.core.errors import InputError
from ringfence.core.flow.conversations import Conversations
from ringfence.core.identity.workload import utc
from ringfence.ports.flow_store import FlowStore

STORE_FILE = "flows.duckdb"
SinceOption = Annotated[str | None, typer.Option("--since", metavar="TIME", help="`7d`, `12h`, or RFC 3339.")]
UntilOption = Annotated[str | None, typer.Option("--until", metavar="TIME", help="As --since.")]
_SPAN = re.compile(r"(\d+)([hdw])")
_HOURS = {"h": 1, "d": 24, "w": 168}


def parse_time(text: str | None) -> int | None:
    """`7d` (before now) or RFC 3339 -> seconds since the epoch. Raises InputError `bad-time`."""
    if text is None:
        return None
    try:
        if span := _SPAN.fullmatch(text):
            return int((datetime.now(UTC) - timedelta(hours=int(span[1]) * _HOURS[span[2]])).timestamp())
        return int(utc(datetime.fromisoformat(text)).timestamp())
    except (ValueError, OverflowError) as error:
        help_ = "write `7d`, `12h` or 2026-03-03T02:10:00Z"
        raise InputError("bad-time", f"`{text}` is not a time", help=help_) from error


def parse_span(since: str | None, until: str | None) -> tuple[int | None, int | None]:
    """Both ends of a span. Raises InputError `bad-time`, also for a span that ends before it begins."""
    start, end = parse_time(since), parse_time(until)
    if start is not None and end is not None and end <= start:
        raise InputError("bad-time", f"`{until}` is not after `{since}`", help="swap --since and --until")
    return start, end


@contextmanager
def store_of(session: Session) -> Iterator[FlowStore]:
    """The estate's flow store, opened (made, if there is none) and closed."""
    session.estate.data.mkdir(exist_ok=True)
    store: FlowStore = catalog.load(catalog.FLOW_STORES, "duckdb")(session.estate.data / STORE_FILE)
    try:
        yield store
    finally:
        store.close()


def has_store(session: Session) -> bool:
    """Whether anything was ever imported here: asking makes no store."""
    return (session.estate.data / STORE_FILE).exists()


def read(session: Session, since: str | None, until: str | None) -> Conversations:
    """The stored conversations of a span. Raises InputError `no-flows` when there are none."""
    start, end = parse_span(since, until)
    if not has_store(session):
        raise _no_flows("no traffic was imported yet")
    with store_of(session) as store:
        found = store.read(start, end)
        if len(found):
            return found
        held = store.totals()
    if held.first is None or held.last is None:
        raise _no_flows("the flow store is empty")
    first, last = (f"{datetime.fromtimestamp(t, UTC):%Y-%m-%dT%H:%M:%SZ}" for t in (held.first, held.last))
    raise InputError("no-flows", "no observed traffic in that time", help=f"what is stored is from {first} to {last}")


def _no_flows(message: str) -> InputError:
    return InputError("no-flows", message, help="import some: `ringfence flows import LOGS`")
