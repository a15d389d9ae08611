"""Lists in pages: at most so many of them, and where the rest begins in `Link: rel="next"` (RFC 8288, 3.3).

INVARIANT: whoever follows the links sees what stood in the list all the while exactly once, whatever comes and goes
between two pages: a cursor is a place in an order that is total and does not move, never a count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import urlencode

from litestar import Request, Response

from ringfence.wire.api import Page

T = TypeVar("T")
Asked = Request[Any, Any, Any]


def listed(
    request: Asked, items: Iterable[T], key: Callable[[T], str], *, after: str, limit: int, is_down: bool = False
) -> Response[list[T]]:
    """A page of all `items`, in the order of their keys, which are theirs alone; `is_down`: the greatest first."""
    ordered = sorted(items, key=key, reverse=is_down)
    rest = [one for one in ordered if not after or (key(one) < after if is_down else key(one) > after)]
    shown = rest[:limit]
    return linked(request, shown, after=key(shown[-1]) if len(rest) > limit else "")


def falling(request: Asked, found: list[T], number: Callable[[T], int], *, limit: int) -> Response[list[T]]:
    """A page of what is numbered and told from the greatest down, of which one more than `limit` was looked for."""
    shown = found[:limit]
    return linked(request, shown, before=str(number(shown[-1])) if len(found) > limit else "")


def paged(request: Asked, page: Page[T]) -> Response[Page[T]]:
    """A page that says itself what follows."""
    return linked(request, page, after=page.next)


def linked(request: Asked, content: T, **following: str) -> Response[T]:
    """An answer with the way to what follows; with an empty cursor nothing does."""
    if not all(following.values()):
        return Response(content)
    query = dict(request.query_params.multi_items()) | following
    return Response(content, headers={"Link": f'<{request.url.path}?{urlencode(query)}>; rel="next"'})


def at(time: datetime, id_: str) -> str:
    """A key in the order of time."""
    return f"{time.timestamp():020.6f}~{id_}"
