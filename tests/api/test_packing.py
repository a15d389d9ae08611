"""Large answers are packed; those that hold secrets never are."""

from __future__ import annotations

import gzip
import json

import httpx
import pytest
from explored import Explored
from serving import Serving

from ringfence.client.client import _context


def ask(served: Serving, method: str, path: str, encoding: str, **said: object) -> tuple[httpx.Response, bytes]:
    """The answer, and its bytes as they came."""
    bearer = {"Authorization": f"Bearer {served.token}", "Accept-Encoding": encoding}
    with httpx.Client(base_url=served.controller.settings.url, verify=_context(served.ca)) as http:
        request = http.build_request(method, path, headers=bearer | dict(said.pop("headers", {})), **said)  # type: ignore[arg-type, call-overload]
        answer = http.send(request, stream=True)
        raw = b"".join(answer.iter_raw())
        answer.close()
        return answer, raw


def test_a_large_answer_is_packed_for_whoever_takes_it(estate: Explored) -> None:
    """The same JSON, smaller; plain for whoever does not say that they take it, or that they do not."""
    served = estate.served
    plain, wide = ask(served, "POST", "/v1/map", "identity", json={})
    packed, narrow = ask(served, "POST", "/v1/map", "br, gzip", json={})
    assert len(wide) > 4096
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.headers["vary"] == "accept-encoding"
    assert len(narrow) == int(packed.headers["content-length"]) < len(wide) / 2
    assert json.loads(gzip.decompress(narrow)) == json.loads(wide)
    for refused in ("gzip;q=0", "gzip; q=0.0", "br", ""):
        assert "content-encoding" not in ask(served, "POST", "/v1/map", refused, json={})[0].headers
    assert "content-encoding" not in plain.headers


def test_a_packed_answer_is_known_again(estate: Explored) -> None:
    """By its tag, packed or not."""
    packed, _ = ask(estate.served, "GET", "/v1/workloads", "gzip")
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.headers["etag"].startswith('W/"')
    again, raw = ask(estate.served, "GET", "/v1/workloads", "gzip", headers={"If-None-Match": packed.headers["etag"]})
    assert (again.status_code, raw) == (304, b"")


def test_the_same_request_twice_is_answered_the_same_packed_or_not(estate: Explored) -> None:
    """What is remembered for an idempotency key is the plain answer."""
    key = {"Idempotency-Key": "packed"}
    first, one = ask(estate.served, "POST", "/v1/map", "gzip", json={}, headers=key)
    _, two = ask(estate.served, "POST", "/v1/map", "identity", json={}, headers=key)
    _, three = ask(estate.served, "POST", "/v1/map", "gzip", json={}, headers=key)
    assert first.headers["content-encoding"] == "gzip"
    assert gzip.decompress(one) == two == gzip.decompress(three)


@pytest.mark.parametrize("path", ["/v1/tokens", "/v1/sessions", "/v1/invitations", "/v1/me/sessions", "/v1/audit"])
def test_what_may_be_secret_is_not_packed(served: Serving, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its length tells nothing, however much there is."""
    monkeypatch.setattr("ringfence.api.packing._LEAST", 0)
    assert "content-encoding" not in ask(served, "GET", path, "gzip")[0].headers
    assert ask(served, "GET", "/v1/profiles", "gzip")[0].headers["content-encoding"] == "gzip"
