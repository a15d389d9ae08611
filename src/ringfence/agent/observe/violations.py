"""Attempts that this host's rules stopped, or would have: told within a second, once, then counted.

The kernel logs a packet with its step and verdict (`targets.nftables` writes the prefix); the rule is the intent's cell
for that remote on that service. Attempts alike (source, destination, service, rule) are one violation with a count.

TCP that was in mid-stream when the rules came is logged by whoever speaks next. Told the way it began it may be allowed
after all (`as_begun`): then it is no attempt.

INVARIANT: what is logged is in exactly one place: a violation's count, `suppressed`, or `allowed`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import Literal, NamedTuple

import msgspec

from ringfence.core.identity.workload import Direction
from ringfence.core.intent.model import UNKNOWN_CLASS, Cell, Intent, Part, PeerClass
from ringfence.core.net.address import parse_address
from ringfence.core.net.service import point
from ringfence.flows.conntrack.nflog import BlockedAttempt
from ringfence.targets.nftables.services import REPLY_TYPES
from ringfence.wire.messages import Violation

_VERDICTS: dict[str, Literal["blocked", "would-block"]] = {"blocked": "blocked", "would": "would-block"}
_RULED = ("forbid", "deny")
_PRECEDENCE = ("forbid", "allow", "deny")


class Kind(NamedTuple):
    """What makes attempts alike."""

    direction: Direction
    source: int
    destination: int
    point: int
    verdict: Literal["blocked", "would-block"]
    step: str
    rule: str


class Attempt(NamedTuple):
    """One logged packet, judged."""

    kind: Kind
    source_port: int
    bytes: int
    at_s: float
    is_doubtful: bool = False
    """TCP in mid-stream, by the rules of the way it went: who began it is not known."""


def judged(logged: BlockedAttempt, intent: Intent | None) -> Attempt | None:
    """None for a packet that no rule of ours logged: somebody else's, or one without a verdict in its prefix."""
    words = logged.prefix.split()
    if len(words) != 4 or words[0] != "ringfence" or words[3] not in _VERDICTS:
        return None
    direction: Direction = "in" if words[1] == "in" else "out"
    is_doubtful = logged.direction == direction and not logged.is_beginning
    if logged.direction != direction:
        logged = _asked(logged)
    source, destination = parse_address(logged.source), parse_address(logged.destination)
    service = point(logged.protocol, logged.destination_port if logged.icmp_type is None else logged.icmp_type)
    local, remote = (destination, source) if direction == "in" else (source, destination)
    rule = rule_of(intent, direction, local, remote, service, words[2]) if intent is not None else ""
    kind = Kind(direction, source, destination, service, _VERDICTS[words[3]], words[2], rule)
    return Attempt(kind, logged.source_port, logged.bytes, logged.at_s, is_doubtful)


def as_begun(answer: Attempt, intent: Intent | None) -> Attempt | None:
    """An attempt of mid-stream TCP, for which the host's sockets say that it began the other way. None: so it is
    allowed, and would not be blocked."""
    kind = answer.kind
    direction: Direction = "out" if kind.direction == "in" else "in"
    local, remote = (kind.destination, kind.source) if kind.direction == "in" else (kind.source, kind.destination)
    service, step = point(kind.point >> 16, answer.source_port), kind.step
    if kind.verdict == "would-block" and intent is not None and step != "quarantine":
        step = step_of(intent, direction, local, remote, service)
        if step == "allow":
            return None
    rule = rule_of(intent, direction, local, remote, service, step) if intent is not None else ""
    asked = Kind(direction, kind.destination, kind.source, service, kind.verdict, step, rule)
    return answer._replace(kind=asked, source_port=kind.point & 0xFFFF)


def _asked(answer: BlockedAttempt) -> BlockedAttempt:
    """What an answer answers. A connection is judged on its original direction, whoever sends next, so what was stopped
    (or would have been) at the other hook is an answer of one that began the other way."""
    kinds = REPLY_TYPES.get(answer.protocol, {})
    kind = next((asked for asked, reply in kinds.items() if reply == answer.icmp_type), answer.icmp_type)
    return msgspec.structs.replace(
        answer,
        source=answer.destination,
        destination=answer.source,
        source_port=answer.destination_port,
        destination_port=answer.source_port,
        icmp_type=kind,
    )


def rule_of(intent: Intent, direction: Direction, local: int, remote: int, service: int, step: str) -> str:
    """The rule that decided so; empty where none did (the default, a quarantine) or the intent is another by now."""
    if step not in _RULED:
        return ""
    parts = (part for part in intent.parts if part.direction == direction and (not part.local or local in part.local))
    rules = {cell.rule for part in parts for cell in _cells(part, intent, remote, service) if cell.action == step}
    return min(rules, default="")


def step_of(intent: Intent, direction: Direction, local: int, remote: int, service: int) -> str:
    """What decides, of what holds for every process that no part names: `forbid`, `allow`, `deny` or `default`."""
    parts = (
        p for p in intent.parts if p.direction == direction and p.unit is None and (not p.local or local in p.local)
    )
    actions = {cell.action for part in parts for cell in _cells(part, intent, remote, service)}
    return next((action for action in _PRECEDENCE if action in actions), "default")


def _cells(part: Part, intent: Intent, remote: int, service: int) -> list[Cell]:
    """Those of one part that are about this remote and service."""
    class_ = next((c.id for c in intent.peers if _is_listed(c, remote)), None)
    if class_ is None:
        class_ = next((c.id for c in intent.peers if _is_within(c, remote)), UNKNOWN_CLASS)
    return [cell for cell in part.cells if cell.peer == class_ and service in cell.services]


def _is_listed(class_: PeerClass, address: int) -> bool:
    place = bisect_left(class_.addresses, address)
    return place < len(class_.addresses) and class_.addresses[place] == address


def _is_within(class_: PeerClass, address: int) -> bool:
    place = bisect_right(class_.ranges, (address, 1 << 128)) - 1
    return place >= 0 and class_.ranges[place][0] <= address <= class_.ranges[place][1]


class Violations:
    """Attempts on their way into messages: new kinds at once, known ones counted until `repeat_s` is over."""

    def __init__(self, *, repeat_s: float = 10.0, most: int = 200) -> None:
        """`most`: violations described in any `repeat_s`; more are counted as suppressed."""
        self._repeat_s, self._most = repeat_s, most
        self._waiting: dict[Kind, list[Attempt]] = {}
        self._counts: dict[Kind, int] = {}
        self._told: set[Kind] = set()
        self._described = 0
        self._until = 0.0
        self.suppressed = 0
        """Attempts counted, not described, since this was last set to 0."""
        self.logged = 0
        self.allowed = 0
        """Logged as what they are not, and allowed as what they are."""

    def pass_over(self) -> None:
        """Something logged that is no attempt."""
        self.logged += 1
        self.allowed += 1

    def note(self, attempt: Attempt) -> bool:
        """Whether it is of a kind that is to be told at once."""
        self.logged += 1
        kind = attempt.kind
        if kind not in self._counts:
            if len(self._counts) >= self._most:
                self.suppressed += 1
                return False
            self._waiting[kind] = [attempt]
        self._counts[kind] = self._counts.get(kind, 0) + 1
        return kind not in self._told

    def due(self, now_s: float, *, is_last: bool = False) -> list[tuple[Attempt, int]]:
        """(the first attempt, how many) of what is to be told now: new kinds; the rest at each interval and at last."""
        if is_last or now_s >= self._until:
            self._until, self._told, self._described = now_s + self._repeat_s, set(), 0
        out = []
        for kind in [kind for kind in self._counts if kind not in self._told]:
            if self._described >= self._most:
                self.suppressed += self._counts.pop(kind)
                del self._waiting[kind]
                continue
            self._described += 1
            self._told.add(kind)
            out.append((self._waiting.pop(kind)[0], self._counts.pop(kind)))
        return out


def described(attempt: Attempt, count: int, *, unit: str = "", process: str = "") -> Violation:
    """The violation as it is told."""
    kind = attempt.kind
    return Violation(
        at=attempt.at_s,
        direction=kind.direction,
        protocol=kind.point >> 16,
        source=kind.source,
        destination=kind.destination,
        source_port=attempt.source_port,
        port=kind.point & 0xFFFF,
        verdict=kind.verdict,
        step=kind.step,
        rule=kind.rule,
        count=count,
        process=process,
        unit=unit,
    )
