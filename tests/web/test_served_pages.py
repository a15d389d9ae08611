"""What `/` answers: the built files and nothing else, under a strict policy; `/v1` is the API's."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from populated import Shop

from ringfence.api.web import Web
from ringfence.client.client import _context

SECRET = "a secret beside the pages"


async def api(scope: object, receive: object, send: object) -> None:
    """Stands for the API: says that it was asked."""
    await send({"type": "http.response.start", "status": 418, "headers": []})  # type: ignore[operator]
    await send({"type": "http.response.body", "body": b"api", "more_body": False})  # type: ignore[operator]


@pytest.fixture
def site(tmp_path: Path) -> Web:
    folder = tmp_path / "web"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html><p>the page")
    (folder / "assets/index-abc.js").write_text("export {}")
    (folder / "assets/inter.woff2").write_bytes(b"wOF2")
    (tmp_path / "secret.txt").write_text(SECRET)
    (folder / "assets/leak.js").symlink_to(tmp_path / "secret.txt")
    return Web(api, folder)  # type: ignore[arg-type]


def ask(site: Web, path: str, method: str = "GET", **headers: str) -> httpx.Response:
    async def work() -> httpx.Response:
        transport = httpx.ASGITransport(app=site)
        async with httpx.AsyncClient(transport=transport, base_url="https://ringfence") as client:
            return await client.request(method, path, headers=headers)

    with ThreadPoolExecutor(1) as beside:  # the browser's loop runs in this thread
        return beside.submit(lambda: asyncio.run(work())).result()


def test_every_page_of_the_application_is_the_one_page(site: Web) -> None:
    """Whatever its address; it is asked for again each time, and not changed costs no body."""
    for path in ("/", "/workloads", "/alerts/anything", "/index.html"):
        answer = ask(site, path)
        assert (answer.status_code, answer.text) == (200, "<!doctype html><p>the page")
        assert answer.headers["cache-control"] == "no-cache"
    again = ask(site, "/workloads", **{"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_files_with_a_hash_in_their_name_are_kept_for_ever(site: Web) -> None:
    """And come packed to whoever can unpack them."""
    answer = ask(site, "/assets/index-abc.js")
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert (answer.headers["content-type"], answer.headers["content-encoding"]) == (
        "text/javascript; charset=utf-8",
        "gzip",
    )
    assert answer.text == "export {}"
    plain = ask(site, "/assets/inter.woff2", **{"accept-encoding": "gzip"})
    assert (plain.headers["content-type"], plain.content) == ("font/woff2", b"wOF2")


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt", "/assets/../../secret.txt", "/..%2fsecret.txt", "/%2e%2e/secret.txt", "/secret.txt", "/.env",
        "/assets/%2e%2e%2f%2e%2e%2fsecret.txt", "//etc/passwd.txt", "/assets/leak.js", "/assets/", "/assets/none",
        "/assets\\..\\secret.txt",
    ],
)  # fmt: skip
def test_no_other_file_is_reached(site: Web, path: str) -> None:
    """However a path is written, links included, there is no such file."""
    answer = ask(site, path)
    assert answer.status_code == 404
    assert SECRET not in answer.text


def test_pages_are_read_only(site: Web) -> None:
    """A write is refused, and HEAD has no body."""
    assert ask(site, "/", "POST").status_code == 405
    assert ask(site, "/workloads", "DELETE").headers["allow"] == "GET, HEAD"
    head = ask(site, "/", "HEAD")
    assert (head.status_code, head.content) == (200, b"")


def test_the_api_is_left_alone(site: Web) -> None:
    """Whatever is under /v1, whatever the method; a path that only begins with the same letters is a page."""
    for path in ("/v1", "/v1/status", "/v1/no/such", "/v1/x.js"):
        assert ask(site, path, "PUT").status_code == 418
    assert ask(site, "/v1x").status_code == 200


def test_without_a_build_it_says_how_to_get_one(tmp_path: Path) -> None:
    """The API goes on."""
    bare = Web(api, tmp_path)  # type: ignore[arg-type]
    assert "make web" in ask(bare, "/").text
    assert ask(bare, "/").status_code == 404
    assert ask(bare, "/v1/status").status_code == 418


@pytest.fixture
def http(estate: Shop) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=estate.served.controller.settings.url, verify=_context(estate.served.ca)) as client:
        yield client


def test_the_policy_lets_no_page_run_or_load_anything_foreign(http: httpx.Client) -> None:
    """No inline script or style, no other host, no frame, on refusals, too; the API's errors stay problems."""
    for path in ("/", "/assets/none.js"):
        policy = dict(part.split(" ", 1) for part in http.get(path).headers["content-security-policy"].split("; "))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
        assert "max-age=31536000" in http.get(path).headers["strict-transport-security"]
    assert http.get("/").headers["x-content-type-options"] == "nosniff"
    assert http.get("/v1/none").json()["code"] == "no-such-route"
