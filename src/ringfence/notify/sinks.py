"""Where people want to be told, as they configure it, and the notifier that a sink stands for.

    https://host/path                       a webhook
    syslog+udp://host  syslog+tcp://host  syslog+tls://host:6514     `format`: json or cef
    apprise:slack://...                     any service of Apprise

INVARIANT: a sink that cannot be meant as it is written is refused when it is configured, not when it is needed.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from ringfence.core.errors import InputError
from ringfence.notify.dispatcher import Route
from ringfence.notify.services import AppriseNotifier
from ringfence.notify.syslog import BODIES, SyslogNotifier, Transport
from ringfence.notify.webhook import WebhookNotifier
from ringfence.ports.notifier import SEVERITIES, Notice, Notifier
from ringfence.ports.state import AlertSeverity

_SYSLOG: dict[str, Transport] = {"syslog+udp": "udp", "syslog+tcp": "tcp", "syslog+tls": "tls"}
_HELP = "write https://, syslog+udp://, syslog+tcp://, syslog+tls:// or apprise: and a service's URL"


class Sink(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[[notify]]`: one way to be told, and of what."""

    name: str
    url: str
    secret_file: str = ""
    """A webhook's signing secret, alone in a file."""
    format: Literal["json", "cef"] = "json"
    """What a syslog message holds."""
    at_least: AlertSeverity = "info"
    kinds: tuple[str, ...] = ()
    """Of which kinds; none named means every kind."""
    ca_file: str = ""
    """The authorities (PEM) to trust in place of the system's."""
    certificate_file: str = ""
    """Our own certificate chain (PEM), where the receiver asks for one, and its key."""
    key_file: str = ""

    def wants(self, notice: Notice) -> bool:
        """Whether a notice is for this sink. Summaries are: they may stand for what is."""
        if notice.news == "summary":
            return True
        is_severe = SEVERITIES.index(notice.severity) >= SEVERITIES.index(self.at_least)
        return is_severe and (not self.kinds or notice.kind in self.kinds)


def notifier_of(sink: Sink) -> Notifier:
    """Raises InputError `bad-sink`, `insecure-sink`, `unreadable-file`."""
    scheme, _, rest = sink.url.partition(":")
    if scheme == "apprise":
        return AppriseNotifier(rest)
    if scheme in ("https", "http"):
        secret = _read(sink.secret_file).strip() if sink.secret_file else ""
        return WebhookNotifier(sink.url, secret=secret, tls=_tls(sink))
    if scheme in _SYSLOG:
        return _syslog(sink, _SYSLOG[scheme])
    raise InputError("bad-sink", f"sink `{sink.name}` is of no known kind", help=_HELP)


def routes_of(sinks: Iterable[Sink]) -> dict[str, Route]:
    """What the dispatcher needs of each sink. Raises as `notifier_of` does, and InputError `bad-sink` for a name given
    twice.
    """
    routes: dict[str, Route] = {}
    for sink in sinks:
        if sink.name in routes:
            raise InputError("bad-sink", f"two sinks are called `{sink.name}`", help="rename one of them")
        routes[sink.name] = Route(notifier_of(sink), sink.wants)
    return routes


def _syslog(sink: Sink, transport: Transport) -> SyslogNotifier:
    try:
        parts = urlsplit(sink.url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host:
        raise InputError("bad-sink", f"sink `{sink.name}` names no host", help="write syslog+tls://host:6514")
    tls = _tls(sink) if transport == "tls" else None
    return SyslogNotifier(host, port, transport=transport, body=BODIES[sink.format], tls=tls)


def _tls(sink: Sink) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=sink.ca_file or None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if sink.certificate_file:
            context.load_cert_chain(sink.certificate_file, sink.key_file or None)
    except OSError as error:
        told = f"certificates of sink `{sink.name}` cannot be used: {error.strerror or error.args[-1]}"
        raise InputError("bad-sink", told, help="they must be PEM files that can be read") from error
    return context


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = (getattr(error, "strerror", None) or "it is not UTF-8").lower()
        raise InputError("unreadable-file", f"cannot read `{path}`: {why}", help="check its permissions") from error
