"""Limits of requests, tags of what is read, and the headers of every answer."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import httpx
import pytest
from serving import Serving, serving

from ringfence.api.limits import Buckets, Limits, TooMany
from ringfence.api.problems import GUARDING
from ringfence.api.serve import listen
from ringfence.client.client import _context
from ringfence.controller.access.rates import Rates
from ringfence.wire.api import NewProfile


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def http(served: Serving, token: str = "") -> httpx.Client:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx.Client(
        base_url=served.controller.settings.url, verify=_context(served.ca), timeout=30, headers=headers
    )


def taken(buckets: Buckets, key: bytes, times: int) -> int:
    count = 0
    for _ in range(times):
        try:
            buckets.take(key)
            count += 1
        except TooMany:
            break
    return count


def test_a_bucket_holds_its_burst_and_fills_at_its_rate() -> None:
    """Never more than the burst however long nobody asked; who is refused is told when to come back, and is served
    then."""
    clock = Clock()
    buckets = Buckets(2.0, 10, clock)
    assert taken(buckets, b"a", 100) == 10
    assert taken(buckets, b"b", 3) == 3
    with pytest.raises(TooMany) as error:
        buckets.take(b"a")
    assert error.value.wait_s == 1
    clock.now += 0.5
    assert taken(buckets, b"a", 5) == 1
    clock.now += 1e6
    assert taken(buckets, b"a", 100) == 10


def test_what_is_remembered_is_bounded() -> None:
    """As many buckets as are allowed, the latest of them; a rate of 0 is no limit."""
    clock = Clock()
    buckets = Buckets(1.0, 1, clock, most=3)
    for n in range(100):
        buckets.take(b"%d" % n)
    assert [buckets.knows(b"%d" % n) for n in (0, 96, 97, 99)] == [False, False, True, True]
    assert taken(Buckets(0, 1, clock), b"a", 1000) == 1000


def test_guessing_is_slow_for_the_guesser_only() -> None:
    """Who guessed too often from an address is refused unread; a token that was good lately goes on from there. One
    host of IPv6 has one bucket, whatever address of its /64 it takes."""
    clock = Clock()
    limits = Limits(Rates(strangers_s=1, strangers_burst=3), clock)
    limits.good("ann's")
    for address in ("2001:db8::1", "2001:db8::2", "2001:db8::ffff"):
        limits.stranger(address)
    with pytest.raises(TooMany):
        limits.before("a guess", "2001:db8::9")
    limits.before("ann's", "2001:db8::9")
    limits.before("a guess", "2001:db8:1::9")
    limits.before("a guess", "10.0.0.1")
    limits.host("2001:db8::9")


@pytest.fixture(scope="module")
def tight(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A controller that takes few requests, and fills no bucket while a test runs."""
    rates = Rates(requests_s=0.001, burst=20, strangers_s=0.001, strangers_burst=10, hosts_s=0.001, hosts_burst=5)
    with serving(tmp_path_factory.mktemp("tight") / "c", limits=rates) as made:
        yield made


def test_too_many_requests_are_told_so(tight: Serving) -> None:
    """429 with `Retry-After`, for a token after its burst, for an address without one after its own; neither counts
    against the other, and hosts that join have a bucket apart."""
    known, stranger = http(tight, tight.token), http(tight)
    assert known.get("/v1/me").status_code == 200
    codes = [stranger.get("/v1/me").json()["code"] for _ in range(12)]
    assert codes == ["token-refused"] * 10 + ["too-many-requests"] * 2
    answer = http(tight, "rf_a_guess").get("/v1/me")
    assert (answer.status_code, answer.json()["code"]) == (429, "too-many-requests")
    assert int(answer.headers["retry-after"]) > 0
    assert [known.get("/v1/me").status_code for _ in range(20)] == [200] * 19 + [429]
    assert [stranger.get("/v1/ca").status_code for _ in range(6)] == [200] * 5 + [429]


@pytest.mark.parametrize(
    ("path", "status"),
    [("/v1/me", 200), ("/v1/nowhere", 404), ("/v1/alive", 200), ("/v1/workloads/nobody", 404), ("/v1/apply", 405)],
)
def test_every_answer_is_guarded(served: Serving, path: str, status: int) -> None:
    """Not framed, not taken for what it is not, TLS from now on, not kept by anybody in between: errors as well."""
    answer = http(served, served.token).get(path)
    assert answer.status_code == status
    said = {key: answer.headers.get_list(key) for key in GUARDING}
    if status == 200 and path == "/v1/me":
        assert said.pop("cache-control") == ["private, no-cache"]
    assert said == {key: [value] for key, value in GUARDING.items() if key in said}
    if status == 405:
        assert "POST" in answer.headers["allow"]


def test_what_was_read_is_not_sent_again(served: Serving) -> None:
    """A tag with each answer; 304 without a body for whoever has it, the whole again once something changed."""
    client = http(served, served.token)
    first = client.get("/v1/profiles")
    tag = first.headers["etag"]
    for said in (tag, f"W/{tag}", f'"x", {tag}', "*"):
        again = client.get("/v1/profiles", headers={"If-None-Match": said})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert client.get("/v1/profiles", headers={"If-None-Match": '"x"'}).content == first.content
    served.client().make_profile(NewProfile("tagged", {"role": "web"}))
    changed = client.get("/v1/profiles", headers={"If-None-Match": tag})
    assert changed.status_code == 200
    assert changed.headers["etag"] != tag


def test_a_secret_is_kept_by_nobody(served: Serving) -> None:
    """A token told once is not to be stored on its way."""
    answer = http(served, served.token).post("/v1/tokens", json={"name": "secret", "roles": ["viewer"]})
    assert answer.headers["cache-control"] == "no-store"
    assert "etag" not in answer.headers


def test_no_answer_waits_for_an_acknowledgement() -> None:
    """Connections that are accepted send at once (TCP_NODELAY), though an answer is written in two parts."""
    with (
        listen("127.0.0.1", 0) as listening,
        socket.create_connection(listening.getsockname()),
        listening.accept()[0] as accepted,
    ):
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
