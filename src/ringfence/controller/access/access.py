"""Who may do what: roles, tokens, scopes; and who may join.

INVARIANT: a token is shown once and kept as a digest; what is not granted by a role is refused; a scope confines what
would change, before and after the change. Uses and expiry of a join token are judged in the transaction that takes the
use, so two hosts racing for the last one are not both let in.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Literal, get_args

import msgspec

from ringfence.controller import audit
from ringfence.core.errors import InputError, RingfenceError
from ringfence.core.identity.workload import Mode
from ringfence.core.labels.selector import (
    LABEL_KEY,
    LABEL_VALUE,
    Labels,
    Requirement,
    Selector,
    meant_by,
    parse_selector,
)
from ringfence.core.net.address import HOLDABLE, format_ranges, parse_cidr
from ringfence.core.net.intervals import IntervalSet, union
from ringfence.ports.state import ApiToken, AuditEntry, Change, JoinTokenRecord, PairingProfile, View, Where
from ringfence.wire.join import Join, parse_join

Role = Literal["viewer", "author", "approver", "responder", "guardrail", "administrator"]
ROLES: tuple[Role, ...] = get_args(Role)
Right = Literal[
    "read", "propose", "publish", "approve", "label", "mode", "guardrail", "rollout", "quarantine", "release", "alerts",
    "evidence", "enrol", "tokens", "certificates", "backup", "audit", "erase",
]  # fmt: skip
RIGHTS: tuple[Right, ...] = get_args(Right)
MAY: Mapping[Role, frozenset[Right]] = MappingProxyType(
    {
        "viewer": frozenset({"read"}),
        "author": frozenset({"read", "propose", "publish", "label", "mode", "rollout"}),
        "approver": frozenset({"read", "approve", "rollout", "audit"}),
        "responder": frozenset({"read", "quarantine", "release", "alerts", "evidence", "audit"}),
        "guardrail": frozenset({"read", "propose", "publish", "approve", "rollout", "guardrail", "audit"}),
        "administrator": frozenset(RIGHTS),
    }
)
"""What each role may do. `guardrail` is the right over policies without a scope, `forbid` and the failsafe list;
`erase` is that of deleting evidence."""
PREFIX = "rf_"
_SECRET_BYTES = 32
_UNKNOWN = hashlib.sha256(b"nobody's").hexdigest()


class AccessError(RingfenceError):
    """Somebody may not do what they asked for."""


class Power(msgspec.Struct, frozen=True):
    """Roles, and what they are over."""

    roles: tuple[Role, ...]
    scope: str | None = None
    """A selector; None: the whole estate."""


class Principal(msgspec.Struct, frozen=True):
    """Somebody who was recognised.

    INVARIANT: a right is worth what the role it comes from is over: roles over different scopes are never mixed.
    """

    name: str
    roles: tuple[Role, ...]
    scope: Selector | None = None
    """What these roles are over; None: the whole estate."""
    token: str = ""
    """The id of the token, so that it can be told which was used."""
    more: tuple[tuple[tuple[Role, ...], Selector | None], ...] = ()
    """Other roles, each over a scope of its own."""
    session: str = ""
    """The id of the session, where there is one."""

    @staticmethod
    def of(name: str, powers: Sequence[Power], *, session: str = "") -> Principal:
        """Somebody with one power at least."""
        first, *more = ((one.roles, None if one.scope is None else parse_selector(one.scope)) for one in powers)
        return Principal(name, *first, more=tuple(more), session=session)

    @property
    def powers(self) -> tuple[tuple[tuple[Role, ...], Selector | None], ...]:
        """Roles, and the scope they are over."""
        return ((self.roles, self.scope), *self.more)

    @property
    def rights(self) -> frozenset[Right]:
        return frozenset[Right]().union(*(MAY[role] for roles, _ in self.powers for role in roles))

    def demand(self, right: Right) -> None:
        """Raises AccessError `not-allowed`."""
        if right not in self.rights:
            roles = ", ".join(f"`{role}`" for role in ROLES if right in MAY[role])
            raise AccessError("not-allowed", f"`{self.name}` may not `{right}`", help=f"ask somebody with {roles}")

    def demand_workload(self, right: Right, *labels: Labels) -> None:
        """The right over a workload with these labels: before and after, where they change. Raises AccessError
        `not-allowed`, `outside-scope`."""
        self.demand(right)
        scopes = self._scopes(right)
        if None not in scopes and not all(any(scope.matches(one) for scope in scopes if scope) for one in labels):
            raise self._outside(right, "the workload")

    def demand_scope(self, right: Right, scope: Selector | None, what: str) -> None:
        """The right over all that a selector can pick. Raises AccessError `not-allowed`, `outside-scope`."""
        self.demand(right)
        scopes = self._scopes(right)
        if None in scopes:
            return
        if scope is None or not any(is_within(scope, own) for own in scopes if own):
            raise self._outside(right, what)

    def _scopes(self, right: Right) -> list[Selector | None]:
        """What the right is over."""
        return [scope for roles, scope in self.powers if any(right in MAY[role] for role in roles)]

    def _outside(self, right: Right, what: str) -> AccessError:
        scopes = " or ".join(f"`{scope}`" for scope in self._scopes(right))
        message = f"{what} is not within {scopes}, which `{self.name}` may change"
        return AccessError("outside-scope", message, help="ask somebody with a wider scope")


def is_within(inner: Selector, outer: Selector) -> bool:
    """Whether whatever labels match `inner` match `outer`."""
    return not any((inner & Selector((_negation(one),))).is_satisfiable for one in outer.requirements)


def _negation(requirement: Requirement) -> Requirement:
    opposite: dict[str, Literal["in", "notin", "exists", "absent"]]
    opposite = {"in": "notin", "notin": "in", "exists": "absent", "absent": "exists"}
    return Requirement(requirement.key, opposite[requirement.op], requirement.values)


# ---- API tokens -----------------------------------------------------------------------------------------------------


def grant(
    tx: Change,
    name: str,
    roles: Collection[str],
    *,
    by: str,
    at: datetime,
    scope: str | None = None,
    expires: datetime | None = None,
) -> str:
    """A new token, which is shown here and never again. Raises InputError `bad-grant`."""
    known = _roles(roles)
    _check_times(at, expires)
    text = None if scope is None else str(_scope(scope))
    if text is not None and "administrator" in known:
        raise InputError("bad-grant", "an administrator cannot be confined to a scope", help="leave one of them out")
    id_, secret = new_secret()
    tx.add(ApiToken(id_, digest(secret), name, known, at, by, text, expires))
    details = {"roles": known, "scope": text, "expires": expires, "name": name}
    audit.record(tx, at=at, actor=by, action="token.grant", subject=id_, details=details)
    return f"{PREFIX}{id_}_{secret}"


def authenticate(view: View, token: str, *, at: datetime) -> Principal:
    """Whose token it is. Raises AccessError `token-refused`, whatever is wrong with it."""
    return bearer_of(known_token(view, token), at)


def known_token(view: View, token: str) -> ApiToken:
    """What is known of a token, which may be good no more. Raises AccessError `token-refused`."""
    id_, _, secret = token.strip().removeprefix(PREFIX).partition("_")
    known = view.get(ApiToken, id_)
    is_right = hmac.compare_digest(digest(secret), known.hash if known else _UNKNOWN)
    if known is None or not is_right or not token.strip().startswith(PREFIX):
        raise AccessError("token-refused", "the token is not known here", help="check it, or ask for a new one")
    return known


def bearer_of(known: ApiToken, at: datetime) -> Principal:
    """Whoever bears a token. Raises AccessError `token-refused`: nobody does any more."""
    if known.revoked_at is not None or (known.expires is not None and at >= known.expires):
        why = "was revoked" if known.revoked_at is not None else "has expired"
        raise AccessError("token-refused", f"the token {why}", help="ask an administrator for a new one")
    scope = None if known.scope is None else parse_selector(known.scope)
    return Principal(known.name, _roles(known.roles), scope, known.id)


def revoke(tx: Change, id_: str, *, by: str, at: datetime) -> None:
    """A token is refused from now on. Raises InputError `record-missing`."""
    if not tx.update(ApiToken, Where("id", id_), Where("revoked_at", None), revoked_at=at):
        raise _missing(f"no token `{id_}` is in use", "ringfence token list")
    audit.record(tx, at=at, actor=by, action="token.revoke", subject=id_)


# ---- joining --------------------------------------------------------------------------------------------------------


def make_profile(tx: Change, profile: PairingProfile) -> None:
    """A new profile, by and at the time it names. Raises InputError `record-exists`."""
    _check_limits(profile.created, profile.expires, profile.uses_left)
    _check_ranges(profile.ranges)
    if tx.get(PairingProfile, profile.name) is not None:
        raise _taken(f"there is a pairing profile `{profile.name}` already")
    tx.add(profile)
    details = {"labels": profile.labels, "mode": profile.mode, "uses": profile.uses_left, "expires": profile.expires}
    details["ranges"] = format_ranges(profile.ranges)
    audit.record(
        tx, at=profile.created, actor=profile.created_by, action="profile.make", subject=profile.name, details=details
    )


def set_ranges(tx: Change, known: PairingProfile, ranges: IntervalSet, *, by: str, at: datetime) -> PairingProfile:
    """Other addresses that hosts of a profile may hold; the profile with them. What they hold, they keep. Raises
    InputError `bad-grant`."""
    _check_ranges(ranges)
    tx.update(PairingProfile, Where("name", known.name), ranges=ranges)
    details = {"before": format_ranges(known.ranges), "after": format_ranges(ranges)}
    audit.record(tx, at=at, actor=by, action="profile.ranges", subject=known.name, details=details)
    return msgspec.structs.replace(known, ranges=ranges)


def known_profile(view: View, name: str) -> PairingProfile:
    """Raises InputError `record-missing`."""
    known = view.get(PairingProfile, name)
    if known is None:
        raise _missing(f"there is no pairing profile `{name}`", "ringfence agent profile")
    return known


def changed_meanwhile(view: View, what: str, subject: str) -> InputError:
    """That something is not any more as somebody saw it, and who changed it last."""
    last = next(iter(view.find(AuditEntry, Where("subject", subject), order="-seq", limit=1)), None)
    by = f": `{last.actor}` did `{last.action}` at {last.at:%Y-%m-%d %H:%M:%S} UTC" if last is not None else ""
    message = f"{what} `{subject}` is not any more as you saw it{by}"
    return InputError(
        "changed-meanwhile", message, help="look at it again, then change it; or change it whatever it is"
    )


def parse_ranges(texts: Iterable[str]) -> IntervalSet:
    """CIDRs and addresses, as somebody wrote them. Raises InputError `bad-grant`."""
    found = []
    for text in texts:
        try:
            found.append(parse_cidr(text))
        except ValueError as error:
            help_ = "write it like `10.1.0.0/16` or `203.0.113.7`"
            raise InputError("bad-grant", f"`{text}` is no range: {error}", help=help_) from error
    ranges = union(found)
    _check_ranges(ranges)
    return ranges


def _check_ranges(ranges: IntervalSet) -> None:
    if not ranges & HOLDABLE:
        message = "no host could hold an address in no range"
        raise InputError("bad-grant", message, help="name a range of addresses that hosts have, like `10.0.0.0/8`")


def invite(
    tx: Change,
    profile: str,
    *,
    url: str,
    ca: str,
    by: str,
    at: datetime,
    uses: int | None = None,
    expires: datetime | None = None,
) -> str:
    """A new join token of a profile, shown here and never again. `ca`: SHA-256 of the CA certificate, in hex.

    Raises InputError `record-missing`, `bad-grant`, `bad-token` for a URL or fingerprint no host could trust.
    """
    known_profile(tx, profile)
    _check_limits(at, expires, uses)
    id_, secret = new_secret()
    token = Join(url, ca, id_, secret).token
    parse_join(token)
    tx.add(JoinTokenRecord(id_, digest(secret), profile, at, by, uses, expires))
    details = {"profile": profile, "uses": uses, "expires": expires}
    audit.record(tx, at=at, actor=by, action="join.invite", subject=id_, details=details)
    return token


def disinvite(tx: Change, id_: str, *, by: str, at: datetime) -> None:
    """Nobody joins by a token any more. Raises InputError `record-missing`."""
    if not tx.update(JoinTokenRecord, Where("id", id_), Where("revoked_at", None), revoked_at=at):
        raise _missing(f"no join token `{id_}` is in use", "ringfence agent invitations")
    audit.record(tx, at=at, actor=by, action="join.disinvite", subject=id_)


class Welcome(msgspec.Struct, frozen=True):
    """What a host that was let in becomes."""

    profile: str
    labels: dict[str, str]
    mode: Mode
    token: str
    """The id of the join token."""


def redeem(tx: Change, id_: str, secret: str, *, by: str, at: datetime) -> Welcome:
    """Take one use of a join token and of its profile, together with whatever else the transaction does.

    Raises AccessError `join-refused`.
    """
    token = tx.get(JoinTokenRecord, id_)
    is_right = hmac.compare_digest(digest(secret), token.hash if token else _UNKNOWN)
    if token is None or not is_right:
        raise _refused("is not known here")
    if token.revoked_at is not None:
        raise _refused("was revoked")
    profile = tx.get(PairingProfile, token.profile)
    assert profile is not None  # a reference of the database
    for record, key in ((token, Where("id", id_)), (profile, Where("name", profile.name))):
        _take_use(tx, record, key, at)
    details = {"profile": profile.name, "by": by}
    audit.record(tx, at=at, actor=f"join/{id_}", action="join.redeem", subject=by, details=details)
    return Welcome(profile.name, profile.labels, profile.mode, id_)


def _take_use(tx: Change, record: JoinTokenRecord | PairingProfile, key: Where, at: datetime) -> None:
    if record.expires is not None and at >= record.expires:
        raise _refused("has expired")
    if record.uses_left is None:
        return
    seen = Where("uses_left", record.uses_left)
    if record.uses_left < 1 or not tx.update(type(record), key, seen, uses_left=record.uses_left - 1):
        raise _refused("is used up")


def _refused(why: str) -> AccessError:
    return AccessError("join-refused", f"the join token {why}", help="make a new one with `ringfence agent invite`")


# ---- shared ---------------------------------------------------------------------------------------------------------


def check_labels(labels: Mapping[str, str]) -> None:
    """Raises InputError `bad-label-key`, `bad-label-value`."""
    for key, value in labels.items():
        help_ = "use letters, digits, `.`, `_` and `-`, beginning and ending with a letter or digit"
        if not LABEL_KEY.fullmatch(key):
            raise InputError("bad-label-key", f"`{key}` is no label key", help=help_)
        if not value or not LABEL_VALUE.fullmatch(value):
            raise InputError("bad-label-value", f"`{value}` is no value of the label `{key}`", help=help_)


def new_secret() -> tuple[str, str]:
    """(id, secret): the id is no secret."""
    return secrets.token_hex(6), secrets.token_urlsafe(_SECRET_BYTES)


def digest(secret: str) -> str:
    """Of 256 random bits: no salt and no slow hash is needed."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _roles(names: Collection[str]) -> tuple[Role, ...]:
    unknown = sorted(set(names) - set(ROLES))
    if unknown or not names:
        what = f"there is no role `{unknown[0]}`" if unknown else "a token without a role could do nothing"
        raise InputError("bad-grant", what, help=f"roles: {', '.join(ROLES)}")
    return tuple(role for role in ROLES if role in names)


def _scope(text: str) -> Selector:
    try:
        selector = parse_selector(text)
    except ValueError as error:
        meant = meant_by(text)
        help_ = f"did you mean `{meant}`?" if meant else "write it like `app=shop`"
        raise InputError("bad-grant", f"the scope is no selector: {error}", help=help_) from error
    if not selector.is_satisfiable:
        raise InputError("bad-grant", f"nobody can ever be in the scope `{text}`", help="write it like `app=shop`")
    return selector


def _check_limits(at: datetime, expires: datetime | None, uses: int | None) -> None:
    _check_times(at, expires)
    if uses is not None and uses < 1:
        raise InputError("bad-grant", f"`{uses}` uses are none", help="give 1 or more, or no limit")


def _check_times(at: datetime, expires: datetime | None) -> None:
    if expires is not None and expires <= at:
        raise InputError("bad-grant", f"`{expires.isoformat()}` has passed already", help="give a time to come")


def _taken(what: str) -> InputError:
    return InputError("record-exists", what, help="choose another name; of a profile there is, only ranges change")


def _missing(what: str, listing: str) -> InputError:
    return InputError("record-missing", what, help=f"`{listing}` lists those there are")
