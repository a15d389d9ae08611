"""How long requests take, by route, for the metrics; and the headers of every answer."""

from __future__ import annotations

import time
from typing import Any

from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from ringfence.api.problems import GUARDING
from ringfence.controller.controller import Controller

_HEADERS = tuple((key.encode(), value.encode()) for key, value in GUARDING.items())


class Timing(ASGIMiddleware):
    """INVARIANT: by the template of the route, never by the path: the number of series is that of the routes."""

    scopes = (ScopeType.HTTP,)

    def __init__(self, controller: Controller) -> None:
        self._metrics = controller.metrics

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        began, status = time.perf_counter(), 500

        async def tell(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                said = {key.lower() for key, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(one for one in _HEADERS if one[0] not in said)]
            await send(message)

        try:
            await next_app(scope, receive, tell)
        finally:
            self._metrics.request(_method(scope), _route(scope), status, time.perf_counter() - began)


def _method(scope: Any) -> str:
    return str(scope.get("method", ""))


def _route(scope: Any) -> str:
    return str(scope.get("path_template") or "unknown")
