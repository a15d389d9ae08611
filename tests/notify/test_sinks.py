"""Sinks as people configure them, and the words that notices are told in."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from receivers import notice, papers, stream, web

from ringfence.core.errors import InputError
from ringfence.notify.services import AppriseNotifier
from ringfence.notify.sinks import Sink, notifier_of, routes_of
from ringfence.notify.words import body, title
from ringfence.ports.notifier import Notice, Notifier, NotifyError


def send(notifier: Notifier, one: Notice) -> None:
    async def go() -> None:
        try:
            await notifier.send(one)
        finally:
            await notifier.close()

    asyncio.run(asyncio.wait_for(go(), 30))


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://hooks.example/T0/secret", "https://hooks.example"),
        ("syslog+udp://log.example", "syslog+udp://log.example:514"),
        ("syslog+tcp://log.example", "syslog+tcp://log.example:601"),
        ("syslog+tls://log.example:6515", "syslog+tls://log.example:6515"),
        ("syslog+udp://[fd00::1]:99", "syslog+udp://fd00::1:99"),
        ("apprise:json://user:hunter2@localhost/", "json://user:****@localhost/"),
    ],
)
def test_a_url_says_what_kind_of_sink_it_is(url: str, target: str) -> None:
    """Each scheme makes its notifier, and what is shown of it holds no secret."""
    assert notifier_of(Sink("s", url)).target.startswith(target)
    assert "secret" not in notifier_of(Sink("s", url)).target


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ({"url": "slack://x"}, "bad-sink"),
        ({"url": "syslog+udp://"}, "bad-sink"),
        ({"url": "syslog+udp://h:port"}, "bad-sink"),
        ({"url": "syslog+tls://h", "ca_file": "/does/not/exist"}, "bad-sink"),
        ({"url": "apprise:nosuchservice://x"}, "bad-sink"),
        ({"url": "http://example.com/"}, "insecure-sink"),
        ({"url": "https://example.com/", "secret_file": "/does/not/exist"}, "unreadable-file"),
    ],
)
def test_a_sink_that_cannot_work_is_refused_when_it_is_configured(how: dict[str, str], code: str) -> None:
    """Not at the moment something has happened and somebody should be told."""
    with pytest.raises(InputError) as error:
        notifier_of(Sink("s", **how))  # type: ignore[arg-type]

    assert error.value.code == code


def test_two_sinks_of_one_name_are_refused() -> None:
    """Each has an outbox of its own, by its name."""
    with pytest.raises(InputError) as error:
        routes_of([Sink("s", "syslog+udp://a"), Sink("s", "syslog+udp://b")])

    assert error.value.code == "bad-sink"


def test_an_unknown_key_of_a_sink_is_refused() -> None:
    """A misspelt filter would send too much or too little."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"name": "s", "url": "https://x", "atleast": "error"}, Sink)


@pytest.mark.parametrize(
    ("sink", "one", "is_wanted"),
    [
        (Sink("s", ""), notice(severity="info"), True),
        (Sink("s", "", at_least="error"), notice(severity="warning"), False),
        (Sink("s", "", at_least="error"), notice(severity="critical"), True),
        (Sink("s", "", kinds=("tampering",)), notice(), False),
        (Sink("s", "", kinds=("tampering",)), notice(kind="tampering"), True),
        (Sink("s", "", at_least="critical", kinds=("x",)), notice(kind="summary", news="summary"), True),
    ],
)
def test_a_sink_wants_what_it_names(sink: Sink, one: Notice, is_wanted: bool) -> None:
    """By severity and kind; that something was held back is told to everybody."""
    assert sink.wants(one) is is_wanted


def test_a_webhook_as_configured_delivers_over_tls(tmp_path: Path) -> None:
    """CA and secret from files, certificate verified, notice signed."""
    (tmp_path / "secret").write_text("0123456789abcdef0123456789abcdef\n")
    good = papers(tmp_path)
    with web(good.server) as server:
        sink = Sink(
            "s", f"https://127.0.0.1:{server.port}/", secret_file=str(tmp_path / "secret"), ca_file=str(good.ca_file)
        )
        send(notifier_of(sink), notice())

    assert server.requests[0].headers["webhook-signature"].startswith("v1,")


def test_syslog_as_configured_delivers_cef_over_tls(tmp_path: Path) -> None:
    """Format, CA and client certificate are those of the sink."""
    good = papers(tmp_path, is_client_asked=True)

    async def go() -> bytes:
        async with stream(good.server) as receiver:
            url = f"syslog+tls://127.0.0.1:{receiver.port}"
            sink = Sink("s", url, format="cef", ca_file=str(good.ca_file), certificate_file=str(good.client_file))
            notifier = notifier_of(sink)
            await notifier.send(notice())
            frame = await receiver.frames.get()
            await notifier.close()
            return frame

    assert b"] CEF:0|Ringfence|Ringfence|" in asyncio.run(asyncio.wait_for(go(), 20))


# ---- Apprise --------------------------------------------------------------------------------------------------------


def test_apprise_delivers_title_and_body() -> None:
    """One of its services, against a real server: the title says what, the body says the rest."""
    with web() as server:
        server.answers = [(200, {})]
        send(AppriseNotifier(f"json://127.0.0.1:{server.port}/"), notice())
    document: dict[str, Any] = json.loads(server.requests[0].body)

    assert document["title"] == "[warning] violation: web-1 to db-1 tcp/22 was blocked by `shop/no-ssh`"
    assert "next:\n  ringfence explain web-1 db-1 tcp/22" in document["message"]
    assert document["type"] == "warning"


def test_a_service_that_refuses_is_a_failure() -> None:
    """Apprise's false becomes an error that may be tried again."""
    with web() as server:
        server.answers = [(500, {})]
        with pytest.raises(NotifyError) as error:
            send(AppriseNotifier(f"json://user:hunter2@127.0.0.1:{server.port}/"), notice())

    assert (error.value.code, error.value.is_permanent) == ("notice-undelivered", False)
    assert "hunter2" not in str(error.value)


# ---- words ----------------------------------------------------------------------------------------------------------


def test_the_body_answers_every_question() -> None:
    """Where, from, to, by which rule, since when, how often, what next."""
    text = body(notice())

    for line in (
        "where: db-1",
        "from: web-1 (app=shop,role=web, 10.0.0.1)",
        "to: db-1 (app=shop,role=db, fd00::2)",
        "rule: shop/no-ssh",
        "count: 3 (3 since the last notice)",
        "since: 2026-03-03 12:00:00 UTC",
        "  ringfence explain web-1 db-1 tcp/22",
    ):
        assert line in text.splitlines()


@pytest.mark.parametrize(
    ("news", "start"),
    [("opened", "[error] offline: "), ("resolved", "[error] over: offline: "), ("raised", "[error] worse: offline: ")],
)
def test_the_title_says_what_became_of_it(news: Any, start: str) -> None:
    """New, over or worse, in the first words."""
    assert title(notice(news=news, kind="offline", severity="error")).startswith(start)
