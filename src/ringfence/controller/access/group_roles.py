"""What somebody may do by what a provider of identities says of them: `[oidc]` of `controller.toml`.

    [oidc.roles]
    ringfence-admins = "administrator"
    "team-*" = {roles = ["author"], scope = "team=*"}

INVARIANT: what somebody may do is judged by the lines of now, whenever they ask, not by those of when they signed in.
INVARIANT: nobody has a role that no line gives: there is none by default, and what a `*` stands for is put into a scope
only if it is the value of a label, so no name of a group can widen one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec

from ringfence.controller.access.access import Power, Role
from ringfence.core.errors import InputError
from ringfence.core.labels.selector import LABEL_VALUE, parse_selector

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_SOME = "x"
"""Stands for what a `*` will stand for."""
_Word = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
_Scopes = Annotated[tuple[_Word, ...], msgspec.Meta(max_length=20)]


class Worth(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one value of the claim is worth."""

    roles: Annotated[tuple[Role, ...], msgspec.Meta(min_length=1)]
    scope: str | None = None
    """A selector; a `*` in it is what the `*` of the value stood for. None: the whole estate."""


class Claimed(msgspec.Struct, frozen=True):
    """What a provider said of somebody, as far as it was worth something."""

    claim: str
    values: tuple[str, ...]


class Oidc(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A provider of identities (OpenID Connect), and what its word is worth."""

    issuer: str
    """As its discovery document says, without `/.well-known/...`."""
    client_id: _Word
    roles: dict[str, Role | Worth]
    """A value of the claim, with at most one `*` -> what it is worth."""
    secret_file: str = ""
    """The client's secret, for its owner's eyes only (mode 0600); none: a public client."""
    claim: _Word = "groups"
    """Of the ID token, or of what userinfo answers; `realm_access.roles` looks inside `realm_access`."""
    name_claim: _Word = "preferred_username"
    """What people are called here: of a kind they cannot choose themselves."""
    scopes: _Scopes = ("openid", "profile")
    label: str = ""
    """What people call the provider."""
    ca_file: str = ""
    """PEM of the roots its certificate comes from, if they are not those of this machine."""

    def check(self) -> None:
        """Raises InputError `bad-oidc`."""
        check_address(self.issuer, "issuer")
        if "openid" not in self.scopes:
            raise bad("`scopes` lacks `openid`", "add it")
        if not self.roles:
            raise bad("`roles` gives nobody a role", 'write a line like `ringfence-admins = "administrator"`')
        for value, worth in self.roles.items():
            _check_worth(value, _worth(worth))

    def claimed(self, claims: Mapping[str, Any]) -> Claimed:
        """What of claims some line speaks of."""
        values = dict.fromkeys(values_of(claims, self.claim))
        return Claimed(self.claim, tuple(value for value in values if any(self._powers(value))))

    def worth(self, said: Claimed) -> tuple[Power, ...]:
        """What somebody may do by what was said of them, by the lines of now; nothing, if it was another claim."""
        values = said.values if said.claim == self.claim else ()
        return tuple(dict.fromkeys(power for value in values for power in self._powers(value)))

    def _powers(self, value: str) -> Iterator[Power]:
        for pattern, worth in self.roles.items():
            power = _power(value, pattern, _worth(worth))
            if power is not None:
                yield power


def values_of(claims: Mapping[str, Any], path: str) -> tuple[str, ...]:
    """The texts under a claim, which has that very name or lies inside of others."""
    at: Any = claims
    if path in claims:
        at = claims[path]
    else:
        for part in path.split("."):
            at = at.get(part) if isinstance(at, Mapping) else None
    texts: Iterable[Any] = (at,) if isinstance(at, str) else at if isinstance(at, list) else ()
    return tuple(one for one in texts if isinstance(one, str))


def check_address(text: str, what: str) -> None:
    """Raises InputError `bad-oidc`: it is not https, nor on this machine."""
    try:
        address = urlsplit(text)
        is_safe = address.scheme == "https" or (address.scheme == "http" and address.hostname in LOOPBACK)
        is_plain = not (address.query or address.fragment or address.username) or what != "issuer"
        has_host = bool(address.hostname)
    except ValueError:
        is_safe = is_plain = has_host = False
    if not (is_safe and is_plain and has_host):
        raise bad(f"the {what} `{text}` is no address to trust", "write it like `https://sso.example.com`")


def bad(why: str, help_: str) -> InputError:
    return InputError("bad-oidc", f"signing in through a provider cannot be meant as it is: {why}", help=help_)


def _worth(said: Role | Worth) -> Worth:
    return said if isinstance(said, Worth) else Worth((said,))


def _check_worth(value: str, worth: Worth) -> None:
    if value.count("*") > 1 or value in ("", "*"):
        raise bad(f"`{value}` under `roles` would be anybody", "name a group, with at most one `*` in it")
    if worth.scope is None:
        return
    if "administrator" in worth.roles:
        raise bad(f"`{value}`: an administrator cannot be confined to a scope", "leave one of them out")
    if "*" in worth.scope and "*" not in value:
        raise bad(f"`{value}` says nothing that the `*` of its scope could be", f'write `"{value}-*"`')
    try:
        selector = parse_selector(worth.scope.replace("*", _SOME))
    except ValueError as error:
        raise bad(f"the scope of `{value}` is no selector: {error}", "write it like `team=*`") from error
    if not selector.is_satisfiable:
        raise bad(f"nobody can ever be in the scope of `{value}`", "write it like `team=*`")


def _power(value: str, pattern: str, worth: Worth) -> Power | None:
    before, star, after = pattern.partition("*")
    if not star:
        return Power(worth.roles, worth.scope) if value == pattern else None
    if len(value) < len(before) + len(after) or not (value.startswith(before) and value.endswith(after)):
        return None
    if worth.scope is None or "*" not in worth.scope:
        return Power(worth.roles, worth.scope)
    stood_for = value[len(before) : len(value) - len(after)]
    if not stood_for or not LABEL_VALUE.fullmatch(stood_for):
        return None
    return Power(worth.roles, worth.scope.replace("*", stood_for))
