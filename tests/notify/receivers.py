"""Real receivers on loopback, and certificates for them."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ringfence.ports.notifier import Notice

NOW = datetime(2026, 3, 3, 12, 0, 0, 250_000, tzinfo=UTC)


def notice(id: str = "a1-1", **how: Any) -> Notice:
    """A notice of a blocked attempt."""
    full: dict[str, Any] = {
        "at": NOW, "news": "opened", "kind": "violation", "severity": "warning", "alert": id.split("-")[0],
        "message": "web-1 to db-1 tcp/22 was blocked by `shop/no-ssh`", "where": "db-1", "rule": "shop/no-ssh",
        "source": "web-1", "source_identity": "app=shop,role=web", "source_address": "10.0.0.1",
        "destination": "db-1", "destination_identity": "app=shop,role=db", "destination_address": "fd00::2",
        "service": "tcp/22", "verdict": "blocked", "count": 3, "more": 3, "first": NOW, "last": NOW,
        "commands": ("ringfence explain web-1 db-1 tcp/22",), "subject": "web-1",
    }  # fmt: skip
    return Notice(id, **full | how)


class Request(NamedTuple):
    path: str
    headers: Mapping[str, str]
    body: bytes


class Web:
    """An HTTP server that notes what is posted and answers what it was told to, then 204."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.answers: list[tuple[int, dict[str, str]]] = []
        self.port = 0


@contextmanager
def web(tls: ssl.SSLContext | None = None) -> Iterator[Web]:
    heard = Web()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            lower = {name.lower(): value for name, value in self.headers.items()}
            heard.requests.append(Request(self.path, lower, body))
            status, headers = heard.answers.pop(0) if heard.answers else (204, {})
            self.send_response(status)
            for name, value in ({"content-length": "0"} | headers).items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """A client that refuses our certificate is what some tests want."""

    with Server(("127.0.0.1", 0), Handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        heard.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield heard
        finally:
            server.shutdown()
            thread.join()


class Stream:
    """A TCP receiver that reads counted frames (RFC 6587 section 3.4.1), strictly."""

    def __init__(self) -> None:
        self.frames: asyncio.Queue[bytes] = asyncio.Queue()
        self.ended: asyncio.Queue[None] = asyncio.Queue()
        self.connections = 0
        self.port = 0
        self._writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(writer)
        try:
            while True:
                digits = await reader.readuntil(b" ")
                assert digits[:-1].isdigit()
                assert not digits.startswith(b"0")
                await self.frames.put(await reader.readexactly(int(digits)))
        except (asyncio.IncompleteReadError, ConnectionError):
            await self.ended.put(None)
        finally:
            writer.close()

    async def hang_up(self) -> None:
        """Close every connection, and wait until they are."""
        for writer in self._writers:
            writer.close()
            await writer.wait_closed()
        self._writers.clear()


@asynccontextmanager
async def stream(tls: ssl.SSLContext | None = None) -> AsyncIterator[Stream]:
    heard = Stream()
    server = await asyncio.start_server(heard.serve, "127.0.0.1", 0, ssl=tls)
    heard.port = server.sockets[0].getsockname()[1]
    try:
        yield heard
    finally:
        server.close()
        await heard.hang_up()
        await server.wait_closed()


class Papers(NamedTuple):
    """A CA, and a server's certificate of it for 127.0.0.1."""

    ca_file: Path
    server: ssl.SSLContext
    client_file: Path
    """Certificate and key of a client."""


def papers(folder: Path, *, name: str = "127.0.0.1", is_client_asked: bool = False) -> Papers:
    ca_key, ca = _certificate("test CA", None, None)
    ca_file, files = folder / "ca.pem", [folder / "server.pem", folder / "client.pem"]
    ca_file.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    for file in files:
        key, certificate = _certificate(name, ca_key, ca)
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        file.write_bytes(pem + certificate.public_bytes(serialization.Encoding.PEM))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(files[0])
    if is_client_asked:
        server.verify_mode = ssl.CERT_REQUIRED
        server.load_verify_locations(ca_file)
    return Papers(ca_file, server, files[1])


def _certificate(
    name: str, issuer_key: ec.EllipticCurvePrivateKey | None, issuer: x509.Certificate | None
) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key((issuer_key or key).public_key()), critical=False
        )
    )
    if issuer is None:
        usage = dict.fromkeys(
            ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
             "encipher_only", "decipher_only"), False,
        )  # fmt: skip
        builder = builder.add_extension(x509.KeyUsage(key_cert_sign=True, crl_sign=True, **usage), critical=True)
    else:
        try:
            names: list[x509.GeneralName] = [x509.IPAddress(ipaddress.ip_address(name))]
        except ValueError:
            names = [x509.DNSName(name)]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return key, builder.sign(issuer_key or key, hashes.SHA256())
