"""Errors -> RFC 9457 problems with the code that scripts match.

INVARIANT: what is unexpected tells the caller nothing but that it happened; the log has the rest.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException

from ringfence.api.limits import TooMany
from ringfence.core.errors import FindingsError, RingfenceError
from ringfence.ports.bus import BusError
from ringfence.wire.api import PROBLEM, Problem

_log = logging.getLogger(__name__)

STATUS: Mapping[str, int] = MappingProxyType(
    {
        "token-refused": 401,
        "session-refused": 401,
        "cross-site": 403,
        "sign-in-refused": 403,
        "no-role": 403,
        "provider-unreachable": 503,
        "no-provider": 404,
        "not-allowed": 403,
        "outside-scope": 403,
        "needs-approval": 403,
        "own-proposal": 403,
        "join-refused": 403,
        "renewal-refused": 403,
        "record-missing": 404,
        "no-such-route": 404,
        "method-not-allowed": 405,
        "record-exists": 409,
        "version-conflict": 409,
        "nothing-changed": 409,
        "plan-changed": 409,
        "proposal-decided": 409,
        "workload-quarantined": 409,
        "weaker-than": 409,
        "not-quarantined": 409,
        "alert-closed": 409,
        "no-rollout": 409,
        "request-underway": 409,
        "labels-changed": 409,
        "changed-meanwhile": 412,
        "too-many-requests": 429,
        "body-too-large": 413,
        "key-reused": 422,
        "evidence-not-here": 409,
        "state-busy": 503,
        "state-unreachable": 503,
        "state-closed": 503,
        "state-in-use": 503,
        "state-taken": 503,
        "state-unwritable": 503,
        "bus-unavailable": 503,
        "still-connected": 503,
        "internal-error": 500,
    }
)
"""Code -> status. `unknown-...` is 404, findings are 422, whatever else somebody can mend is 400."""
GUARDING: Mapping[str, str] = MappingProxyType(
    {
        "cache-control": "no-store",
        "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
        "cross-origin-resource-policy": "same-origin",
        "referrer-policy": "no-referrer",
        "strict-transport-security": "max-age=31536000",
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
    }
)
"""Of every answer of the API: not kept, not framed, not taken for what it is not, not asked for without TLS."""
_GONE = "client disconnected prematurely"
"""As the framework says it: no fault of ours, and nothing for the log, which anybody could fill."""
_FAULTS = frozenset({"state-damaged", "state-refused", "unaudited-change", "append-only"})
_FRAMEWORK: Mapping[int, tuple[str, str]] = MappingProxyType(
    {
        404: ("no-such-route", "look at the list of routes: /v1/openapi.json"),
        405: ("method-not-allowed", "look at the list of routes: /v1/openapi.json"),
        413: ("body-too-large", "send less at once"),
    }
)


def status_of(error: RingfenceError) -> int:
    """The HTTP status of an error of ours."""
    if error.code in STATUS:
        return STATUS[error.code]
    if error.code in _FAULTS:
        return 500
    if error.code.startswith("unknown-"):
        return 404
    return 422 if isinstance(error, FindingsError) else 400


def problem_of(error: RingfenceError) -> Problem:
    findings = error.findings if isinstance(error, FindingsError) else ()
    return _problem(status_of(error), error.code, error.message, error.help, findings)


def _problem(status: int, code: str, message: str, help_: str, findings: tuple[Any, ...] = ()) -> Problem:
    return Problem(HTTPStatus(status).phrase, status, message, code, message, help_, findings=findings)


def refuse(_: Request[Any, Any, Any], error: RingfenceError) -> Response[Problem]:
    """An error somebody can act on."""
    headers = {"Retry-After": str(error.wait_s)} if isinstance(error, TooMany) else {}
    return answer(problem_of(error), headers)


def unreachable(_: Request[Any, Any, Any], error: BusError) -> Response[Problem]:
    """The bus does not answer."""
    message = f"the bus does not answer: {error}"
    return answer(_problem(503, "bus-unavailable", message, "try again; `ringfence status` says how it is"))


def misread(_: Request[Any, Any, Any], error: HTTPException) -> Response[Problem]:
    """What the framework refuses: routes, methods, bodies."""
    status = error.status_code
    if error.detail == _GONE:
        return answer(_problem(400, "bad-request", error.detail, "nobody is told: whoever asked is gone"))
    if status in _FRAMEWORK:
        code, help_ = _FRAMEWORK[status]
        message = error.detail or HTTPStatus(status).phrase.lower()
        return answer(_problem(status, code, message, help_), _allowing(error))
    if status >= 500:
        return broken(_, error)
    return answer(_problem(status, "bad-request", _why(error), "compare with /v1/openapi.json"))


def _allowing(error: HTTPException) -> dict[str, str]:
    """Which methods there are, of a refusal of one (RFC 9110, 15.5.6)."""
    return {key: value for key, value in (error.headers or {}).items() if key.lower() == "allow"}


def _why(error: HTTPException) -> str:
    """What is wrong with a request, with the place."""
    extra = error.extra if isinstance(error, ValidationException) and isinstance(error.extra, list) else []
    said = [f"{one.get('key', '')}: {one.get('message', '')}".strip(": ") for one in extra if isinstance(one, dict)]
    return "; ".join(said) or error.detail or "the request cannot be read"


def too_deep(_: Request[Any, Any, Any], error: RecursionError) -> Response[Problem]:
    """A body that is nested beyond reading, which the decoder says this way."""
    if "deserializing" not in str(error):
        return broken(_, error)
    return answer(_problem(400, "bad-request", "the body is nested too deeply", "compare with /v1/openapi.json"))


def broken(_: Request[Any, Any, Any], error: Exception) -> Response[Problem]:
    """A fault of ours."""
    _log.error("a request failed", exc_info=error)
    message, help_ = "this is a fault in Ringfence", "report it with the controller's log"
    return answer(_problem(500, "internal-error", message, help_))


def answer(problem: Problem, more: Mapping[str, str] = MappingProxyType({})) -> Response[Problem]:
    headers = {**GUARDING, **more} | ({"WWW-Authenticate": "Bearer"} if problem.status == 401 else {})
    return Response(problem, status_code=problem.status, media_type=PROBLEM, headers=headers)


async def answer_to(error: RingfenceError, send: Any) -> None:
    """The same, outside of any route."""
    problem = problem_of(error)
    content = msgspec.json.encode(problem)
    headers = [(b"content-type", PROBLEM.encode()), (b"content-length", str(len(content)).encode())]
    headers += [(key.encode(), value.encode()) for key, value in GUARDING.items()]
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": content, "more_body": False})


HANDLERS: dict[int | type[Exception], Any] = {
    RingfenceError: refuse,
    BusError: unreachable,
    HTTPException: misread,
    RecursionError: too_deep,
    Exception: broken,
}
