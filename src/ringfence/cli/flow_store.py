"""The estate's flow store, and the times people ask it for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from ringfence import catalog
from ringfence.cli.session import Session
from ringfence.core.errors import InputError
from ringfence.core.flow.conversations import Conversations
from ringfence.core.identity.workload import utc
from ringfence.ports.flow_store import FlowStore

STORE_FILE = "flows.duckdb"
_SPAN = re.compile(r"(\d+)([hdw])")
_HOURS = {"h": 1, "d": 24, "w": 168}


def parse_time(text: str | None) -> int | None:
    """`7d` (before now) or RFC 3339 -> seconds since the epoch. Raises InputError `bad-time`."""
    if text is None:
        return None
    if span := _SPAN.fullmatch(text):
        return int((datetime.now(UTC) - timedelta(hours=int(span[1]) * _HOURS[span[2]])).timestamp())
    try:
        return int(utc(datetime.fromisoformat(text)).timestamp())
    except ValueError as error:
        help_ = "write `7d`, `12h` or 2026-03-03T02:10:00Z"
        raise InputError("bad-time", f"`{text}` is not a time", help=help_) from error


@contextmanager
def store_of(session: Session) -> Iterator[FlowStore]:
    """The estate's flow store, opened and closed."""
    session.estate.data.mkdir(exist_ok=True)
    store: FlowStore = catalog.load(catalog.FLOW_STORES, "duckdb")(session.estate.data / STORE_FILE)
    try:
        yield store
    finally:
        store.close()


def read(session: Session, since: str | None, until: str | None) -> Conversations:
    """The stored conversations of a span. Raises InputError `no-flows` when there are none."""
    with store_of(session) as store:
        found = store.read(parse_time(since), parse_time(until))
    if not len(found):
        raise InputError(
            "no-flows", "no observed traffic in that time", help="import some: `ringfence flows import LOGS`"
        )
    return found
