"""Webhooks against a real server: signed, verified, never led astray."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import ssl
from pathlib import Path
from typing import Any

import pytest
from receivers import notice, papers, web

from ringfence.core.errors import InputError
from ringfence.notify.webhook import WebhookNotifier, key_of, signature
from ringfence.ports.notifier import Notice, NotifyError

SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()


def send(url: str, one: Notice | None = None, **how: Any) -> None:
    async def go() -> None:
        notifier = WebhookNotifier(url, **how)
        try:
            await notifier.send(one or notice())
        finally:
            await notifier.close()

    asyncio.run(go())


def refused(url: str, **how: Any) -> NotifyError:
    with pytest.raises(NotifyError) as error:
        send(url, **how)
    return error.value


def test_a_notice_arrives_signed() -> None:
    """The body is the notice, and the signature is HMAC-SHA256 over id, time and body with the shared secret."""
    with web() as server:
        send(f"http://127.0.0.1:{server.port}/hook?x=1", secret=SECRET, now=lambda: 1_700_000_000.9)
    (request,) = server.requests
    signed = b"a1-1.1700000000." + request.body
    expected = base64.b64encode(hmac.digest(b"k" * 32, signed, hashlib.sha256)).decode()
    document = json.loads(request.body)

    assert request.path == "/hook?x=1"
    assert request.headers["webhook-id"] == "a1-1"
    assert request.headers["webhook-timestamp"] == "1700000000"
    assert request.headers["webhook-signature"] == f"v1,{expected}"
    assert document["type"] == "alert.opened"
    assert document["data"]["rule"] == "shop/no-ssh"
    assert document["data"]["commands"] == ["ringfence explain web-1 db-1 tcp/22"]


def test_the_signature_is_the_specification_s() -> None:
    """The example of the Standard Webhooks libraries' own tests gives their signature."""
    key = key_of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    body = b'{"test": 2432232314}'

    assert (
        signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
        == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    )


def test_without_a_secret_nothing_is_signed() -> None:
    """No header claims a signature that nobody could verify."""
    with web() as server:
        send(f"http://127.0.0.1:{server.port}/")

    assert "webhook-signature" not in server.requests[0].headers


@pytest.mark.parametrize(
    ("status", "is_permanent"), [(500, False), (404, False), (401, False), (400, True), (410, True)]
)
def test_an_answer_other_than_success_is_a_failure(status: int, is_permanent: bool) -> None:
    """Only answers that another try would get again are final."""
    with web() as server:
        server.answers = [(status, {})]
        error = refused(f"http://127.0.0.1:{server.port}/")

    assert (error.code, error.is_permanent) == ("notice-refused", is_permanent)


@pytest.mark.parametrize(
    ("status", "after", "wait_s"),
    [(429, "7", 7.0), (503, "99999", 3600.0), (503, "soon", None), (503, "-5", None), (500, "7", None)],
)
def test_a_receiver_may_ask_for_a_pause(status: int, after: str, wait_s: float | None) -> None:
    """Retry-After in seconds is heeded, up to an hour."""
    with web() as server:
        server.answers = [(status, {"retry-after": after})]
        error = refused(f"http://127.0.0.1:{server.port}/")

    assert error.retry_after_s == wait_s


def test_a_redirect_within_the_host_is_followed() -> None:
    """307 keeps method and body; the notice arrives at the new path."""
    with web() as server:
        server.answers = [(307, {"location": "/new"})]
        send(f"http://127.0.0.1:{server.port}/old", secret=SECRET)

    assert [request.path for request in server.requests] == ["/old", "/new"]
    assert server.requests[1].body == server.requests[0].body
    assert "webhook-signature" in server.requests[1].headers


@pytest.mark.parametrize("status", [307, 308])
def test_a_redirect_to_another_host_is_not_followed(status: int) -> None:
    """Whoever can make a receiver redirect does not get the notice."""
    with web() as thief, web() as server:
        server.answers = [(status, {"location": f"http://127.0.0.1:{thief.port}/"})]
        error = refused(f"http://127.0.0.1:{server.port}/")

    assert error.code == "notice-redirected"
    assert thief.requests == []


@pytest.mark.parametrize("answer", [(302, {"location": "/"}), (308, {}), (307, {"location": "ftp://x/"})])
def test_a_redirect_that_would_lose_the_notice_fails(answer: tuple[int, dict[str, str]]) -> None:
    """One that turns POST into GET, or goes nowhere, or goes round, is told and not counted as delivered."""
    with web() as server:
        server.answers = [answer] * 9
        error = refused(f"http://127.0.0.1:{server.port}/")

    assert error.code == "notice-redirected"
    assert len(server.requests) <= 4


def test_https_verifies_whom_it_talks_to(tmp_path: Path) -> None:
    """A server of a trusted authority gets the notice; an unknown authority or another name gets nothing."""
    good, other = papers(tmp_path), tmp_path / "other"
    other.mkdir()
    trusted = ssl.create_default_context(cafile=good.ca_file)
    with web(good.server) as server:
        send(f"https://127.0.0.1:{server.port}/", tls=trusted)
        assert len(server.requests) == 1
        assert refused(f"https://127.0.0.1:{server.port}/").code == "notice-undelivered"
        assert len(server.requests) == 1
    misnamed = papers(other, name="elsewhere.example")
    with web(misnamed.server) as server:
        error = refused(f"https://127.0.0.1:{server.port}/", tls=ssl.create_default_context(cafile=misnamed.ca_file))
        assert error.code == "notice-undelivered"
        assert server.requests == []


def test_a_receiver_that_is_not_there_is_a_failure_to_be_tried_again() -> None:
    """Connection refused is told with where, and is not final."""
    with web() as server:
        port = server.port
    error = refused(f"http://127.0.0.1:{port}/secret-path")

    assert (error.code, error.is_permanent) == ("notice-undelivered", False)
    assert f"http://127.0.0.1:{port} " in error.message
    assert "secret-path" not in str(error)


@pytest.mark.parametrize(
    ("url", "code"),
    [("http://example.com/x", "insecure-sink"), ("ftp://example.com", "bad-sink"), ("https://", "bad-sink"),
     ("http://10.0.0.1/", "insecure-sink"), ("https://[::1", "bad-sink")],
)  # fmt: skip
def test_an_address_that_is_unusable_is_refused_at_once(url: str, code: str) -> None:
    """Plain HTTP to another machine, and what is no URL, never become a notifier."""
    with pytest.raises(InputError) as error:
        WebhookNotifier(url)

    assert error.value.code == code


@pytest.mark.parametrize("secret", ["short", "whsec_!!!", "whsec_" + base64.b64encode(b"k" * 23).decode()])
def test_a_weak_secret_is_refused(secret: str) -> None:
    """Fewer than 24 bytes, or base64 that is none."""
    with pytest.raises(InputError) as error:
        key_of(secret)

    assert error.value.code == "bad-sink"
