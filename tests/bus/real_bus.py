"""A real bus for tests: an authority, a server child, the callout, and connections of every kind."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from ringfence.bus.accounts import open_seeds
from ringfence.bus.backoff import Backoff
from ringfence.bus.jetstream import CONTROLLER_INBOX, JetStreamBus, Options, options_for_agent
from ringfence.bus.server import BusServer, Settings, Tls
from ringfence.controller.bus.callout import Callout
from ringfence.controller.identity.ca import Authority, Issued, csr_of, key_pem, new_key
from ringfence.durable import write_secret

DOMAIN = "estate.test"
QUICK = Backoff(first_s=0.05, most_s=0.2)
A = UUID("aaaaaaaa-0000-4000-8000-000000000001")
B = UUID("bbbbbbbb-0000-4000-8000-000000000002")
PATIENCE_S = 60.0


class Fleet:
    """One controller's bus."""

    def __init__(self, folder: Path, *, port: int = 0) -> None:
        self.folder = folder
        self.authority = Authority.open(folder / "ca.json", trust_domain=DOMAIN, now=datetime.now(UTC))
        self.seeds = open_seeds(folder / "bus.json")
        self.revoked: set[tuple[str, UUID]] = set()
        self.revoked_workloads: set[UUID] = set()
        self.own = self.hold("controller", self.server_certificate())
        write_secret(folder / "roots.pem", self.authority.bundle)
        tls = Tls(self.own, self.own, folder / "roots.pem")
        self.server = BusServer(Settings(folder / "nats", tls, self.seeds.public, "127.0.0.1", port, callout_s=3.0))
        self.callout = Callout(self.seeds.issuer, self.authority, self.is_revoked)

    def is_revoked(self, serial: str, uuid: UUID) -> bool:
        return (serial, uuid) in self.revoked or uuid in self.revoked_workloads

    # ---- credentials ------------------------------------------------------------------------------------------------

    def server_certificate(self) -> tuple[bytes, bytes]:
        key = new_key()
        issued = self.authority.issue_server(csr_of(key), ["localhost", "127.0.0.1"], now=datetime.now(UTC))
        return key_pem(key), issued.certificate

    def svid(
        self, uuid: UUID, *, authority: Authority | None = None, life: timedelta = timedelta(hours=1)
    ) -> tuple[Path, Issued]:
        key = new_key()
        issued = (authority or self.authority).issue_svid(csr_of(key), uuid, now=datetime.now(UTC), life=life)
        return self.hold(f"{uuid}-{issued.serial}", (key_pem(key), issued.certificate)), issued

    def hold(self, name: str, parts: tuple[bytes, bytes]) -> Path:
        path = self.folder / f"{name}.pem"
        write_secret(path, parts[0] + parts[1])
        return path

    def context(self, certificate: Path | None) -> Callable[[], ssl.SSLContext]:
        def made() -> ssl.SSLContext:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.load_verify_locations(cadata=self.authority.bundle.decode())
            if certificate:
                context.load_cert_chain(certificate)
            return context

        return made

    # ---- connections ------------------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        return f"tls://localhost:{self.server.port}"

    def bus(self, certificate: Path, inbox: str, *, seed: str = "") -> JetStreamBus:
        return JetStreamBus(Options((self.url,), self.context(certificate), inbox, nkey_seed=seed, backoff=QUICK))

    def controller(self) -> JetStreamBus:
        return self.bus(self.own, CONTROLLER_INBOX, seed=self.seeds.controller)

    def system(self) -> JetStreamBus:
        return self.bus(self.own, "_INBOX", seed=self.seeds.system)

    def agent(self, uuid: UUID) -> JetStreamBus:
        path = self.svid(uuid)[0]
        context, secret = self.context(path), uuid.bytes  # any bytes: a test has no enemies that read it
        return JetStreamBus(options_for_agent(str(uuid), [self.url], context, secret, backoff=QUICK))


@asynccontextmanager
async def running(folder: Path, *, port: int = 0) -> AsyncIterator[Fleet]:
    """A fleet whose server runs."""
    fleet = Fleet(folder, port=port)
    await fleet.server.start()
    try:
        yield fleet
    finally:
        await fleet.server.stop()


@asynccontextmanager
async def connection(bus: JetStreamBus) -> AsyncIterator[JetStreamBus]:
    """A bus that is connected."""
    bus.start()
    try:
        await bus.connected(timeout_s=PATIENCE_S)
        yield bus
    finally:
        await bus.close()


@asynccontextmanager
async def open_fleet(folder: Path) -> AsyncIterator[tuple[Fleet, JetStreamBus]]:
    """A fleet, and its controller that answers the callout and has the store open."""
    async with running(folder) as fleet, connection(fleet.controller()) as controller:
        await fleet.callout.serve(controller)
        await controller.open_store(max_bytes=64 << 20)
        await controller.flush()
        yield fleet, controller
