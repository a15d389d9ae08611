"""What the OpenAPI document says besides what the handlers do: every error a route can answer with, and who may ask.

INVARIANT: a status that is not in the document is not answered; the tests ask with whatever the document allows, and
with what it does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import msgspec
from litestar import Litestar
from litestar.openapi.spec import OpenAPI

from ringfence.api.guards import ANYBODY, COOKIE, CSRF, EVERYBODY
from ringfence.wire.api import PROBLEM, Problem

_TEMPLATE = "#/components/schemas/{name}"
_TEXTS: Mapping[int, str] = {
    304: "It is as you have it (`If-None-Match`).",
    400: "The request cannot be read, or cannot be meant.",
    401: "Nobody is recognised.",
    403: "Whoever asks may not do that.",
    404: "There is no such thing.",
    405: "There is no such method here.",
    409: "It is not as you think it is: look again.",
    412: "It is not any more what `If-Match` names.",
    413: "It says more than is read.",
    422: "What is in it does not hold: see `findings`.",
    429: "Too much at once: wait for `Retry-After` seconds.",
    500: "A fault in Ringfence.",
    503: "Something it takes does not answer now.",
}
CHANGING = frozenset({("post", "/v1/proposals/{id}/reject")})
"""What changes something though everybody who reads may ask for it."""
_ALWAYS = (400, 405, 429, 500, 503)
_WRITES = frozenset({"post", "put", "patch", "delete"})
_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "The same request with the same key is carried out once, and answered alike for a day.",
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,200}$"},
}
_LINK = {
    "description": 'Where the list goes on: `<...>; rel="next"` (RFC 8288). Without it, that was all.',
    "schema": {"type": "string"},
}


@dataclass
class Described(OpenAPI):
    """The document, with what is said here."""

    rights: Mapping[tuple[str, str], str] = field(default_factory=dict)

    def to_schema(self) -> dict[str, Any]:
        document = super().to_schema()
        document.pop("rights", None)
        _, components = msgspec.json.schema_components([Problem], ref_template=_TEMPLATE)
        schemas = document["components"]["schemas"]
        for name, schema in components.items():
            schemas.setdefault(name, schema)
        for schema in schemas.values():
            schema.pop("default", None)  # a field's, and of whichever field came first
        schemes = document["components"]["securitySchemes"]
        schemes["session"] = {"type": "apiKey", "in": "cookie", "name": COOKIE, "description": f"Writes need `{CSRF}`."}
        document["security"] = [{"token": []}, {"session": []}]
        for path, item in document["paths"].items():
            for method, operation in item.items():
                right = self.rights.get((method, path), EVERYBODY)
                _complete(operation, path, method, right)
                _extend(operation, method, is_change=right not in ("read", EVERYBODY) or (method, path) in CHANGING)
        return document


class Application(Litestar):
    """The application, which describes itself."""

    __slots__ = ()

    @property
    def openapi_schema(self) -> OpenAPI:
        plain = super().openapi_schema
        said = {one.name: getattr(plain, one.name) for one in fields(OpenAPI) if one.init}
        return Described(**said, rights=_rights(self))


def _extend(operation: dict[str, Any], method: str, *, is_change: bool) -> None:
    """What is sent and answered beside the bodies."""
    named = {one["name"] for one in operation.get("parameters", ())}
    if method == "post" and is_change:
        operation.setdefault("parameters", []).append(_KEY)
    if method == "get" and "limit" in named and {"after", "before"} & named:
        operation["responses"]["200"].setdefault("headers", {})["Link"] = _LINK


def _rights(app: Litestar) -> dict[tuple[str, str], str]:
    return {
        (method.lower(), route.path_format): handler.opt.get("right", "")
        for route in app.routes
        for handler in getattr(route, "route_handlers", ())
        for method in handler.http_methods
    }


def _complete(operation: dict[str, Any], path: str, method: str, right: str) -> None:
    responses = operation["responses"]
    for status in (one for one in tuple(responses) if int(one) >= 400):
        del responses[status]
    for status in sorted(_statuses(operation, path, method, right)):
        responses[str(status)] = _told(status)
    if right == EVERYBODY:
        operation["security"] = []


def _statuses(operation: Mapping[str, Any], path: str, method: str, right: str) -> set[int]:
    found = {*_ALWAYS}
    answers = operation["responses"].get("200", {}).get("content", {})
    if method == "get" and "application/json" in answers:
        found |= {304}
    if right != EVERYBODY:
        found |= {401}
    if (right not in (EVERYBODY, ANYBODY)) or method in _WRITES or "login" in path:
        found |= {403}
    if "{" in path or method in _WRITES or "login" in path:
        found |= {404}
    if method in _WRITES:
        found |= {401, 409, 422}
    if any(one["name"] == "If-Match" for one in operation.get("parameters", ())):
        found |= {412}
    if "requestBody" in operation:
        found |= {413}
    return found


def _told(status: int) -> dict[str, Any]:
    told: dict[str, Any] = {"description": _TEXTS[status]}
    if status >= 400:
        told["content"] = {PROBLEM: {"schema": {"$ref": _TEMPLATE.format(name="Problem")}}}
    headers = {429: "Retry-After", 401: "WWW-Authenticate", 405: "Allow"}
    if status in headers:
        told["headers"] = {headers[status]: {"schema": {"type": "string"}}}
    return told
