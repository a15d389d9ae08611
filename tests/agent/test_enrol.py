"""Joining: over real TLS, with a real authority, against controllers that are and are not who they say."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from ringfence.agent.enrol import keys
from ringfence.agent.enrol.enrol import Admission, Request, enrol, renew
from ringfence.agent.held.disk import Disk
from ringfence.controller.identity.ca import Authority, csr_of, key_pem, new_key
from ringfence.core.errors import InputError, RingfenceError
from ringfence.durable import write_secret
from ringfence.wire.join import Join

WORKLOAD = UUID("aaaaaaaa-0000-4000-8000-000000000001")


class Api:
    """The two doors of a controller, and what came through them."""

    def __init__(self, folder: Path) -> None:
        now = datetime.now(UTC)
        self.authority = Authority.open(folder / "ca.json", trust_domain="estate.test", now=now)
        self.asked: list[tuple[str, Request, str]] = []
        self.refusal: tuple[int, dict[str, str]] | None = None
        key = new_key()
        issued = self.authority.issue_server(csr_of(key), ["localhost"], now=now)
        write_secret(folder / "server.pem", key_pem(key) + issued.certificate)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "server.pem")
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_verify_locations(cadata=self.authority.bundle.decode())
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"https://localhost:{self.server.server_address[1]}"

    def token(self, *, ca: str = "") -> str:
        import hashlib

        der = ssl.PEM_cert_to_DER_cert(self.authority.bundle.decode())
        return Join(self.url, ca or hashlib.sha256(der).hexdigest(), "t", "secret").token

    def answer(self, path: str, asked: Request, peer: str) -> bytes:
        self.asked.append((path, asked, peer))
        issued = self.authority.issue_svid(asked.csr.encode(), WORKLOAD, now=datetime.now(UTC))
        return msgspec.json.encode(
            Admission(
                str(WORKLOAD), issued.certificate.decode(), self.authority.bundle.decode(), (bytes(32),),
                ("tls://localhost:4222",), "estate.test",
            )
        )  # fmt: skip

    def _handler(api: Api) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._send(200, api.authority.bundle)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                peer = self.connection.getpeercert() or {}  # type: ignore[attr-defined]
                name = dict(peer.get("subjectAltName", ())).get("URI", "")
                if api.refusal:
                    self._send(api.refusal[0], msgspec.json.encode(api.refusal[1]))
                else:
                    self._send(200, api.answer(self.path, msgspec.json.decode(body, type=Request), name))

            def _send(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        return Handler


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    made = Api(tmp_path / "controller")
    yield made
    made.server.shutdown()
    made.server.server_close()


def test_a_host_joins_and_renews(api: Api, tmp_path: Path) -> None:
    """A token becomes a certificate; the certificate alone becomes the next one, of another key."""
    disk = Disk(tmp_path / "agent")

    first = asyncio.run(enrol(disk, api.token()))
    second = asyncio.run(renew(disk))

    assert first.identity.uuid == second.identity.uuid == WORKLOAD
    assert first.identity.secret != second.identity.secret
    assert disk.load_trust().nats == ("tls://localhost:4222",)
    assert [path for path, _, _ in api.asked] == ["/v1/agents/enrol", "/v1/agents/renew"]
    assert api.asked[0][1].token == api.token()
    assert api.asked[0][1].machine
    assert api.asked[1][1].token == ""
    assert api.asked[1][2] == f"spiffe://estate.test/workload/{WORKLOAD}"


def test_the_secret_is_said_to_nobody_but_the_controller_of_the_token(api: Api, tmp_path: Path) -> None:
    """Another CA answers at the address: the host stops before it says anything."""
    with pytest.raises(InputError) as refused:
        asyncio.run(enrol(Disk(tmp_path / "agent"), api.token(ca="0" * 64)))

    assert refused.value.code == "controller-unknown"
    assert api.asked == []
    assert not (tmp_path / "agent" / keys.IDENTITY).exists()


def test_a_ca_that_is_shown_but_did_not_sign_the_server_is_not_enough(api: Api, tmp_path: Path) -> None:
    """Who copies the public CA certificate still cannot speak for the controller."""
    other = Authority.open(tmp_path / "other.json", trust_domain="estate.test", now=datetime.now(UTC))
    api.authority = other

    with pytest.raises(InputError) as refused:
        asyncio.run(enrol(Disk(tmp_path / "agent"), api.token()))

    assert refused.value.code == "controller-unknown"
    assert api.asked == []


@pytest.mark.parametrize(
    ("status", "said", "code"),
    [(403, {"code": "join-refused", "message": "used up"}, "join-refused"), (503, {}, "controller-unreachable")],
)
def test_what_the_controller_refuses_is_said_in_its_words(
    api: Api, tmp_path: Path, status: int, said: dict[str, str], code: str
) -> None:
    """Its code is the agent's code; a controller in trouble is one to ask again."""
    api.refusal = (status, said)

    with pytest.raises(RingfenceError) as refused:
        asyncio.run(enrol(Disk(tmp_path / "agent"), api.token()))

    assert refused.value.code == code


def test_a_controller_that_is_not_there_is_unreachable(api: Api, tmp_path: Path) -> None:
    """And nothing is left behind."""
    token = Join("https://localhost:1", "0" * 64, "t", "secret").token

    with pytest.raises(RingfenceError) as refused:
        asyncio.run(enrol(Disk(tmp_path / "agent"), token))

    assert refused.value.code == "controller-unreachable"
