"""What every host must enforce, followed change by change: the controller's arithmetic, without I/O or a clock.

    Inputs      inventory, policies of the versions in use, failsafe, names, time
    Desired     the pieces of every host's intent under its version, and the revision of each piece
    News        what a change means for whom: nothing that did not change is sent

INVARIANT (no hysteresis, law 2): whatever order changes came in, the pieces of a host are those compiled from the
inputs as they are. Revisions only order messages; they decide nothing.
Quarantine stands apart, in `isolating`: nothing here may hold it up.
INVARIANT: a permission that goes and one that comes with it are news of one revision, the `Change` that revokes first.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import TypeVar

import msgspec

from ringfence.controller.desired.compiled import Compiled
from ringfence.controller.desired.group_versions import GroupId, GroupVersion, difference
from ringfence.controller.desired.inputs import Inputs
from ringfence.core.engine.live import LiveEngine
from ringfence.core.errors import InputError
from ringfence.core.identity.workload import Workload
from ringfence.core.intent.compile import Networks
from ringfence.core.intent.membership import Change as Moves
from ringfence.core.intent.pieces import Body, Group
from ringfence.wire.messages import (
    Assignment,
    Change,
    Down,
    Fetch,
    GroupChange,
    GroupState,
    Pieces,
    Upcoming,
    digest_of_state,
)

T = TypeVar("T")
MOST_TOLD = 1_000
"""Addresses of groups and cells of bodies that are told without being asked for."""
_NOTHING: frozenset[GroupId] = frozenset()


class Mark(msgspec.Struct, frozen=True):
    """A revision, and the content it stands for: after a restart, equal content keeps its revision."""

    revision: int
    digest: str


class Remembered(msgspec.Struct, frozen=True):
    """What must outlive the controller's process, so that no revision is used twice."""

    revision: int = 0
    groups: dict[str, Mark] = {}
    """By `networks key`."""
    assignments: dict[str, Mark] = {}
    """By UUID."""
    isolations: dict[str, Mark] = {}
    """By networks; see `isolating`."""


class News(msgspec.Struct, frozen=True):
    """What one change means for whom."""

    revision: int
    changes: tuple[tuple[tuple[str, ...], Change], ...] = ()
    """(hosts, what they are told): each host is in at most one."""
    assignments: dict[str, Assignment] = {}
    pieces: dict[str, Pieces] = {}
    """Assignments with what their hosts cannot have yet, where that is little: it need not be asked for."""
    gone: tuple[str, ...] = ()
    """Hosts that have nothing to enforce any more."""

    @property
    def is_empty(self) -> bool:
        return not (self.changes or self.assignments or self.gone)

    @property
    def messages(self) -> Iterator[tuple[tuple[str, ...], Down]]:
        """(hosts, what they are told), in order: what goes, before what comes."""
        yield from self.changes
        for uuid, assignment in self.assignments.items():
            yield (uuid,), self.pieces.get(uuid, assignment)


class Turning(Exception):
    """The desired state is on its way from one state to the next: ask again in a moment."""


class Desired:
    """The desired state of every host. Not for several threads at once, but for `answer` and `expected_state`.

    INVARIANT: what these two say is of one state, whatever another thread is following meanwhile; else they raise.
    """

    def __init__(self, inputs: Inputs, remembered: Remembered | None = None) -> None:
        self._known = remembered or Remembered()
        self.revision = self._known.revision
        self._groups: dict[GroupId, GroupVersion] = {}
        self._spanning: dict[GroupId, set[str]] = {}
        self._spans: dict[str, frozenset[GroupId]] = {}
        self._shared_spans: dict[tuple[Networks, tuple[str, ...]], frozenset[GroupId]] = {}
        """By networks and digests of bodies: one object for all hosts that run these."""
        self._compared: tuple[frozenset[GroupId], frozenset[GroupId], tuple[frozenset[GroupId], ...]] | None = None
        """The last two spans compared, and how they differ."""
        self.assignments: dict[str, Assignment] = {}
        self._bodies: dict[str, Body] = {}
        self._uses: Counter[str] = Counter()
        """How many assignments name a body."""
        self._compiled: list[Compiled] = []
        self._turns = 0
        """Odd while groups, spans and assignments are of two states."""
        self._states: dict[str, tuple[tuple[int, int], str]] = {}
        """UUID -> ((turns, revision of isolations), what its agent should have): every heartbeat asks for it."""
        self.inputs = inputs
        self._rebuild()
        self._recall()

    # ---- changes ----------------------------------------------------------------------------------------------------

    def follow(self, inputs: Inputs) -> News:
        """Whatever changed but single workloads: policies, rollout, failsafe, time."""
        before, self.inputs = self.inputs, inputs
        self.revision += 1
        is_same_time = before.at == inputs.at or not self._has_turned(inputs.at)
        if is_same_time and msgspec.structs.replace(inputs, at=before.at) == before:
            return News(self.revision)
        groups = dict(self._groups)
        self._rebuild(inputs.at if not is_same_time else before.at)
        with self._turning():
            return self._news(self._compare(groups))

    def _has_turned(self, at: datetime) -> bool:
        """Whether what was compiled is not what it would be at that time."""
        return any(turn <= at for one in self._compiled for turn in one.turns)

    def renumber(self) -> News:
        """Everything that is told, anew: agents hold later revisions than any before, and would keep what they have."""
        self.revision += 1
        with self._turning():
            for group in self._groups.values():
                group.version = self.revision
            every = self.assignments.items()
            self.assignments = {uuid: msgspec.structs.replace(one, revision=self.revision) for uuid, one in every}
        return News(self.revision, assignments=dict(self.assignments))

    def put_workload(self, workload: Workload) -> News:
        """A workload that came or changed. Raises InputError `duplicate-name`."""
        before = self.inputs.inventory.by_uuid.get(workload.uuid)
        namesake = self.inputs.inventory.by_name.get(workload.name)
        if namesake is not None and namesake.uuid != workload.uuid:
            raise InputError("duplicate-name", f"`{workload.name}` is the name of another workload")
        return self._move(before, workload)

    def put_workloads(self, workloads: Collection[Workload]) -> News:
        """Many at once: as one after the other, in one step. Raises InputError `duplicate-name`."""
        inventory = self.inputs.inventory.replacing_all(workloads)
        if len(inventory.by_name) != len(inventory.workloads):
            raise InputError("duplicate-name", "a name is that of another workload")
        return self.follow(msgspec.structs.replace(self.inputs, inventory=inventory))

    def remove_workload(self, uuid: str) -> News:
        """Raises InputError `unknown-workload`."""
        before = self.inputs.inventory.by_uuid.get(uuid)
        if before is None:
            raise InputError("unknown-workload", f"there is no workload `{uuid}`")
        return self._move(before, None)

    def _move(self, before: Workload | None, after: Workload | None) -> News:
        inventory = self.inputs.inventory.replacing(before, after)
        inputs = msgspec.structs.replace(self.inputs, inventory=inventory)
        if self._needs_rebuild(before, after):
            return self.follow(inputs)
        self.inputs = inputs
        self.revision += 1
        moved: dict[GroupId, Moves] = {}
        bodies: set[str] = set()
        for found in (found for one in self._compiled for found in one.follow(before, after, inputs)):
            moved |= found.groups
            bodies |= found.bodies
        with self._turning():
            return self._news(self._regroup(moved), {w.uuid for w in (before, after) if w is not None}, bodies)

    @contextmanager
    def _turning(self) -> Iterator[None]:
        self._turns += 1
        try:
            yield
        finally:
            self._turns += 1

    def _steadily(self, read: Callable[[], T]) -> T:
        """What is read of one state. Never waits. Raises Turning."""
        before = self._turns
        if before % 2:
            raise Turning
        try:
            found = read()
        except (KeyError, RuntimeError):  # what it stood on was taken away, or changed its size
            if self._turns == before:
                raise
            raise Turning from None
        if self._turns != before:
            raise Turning
        return found

    def _needs_rebuild(self, before: Workload | None, after: Workload | None) -> bool:
        """What an index cannot follow in place."""
        both = [w for w in (before, after) if w is not None]
        bounds = [time for w in both for lease in w.addresses for time in (lease.start, lease.end) if time is not None]
        if any(one.compiled_at < time <= self.inputs.at for one in self._compiled for time in bounds):
            return True
        return any(w.kind == "process" or self.inputs.inventory.processes_of(w.name) for w in both)

    # ---- questions --------------------------------------------------------------------------------------------------

    @property
    def hosts(self) -> Iterable[Workload]:
        """The workloads that have an enforcement point of their own."""
        return (w for w in self.inputs.inventory.workloads if w.is_host)

    @property
    def turns_at(self) -> datetime | None:
        """When dates, windows or leases change the answer next: follow the time then."""
        return min((turn for one in self._compiled for turn in one.turns), default=None)

    def is_held(self, workload: Workload) -> bool:
        """Whether a host keeps what it has, whatever else is so: its version cannot be read, or nobody is told."""
        return self.inputs.is_held or bool(self.inputs.version_of(workload.uuid).problem)

    @property
    def _told_hosts(self) -> Iterable[Workload]:
        return (w for w in self.hosts if not self.is_held(w))

    def networks_of(self, uuid: str) -> Networks | None:
        """The networks of a host; None: it is none."""
        assignment = self.assignments.get(uuid)
        if assignment is not None:
            return frozenset(assignment.networks)
        workload = self.inputs.inventory.by_uuid.get(uuid)
        return _networks(workload, self.inputs.at) if workload is not None and workload.is_host else None

    @property
    def everywhere(self) -> set[Networks]:
        """Every set of networks that some host is in."""
        found = {frozenset(one.networks) for one in tuple(self.assignments.values())}
        return found | {_networks(w, self.inputs.at) for w in self.hosts if self.is_held(w)}

    def engine_of(self, uuid: str) -> LiveEngine:
        """The index that judges for a host: that of its version."""
        return self._compiled_for(uuid).live

    def answer(self, uuid: str, fetch: Fetch, *, most_addresses: int = 200_000) -> Pieces:
        """What a host asked for, as far as it is its business; a long answer is cut, and the host asks again.

        Something unknown means that the host is behind: it gets its assignment, which names what there is. Raises
        Turning.
        """
        return self._steadily(lambda: self._pieces(uuid, fetch, most_addresses))

    def _pieces(self, uuid: str, fetch: Fetch, most_addresses: int) -> Pieces:
        assignment = self.assignments.get(uuid)
        if assignment is None:
            known = self.inputs.inventory.by_uuid.get(uuid)
            is_held = known is not None and self.is_held(known)
            if is_held:
                return Pieces(workload=uuid)
            return Pieces(unknown=(*fetch.bodies, *fetch.groups), workload=uuid)
        named = _bodies_of(assignment)
        networks = frozenset(assignment.networks)
        groups: list[GroupState] = []
        unknown = [digest for digest in fetch.bodies if digest not in named]
        for key in fetch.groups:
            if (networks, key) not in self._spans[uuid]:
                unknown.append(key)
            elif most_addresses > 0 and fetch.held.get(key) != self._groups[networks, key].version:
                group = self._groups[networks, key]
                groups.append(GroupState(Group(key, group.addresses), group.version))
                most_addresses -= len(group.addresses)
        return Pieces(
            assignment if fetch.assignment or unknown else None,
            None,
            tuple(self._bodies[digest] for digest in fetch.bodies if digest in named),
            tuple(groups),
            tuple(unknown),
            uuid,
        )

    def expected_state(self, uuid: str, isolations: int) -> str:
        """The digest an agent has that heard everything, quarantines as of that revision included; empty for a host
        that has nothing to enforce. Raises Turning."""
        return self._steadily(lambda: self._state(uuid, isolations))

    def _state(self, uuid: str, isolations: int) -> str:
        assignment, as_of = self.assignments.get(uuid), (self._turns, isolations)
        if assignment is None:
            self._states.pop(uuid, None)
            return ""
        known = self._states.get(uuid)
        if known is not None and known[0] == as_of:
            return known[1]
        versions = {group_id[1]: self._groups[group_id].version for group_id in self._spans[uuid]}
        state = digest_of_state(assignment.revision, isolations, versions)
        self._states[uuid] = as_of, state
        return state

    def remember(self) -> Remembered:
        """What to give the next `Desired`."""
        return Remembered(
            self.revision,
            {_name(group_id): Mark(group.version, group.digest) for group_id, group in self._groups.items()},
            {uuid: Mark(one.revision, _digest(one)) for uuid, one in self.assignments.items()},
        )

    # ---- compiling --------------------------------------------------------------------------------------------------

    def _rebuild(self, at: datetime | None = None) -> None:
        """Compile the versions in use; those that would come out the same are kept."""
        inputs = msgspec.structs.replace(self.inputs, at=at) if at else self.inputs
        kept = [one for one in self._compiled if one.covers(inputs)]
        self._compiled = [
            next((one for one in kept if one.version == version), None) or Compiled(version, inputs)
            for version in inputs.versions
        ]
        for host in self._told_hosts:  # every network set a host is in
            for _ in self._compiled_for(host.uuid).bodies(host):
                pass

    def _compiled_for(self, uuid: str) -> Compiled:
        version = self.inputs.version_of(uuid)
        return next(one for one in self._compiled if one.version == version)

    def _compare(self, known: Mapping[GroupId, GroupVersion]) -> dict[GroupId, GroupChange]:
        """All groups anew, against those known before."""
        changes: dict[GroupId, GroupChange] = {}
        groups: dict[GroupId, GroupVersion] = {}
        now = {group_id: group.addresses for one in self._compiled for group_id, group in one.tables}
        for group_id, addresses in now.items():
            old = known.get(group_id)
            if old is not None and old.addresses == addresses:
                groups[group_id] = old
                continue
            groups[group_id] = GroupVersion(addresses, self.revision)
            if old is not None:
                changes[group_id] = difference(group_id, old, groups[group_id])
        for group_id in known.keys() - groups.keys():
            old = known[group_id]
            changes[group_id] = GroupChange(group_id[1], old.version, self.revision, (), old.addresses)
        self._groups = groups
        return changes

    def _regroup(self, moved: Mapping[GroupId, Moves]) -> dict[GroupId, GroupChange]:
        """Single addresses that came and went."""
        changes: dict[GroupId, GroupChange] = {}
        for group_id, moves in moved.items():
            old, now = self._groups.get(group_id), self._group_now(group_id)
            if old is None:
                self._groups[group_id] = GroupVersion(now or (), self.revision)
                continue
            before = old.version
            if now is None:
                del self._groups[group_id]
            else:
                old.change(moves, now, self.revision)
            changes[group_id] = GroupChange(
                group_id[1], before, self.revision, tuple(sorted(moves.added)), tuple(sorted(moves.removed))
            )
        return changes

    def _group_now(self, group_id: GroupId) -> tuple[int, ...] | None:
        found = (one.group(group_id) for one in self._compiled)
        return next((group.addresses for group in found if group is not None), None)

    def _news(
        self,
        changes: Mapping[GroupId, GroupChange],
        touched: set[str] | None = None,
        bodies: Collection[str] = (),
    ) -> News:
        """Who hears of what. `touched`: the only hosts that can have changed themselves; None: any. `bodies`: those
        that are others now.
        """
        told = tuple(self._tell(changes))  # by the spans before: who had a permission hears that it went
        gone = tuple(uuid for uuid in self._candidates(touched, self.assignments) if not self._is_host_now(uuid))
        for uuid in gone:
            self._forget(uuid)
        assignments, pieces = self._assign(touched, bodies)
        return News(self.revision, told, assignments, pieces, gone)

    def _tell(self, changes: Mapping[GroupId, GroupChange]) -> Iterable[tuple[tuple[str, ...], Change]]:
        """Each host the changes of its span, in one message; hosts that hear the same share it."""
        every = sorted(changes.items(), key=lambda item: item[0][1])
        heard: dict[str, int] = {}
        for position, (group_id, _) in enumerate(every):
            for uuid in self._spanning.get(group_id, ()):
                if (known := self.inputs.inventory.by_uuid.get(uuid)) is not None and self.is_held(known):
                    continue
                heard[uuid] = heard.get(uuid, 0) | 1 << position
        by_message: dict[int, list[str]] = {}
        for uuid, which in heard.items():
            by_message.setdefault(which, []).append(uuid)
        for which, hosts in by_message.items():
            groups = tuple(change for position, (_, change) in enumerate(every) if which >> position & 1)
            yield tuple(hosts), Change(self.revision, groups)

    @staticmethod
    def _candidates(touched: set[str] | None, every: Iterable[str]) -> list[str]:
        return list(every if touched is None else (uuid for uuid in every if uuid in touched))

    def _is_host_now(self, uuid: str) -> bool:
        workload = self.inputs.inventory.by_uuid.get(uuid)
        return workload is not None and workload.is_host and not self.is_held(workload)

    # ---- hosts ------------------------------------------------------------------------------------------------------

    def _assign(
        self, touched: set[str] | None = None, bodies: Collection[str] = ()
    ) -> tuple[dict[str, Assignment], dict[str, Pieces]]:
        """Every assignment that is another than before; those that go with their pieces."""
        hosts = list(self._told_hosts if touched is None else self._hosts_among(touched))
        named = {host.uuid for host in hosts}
        embodied = [host for host in self._hosts_among(self._running(bodies)) if host.uuid not in named]
        spans = {host.uuid: self._spans.get(host.uuid, _NOTHING) for host in (*hosts, *embodied)}
        new = {host.uuid: self._assignment(host) for host in hosts}
        new |= {host.uuid: self._embodied(host) for host in embodied}
        changed = {uuid: one for uuid, one in new.items() if not self._is_known(uuid, one)}
        pieces = {uuid: found for uuid, one in changed.items() if (found := self._pieces_for(uuid, one, spans[uuid]))}
        for one in changed.values():
            self._uses.update(_bodies_of(one))
        for uuid in changed:  # after all that come: a body may go from one host to another
            self._disuse(self.assignments.get(uuid))
        self.assignments |= changed
        return changed, pieces

    def _pieces_for(self, uuid: str, new: Assignment, span: frozenset[GroupId]) -> Pieces | None:
        """A new assignment with the bodies and groups that the host does not have by the one before (and its span)."""
        old = self.assignments.get(uuid)
        if old is None:
            return None  # it comes to ask for all of it
        digests = _bodies_of(new) - _bodies_of(old)
        groups = [(group_id[1], self._groups[group_id]) for group_id in self._between(span, self._spans[uuid])[1]]
        bodies = tuple(self._bodies[digest] for digest in sorted(digests))
        size = sum(len(group.addresses) for _, group in groups)
        size += sum(len(part.cells) for body in bodies for part in body.parts)
        if not digests or size > MOST_TOLD:
            return None
        states = sorted((GroupState(Group(key, group.addresses), group.version) for key, group in groups), key=_key)
        return Pieces(new, None, bodies, tuple(states), (), uuid)

    def _is_known(self, uuid: str, assignment: Assignment) -> bool:
        old = self.assignments.get(uuid)
        return old is not None and msgspec.structs.replace(assignment, revision=old.revision) == old

    def _running(self, bodies: Collection[str]) -> list[str]:
        """The hosts that run, or soon will, one of these bodies; those that run the same one after the other."""
        if not bodies:
            return []
        every = self.assignments.items()
        found = [u for u, a in every if a.station.body in bodies or any(x.body in bodies for x in a.schedule)]
        return sorted(found, key=lambda uuid: self.assignments[uuid].station.body)

    def _hosts_among(self, uuids: Iterable[str]) -> list[Workload]:
        found = (self.inputs.inventory.by_uuid.get(uuid) for uuid in uuids)
        return [one for one in found if one is not None and one.is_host and not self.is_held(one)]

    def _assignment(self, host: Workload) -> Assignment:
        compiled = self._compiled_for(host.uuid)
        manner, networks = compiled.version.manner, compiled.compiler.networks_of(host)
        now, schedule = self._run(host, networks)
        station = compiled.compiler.station(host, self._bodies[now])
        return Assignment(
            self.revision,
            msgspec.structs.replace(station, valid_until=None),
            compiled.version.number,
            tuple(sorted(networks)),
            manner.live,
            manner.grace_s,
            manner.trial,
            schedule,
        )

    def _embodied(self, host: Workload) -> Assignment:
        """The assignment of a host of which at most its bodies changed."""
        old = self.assignments[host.uuid]
        now, schedule = self._run(host, frozenset(old.networks))
        station = msgspec.structs.replace(old.station, body=now)
        return msgspec.structs.replace(old, revision=self.revision, station=station, schedule=schedule)

    def _run(self, host: Workload, networks: Networks) -> tuple[str, tuple[Upcoming, ...]]:
        """The digests of what a host runs now and later; its span is theirs."""
        compiled = self._compiled_for(host.uuid)
        bodies = tuple(compiled.bodies(host))
        self._bodies |= bodies
        digests = tuple(digest for digest, _ in bodies)
        shared = (networks, digests)
        if shared not in self._shared_spans:
            keys = frozenset().union(*(body.groups for _, body in bodies))
            self._shared_spans[shared] = frozenset((networks, key) for key in keys)
        self._span(host.uuid, self._shared_spans[shared])
        turns = zip((at for at, _ in compiled.upcoming), digests[1:], strict=True)
        return digests[0], tuple(Upcoming(at, digest) for at, digest in turns)

    def _span(self, uuid: str, new: frozenset[GroupId]) -> None:
        old = self._spans.get(uuid, frozenset())
        if new is old:
            return
        gone, come = self._between(old, new)
        for group_id in gone:
            self._spanning[group_id].discard(uuid)
        for group_id in come:
            self._spanning.setdefault(group_id, set()).add(uuid)
            if group_id not in self._groups:  # the first host in these networks
                self._groups[group_id] = GroupVersion(self._group_now(group_id) or (), self.revision)
        self._spans[uuid] = new

    def _between(self, old: frozenset[GroupId], new: frozenset[GroupId]) -> tuple[frozenset[GroupId], ...]:
        """What goes and what comes between two spans: hosts that ran one body run one again."""
        known = self._compared
        if known is None or known[0] is not old or known[1] is not new:
            known = self._compared = (old, new, (old - new, new - old))
        return known[2]

    def _forget(self, uuid: str) -> None:
        self._disuse(self.assignments.pop(uuid, None))
        self._span(uuid, frozenset())
        self._spans.pop(uuid, None)

    def _disuse(self, old: Assignment | None) -> None:
        """One assignment less: what nobody names any more is dropped. Costs what changed."""
        named = _bodies_of(old) if old is not None else set[str]()
        self._uses.subtract(named)
        gone = {digest for digest in named if not self._uses[digest]}
        for digest in gone:
            del self._uses[digest]
            self._bodies.pop(digest, None)
        if gone:
            self._shared_spans = {key: span for key, span in self._shared_spans.items() if gone.isdisjoint(key[1])}

    # ---- restarts ---------------------------------------------------------------------------------------------------

    def _recall(self) -> None:
        """Revisions as they were, for what is as it was; new ones for the rest."""
        self.revision += 1
        known = self._known
        self._compare({})
        for group_id, group in self._groups.items():
            mark = known.groups.get(_name(group_id))
            if mark is not None and mark.digest == group.digest:
                group.version = mark.revision
        self._assign()
        for uuid, one in self.assignments.items():
            mark = known.assignments.get(uuid)
            if mark is not None and mark.digest == _digest(one):
                self.assignments[uuid] = msgspec.structs.replace(one, revision=mark.revision)


def _digest(message: Assignment) -> str:
    """Of the content, not of its revision."""
    content = msgspec.structs.replace(message, revision=0)
    return hashlib.sha256(msgspec.json.encode(content, order="deterministic")).hexdigest()[:32]


def _name(group_id: GroupId) -> str:
    return f"{','.join(sorted(group_id[0]))} {group_id[1]}"


def _bodies_of(assignment: Assignment) -> set[str]:
    return {assignment.station.body, *(upcoming.body for upcoming in assignment.schedule)}


def _key(state: GroupState) -> str:
    return state.group.key


def _networks(workload: Workload, at: datetime) -> Networks:
    return frozenset(lease.network for lease in workload.live_addresses(at)) or frozenset(("main",))
