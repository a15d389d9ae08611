"""Webhooks: the notice as JSON by HTTPS POST, signed as the Standard Webhooks specification says.

    webhook-id         the notice's id: the same one twice is the same notice
    webhook-timestamp  seconds since the epoch, of this attempt
    webhook-signature  v1,BASE64(HMAC-SHA256(secret, "ID.TIMESTAMP.BODY"))

Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md. Receivers verify
with its libraries: compare in constant time, refuse old timestamps, and know an id again.

INVARIANT: certificates are verified; plain HTTP goes to this machine only. A redirect is followed only to the same
host, and only where it keeps the method and body (307, 308).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import ssl
import time
from collections.abc import Callable

import httpx

from ringfence import __version__
from ringfence.core.errors import InputError
from ringfence.core.net.address import is_loopback, parse_address
from ringfence.notify.words import document
from ringfence.ports.notifier import Notice, NotifyError

_FINAL = frozenset({400, 405, 410, 413, 415, 422})
"""Answers that another try would get again."""
_REDIRECTS = 3
_LONGEST_WAIT_S = 3600.0
_CHECK = "check its address, its secret and its log"


def key_of(secret: str) -> bytes:
    """The key of a secret: `whsec_` and base64, or any other text as it is. Raises InputError `bad-sink` below 24
    bytes.
    """
    try:
        key = base64.b64decode(secret[6:], validate=True) if secret.startswith("whsec_") else secret.encode()
    except binascii.Error as error:
        raise InputError(
            "bad-sink", "a webhook's secret is not base64 after `whsec_`", help="copy all of it"
        ) from error
    if len(key) < 24:
        raise InputError(
            "bad-sink", "a webhook's secret has fewer than 24 bytes", help="`openssl rand -hex 32` makes one"
        )
    return key


def signature(key: bytes, id: str, timestamp: int, body: bytes) -> str:
    """The header `webhook-signature`."""
    digest = hmac.new(key, f"{id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


class WebhookNotifier:
    """One receiver."""

    def __init__(
        self,
        url: str,
        *,
        secret: str = "",
        tls: ssl.SSLContext | None = None,
        timeout_s: float = 10.0,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Raises InputError `bad-sink`, `insecure-sink`."""
        self._url, self._key, self._now = _checked(url), key_of(secret) if secret else b"", now
        self._client = httpx.AsyncClient(
            verify=tls or ssl.create_default_context(),
            timeout=timeout_s,
            follow_redirects=False,
            headers={"user-agent": f"ringfence/{__version__}", "content-type": "application/json"},
        )

    @property
    def target(self) -> str:
        """Without path and query: they may hold a secret."""
        return f"{self._url.scheme}://{self._url.netloc.decode()}"

    async def send(self, notice: Notice) -> None:
        body = json.dumps(document(notice), ensure_ascii=True, separators=(",", ":")).encode()
        url = self._url
        for _ in range(_REDIRECTS + 1):
            response = await self._post(url, notice.id, body)
            if response.status_code not in (307, 308):
                return self._judge(response)
            url = self._followed(url, response)
        raise NotifyError("notice-redirected", f"{self.target} redirects in a circle", help="use the final address")

    async def close(self) -> None:
        await self._client.aclose()

    async def _post(self, url: httpx.URL, id: str, body: bytes) -> httpx.Response:
        timestamp = int(self._now())
        headers = {"webhook-id": id, "webhook-timestamp": str(timestamp)}
        if self._key:
            headers["webhook-signature"] = signature(self._key, id, timestamp, body)
        try:
            async with self._client.stream("POST", url, content=body, headers=headers) as response:
                return response
        except httpx.HTTPError as error:
            why = str(error) or type(error).__name__
            told = f"{self.target} did not take a notice: {why[:1].lower()}{why[1:]}"
            raise NotifyError("notice-undelivered", told, help="check that it runs and can be reached") from error

    def _judge(self, response: httpx.Response) -> None:
        status = response.status_code
        if 200 <= status < 300:
            return
        if 300 <= status < 400:
            told = f"{self.target} redirects with {status}, which would lose the notice"
            raise NotifyError("notice-redirected", told, help="use the final address")
        wait_s = _seconds(response.headers.get("retry-after", "")) if status in (429, 503) else None
        told = f"{self.target} answered {status}"
        raise NotifyError("notice-refused", told, help=_CHECK, is_permanent=status in _FINAL, retry_after_s=wait_s)

    def _followed(self, url: httpx.URL, response: httpx.Response) -> httpx.URL:
        try:
            to = url.join(response.headers.get("location", ""))
        except httpx.InvalidURL:
            to = httpx.URL()
        if (to.scheme, to.host, to.port) != (url.scheme, url.host, url.port):
            told = f"{self.target} redirects to another host"
            raise NotifyError("notice-redirected", told, help="configure the final address, if you trust it")
        return to


def _checked(text: str) -> httpx.URL:
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as error:
        raise InputError("bad-sink", "a webhook's address is no URL", help="write `https://host/path`") from error
    if url.scheme not in ("https", "http") or not url.host:
        raise InputError("bad-sink", "a webhook's address is no URL", help="write `https://host/path`")
    if url.scheme == "http" and not _is_this_machine(url.host):
        raise InputError("insecure-sink", f"notices to `{url.host}` would travel unencrypted", help="use https")
    return url


def _is_this_machine(host: str) -> bool:
    try:
        return host == "localhost" or is_loopback(parse_address(host))
    except ValueError:
        return False


def _seconds(text: str) -> float | None:
    """`Retry-After` in seconds (RFC 9110 section 10.2.3); a date is left to our own pause."""
    return min(float(text), _LONGEST_WAIT_S) if text.isascii() and text.isdigit() else None
