"""What everybody who asks is told beside the answer: headers of their own, for those who were recognised only."""

from __future__ import annotations

from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from ringfence.controller.controller import Controller
from ringfence.wire.api import NOTICE, RESTORE_UNCONFIRMED


class Notices(ASGIMiddleware):
    """A restore that nobody confirmed is in every answer."""

    scopes = (ScopeType.HTTP,)

    def __init__(self, controller: Controller) -> None:
        self._resuming = controller.resuming

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        async def tell(message: Message) -> None:
            if message["type"] == "http.response.start" and scope.get("user") and self._resuming.is_waiting:
                message["headers"] = [*message["headers"], (NOTICE.lower().encode(), RESTORE_UNCONFIRMED.encode())]
            await send(message)

        await next_app(scope, receive, tell)
