"""Sessions of people in browsers: opened for a token or by a provider of identities, recognised, ended.

INVARIANT: what the browser keeps is told once and kept as a digest. A session ends when nobody used it for a while,
when its time is over, when it is ended, with the token it was opened with, and when what the provider said of somebody
is worth nothing any more, at that moment.
INVARIANT: nobody has more than MOST at a time: the oldest ends.

The proof against requests that another site makes the browser send (CSRF) is derived from the secret of the session:
whoever knows only the session's row in the database cannot make it.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import msgspec

from ringfence.controller import audit
from ringfence.controller.access import access
from ringfence.controller.access.access import AccessError, Power, Principal
from ringfence.controller.access.group_roles import Claimed
from ringfence.core.errors import InputError
from ringfence.ports.state import ApiToken, Change, Session, State, View, Where

IDLE = timedelta(minutes=30)
LONGEST = timedelta(hours=12)
_NOTED = timedelta(minutes=1)
"""That somebody is there is written no more often than this."""
_UNKNOWN = hashlib.sha256(b"nobody's").hexdigest()
_CLAIMED = msgspec.json.Decoder(Claimed)
MOST = 20
"""Of one token, and of one person at a provider."""
Worth = Callable[[str, Claimed], Sequence[Power]]
"""What somebody (`issuer subject`) may do now, by what was said of them."""


class Opened(NamedTuple):
    """A new session."""

    cookie: str
    """`id_secret`, told once."""
    record: Session
    who: Principal


class Sessions:
    """Who is signed in."""

    def __init__(
        self,
        state: State,
        clock: Callable[[], datetime],
        *,
        idle: timedelta = IDLE,
        longest: timedelta = LONGEST,
        worth: Worth = lambda subject, said: (),
    ) -> None:
        self._worth = worth
        self._state, self._clock, self.idle, self._longest = state, clock, idle, longest

    async def open(self, token: str) -> Opened:
        """For whoever bears a token. Raises AccessError `token-refused`."""
        now = self._clock()

        def work(tx: Change) -> Opened:
            who = access.authenticate(tx, token, at=now)
            known = tx.get(ApiToken, who.token)
            ends = min(now + self._longest, known.expires if known and known.expires else now + self._longest)
            return self._open(tx, ends, who, token=who.token)

        return await self._state.write(work)

    async def open_for(self, name: str, subject: str, said: Claimed, *, ends: datetime | None = None) -> Opened:
        """For whom a provider of identities named. `ends`: at the latest. Raises AccessError `session-refused`: what it
        said is worth nothing."""
        last = self._clock() + self._longest
        who, kept = self._named(name, subject, said), msgspec.json.encode(said).decode()
        return await self._state.write(
            lambda tx: self._open(tx, min(last, ends or last), who, subject=subject, claims=kept)
        )

    def _named(self, name: str, subject: str, said: Claimed, session: str = "") -> Principal:
        """Raises AccessError `session-refused`."""
        powers = self._worth(subject, said)
        if not powers:
            raise _refused()
        return Principal.of(name, powers, session=session)

    def _open(
        self,
        tx: Change,
        ends: datetime,
        who: Principal,
        *,
        token: str | None = None,
        subject: str = "",
        claims: str = "",
    ) -> Opened:
        now = self._clock()
        self._make_room(tx, (Where("subject", subject), Where("token", token)), now)
        id_, secret = access.new_secret()
        tx.add(Session(id_, access.digest(secret), who.name, now, now, ends, token, subject, claims))
        details = {"token": token, "subject": subject, "claims": claims, "ends": ends}
        audit.record(tx, at=now, actor=who.name, action="session.open", subject=id_, details=details)
        record = tx.get(Session, id_)
        assert record is not None
        return Opened(f"{id_}_{secret}", record, msgspec.structs.replace(who, session=id_))

    def _make_room(self, tx: Change, own: tuple[Where, ...], now: datetime) -> None:
        """For one more of the same token or person."""
        found = tx.find(Session, *own, order="opened")
        live = [one for one in found if now < self._end_of(one)]
        for one in live[: max(0, len(live) - MOST + 1)]:
            tx.remove(Session, Where("id", one.id))
            details = {"name": one.name, "why": f"more than {MOST}"}
            audit.record(tx, at=now, actor="controller", action="session.end", subject=one.id, details=details)

    async def recognise(self, cookie: str) -> Principal:
        """Whose session it is. Raises AccessError `session-refused`, whatever is wrong with it."""
        now = self._clock()
        record, who = await self._state.read(lambda view: self._recognise(view, cookie, now))
        if now - record.seen >= _NOTED:
            await self._state.write(lambda tx: tx.update(Session, Where("id", record.id), seen=now))
        return who

    def _recognise(self, view: View, cookie: str, now: datetime) -> tuple[Session, Principal]:
        id_, _, secret = cookie.partition("_")
        record = view.get(Session, id_)
        is_right = hmac.compare_digest(access.digest(secret), record.hash if record else _UNKNOWN)
        if record is None or not is_right or now >= self._end_of(record):
            raise _refused()
        if record.token is None:
            return record, self._named(record.name, record.subject, _CLAIMED.decode(record.claims), record.id)
        token = view.get(ApiToken, record.token)
        if token is None:
            raise _refused()
        try:
            who = access.bearer_of(token, now)
        except AccessError as error:
            raise _refused() from error
        return record, msgspec.structs.replace(who, session=record.id)

    def _end_of(self, record: Session) -> datetime:
        return min(record.ends, record.seen + self.idle)

    async def get(self, who: Principal) -> Session:
        """The session somebody asks in. Raises AccessError `session-refused`: there is none."""
        record = await self._state.read(lambda view: view.get(Session, who.session) if who.session else None)
        if record is None:
            raise _refused()
        return record

    async def end(self, who: Principal) -> None:
        """Sign out. Raises AccessError `session-refused`: there is no session."""
        await self._end(who.session, by=who.name, otherwise=_refused())

    async def end_of(self, id_: str, *, by: Principal) -> None:
        """End somebody's session. Raises AccessError `not-allowed`, InputError `record-missing`."""
        by.demand("tokens")
        help_ = "look at the list of them"
        await self._end(id_, by=by.name, otherwise=InputError("record-missing", f"no session `{id_}`", help=help_))

    async def _end(self, id_: str, *, by: str, otherwise: Exception) -> None:
        now = self._clock()

        def work(tx: Change) -> None:
            record = tx.get(Session, id_)
            if record is None:
                raise otherwise
            tx.remove(Session, Where("id", id_))
            audit.record(tx, at=now, actor=by, action="session.end", subject=id_, details={"name": record.name})

        await self._state.write(work)

    async def all(self, *, by: Principal) -> list[Session]:
        """Those that are open, the oldest first. Raises AccessError `not-allowed`."""
        by.demand("tokens")
        now = self._clock()

        def work(view: View) -> list[Session]:
            revoked = {one.id for one in view.find(ApiToken, Where("revoked_at", None, "!="))}
            found = view.find(Session, Where("ends", now, ">"), order="opened")
            return [one for one in found if now < self._end_of(one) and self._is_good(one, revoked)]

        return await self._state.read(work)

    def _is_good(self, one: Session, revoked: Collection[str | None]) -> bool:
        """Whether what it was opened by still counts."""
        if one.token is not None:
            return one.token not in revoked
        return bool(self._worth(one.subject, _CLAIMED.decode(one.claims)))

    async def mine(self, who: Principal) -> list[Session]:
        """Those of whoever asks, the oldest first: by the same token, or by the same word of a provider."""
        now = self._clock()

        def work(view: View) -> list[Session]:
            found = view.find(Session, *_of(view, who), Where("ends", now, ">"), order="opened")
            return [one for one in found if now < self._end_of(one)]

        return await self._state.read(work)

    async def end_mine(self, id_: str, who: Principal) -> None:
        """End another session of one's own. Raises InputError `record-missing`."""
        help_ = "look at the list of yours"
        missing = InputError("record-missing", f"no session `{id_}` of yours", help=help_)
        if id_ not in [one.id for one in await self.mine(who)]:
            raise missing
        await self._end(id_, by=who.name, otherwise=missing)

    async def forget(self) -> None:
        """Drop those that have ended."""
        now = self._clock()

        def work(tx: Change) -> None:
            tx.remove(Session, Where("ends", now, "<="))
            tx.remove(Session, Where("seen", now - self.idle, "<="))

        await self._state.write(work)


def proof_of(cookie: str) -> str:
    """What a page of ours, and no other site's, can say for a session."""
    return hmac.digest(cookie.encode(), b"ringfence csrf", "sha256").hex()


def _of(view: View, who: Principal) -> tuple[Where, ...]:
    """What the sessions of somebody have in common."""
    own = view.get(Session, who.session) if who.session else None
    if own is not None and own.token is None:
        return Where("subject", own.subject), Where("token", None)
    return (Where("token", who.token),)


def _refused() -> AccessError:
    return AccessError("session-refused", "you are not signed in, or not any more", help="sign in again")
