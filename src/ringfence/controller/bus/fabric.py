"""The controller's end of the bus: the server child (or somebody else's server), who may enter, and the connections.

INVARIANT: whoever is revoked is refused before they are shown out, so they cannot come straight back; they are looked
for until they are not found any more, for a connection may be on its way while one looks.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple
from uuid import UUID

from cryptography import x509

from ringfence.bus.accounts import open_seeds
from ringfence.bus.jetstream import CONTROLLER_INBOX, JetStreamBus, Options
from ringfence.bus.nodes import parse_urls
from ringfence.bus.server import BusServer, Settings, Tls
from ringfence.controller.bus.callout import Callout, Door
from ringfence.controller.bus.existing_bus import ExistingBus, replicas_on
from ringfence.controller.identity.ca import Authority, csr_of, key_pem, new_key
from ringfence.durable import read_secret, write_secret
from ringfence.ports.bus import BusError

_log = logging.getLogger(__name__)
_CONNECT_S: Final = 30.0
_WAIT_S: Final = 0.5
_STORE_BYTES: Final = 2 << 30
RENEW_BEFORE: Final = timedelta(days=10)
SWEEP_S: Final = 3.0
_CLEAN: Final = 3
"""So often in a row a workload is not found until it is gone: longer than it takes to be let in."""
_LOOKS: Final = 3


class Shown(NamedTuple):
    """What showing a workload out came to."""

    ended: int
    """Connections."""
    is_out: bool
    """Whether none was left when last looked for."""


class Exit:
    """Those who must leave, until they have."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self.leaving: dict[UUID, int] = {}
        """How often in a row nothing was found of each."""

    def add(self, uuids: Iterable[UUID]) -> None:
        self.leaving |= dict.fromkeys(uuids, 0)

    async def show_out(self, uuid: UUID) -> Shown:
        """End every connection of a workload that was revoked, now, and by `sweep` whatever appears later."""
        self.add((uuid,))
        ended = 0
        for _ in range(_LOOKS):
            try:
                found = await self._door.close_to(uuid)
            except BusError as error:
                _log.warning("whether `%s` is connected is not known: %s", uuid, error)
                return Shown(ended, is_out=False)
            if not found:
                return Shown(ended, is_out=True)
            ended += found
        return Shown(ended, is_out=False)

    async def sweep(self) -> int:
        """End what is found of those who are leaving: how many connections. Raises BusError while nobody can say."""
        if not self.leaving:
            return 0
        found: set[UUID] = set()

        def is_unwanted(uuid: UUID) -> bool:
            if uuid in self.leaving:
                found.add(uuid)
            return uuid in found

        ended = await self._door.sweep(is_unwanted)
        counts = {uuid: 0 if uuid in found else clean + 1 for uuid, clean in self.leaving.items()}
        self.leaving = {uuid: clean for uuid, clean in counts.items() if clean < _CLEAN}
        return ended


class Fabric:
    """NATS as this controller uses it. `bus` is for everything, `exit` for showing out."""

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
        """`names`: DNS names and addresses hosts reach this controller by; `url`: servers that run already,
        with commas between them. Raises InputError `bad-bus-url`."""
        self._authority, self._names = authority, tuple(names)
        self._nodes = parse_urls(url) if url else ()
        folder.mkdir(parents=True, exist_ok=True)
        seeds = open_seeds(folder / "bus.json")
        self.own, roots = folder / "controller.pem", folder / "roots.pem"
        self.certify()
        write_secret(roots, authority.bundle)
        self.server: BusServer | None = None
        if not self._nodes:
            tls = Tls(self.own, self.own, roots)
            self.server = BusServer(Settings(folder / "nats", tls, seeds.public, host, port))
        self.callout = Callout(seeds.issuer, authority, is_revoked)
        self.bus = self._connection(CONTROLLER_INBOX, seeds.controller)
        self._system = self._connection("_INBOX", seeds.system)
        self.exit = Exit(Door(self._system))
        self._existing = ExistingBus(self._nodes, self._context, self.bus, self._system, self.callout)

    @property
    def urls(self) -> tuple[str, ...]:
        """Where agents connect; of servers that run already, those that were proven."""
        if self._nodes:
            return tuple(node.url for node in self._existing.proven)
        port = self.server.port if self.server else 0
        return tuple(f"tls://{f'[{name}]' if ':' in name else name}:{port}" for name in self._names)

    async def start(self) -> None:
        """Return once the bus can be used. Raises BusError, RingfenceError `bus-port-taken`, `bus-not-started`, and for
        servers that run already as `ExistingBus`."""
        if self.server is not None:
            await self.server.start()
        for connection in (self.bus, self._system):
            connection.start()
        if self._nodes:
            await self._existing.enter()
        await self.bus.connected(timeout_s=_CONNECT_S)
        await self.bus.open_store(max_bytes=_STORE_BYTES, replicas=replicas_on(len(self._nodes)))
        await self.callout.serve(self.bus)
        await self.bus.flush()
        if self._nodes:
            await self._existing.prove()

    async def stop(self) -> None:
        for connection in (self.bus, self._system):
            await connection.close()
        if self.server is not None:
            await self.server.stop()

    def _connection(self, inbox: str, seed: str) -> JetStreamBus:
        urls = tuple(node.url for node in self._nodes) or (f"tls://localhost:{self.server.port if self.server else 0}",)
        return JetStreamBus(Options(urls, self._context, inbox, name="controller", nkey_seed=seed))

    async def prove_others(self) -> None:
        """Servers that were not up when this one started: hosts are told of them once they are proven. Raises
        RingfenceError `bus-open`, `bus-not-judged`."""
        await self._existing.prove_others()

    async def servers(self) -> tuple[int, int] | None:
        """How many of somebody else's servers answer, of how many; None: there is our own. Raises BusError."""
        if not self._nodes:
            return None
        answers = await self._system.ask_all("$SYS.REQ.SERVER.PING", b"", wait_s=_WAIT_S)
        return len(answers), len(self._nodes)

    def bus_certificate_ends(self) -> datetime | None:
        """Of the server that the controller is connected to."""
        return self.bus.certificate_ends

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
