"""The controller's end of the bus: the server child (or somebody else's server), who may enter, and the connections.

INVARIANT: whoever is revoked is refused before they are shown out, so they cannot come straight back.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final
from uuid import UUID

from cryptography import x509

from ringfence.bus.accounts import open_seeds
from ringfence.bus.jetstream import CONTROLLER_INBOX, JetStreamBus, Options
from ringfence.bus.secrets import read_secret, write_secret
from ringfence.bus.server import BusServer, Settings, Tls
from ringfence.controller.ca import Authority, csr_of, key_pem, new_key
from ringfence.controller.callout import Callout, Door
from ringfence.ports.bus import BusError

_log = logging.getLogger(__name__)
_CONNECT_S: Final = 30.0
_STORE_BYTES: Final = 2 << 30
RENEW_BEFORE: Final = timedelta(days=10)


class Fabric:
    """NATS as this controller uses it. `bus` is for everything, `door` for showing out."""

    def __init__(
        self,
        folder: Path,
        authority: Authority,
        is_revoked: Callable[[str, UUID], bool],
        *,
        names: Sequence[str],
        url: str = "",
        host: str = "0.0.0.0",
        port: int = 4222,
    ) -> None:
        """`names`: DNS names and addresses hosts reach this controller by; `url`: a server that runs already."""
        self._folder, self._authority, self._names, self._url = folder, authority, tuple(names), url
        folder.mkdir(parents=True, exist_ok=True)
        seeds = open_seeds(folder / "bus.json")
        self.own, roots = folder / "controller.pem", folder / "roots.pem"
        self.certify()
        write_secret(roots, authority.bundle)
        self.server: BusServer | None = None
        if not url:
            tls = Tls(self.own, self.own, roots)
            self.server = BusServer(Settings(folder / "nats", tls, seeds.public, host, port))
        self.callout = Callout(seeds.issuer, authority, is_revoked)
        self.bus = self._connection(CONTROLLER_INBOX, seeds.controller)
        self._system = self._connection("_INBOX", seeds.system)
        self.door = Door(self._system)
        self._is_revoked = is_revoked

    @property
    def urls(self) -> tuple[str, ...]:
        """Where agents connect."""
        if self._url:
            return (self._url,)
        port = self.server.port if self.server else 0
        return tuple(f"tls://{f'[{name}]' if ':' in name else name}:{port}" for name in self._names)

    async def start(self) -> None:
        """Return once the bus can be used. Raises BusError, RingfenceError `bus-port-taken`, `bus-not-started`."""
        if self.server is not None:
            await self.server.start()
        for connection in (self.bus, self._system):
            connection.start()
        await self.bus.connected(timeout_s=_CONNECT_S)
        await self.bus.open_store(max_bytes=_STORE_BYTES)
        await self.callout.serve(self.bus)
        await self.bus.flush()

    async def stop(self) -> None:
        for connection in (self.bus, self._system):
            await connection.close()
        if self.server is not None:
            await self.server.stop()

    async def show_out(self, uuid: UUID) -> int:
        """End every connection of a workload that was revoked: how many."""
        try:
            return await self.door.close_to(uuid)
        except BusError as error:
            _log.warning("`%s` stays connected until its rights end: %s", uuid, error)
            return 0

    async def sweep(self, is_unwanted: Callable[[UUID], bool]) -> None:
        """Show out whoever was revoked while nobody looked."""
        try:
            await self.door.sweep(is_unwanted)
        except BusError as error:
            _log.warning("who is connected is not known: %s", error)

    def _connection(self, inbox: str, seed: str) -> JetStreamBus:
        own_url = self._url or f"tls://localhost:{self.server.port if self.server else 0}"
        return JetStreamBus(Options((own_url,), self._context, inbox, name="controller", nkey_seed=seed))

    def _context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=self._authority.bundle.decode())
        context.load_cert_chain(self.own)
        return context

    def certify(self) -> bool:
        """The controller's own certificate, made or renewed where it must be; whether it was."""
        names = list(dict.fromkeys(("localhost", "127.0.0.1", "::1", *self._names)))
        now = datetime.now().astimezone()
        content = read_secret(self.own)
        if content is not None and _is_good(content, self._authority, names, now):
            return False
        key = new_key()
        issued = self._authority.issue_server(csr_of(key), names, now=now)
        write_secret(self.own, key_pem(key) + issued.certificate)
        return True


def _is_good(content: bytes, authority: Authority, names: Sequence[str], now: datetime) -> bool:
    """Whether a certificate can still be used: long enough, for all the names, of the root that issues."""
    certificate = x509.load_pem_x509_certificate(content[content.index(b"-----BEGIN CERTIFICATE") :])
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    held = {*found.get_values_for_type(x509.DNSName), *map(str, found.get_values_for_type(x509.IPAddress))}
    is_ours = certificate.issuer == authority.roots[0].subject
    return is_ours and set(names) <= held and certificate.not_valid_after_utc - RENEW_BEFORE > now
