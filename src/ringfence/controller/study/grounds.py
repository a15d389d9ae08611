"""What questions about the estate are asked against: the world in force, drafts of it, stored traffic, and verdicts.

Each is worked out once and kept while what it came from stays: the inventory, the version hosts have, quarantines, the
revision of the flow store; and until time turns a condition, a lease, a name's answer or a quarantine.

INVARIANT: an answer is of one ground: nothing is mixed from before and after a change.
"""

from __future__ import annotations

import hashlib
import itertools
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Generic, TypeVar

import msgspec

from ringfence.core.engine import Engine, Judgement
from ringfence.core.engine.rules import next_change
from ringfence.core.errors import InputError
from ringfence.core.flow.conversations import Conversations
from ringfence.core.flow.series import HOUR_S
from ringfence.core.identity.workload import Mode, ModeName
from ringfence.core.insight.seating import seated
from ringfence.core.policy.parse import parse_policies
from ringfence.core.world import World
from ringfence.ports.flow_store import FlowStore
from ringfence.wire.explore import Pen

T = TypeVar("T")
_STALE = timedelta(hours=1)
_FILE_SUFFIXES = (".yaml", ".yml")


class Kept(Generic[T]):
    """The last answers, as many as `most` and together no heavier than `heaviest`, but for the last one. One is worked
    out at a time; one that is kept waits for nobody."""

    def __init__(self, most: int, *, weigh: Callable[[T], int] = lambda _: 0, heaviest: int | None = None) -> None:
        self._most, self._weigh, self._heaviest = most, weigh, heaviest
        self._lock = threading.Lock()
        self._answers: OrderedDict[Hashable, T] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        found = self._answers.get(key)
        if found is not None:
            return found
        with self._lock:
            found = self._answers.get(key)
            if found is None:
                found = self._answers[key] = make()
            self._answers.move_to_end(key)
            while len(self._answers) > 1 and self._is_full:
                self._answers.popitem(last=False)
        return found

    @property
    def _is_full(self) -> bool:
        weight = sum(map(self._weigh, self._answers.values())) if self._heaviest is not None else 0
        return len(self._answers) > self._most or weight > (self._heaviest or 0)


@dataclass(frozen=True)
class Ground:
    """A world with its index. Equal numbers are one ground."""

    number: int
    world: World
    engine: Engine
    rules: tuple[str, ...]
    version: int
    """Of the policies; 0: there is none, or it is a draft."""
    turns_at: datetime
    """When time may make another world of it."""
    lock: threading.Lock
    """Held while the engine is asked: new ends become classes of it."""
    points: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Of services that questions named."""

    @property
    def is_judging(self) -> bool:
        """Whether there is anything to judge by."""
        return bool(self.world.policies or self.world.quarantines)


@dataclass(frozen=True)
class Texts:
    """A version as text."""

    number: int
    files: dict[str, str]
    settings: str


class Grounds:
    """The grounds of one controller. Its methods are slow: for threads."""

    def __init__(
        self, flows: FlowStore, world: Callable[[], World], number: Callable[[], int], world_of: Callable[[str], World]
    ) -> None:
        """`world`: in force now, `number`: the version it is of; `world_of`: what settings make of the inventory."""
        self.flows, self._world, self._number, self._world_of = flows, world, number, world_of
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._now: Ground | None = None
        self._drafts: Kept[Ground] = Kept(8)
        self.most_rows = flows.most.rows if flows.most is not None else None
        """That are kept of each kind of answer, unless one alone has more."""
        self._rows: Kept[Conversations] = Kept(4, weigh=len, heaviest=self.most_rows)
        self._judged: Kept[Judgement] = Kept(8, weigh=lambda one: len(one.verdict), heaviest=self.most_rows)

    def ready(self) -> Ground | None:
        """What is in force, if it takes no work: not for threads only."""
        known = self._now
        return known if known is not None and _is_alike(known, self._world(), self._number()) else None

    def now(self) -> Ground:
        """What is in force."""
        world, number = self._world(), self._number()
        with self._lock:
            if self._now is None or not _is_alike(self._now, world, number):
                self._now = _ground(next(self._numbers), world, number)
            return self._now

    def drafted(self, now: Ground, pen: Pen, texts: Texts) -> Ground:
        """What a draft would put in force. Raises FindingsError, InputError `not-a-policy`, `unknown-file`."""
        files, settings = overlaid(pen, texts)
        said = msgspec.json.encode([files, settings if pen.settings is not None else None], order="deterministic")
        key = (now.number, hashlib.sha256(said).digest())

        def make() -> Ground:
            world = self.world_with(now, pen)
            policies = parse_policies(files, ignore=world.inventory.ignore).raise_if_errors()
            made = msgspec.structs.replace(world, policies=policies)
            return _ground(next(self._numbers), made, 0)

        return self._drafts.get(key, make)

    def world_with(self, now: Ground, pen: Pen) -> World:
        """The world under a draft's settings; its policies do not matter. Raises FindingsError."""
        if pen.settings is None:
            return now.world
        return msgspec.structs.replace(self._world_of(pen.settings), quarantines=now.world.quarantines)

    def rows(self, ground: Ground, since: int | None, until: int | None, *, by_hour: bool = False) -> Conversations:
        """Stored traffic of whole hours, its ends as they are now; without `by_hour` one row for the hours together.
        Raises InputError `bad-time`, `too-much`."""
        if since is not None and until is not None and until <= since:
            raise InputError("bad-time", "the span ends before it begins", help="swap `since` and `until`")
        since = None if since is None else since // HOUR_S
        until = None if until is None else -(-until // HOUR_S)
        key = (self.flows.revision, since, until, by_hour, ground.number)
        start, end = (None if hour is None else hour * HOUR_S for hour in (since, until))

        def read() -> Conversations:
            return seated(self.flows.read(start, end, by_hour=by_hour), ground.world.inventory)

        return self._rows.get(key, read)

    def latest(self, ground: Ground, now: int, hours: int) -> tuple[int, Conversations]:
        """The traffic of the last hours, or of half as many until it fits: for who cannot ask for less."""
        while hours:
            try:
                return hours, self.rows(ground, now - hours * HOUR_S, None)
            except InputError as error:
                if error.code != "too-much":
                    raise
            hours //= 2
        return 0, self.rows(ground, now + HOUR_S, None)

    def judged(self, ground: Ground, rows: Conversations, as_mode: ModeName | None = None) -> Judgement:
        """What a ground says of every row."""
        mode = Mode.both(as_mode) if as_mode is not None else None

        def make() -> Judgement:
            with ground.lock:
                return ground.engine.judge(rows, as_mode=mode)

        return self._judged.get((ground.number, _Same(rows), as_mode), make)


class _Same:
    """A value that equals itself only, and stays while somebody asks about it."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __hash__(self) -> int:
        return id(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other._value is self._value


def _ground(number: int, world: World, version: int) -> Ground:
    """Slow, a draft's in particular: whoever asks what is in force does not wait for it."""
    engine = Engine.compile(world)
    rules = tuple(rule.ref for rule in engine.rules)
    return Ground(number, world, engine, rules, version, turns_at(world), threading.Lock())


def _is_alike(ground: Ground, world: World, number: int) -> bool:
    """Whether a ground is still what is in force."""
    held = ground.world
    return (
        ground.version == number
        and held.inventory is world.inventory
        and held.policies is world.policies
        and held.quarantines == world.quarantines
        and held.at <= world.at < ground.turns_at
    )


def turns_at(world: World) -> datetime:
    """The first time at which something of a world may begin or end, an hour from now at the latest."""
    at = world.at
    spans = [(answer.start, answer.end) for answers in world.names.values() for answer in answers]
    spans += [(lease.start, lease.end) for w in world.inventory.workloads for lease in w.addresses]
    times = [quarantine.until for quarantine in world.quarantines] + [time for span in spans for time in span]
    times += [next_change(rule.conditions, at) for policy in world.policies for rule in policy.rules]
    return min((at + _STALE, *(time for time in times if time is not None and time > at)))


def overlaid(pen: Pen, texts: Texts) -> tuple[dict[str, str], str]:
    """The files and settings a draft would have in force. Raises InputError `unknown-file`, `not-a-policy`."""
    known = {} if pen.alone else texts.files
    for name in pen.remove:
        if name not in known:
            help_ = "name a file of the version in force"
            raise InputError("unknown-file", f"there is no file `{name}` to remove", help=help_)
    for name in pen.files:
        if not name.endswith(_FILE_SUFFIXES):
            raise InputError("not-a-policy", f"`{name}` is no name of a policy file", help="name it like `shop.yaml`")
    files = {name: text for name, text in known.items() if name not in pen.remove} | pen.files
    return dict(sorted(files.items())), texts.settings if pen.settings is None else pen.settings
