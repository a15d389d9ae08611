"""A hundred services by Apprise (https://github.com/caronc/apprise): chat, mail, paging, by their URLs.

INVARIANT: text is handed over as text, so Apprise escapes it for services that take HTML.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ringfence.core.errors import InputError
from ringfence.notify.words import body, title
from ringfence.ports.notifier import Notice, NotifyError
from ringfence.ports.state import AlertSeverity

if TYPE_CHECKING:
    from apprise import NotifyType


class AppriseNotifier:
    """One service."""

    def __init__(self, url: str) -> None:
        """Raises InputError `bad-sink` for a URL that Apprise does not know."""
        from apprise import Apprise, AppriseAsset  # late: it loads every plugin there is

        self._service = Apprise(asset=AppriseAsset(app_id="Ringfence", app_desc="Ringfence alerts", app_url=""))
        if not self._service.add(url):
            help_ = "https://github.com/caronc/apprise/wiki lists the services and their URLs"
            raise InputError("bad-sink", "the URL is of no service that Apprise knows", help=help_)

    @property
    def target(self) -> str:
        """With its secrets left out."""
        return str(self._service[0].url(privacy=True))  # type: ignore[no-untyped-call]  # Apprise is typed in part

    async def send(self, notice: Notice) -> None:
        from apprise import NotifyFormat

        is_sent = await self._service.async_notify(
            body=body(notice),
            title=title(notice),
            notify_type=_type_of(notice.severity, is_over=notice.news == "resolved"),
            body_format=NotifyFormat.TEXT,
        )
        if not is_sent:
            told = f"{self.target} did not take a notice"
            raise NotifyError("notice-undelivered", told, help="check its URL, and that it can be reached")

    async def close(self) -> None:
        """Nothing is kept open."""


def _type_of(severity: AlertSeverity, *, is_over: bool) -> NotifyType:
    from apprise import NotifyType

    if is_over:
        return NotifyType.SUCCESS
    return {"info": NotifyType.INFO, "warning": NotifyType.WARNING}.get(severity, NotifyType.FAILURE)
