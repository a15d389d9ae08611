"""Tokens of people, pairing profiles and invitations: given, listed, taken back.

INVARIANT: only the rights `tokens` and `enrol`, which are an administrator's, open this. Secrets leave once, as the
answer.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from ringfence.controller.access import access
from ringfence.controller.access.access import AccessError, Principal
from ringfence.core.errors import InputError
from ringfence.core.labels.selector import LABEL_VALUE
from ringfence.core.net.address import format_ranges
from ringfence.ports.state import ApiToken, Change, JoinTokenRecord, PairingProfile, State
from ringfence.wire.api import (
    Grant,
    InvitationView,
    Invite,
    Invited,
    NewProfile,
    ProfileView,
    Ranges,
    TokenView,
)

_USES: Final = 1
"""Hosts that an invitation lets in where nobody says how many."""
_LASTS: Final = timedelta(hours=24)
"""How long it is good where nobody says."""
Limit = TypeVar("Limit", int, datetime)
_REMEMBERED: Final = 256
"""Tokens that are recognised while the state does not answer."""


class Granting:
    """Who may act, and who may join."""

    def __init__(self, state: State, url: str, fingerprint: Callable[[], str], clock: Callable[[], datetime]) -> None:
        """`url`: where hosts reach the API; `fingerprint`: of the root they are to believe."""
        self._state, self._url, self._fingerprint, self._clock = state, url, fingerprint, clock
        self._recent: dict[str, ApiToken] = {}
        """Digest of a token -> what the state said of it last. Empty after any was revoked."""
        self._revocations = 0

    # ---- people -----------------------------------------------------------------------------------------------------

    async def recognise(self, token: str) -> Principal:
        """Raises AccessError `token-refused`."""
        revocations = self._revocations
        known = await self._state.read(lambda view: access.known_token(view, token))
        if revocations == self._revocations:
            self._remember(access.digest(token), known)
        return access.bearer_of(known, self._clock())

    def _remember(self, mark: str, known: ApiToken) -> None:
        self._recent.pop(mark, None)
        self._recent[mark] = known
        while len(self._recent) > _REMEMBERED:
            del self._recent[next(iter(self._recent))]

    def recall(self, token: str) -> Principal:
        """Whoever bore a token when the state last answered: for saying how the controller is while it does not. Raises
        AccessError `token-refused`."""
        known = self._recent.get(access.digest(token))
        if known is None:
            help_ = "try again when it answers"
            raise AccessError("token-refused", "the token is not known while the state does not answer", help=help_)
        return access.bearer_of(known, self._clock())

    async def grant(self, asked: Grant, *, by: Principal) -> str:
        """A new token. Raises AccessError `not-allowed`, InputError `bad-grant`."""
        by.demand("tokens")
        now = self._clock()
        return await self._state.write(
            lambda tx: access.grant(
                tx, asked.name, asked.roles, by=by.name, at=now, scope=asked.scope, expires=asked.expires
            )
        )

    async def revoke(self, id_: str, *, by: Principal) -> None:
        """Raises AccessError `not-allowed`, InputError `record-missing`."""
        by.demand("tokens")
        now = self._clock()
        await self._state.write(lambda tx: access.revoke(tx, id_, by=by.name, at=now))
        self._revocations += 1
        self._recent.clear()

    async def tokens(self, *, by: Principal) -> tuple[TokenView, ...]:
        by.demand("tokens")
        found = await self._state.read(lambda view: view.find(ApiToken, order="created"))
        return tuple(
            TokenView(t.id, t.name, t.roles, t.created, t.created_by, t.scope, t.expires, t.revoked_at) for t in found
        )

    # ---- hosts ------------------------------------------------------------------------------------------------------

    async def make_profile(self, asked: NewProfile, *, by: Principal) -> ProfileView:
        """Raises AccessError `not-allowed`, InputError `bad-grant`, `bad-label-key`, `bad-label-value`, StateError
        `record-exists`."""
        by.demand("enrol")
        if not LABEL_VALUE.fullmatch(asked.name):
            raise InputError("bad-grant", f"`{asked.name}` is no name", help="use letters, digits, `.`, `_` and `-`")
        access.check_labels(asked.labels)
        profile = PairingProfile(
            asked.name, asked.labels, self._clock(), by.name, asked.mode, asked.uses, asked.expires
        )
        if asked.ranges:
            profile = msgspec.structs.replace(profile, ranges=access.parse_ranges(asked.ranges))
        await self._state.write(lambda tx: access.make_profile(tx, profile))
        return _profile(profile)

    async def set_ranges(
        self, name: str, asked: Ranges, *, by: Principal, is_meant: Callable[[ProfileView], bool] = lambda _: True
    ) -> ProfileView:
        """Other addresses that hosts of a profile may have. `is_meant`: whether it is as whoever asks saw it. Raises
        AccessError `not-allowed`, InputError `record-missing`, `bad-grant`, `changed-meanwhile`."""
        by.demand("enrol")
        now, ranges = self._clock(), access.parse_ranges(asked.ranges)

        def work(tx: Change) -> PairingProfile:
            known = access.known_profile(tx, name)
            if not is_meant(_profile(known)):
                raise access.changed_meanwhile(tx, "the pairing profile", name)
            return access.set_ranges(tx, known, ranges, by=by.name, at=now)

        return _profile(await self._state.write(work))

    async def profile(self, name: str, *, by: Principal) -> ProfileView:
        """Raises AccessError `not-allowed`, InputError `record-missing`."""
        by.demand("read")
        return _profile(await self._state.read(lambda view: access.known_profile(view, name)))

    async def profiles(self, *, by: Principal) -> tuple[ProfileView, ...]:
        by.demand("read")
        return tuple(map(_profile, await self._state.read(lambda view: view.find(PairingProfile, order="name"))))

    async def invite(self, asked: Invite, *, by: Principal) -> Invited:
        """A join token; without limits only where that is said. Raises AccessError `not-allowed`, InputError
        `record-missing`, `bad-grant`."""
        by.demand("enrol")
        now, ca = self._clock(), self._fingerprint()

        def work(tx: Change) -> Invited:
            of = access.known_profile(tx, asked.profile)
            uses = _unless_said(asked.uses, of.uses_left, _USES)
            expires = _unless_said(asked.expires, of.expires, now + _LASTS)
            token = access.invite(tx, of.name, url=self._url, ca=ca, by=by.name, at=now, uses=uses, expires=expires)
            return Invited(token, _tighter(uses, of.uses_left), _tighter(expires, of.expires))

        return await self._state.write(work)

    async def disinvite(self, id_: str, *, by: Principal) -> None:
        """Raises AccessError `not-allowed`, InputError `record-missing`."""
        by.demand("enrol")
        now = self._clock()
        await self._state.write(lambda tx: access.disinvite(tx, id_, by=by.name, at=now))

    async def invitations(self, *, by: Principal) -> tuple[InvitationView, ...]:
        by.demand("enrol")
        found = await self._state.read(lambda view: view.find(JoinTokenRecord, order="created"))
        return tuple(
            InvitationView(t.id, t.profile, t.created, t.created_by, t.uses_left, t.expires, t.revoked_at)
            for t in found
        )


def _profile(one: PairingProfile) -> ProfileView:
    ranges = tuple(format_ranges(one.ranges))
    return ProfileView(one.name, one.labels, one.mode, one.created, one.created_by, one.uses_left, one.expires, ranges)


def _unless_said(said: Limit | UnsetType | None, of_profile: Limit | None, little: Limit) -> Limit | None:
    """What nobody said is little, or what the profile limits anyway."""
    if said is not UNSET:
        return said
    return None if of_profile is not None else little


def _tighter(one: Limit | None, other: Limit | None) -> Limit | None:
    return other if one is None else one if other is None else min(one, other)
