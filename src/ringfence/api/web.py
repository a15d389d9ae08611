"""The web UI: the files that were built into this package, and nothing else, beside the API.

The files are read once, when the server starts, into a table from path to answer: a path that is not in the table has
no file, however it is written. Paths without an extension are pages of the application, which knows them itself.

INVARIANT: `/v1` is the API's alone. No page runs a script or loads anything that is not a file of this table: the
Content-Security-Policy says so to the browser.
"""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from litestar.types import ASGIApp

FOLDER = Path(__file__).resolve().parents[1] / "web"
"""Where the build puts them (`web/` in the repository is the source)."""
API = "/v1"
_HASHED = "/assets/"
"""Names in there change with their content."""
_PAGE = "/index.html"
_POLICY = "; ".join(
    (
        "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self' data:", "font-src 'self'",
        "connect-src 'self'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'",
    )
)  # fmt: skip
_GUARDING: tuple[tuple[bytes, bytes], ...] = (
    (b"content-security-policy", _POLICY.encode()),
    (b"strict-transport-security", b"max-age=31536000"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
)
_PACKED = frozenset({"text/html", "text/css", "text/javascript", "image/svg+xml", "application/json"})
_TYPES: Mapping[str, str] = {".js": "text/javascript", ".woff2": "font/woff2", ".svg": "image/svg+xml"}
"""What the machine's own table may say otherwise."""
_ABSENT = (
    b"The web UI was not built into this installation. In a checkout: make web (it needs node).\n"
    b"The API is under /v1, and the command line does all of it.\n"
)


class _File(NamedTuple):
    """One answer, made beforehand."""

    kind: str
    plain: bytes
    packed: bytes | None
    tag: bytes
    caching: bytes


def read_files(folder: Path) -> dict[str, _File]:
    """Every file under a folder, by the path it is asked for with. Links are not followed."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())
    return {f"/{path.relative_to(folder).as_posix()}": _read(path, folder) for path in found}


def _read(path: Path, folder: Path) -> _File:
    plain = path.read_bytes()
    kind = _TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    is_hashed = path.parent == folder / _HASHED.strip("/")
    return _File(
        kind=f"{kind}; charset=utf-8" if kind.startswith("text/") else kind,
        plain=plain,
        packed=gzip.compress(plain, 9, mtime=0) if kind in _PACKED else None,
        tag=f'"{hashlib.sha256(plain).hexdigest()[:32]}"'.encode(),
        caching=b"public, max-age=31536000, immutable" if is_hashed else b"no-cache",
    )


class Web:
    """The application of the API, and the pages beside it."""

    def __init__(self, api: ASGIApp, folder: Path = FOLDER) -> None:
        self._api, self._files = api, read_files(folder)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        path: str = scope.get("path", "")
        if scope["type"] != "http" or path == API or path.startswith(f"{API}/"):
            await self._api(scope, receive, send)
            return
        asked = {key.lower(): value for key, value in scope["headers"]}
        status, headers, body = self._answer(scope["method"], path, asked)
        body = b"" if scope["method"] == "HEAD" else body
        await send({"type": "http.response.start", "status": status, "headers": [*headers, *_GUARDING]})
        await send({"type": "http.response.body", "body": body, "more_body": False})

    def _answer(
        self, method: str, path: str, asked: Mapping[bytes, bytes]
    ) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        """Status, headers, body."""
        if method not in ("GET", "HEAD"):
            return _plainly(405, b"only GET and HEAD\n", (b"allow", b"GET, HEAD"))
        if _PAGE not in self._files:
            return _plainly(404, _ABSENT)
        file = self._files.get(_PAGE if _is_page(path) else path)
        if file is None:
            return _plainly(404, b"there is no such file\n")
        headers = [(b"etag", file.tag), (b"cache-control", file.caching), (b"vary", b"accept-encoding")]
        if asked.get(b"if-none-match") == file.tag:
            return 304, headers, b""
        body = file.plain
        if file.packed is not None and b"gzip" in asked.get(b"accept-encoding", b""):
            body = file.packed
            headers.append((b"content-encoding", b"gzip"))
        return 200, [*headers, (b"content-type", file.kind.encode()), _length(body)], body


def _is_page(path: str) -> bool:
    """A page of the application, which any path is whose last part has no extension; files are the table's."""
    return "." not in path.rpartition("/")[2] and not path.startswith(_HASHED)


def _plainly(status: int, text: bytes, *more: tuple[bytes, bytes]) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store"), _length(text), *more]
    return status, headers, text


def _length(body: bytes) -> tuple[bytes, bytes]:
    return b"content-length", str(len(body)).encode()
