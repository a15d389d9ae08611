"""Case files -> worlds, probes and what is wanted, as README.md describes them; a misspelt key is an error here."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from ringfence.core.errors import Finding, Location
from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import Lease, Mode, ModeName, utc
from ringfence.core.net.address import is_v4, parse_address, parse_cidr
from ringfence.core.net.intervals import IntervalSet, union
from ringfence.core.net.service import WELL_KNOWN, parse_service
from ringfence.core.policy import yaml
from ringfence.core.policy.check import check
from ringfence.core.policy.model import Peer
from ringfence.core.policy.parse import Parsed, parse_policies
from ringfence.core.world import Answer, Endpoint, Failsafe, Flow, Quarantine, QuarantineException, World
from ringfence.inventory.files import Loaded, load_workloads

HERE = Path(__file__).parent
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
"""The world's time where a case states none."""


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Part of a case as written."""


class Probe(Model, frozen=True, rename={"source": "from", "destination": "to", "as_mode": "as"}):
    """One new connection and the verdict it must get; what is not given is not asked for."""

    source: str
    destination: str
    service: str
    want: str
    at: datetime | None = None
    mutual_tls: bool = False
    from_process: str | None = None
    to_process: str | None = None
    source_port: int | None = None
    network: str = "main"
    as_mode: ModeName | None = None
    reason: str | None = None
    rule: str | msgspec.UnsetType | None = msgspec.UNSET
    unless: list[str] | None = None
    ends: dict[str, str] | None = None


class Exception_(Model, frozen=True):
    peer: str
    service: str
    direction: str


class Isolation(Model, frozen=True):
    workload: str
    until: datetime | None = None
    allow: list[Exception_] = []
    addresses: list[str] = []
    """Bound besides those it holds."""


class Passage(Model, frozen=True):
    direction: str
    cidr: str
    service: str


class AnswerText(Model, frozen=True, rename={"start": "from", "end": "to"}):
    address: str
    start: datetime | None = None
    end: datetime | None = None


class WorldText(Model, frozen=True):
    workloads: list[dict[str, Any]] = []
    failsafe: list[Passage] = []
    quarantine: list[Isolation] = []
    names: dict[str, list[str | AnswerText]] = {}
    ignore: list[str] = []
    at: datetime = EPOCH


class WantedProof(Model, frozen=True):
    test: str
    result: str


class Case(Model, frozen=True, dict=True):
    """One case; `where` is added by the loader."""

    note: str
    world: WorldText = WorldText()
    policies: list[str | dict[str, Any]] = []
    probes: list[Probe] = []
    want_errors: list[str] | None = None
    want_findings: list[str] | None = None
    want_proof: list[WantedProof] = []
    refuses: dict[str, list[str]] = {}
    where: Location = Location()

    @cached_property
    def loaded(self) -> Loaded:
        return load_workloads(json.dumps(self.world.workloads), "inventory.json")

    @cached_property
    def parsed(self) -> Parsed:
        texts = {f"policy-{i}.yaml": text_of(policy) for i, policy in enumerate(self.policies, 1)}
        return parse_policies(texts, ignore=self.world.ignore)

    @cached_property
    def errors(self) -> list[Finding]:
        return [f for f in (*self._loading, *self.parsed.findings) if f.severity == "error"]

    @property
    def _loading(self) -> Iterable[Finding]:
        """The inventory's findings; that a case has no workloads says nothing."""
        return [f for f in self.loaded.findings if f.code != "empty-inventory"]

    @cached_property
    def findings(self) -> list[Finding]:
        """Warnings of the inventory, of the parser and of the checks."""
        known = self.world.names or None
        found = [*self._loading, *self.parsed.findings]
        found += check(self.compiled.policies, self.compiled.inventory, self.world.at, names=known)
        return [f for f in found if f.severity != "error"]

    @cached_property
    def compiled(self) -> World:
        """The world as a value. Raises FindingsError where anything in the case cannot be read."""
        inventory = Inventory(self.loaded.raise_if_errors().workloads, ignore=self.world.ignore)
        return World(
            inventory=inventory,
            policies=self.parsed.raise_if_errors(),
            quarantines=tuple(quarantine_of(q, inventory) for q in self.world.quarantine),
            failsafe=tuple(
                Failsafe(f.direction, parse_cidr(f.cidr), services_of(f.service))  # type: ignore[arg-type]
                for f in self.world.failsafe
            ),
            names={name: tuple(map(answer_of, answers)) for name, answers in self.world.names.items()},
            at=utc(self.world.at),
        )

    def world_of(self, probe: Probe) -> World:
        as_mode = Mode.both(probe.as_mode) if probe.as_mode else None
        return msgspec.structs.replace(self.compiled, as_mode=as_mode)

    def flow_of(self, probe: Probe) -> Flow:
        source, destination = (self._endpoint(text, probe.network) for text in (probe.source, probe.destination))
        return Flow(
            source=source,
            destination=destination,
            point=point_of(probe.service, source, destination),
            source_port=probe.source_port,
            mutual_tls=probe.mutual_tls,
            from_process=probe.from_process,
            to_process=probe.to_process,
            at=None if probe.at is None else utc(probe.at),
        )

    def _endpoint(self, text: str, network: str) -> Endpoint:
        """A workload's name, an address, or else a DNS name."""
        workload = self.compiled.inventory.by_name.get(text)
        if workload is not None:
            return Endpoint(workload=workload, network=network)
        try:
            return Endpoint(address=parse_address(text), network=network)
        except ValueError:
            if "." not in text:
                raise ValueError(f"{self.where}: `{text}` is no workload of this case") from None
            return Endpoint(name=text, network=network)


def text_of(policy: str | Mapping[str, Any]) -> str:
    """A policy as the text of a file: a mapping is written as JSON, which is YAML."""
    return policy if isinstance(policy, str) else json.dumps(policy, indent=1, ensure_ascii=False)


def services_of(text: str) -> IntervalSet:
    return union(parse_service(word) for word in WELL_KNOWN.get(text, text).split())


def point_of(text: str, source: Endpoint, destination: Endpoint) -> int:
    """The one point a probe asks for; `icmp/echo` is the family's own of the two. Raises ValueError for several."""
    ranges = services_of(text).ranges
    if text.startswith("proto/"):
        return ranges[0][0]
    if text.startswith("icmp/"):
        return ranges[0][0] if _is_v4(source) and _is_v4(destination) else ranges[-1][1]
    if len(ranges) != 1 or ranges[0][0] != ranges[0][1]:
        raise ValueError(f"`{text}` is more than one service point")
    return ranges[0][0]


def _is_v4(end: Endpoint) -> bool:
    held = [lease.address for lease in end.workload.addresses] if end.workload else [end.address]
    return any(address is None or is_v4(address) for address in held) or not held


def answer_of(answer: str | AnswerText) -> Answer:
    if isinstance(answer, str):
        return Answer((parse_address(answer),))
    start, end = (None if time is None else utc(time) for time in (answer.start, answer.end))
    return Answer((parse_address(answer.address),), start, end)


def quarantine_of(written: Isolation, inventory: Inventory) -> Quarantine:
    allow = tuple(
        QuarantineException((peer_of(x.peer),), services_of(x.service), x.direction)  # type: ignore[arg-type]
        for x in written.allow
    )
    until = None if written.until is None else utc(written.until)
    bound = tuple(Lease(parse_address(text)) for text in written.addresses)
    return Quarantine(inventory.by_name[written.workload].uuid, allow, until, bound)


def peer_of(text: str) -> Peer:
    """A peer as the language reads it."""
    rule = {"name": "x", "allow": {"from": text, "to": "anyone", "service": "any"}}
    (policy,) = parse_policies({"exception": json.dumps({"policy": "x", "rules": [rule]})}).raise_if_errors()
    return policy.rules[0].sources[0]


def load_cases(root: Path = HERE) -> list[Case]:
    """Every case of every file, in the order of the paths. Raises ValueError that names the case."""
    return [case for path in sorted(root.rglob("*.yaml")) for case in _cases(path, root)]


def _cases(path: Path, root: Path) -> Iterable[Case]:
    file = str(path.relative_to(root))
    reading = yaml.read(path.read_text(), file)
    if reading.findings:
        raise ValueError(str(reading.findings[0]))
    for document in reading.documents:
        assert isinstance(document.root, yaml.Sequence), f"{file}: a file is a list of cases"
        for node in document.root.items:
            where = Location(file, node.line, node.column)
            try:
                yield msgspec.convert({**_plain(node), "where": {"file": file, "line": node.line}}, Case, strict=False)
            except msgspec.ValidationError as error:
                raise ValueError(f"{where}: {error}") from None


def _plain(node: yaml.Node) -> Any:
    """A node as plain values; only truth values and null are other than text, so a date or port stays as written."""
    if isinstance(node, yaml.Sequence):
        return [_plain(item) for item in node.items]
    if isinstance(node, yaml.Mapping):
        return {key: _plain(value) for key, (_, value) in node.entries.items()}
    if node.is_null:
        return None
    return node.value if node.boolean is None else node.boolean
