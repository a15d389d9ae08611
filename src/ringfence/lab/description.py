"""The YAML of a world: text -> World, with every mistake found at once and shown where it was written.

Scalars are read as text and converted by the field's type, so no word of YAML 1.1 turns into a truth value.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from importlib import resources
from pathlib import Path as FilePath
from typing import Any

import msgspec
import yaml

from ringfence.core.errors import Finding, FindingsError, InputError, Location
from ringfence.core.labels.selector import LABEL_KEY, LABEL_VALUE, Selector, parse_selector
from ringfence.core.net.service import TCP, UDP, parse_service, protocol_of
from ringfence.lab.world import PING, Host, HostKind, Network, Path, Service, Speaks, Survey, Transport, World

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,40}[a-z0-9])?")
_HOLDABLE: tuple[Speaks, ...] = ("store", "greeting")
_DATAGRAMS: tuple[Speaks, ...] = ("dns", "ntp", "echo")


class _Service(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    port: str
    speaks: Speaks


class _Client(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    to: str
    service: str
    every: str
    held: bool = False


class _Survey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    to: str
    ports: list[int]
    every: str


class _Everywhere(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    services: list[str] = []
    clients: list[_Client] = []


class _Host(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    addresses: list[str]
    labels: dict[str, str] = {}
    kind: HostKind = "host"
    services: list[str] = []
    clients: list[_Client] = []
    surveys: list[_Survey] = []


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    lab: str
    networks: dict[str, list[str]]
    services: dict[str, _Service]
    hosts: list[_Host]
    everywhere: _Everywhere = _Everywhere()


def find_world(text: str) -> World:
    """A world by the path of its description (`worlds/mine.yaml`), else by the name of one that ships."""
    return read_world(FilePath(text)) if text.endswith((".yaml", ".yml")) else built_in(text)


def built_in(name: str) -> World:
    """A world that ships with Ringfence, by name. Raises InputError `lab-world-unknown`."""
    folder = resources.files("ringfence.lab") / "worlds"
    known = sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))
    if name not in known:
        raise InputError("lab-world-unknown", f"there is no world `{name}`", help=f"known: {', '.join(known)}")
    return parse_world((folder / f"{name}.yaml").read_text(encoding="utf-8"), f"{name}.yaml")


def read_world(path: FilePath) -> World:
    """A world from a file. Raises InputError `lab-world-unreadable`, FindingsError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("lab-world-unreadable", f"cannot read `{path}`: {error}".lower()) from error
    return parse_world(text, str(path))


def parse_world(text: str, file: str = "") -> World:
    """YAML -> World. Raises FindingsError with every finding; codes start with `lab-`."""
    marks, document = _read(text, file)
    reader = _Reader(document, marks)
    world = reader.world()
    if reader.findings:
        raise FindingsError(reader.findings)
    return world


def _read(text: str, file: str) -> tuple[_Marks, _Document]:
    try:
        root = yaml.compose(text, Loader=yaml.BaseLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = Location(file, mark.line + 1, mark.column + 1) if mark else Location(file)
        problem = getattr(error, "problem", None) or "it cannot be scanned"
        raise FindingsError([Finding("lab-yaml", f"this is not YAML: {problem}", where=where)]) from error
    marks = _Marks(file)
    try:
        plain = marks.plain(root, "$") if root is not None else None
    except RecursionError:
        raise FindingsError([Finding("lab-yaml", "an alias contains itself", where=Location(file))]) from None
    if marks.findings:
        raise FindingsError(marks.findings)
    try:
        return marks, msgspec.convert(plain, _Document, strict=False)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `")
        message = message[:1].lower() + message[1:].replace("`str`", "text").replace("`null`", "nothing")
        raise FindingsError([Finding("lab-shape", message, where=marks.at(path.rstrip("`") or "$"))]) from error


class _Marks:
    """Where each node was written, by its path (`$.hosts[3].name`)."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.places: dict[str, Location] = {}
        self.findings: list[Finding] = []

    def plain(self, node: yaml.Node, path: str) -> Any:
        self.places[path] = Location(self.file, node.start_mark.line + 1, node.start_mark.column + 1)
        if isinstance(node, yaml.SequenceNode):
            return [self.plain(child, f"{path}[{index}]") for index, child in enumerate(node.value)]
        if not isinstance(node, yaml.MappingNode):
            return node.value
        out: dict[str, Any] = {}
        for key, value in node.value:
            if key.value in out:
                where = Location(self.file, key.start_mark.line + 1, key.start_mark.column + 1)
                self.findings.append(Finding("lab-duplicate-key", f"`{key.value}` is written twice", where=where))
            out[str(key.value)] = self.plain(value, f"{path}.{key.value}")
        return out

    def at(self, path: str) -> Location:
        """The place of the path, or of the nearest node around it."""
        while path not in self.places and path:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return self.places.get(path, Location(self.file))


class _Reader:
    """Checks a document and resolves it into a World, collecting findings on the way."""

    def __init__(self, document: _Document, marks: _Marks) -> None:
        self.document = document
        self.marks = marks
        self.findings: list[Finding] = []
        self.services: dict[str, Service] = {}
        self.hosts: dict[str, Host] = {}

    def error(self, code: str, message: str, path: str, help: str = "") -> None:
        self.findings.append(Finding(code, message, where=self.marks.at(path), help=help))

    def world(self) -> World:
        networks = tuple(self._networks())
        self.services = dict(self._services())
        self.hosts = {host.name: host for host in self._hosts(networks)}
        places = [(written, f"$.hosts[{index}]") for index, written in enumerate(self.document.hosts)]
        paths = [path for written, place in places for path in self._paths(written, place)]
        surveys = [survey for written, place in places for survey in self._surveys(written, place)]
        return World(
            name=self._name(self.document.lab, "$.lab"),
            networks=networks,
            hosts=tuple(self.hosts.values()),
            paths=tuple(dict.fromkeys(paths)),
            surveys=tuple(surveys),
        )

    def _name(self, text: str, path: str, *, longest: int = 42) -> str:
        if not _NAME.fullmatch(text) or len(text) > longest:
            self.error(
                "lab-name", f"`{text}` is not a name", path, f"use a-z, 0-9 and `-`, at most {longest} characters"
            )
        return text

    def _networks(self) -> Iterator[Network]:
        for name, cidrs in self.document.networks.items():
            path = f"$.networks.{name}"
            self._name(name, path, longest=12)
            try:
                for cidr in cidrs:
                    ipaddress.ip_network(cidr)
            except ValueError as error:
                self.error("lab-network-cidr", str(error).lower(), path)
                continue
            yield Network(name, tuple(cidrs))

    def _services(self) -> Iterator[tuple[str, Service]]:
        for name, written in self.document.services.items():
            path = f"$.services.{name}"
            self._name(name, path)
            service = self._service(name, written, path)
            if service is not None:
                yield name, service

    def _service(self, name: str, written: _Service, path: str) -> Service | None:
        try:
            points = parse_service(written.port)
        except ValueError as error:
            self.error("lab-service-port", str(error), path)
            return None
        first = points.ranges[0][0]
        if points.size != 1 or protocol_of(first) not in (TCP, UDP) or first & 0xFFFF == 0:
            self.error("lab-service-port", f"`{written.port}` is not one port", path, "write `tcp/443`")
            return None
        transport: Transport = "tcp" if protocol_of(first) == TCP else "udp"
        if (written.speaks in _DATAGRAMS) != (transport == "udp") or name == PING.name:
            self.error("lab-service-speaks", f"`{name}` cannot speak {written.speaks} over {transport}", path)
            return None
        return Service(name, transport, first & 0xFFFF, written.speaks)

    def _hosts(self, networks: Sequence[Network]) -> Iterator[Host]:
        seen: dict[str, str] = {}
        for index, written in enumerate(self.document.hosts):
            path = f"$.hosts[{index}]"
            if self._name(written.name, f"{path}.name") in (h.name for h in self.document.hosts[:index]):
                self.error("lab-duplicate-host", f"host `{written.name}` is written twice", f"{path}.name")
            for key, value in written.labels.items():
                if not LABEL_KEY.fullmatch(key) or not LABEL_VALUE.fullmatch(value):
                    self.error("lab-label", f"`{key}={value}` is not a label", f"{path}.labels.{key}")
            addresses = self._addresses(written, networks, seen, path)
            network = next((n.name for n in networks if addresses and n.holds(addresses[0])), "")
            services = [*(self.document.everywhere.services if written.kind == "host" else ()), *written.services]
            known = tuple(self._offered(services, path))
            yield Host(written.name, network, addresses, written.labels, written.kind, known)

    def _addresses(
        self, written: _Host, networks: Sequence[Network], seen: dict[str, str], path: str
    ) -> tuple[str, ...]:
        out: list[str] = []
        homes: set[str] = set()
        for index, text in enumerate(written.addresses):
            here = f"{path}.addresses[{index}]"
            try:
                address = str(ipaddress.ip_address(text))
            except ValueError:
                self.error("lab-address", f"`{text}` is not an address", here)
                continue
            home = next((n for n in networks if n.holds(address)), None)
            if home is None or any(str(g.ip) == address for g in home.gateways()):
                self.error("lab-address-network", f"`{address}` is free in no network of this world", here)
            if seen.setdefault(address, written.name) != written.name:
                self.error("lab-duplicate-address", f"`{address}` is also held by `{seen[address]}`", here)
            homes |= {home.name} if home else set()
            out.append(address)
        if not out or len(homes) > 1:
            self.error("lab-host-network", f"host `{written.name}` needs addresses of exactly one network", path)
        return tuple(out)

    def _offered(self, names: Sequence[str], path: str) -> Iterator[Service]:
        for name in dict.fromkeys(names):
            if name in self.services:
                yield self.services[name]
            elif name not in self.document.services:
                self.error("lab-unknown-service", f"there is no service `{name}`", path, _near(name, self.services))

    def _paths(self, written: _Host, path: str) -> Iterator[Path]:
        everywhere = self.document.everywhere.clients if written.kind == "host" else []
        places = [f"$.everywhere.clients[{i}]" for i in range(len(everywhere))]
        places += [f"{path}.clients[{i}]" for i in range(len(written.clients))]
        for client, here in zip([*everywhere, *written.clients], places, strict=True):
            yield from self._client_paths(written.name, client, here)

    def _client_paths(self, name: str, client: _Client, here: str) -> Iterator[Path]:
        every_s = self._duration(client.every, f"{here}.every")
        known = client.service in (PING.name, *self.services)
        if not known:
            help_ = _near(client.service, self.services)
            self.error("lab-unknown-service", f"there is no service `{client.service}`", here, help_)
        elif client.held and self.services.get(client.service, PING).speaks not in _HOLDABLE:
            self.error("lab-client-held", f"`{client.service}` cannot be held open", here)
        for server in self._servers(name, client.to, here):
            if known and self.hosts[server].service(client.service) is None:
                self.error("lab-service-not-offered", f"`{server}` does not offer `{client.service}`", here)
            yield Path(name, server, client.service, every_s, client.held)

    def _surveys(self, written: _Host, path: str) -> Iterator[Survey]:
        for index, survey in enumerate(written.surveys):
            here = f"{path}.surveys[{index}]"
            if not survey.ports or not all(0 < port < 65536 for port in survey.ports):
                self.error("lab-survey-ports", "a survey needs ports from 1 to 65535", f"{here}.ports")
            servers = tuple(self._servers(written.name, survey.to, here))
            yield Survey(written.name, servers, tuple(survey.ports), self._duration(survey.every, f"{here}.every"))

    def _servers(self, client: str, to: str, here: str) -> list[str]:
        """The hosts a client's `to` means (a host's name, else a selector), never the client itself."""
        if to in self.hosts:
            return [to] if to != client else []
        selector = _selector(to)
        if selector is None:
            self.error("lab-unknown-host", f"`{to}` is neither a host nor a selector", here, _near(to, self.hosts))
            return []
        found = [h.name for h in self.hosts.values() if h.kind != "outside" and selector.matches(h.labels)]
        if not found:
            self.error("lab-unmatched", f"`{to}` picks no host", here)
        return [name for name in found if name != client]

    def _duration(self, text: str, path: str) -> float:
        match = _DURATION.fullmatch(text)
        seconds = float(match[1]) * _SECONDS[match[2]] if match else 0.0
        if seconds <= 0:
            self.error("lab-duration", f"`{text}` is not a duration", path, "write `500ms`, `2s`, `1m` or `1h`")
        return seconds


def _selector(text: str) -> Selector | None:
    try:
        return parse_selector(text) if any(mark in text for mark in "=!,(") else None
    except ValueError:
        return None


def _near(text: str, known: Mapping[str, object]) -> str:
    near = get_close_matches(text, known, n=1)
    return f"did you mean `{near[0]}`?" if near else ""
