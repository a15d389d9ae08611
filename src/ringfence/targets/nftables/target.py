"""The nftables target: enforce an intent on one Linux host (or one network namespace of it), and read it back.

    target = NftablesTarget()
    target.converge(intent)        # observe, plan, apply, observe again; raises unless it is proven realised

INVARIANT: only the table `inet ringfence` is ever written. All of a plan that has an effect is one kernel transaction,
the first time too. "Realised" is said only of what was read from the kernel afterwards and equals the intent.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from ringfence.core.errors import Finding, FindingsError, TargetError, errors_among
from ringfence.core.intent.model import Intent
from ringfence.ports.target import Observed, State
from ringfence.targets.nftables import conntrack, counters
from ringfence.targets.nftables import messages as m
from ringfence.targets.nftables.areas import CgroupRef, units_of
from ringfence.targets.nftables.cgroups import named_units, resolve_units
from ringfence.targets.nftables.changes import Changes, changes
from ringfence.targets.nftables.isolation import changed_isolation, is_alike, with_quarantine
from ringfence.targets.nftables.layout import DORMANT, OWNER, PERSIST, Layout
from ringfence.targets.nftables.membership import Moved, changed_members, moved_peers, with_members
from ringfence.targets.nftables.netlink import Netlink, Refused, following
from ringfence.targets.nftables.observe import read_table, read_timers
from ringfence.targets.nftables.ownership import Ownership, drop_copy, move, owned_by_another
from ringfence.targets.nftables.plan import Plan
from ringfence.targets.nftables.readback import about, differences
from ringfence.targets.nftables.reading import ATTEMPTS, NOTHING, consistent, missed, resting
from ringfence.targets.nftables.realised import Realised, realised, retold, with_groups
from ringfence.targets.nftables.refusals import refusal_of
from ringfence.targets.nftables.render import ABOUT, render
from ringfence.targets.nftables.revision import How, Live
from ringfence.targets.nftables.revocation import Permissions
from ringfence.targets.nftables.sever import sever
from ringfence.targets.nftables.sockets import connections
from ringfence.targets.nftables.steps import planned, settled, tidied
from ringfence.targets.nftables.support import check, reduce, refused
from ringfence.targets.nftables.terms import FOR_GOOD
from ringfence.targets.nftables.text import format_layout

AS_IS = How()
SETTLE_TRIES, SETTLE_S = 10, 0.1
_ANEW = 5
"""How often what was picked up meanwhile is entered anew: a segment between two steps picks it up again."""


class NftablesTarget:
    """One host's enforcement point. `netns` names a network namespace; None is this process's own."""

    def __init__(
        self, netns: str | None = None, *, cgroup_root: Path | None = None, ownership: Ownership | None = None
    ) -> None:
        self.netns = netns
        self._ownership = ownership
        self._is_secured = False
        self._permissions: Permissions | None = None
        self._cgroup_root = cgroup_root
        self._last_units: frozenset[str] = frozenset()
        self._last: Realised | None = None
        self._resting = NOTHING
        self._checked: tuple[Intent, tuple[Finding, ...]] | None = None
        """An intent, and what contradicts itself in it."""
        self._proof: tuple[str, Intent] | None = None
        """The seal of a table, and the intent it was proven to realise."""

    # -- pure: the same on every machine --

    def support(self, intent: Intent) -> tuple[Finding, ...]:
        """What cannot be expressed exactly on any host: processes that do less than theirs, intents that contradict
        themselves."""
        return (*check(intent), *refused(intent, *named_units(units_of(intent))))

    def render(self, intent: Intent) -> str:
        """The table as text: for people, and for `ringfence render`.

        `nft -f` would load it where every process part is named by its whole path.
        """
        groups, unnamed = named_units(units_of(intent))
        text = format_layout(render(reduce(intent, groups, unnamed), 1, groups))
        named = "".join(f"# control group `{unit}` is looked up on the host when this is applied\n" for unit in groups)
        return named + text

    # -- pure but for the control groups, which are looked up here --

    def support_here(self, intent: Intent) -> tuple[Finding, ...]:
        """What cannot be expressed exactly on this host: the same, and processes without a control group here."""
        return (*check(intent), *refused(intent, *self._groups(intent)))

    def plan(self, intent: Intent, observed: Observed, how: How = AS_IS) -> Plan:
        """The transaction that realises the intent. Empty when it is realised already.

        Raises FindingsError when a part that nftables cannot express may not be left out, and when the intent comes
        with a refusal that is an error: a deny, a forbid or a quarantine that nothing here would enforce.
        """
        if errors_among(faults := self._faults(intent)):
            raise FindingsError(faults)
        reduced, groups = self._reduced(intent)
        found = with_groups(observed if isinstance(observed, Realised) else Realised("absent"), groups)
        if how.fallback is not None:
            how = msgspec.structs.replace(how, fallback=self._reduced(how.fallback)[0])
        return planned(reduced, found, groups, how, self._now())

    def changes(self, intent: Intent, observed: Realised) -> Changes:
        """What a plan does in words of rules: what somebody else changed apart from what the intent changes."""
        reduced, groups = self._reduced(intent)
        found = with_groups(observed, groups)
        layout = found.in_force.layout if found.in_force is not None else None
        return changes(reduced, layout, found.intent, groups, is_untouched=found.is_untouched)

    # -- the kernel --

    @contextmanager
    def _netlink(self) -> Iterator[Netlink]:
        """The socket that owns the table, or one for now."""
        if self._ownership is not None:
            yield self._ownership.netlink
            return
        with Netlink(self.netns) as netlink:
            yield netlink

    def secure(self) -> bool:
        """Bring the table that is there under this target's ownership, or free it if it has none; True when it moved.

        Its rules stay in force all the while. Raises TargetError `owned-by-another`.
        """
        with self._netlink() as netlink:
            try:
                return self._moved(netlink)
            except Refused as refusal:
                raise refusal_of(refusal) from refusal
            finally:
                self._is_secured = True

    def _moved(self, netlink: Netlink) -> bool:
        if self._ownership is not None and self._ownership.take():
            drop_copy(netlink)
            return False
        wanted = self._ownership.flags if self._ownership is not None else 0
        layout, _ = consistent(netlink)
        if layout is None:
            return False
        if layout.flags & OWNER:
            raise owned_by_another()
        moves = wanted != layout.flags & (OWNER | PERSIST) and self._ownership is not None
        if moves:
            move(netlink, layout, wanted | layout.flags & DORMANT)
            self._last = None
        else:
            drop_copy(netlink)
        return moves

    def apply(self, plan: Plan) -> None:
        """Commit the plan: what has an effect is one transaction.

        Raises TargetError and leaves the old rules in force when the kernel refuses, or when anybody changed the rule
        set since the plan was made.
        """
        if plan.is_empty:
            return
        with self._netlink() as netlink:
            for numbers in plan.forgets:
                conntrack.forget(netlink, numbers)
            self._adopt(netlink, plan, is_before=True)
            try:
                based_on = plan.based_on
                if plan.preparation:
                    netlink.commit(plan.preparation, generation=based_on)
                    based_on = None if based_on is None else following(based_on)
                netlink.commit(plan.messages, generation=based_on)
            except Refused as refusal:
                raise refusal_of(refusal, was_guarded=plan.based_on is not None) from refusal
            try:
                netlink.commit(plan.cleanup)
            except Refused as refusal:
                raise refusal_of(refusal) from refusal
            self._adopt(netlink, plan, is_before=False)

    def _adopt(self, netlink: Netlink, plan: Plan, *, is_before: bool) -> None:
        """Make known what began before the first rules: beforehand, and what began meanwhile."""
        if not plan.adopts:
            return
        found = connections(self.netns)
        conntrack.adopt(netlink, found)
        if plan.seeds and is_before:
            conntrack.seed(netlink, plan.seeds)
        for _ in range(0 if is_before else _ANEW):
            if not conntrack.readopt(netlink, found):
                return

    def _readopt(self) -> None:
        """Before another mode judges: an allowed connection is not cut because nobody knew who began it. Where the
        kernel does not say, it is judged both ways, which allows less."""
        with suppress(TargetError), self._netlink() as netlink:
            conntrack.readopt(netlink, connections(self.netns))

    def observe(self) -> Realised:
        """Read back what is realised: `absent`, `realised` if untouched since it was applied, else `drifted`.

        While the kernel's rule set generation has not moved, nobody has changed anything since the last whole reading.
        """
        with self._netlink() as netlink:
            last = self._last
            if last is None or not last.is_untouched or netlink.generation() != last.generation:
                self._last = last = self._read(netlink)
            elif last.layout is not None and any(last.layout.timers.values()):
                timers = read_timers(netlink, last.layout.sets)
                self._last = last = retold(last, timers, self._now())
        return last

    def _read(self, netlink: Netlink) -> Realised:
        known, self._resting = self._resting, NOTHING
        layout, generation = consistent(netlink, known)
        return realised(layout, generation, self._groups_at(layout) if layout is not None else {}, self._now())

    def _now(self) -> float:
        """The clock of the kernel's timers."""
        return time.monotonic()

    def verify(self, intent: Intent, observed: Realised | None = None) -> Realised:
        """Compare what is realised with an intent, cell by cell and rule by rule.

        `realised`: proven equal. `refused`: equal but for parts nftables cannot express, or an intent that may not be
        planned at all. `pending`: another intent is realised, untouched. `drifted`: somebody else changed the table;
        `differences` says how, or why it is refused. What an untouched table says of itself is not compared: the words
        lag behind `apply_membership`, and what decides does not.
        """
        found = observed or self.observe()
        if faults := errors_among(self._faults(intent)):
            return msgspec.structs.replace(found, state="refused", differences=tuple(f.message for f in faults))
        standing = found.in_force
        if standing is None:
            return found
        reduced, groups = self._reduced(intent)
        differing = differences(reduced, standing.layout, groups, None if groups else standing.intent)
        if found.is_untouched:
            differing = tuple(text for text in differing if not text.endswith(f" of {ABOUT}"))
        elif not differing:
            differing = found.differences
        if not differing:
            refused = tuple(f.message for f in reduced.refusals)
            state: State = "refused" if reduced is not intent else "realised"
            digest = intent.digest if reduced is intent else reduced.digest
            return msgspec.structs.replace(found, state=state, digest=digest, differences=refused)
        state = "pending" if found.is_untouched else "drifted"
        return msgspec.structs.replace(found, state=state, differences=differing)

    def converge(
        self,
        intent: Intent,
        *,
        trial_s: float | None = None,
        live: Live = "cut",
        grace_s: float = 60.0,
        policy: str = "",
        fallback: Intent | None = None,
        severs: bool = False,
    ) -> Realised:
        """Observe, plan, apply and prove, again if someone else changed the rule set meanwhile.

        trial_s: put the intent's policy on trial for so long beside the confirmed one, which decides again by itself
            unless `confirm` comes in time. Without it, an intent of the policy on trial moves membership and quarantine
            for both; any other ends the trial.
        live: what becomes of connections that lose permission by a change of policy: they are `cut`, `drain` for
            `grace_s` seconds, or `keep` on. A forbid, a quarantine and a loss of membership always cut.
        policy: a name of the policy, by which it is known again; without, its content is compared.
        fallback: the confirmed policy's intent with the membership of now. Without it, the confirmed generation follows
            what can be told of it, and withholds the rest.

        severs: end the host's TCP sockets that lose permission as the rules change: programs and peers learn of it.

        Raises TargetError `not-realised` when what was read back still differs, `no-confirmed-policy` where a trial has
        nothing to fall back on.
        """
        how = How(trial_s, live, grace_s, policy, fallback)
        if not self._is_secured:
            self.secure()
        for attempt in range(ATTEMPTS):
            found = self.verify(intent)
            plan = self._as_owned(self.plan(intent, found, how))
            try:
                if found.intent is not None and found.intent.mode != intent.mode:
                    self._readopt()
                if severs and plan.judges_again:
                    self._sever(plan.layout)
                self.apply(plan)
                self._rest(plan, found)
                break
            except TargetError as error:
                if error.code != "ruleset-changed" or attempt == ATTEMPTS - 1:
                    raise
        found = self._proven(intent)
        if found.state not in ("realised", "refused"):
            raise TargetError("not-realised", f"what was read back differs: {'; '.join(found.differences[:3])}")
        self._proof = (_seal(found), intent)
        if severs and found.layout is not None:
            self._sever(found.layout)
        return found

    def _rest(self, plan: Plan, found: Realised) -> None:
        """What the next reading may take as read."""
        if not plan.is_empty:
            with self._netlink() as netlink:
                self._resting = resting(netlink, plan, found.layout)

    def _proven(self, intent: Intent) -> Realised:
        """What is realised after an apply.

        The kernel grows a large hash set in the background after the commit, and a dump meanwhile can miss elements or
        give some twice (rhashtable walks are not snapshots), so a reading that differs is taken again for a while.
        """
        for _ in range(SETTLE_TRIES):
            found = self.verify(intent)
            if found.state in ("realised", "refused"):
                break
            time.sleep(SETTLE_S)
        return found

    def apply_membership(self, added: Mapping[int, Collection[int]], removed: Collection[int] = ()) -> Realised:
        """Addresses that are of a class from now on, and those that are of none any more, at the cost of the change.

        An address that is added loses the class it had. Proven by reading back those elements (and, where somebody
        loses by it, the rules of the new generation), while the kernel's rule set generation shows that nobody else
        wrote; a whole audit is `observe`. While a policy is on trial, or after somebody else wrote, it is a `converge`
        of the policy in force.

        Raises TargetError `class-unknown` for a class the policy in force does not know, `not-realised`,
        `no-confirmed-policy` when no policy of ours is in force.
        """
        for attempt in range(ATTEMPTS):
            found = self._last or self.observe()
            standing = found.in_force
            if standing is None or standing.intent is None:
                raise TargetError("no-confirmed-policy", "no policy of ours is in force", help="converge to one first")
            if found.trial is not None or not found.is_untouched:
                return self.converge(with_members(standing, added, removed), policy=standing.policy)
            moved = changed_members(found, added, removed, self._permissions_of(standing.intent), self._now())
            if moved is None:
                return found
            if not self._is_sent(moved, is_last=attempt == ATTEMPTS - 1):
                continue
            proof, seen = self._proof, self._read_back(moved)
            if proof is not None and proof[0] == _seal(found):
                peers = moved_peers(proof[1].peers, moved.changes)
                self._proof = (_seal(moved.after), msgspec.structs.replace(proof[1], peers=peers))
            return seen
        raise AssertionError("every attempt returns or raises")

    def apply_isolation(self, intent: Intent, *, severs: bool = False) -> Realised:
        """The quarantines of an intent that is in force but for them, at the cost of the change.

        A policy on trial stays on trial: both generations are bound. Proven by reading back what was sent (the
        elements, the exceptions, the rules a quarantine is in), while the kernel's rule set generation shows that
        nobody else wrote; a whole audit is `observe`. After somebody else wrote, and where no policy of ours is in
        force, it is a `converge`. `severs`: as there.

        Raises TargetError `policy-differs` where more than quarantine differs from what is in force, and like
        `converge`; FindingsError where the intent may not be planned.
        """
        if errors_among(intent.refusals):
            raise FindingsError(intent.refusals)
        for attempt in range(ATTEMPTS):
            found = self._last or self.observe()
            standing = found.in_force
            if standing is None or not found.is_untouched or (found.trial is not None and not found.on_trial):
                return self.converge(intent, policy=standing.policy if standing is not None else "", severs=severs)
            self._prove(intent, found)
            moved = changed_isolation(found, intent, self._now())
            if moved is None:
                return self._as_refused(found, intent)
            if severs and moved.plan.judges_again:
                self._sever(moved.plan.layout)
            if self._is_sent(moved, is_last=attempt == ATTEMPTS - 1):
                seen = self._read_back(moved)
                self._proof = (_seal(moved.after), intent)
                if severs and seen.layout is not None:
                    self._sever(seen.layout)
                return self._as_refused(seen, intent)
        raise AssertionError("every attempt returns or raises")

    def _prove(self, intent: Intent, found: Realised) -> None:
        """That an untouched table realises an intent but for its quarantines. Raises TargetError `policy-differs`."""
        if self._proof is not None and self._proof[0] == _seal(found) and is_alike(self._proof[1], intent):
            return
        assert found.intent is not None
        seen = self.verify(with_quarantine(intent, found.intent), found)
        if seen.state not in ("realised", "refused"):
            raise TargetError(
                "policy-differs",
                f"more than quarantine differs from what is in force: {'; '.join(seen.differences[:3])}",
                help="converge to the whole intent",
            )

    def _as_refused(self, found: Realised, intent: Intent) -> Realised:
        reduced, _ = self._reduced(intent)
        if reduced is intent or found.state != "realised":
            return found
        return msgspec.structs.replace(found, state="refused", differences=tuple(f.message for f in reduced.refusals))

    def _is_sent(self, moved: Moved, *, is_last: bool) -> bool:
        """False where somebody else changed the rule set first."""
        try:
            self.apply(moved.plan)
        except TargetError as error:
            self._last = None
            if error.code != "ruleset-changed" or is_last:
                raise
            return False
        return True

    def _permissions_of(self, intent: Intent) -> Permissions:
        known = self._permissions
        if known is None or known.intent.parts is not intent.parts or known.intent.mode != intent.mode:
            self._permissions = known = Permissions(intent)
        return known

    def _read_back(self, moved: Moved) -> Realised:
        """Only what was sent, if nobody else wrote meanwhile; else everything."""
        self._last = None
        with self._netlink() as netlink:
            wrong = tuple(missed(netlink, moved))
            if netlink.generation() != moved.after.generation:
                return self.observe()
        if wrong:
            raise TargetError("not-realised", f"what was read back differs: {', '.join(wrong[:3])}")
        self._last = moved.after
        return moved.after

    def _as_owned(self, plan: Plan) -> Plan:
        """A plan from nothing makes the table with our flags."""
        if self._ownership is None or not plan.adopts:
            return plan
        bare, owned = m.new_table(), m.new_table(self._ownership.flags)
        steps = (tuple(owned if x == bare else x for x in step) for step in (plan.preparation, plan.messages))
        preparation, messages = steps
        return msgspec.structs.replace(plan, preparation=preparation, messages=messages)

    # -- trials --

    def confirm(self) -> Realised:
        """Make the policy on trial permanent, in one transaction. Raises TargetError `trial-over` when it is none.

        What the table then holds too much is tidied up afterwards; that decides nothing.
        """
        self._while_on_trial(FOR_GOOD)
        return self._tidy()

    def extend(self, seconds: float) -> Realised:
        """Give the policy on trial so many seconds from now on. Raises TargetError `trial-over` when it is none."""
        return self._while_on_trial(self._now() + seconds)

    def revert(self) -> Realised:
        """End the trial now: the confirmed policy decides. Nothing to do when it does already."""
        found = self.observe()
        return self._commit(settled(found, None, self._now())) if found.on_trial else found

    def _tidy(self) -> Realised:
        """Leave only the confirmed trial in the table."""
        found = self.observe()
        if found.trial is None or found.on_trial or found.is_reverted or not found.is_untouched:
            return found
        return self._commit(tidied(found, self._now()))

    def _while_on_trial(self, until: float) -> Realised:
        """Change the trial's time. The kernel refuses it once the time is over: its elements are not there."""
        for attempt in range(ATTEMPTS):
            found = self.observe()
            if not found.on_trial:
                raise _trial_over()
            try:
                return self._commit(settled(found, until, self._now()))
            except TargetError as error:
                if error.code not in ("ruleset-changed", "kernel-refused") or attempt == ATTEMPTS - 1:
                    raise
        raise _trial_over()

    def _commit(self, plan: Plan) -> Realised:
        self.apply(plan)
        return self.observe()

    def sever(self) -> int:
        """End the host's TCP sockets whose next packet the realised rules would refuse; returns how many there were.

        For after a `converge` that took something away: the rules cut at once, this tells the programs. Raises
        TargetError `sockets-unreadable`, `conntrack-unreadable`, `kernel-lacks-feature`.
        """
        layout = self.observe().layout
        return self._sever(layout) if layout is not None else 0

    def _sever(self, layout: Layout) -> int:
        with self._netlink() as netlink:
            return sever(self.netns, netlink, layout, self._cgroup_root)

    def remove(self) -> None:
        """Delete our table: the explicit end of enforcement. Nothing else ever does."""
        with self._netlink() as netlink:
            try:
                netlink.commit((m.delete_table(),))
            except Refused as refusal:
                if refusal.errno != errno.ENOENT:
                    raise refusal_of(refusal) from refusal

    def hits(self) -> tuple[counters.Hit, ...]:
        """How often each cell decided."""
        with self._netlink() as netlink:
            layout = read_table(netlink)
            return counters.hits(netlink, layout) if layout is not None else ()

    def totals(self) -> tuple[counters.Totals, ...]:
        """Packets judged, by direction and step."""
        with self._netlink() as netlink:
            return counters.totals(netlink)

    # -- control groups --

    def _groups(self, intent: Intent) -> tuple[dict[str, CgroupRef], tuple[Finding, ...]]:
        units = tuple(units_of(intent))
        return resolve_units(units, self._cgroup_root) if units else ({}, ())

    def _faults(self, intent: Intent) -> tuple[Finding, ...]:
        """All that is refused of the intent; any error among it refuses the whole."""
        if self._checked is None or self._checked[0] is not intent:
            self._checked = (intent, check(intent))
        return (*intent.refusals, *self._checked[1], *refused(intent, *self._groups(intent)))

    def _reduced(self, intent: Intent) -> tuple[Intent, Mapping[str, CgroupRef]]:
        groups, unresolved = self._groups(intent)
        self._last_units = frozenset(groups)
        return reduce(intent, groups, unresolved), groups

    def _groups_at(self, layout: Layout) -> Mapping[str, CgroupRef]:
        """The units of intents seen before, as they resolve now: a re-created group shows as a difference."""
        return resolve_units(sorted(self._last_units), self._cgroup_root)[0] if self._last_units else {}


def _seal(found: Realised) -> str:
    return about(found.layout).seal if found.layout is not None else ""


def _trial_over() -> TargetError:
    return TargetError(
        "trial-over",
        "no policy is on trial: the confirmed one is in force",
        help="apply the policy again to try it again",
    )
