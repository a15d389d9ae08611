"""Files to import: finding them, knowing their content, and reading it as one stream whatever it is compressed with.

INVARIANT: memory stays bounded by the block size whatever the input; a compressed file that ends early or is damaged
gives what came before the damage, and a `DamagedInput`.
"""

from __future__ import annotations

import glob
import hashlib
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from isal import isal_zlib

from ringfence.core.errors import InputError
from ringfence.ports.flow_source import DamagedInput

BLOCK = 4 << 20
HEAD = 64 << 10
_READ = 512 << 10
_EXPANSION = BLOCK // _READ
"""How much larger flow logs are than their gzip, about: blocks of stored text are as large as decompressed ones."""
NOTHING = hashlib.sha256().hexdigest()
"""The digest of an empty file."""
_GZIP = b"\x1f\x8b"
_ZLIB_ERROR: type[Exception] = isal_zlib.error  # type: ignore[assignment] # the stub says it is an instance
_GZIP_WINDOW = 31
"""zlib's windowBits for a gzip wrapper (zlib.h, inflateInit2)."""


class FlowFile:
    """One file, read once; `on_bytes` hears of stored bytes as they are read."""

    def __init__(self, path: Path, on_bytes: Callable[[int], None] = lambda _: None) -> None:
        self.path, self._on_bytes = path, on_bytes

    def head(self) -> bytes:
        """The first 64 KiB of the decompressed content, or as much as can be had."""
        out = b""
        try:
            for block in _content(self.path, lambda _: None, read_size=HEAD):
                out += block
                if len(out) >= HEAD:
                    break
        except DamagedInput:
            pass
        return out[:HEAD]

    def blocks(self) -> Iterator[bytes]:
        return _content(self.path, self._on_bytes, read_size=_READ)

    def advanced(self, size_bytes: int) -> None:
        self._on_bytes(size_bytes)


def expand(paths: Iterable[str], spool: Path) -> list[tuple[str, Path]]:
    """(name, file) of every path: files, folders (recursively), globs, pipes and `-` (kept in the folder `spool`).

    Hidden files of a folder are not looked at. Raises InputError `flow-path-missing` for a path that is not there,
    `flow-path-empty` for one that holds no file.
    """
    found: dict[Path, str] = {}
    for text in paths:
        if text == "-" and spool / "stdin" in found:
            continue  # it can be read once
        if text == "-":
            found[_spooled(sys.stdin.buffer, spool / "stdin")] = text
            continue
        for name, path in _named(text):
            found.setdefault(path if path.is_file() else _spool_pipe(path, spool / str(len(found))), name)
    return [(name, path) for path, name in found.items()]


def _named(text: str) -> list[tuple[str, Path]]:
    path = Path(text)
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file() and not _is_hidden(p.relative_to(path)))
    elif path.exists():
        files = [path]
    else:
        files = sorted(Path(p) for p in glob.glob(text, recursive=True) if Path(p).is_file())
        if not files:
            raise InputError("flow-path-missing", f"`{text}` is not there", help="give a file, a folder, a glob or `-`")
    if not files:
        raise InputError("flow-path-empty", f"`{text}` holds no file", help="give the folder the flow logs are in")
    return [(str(p), p) for p in files]


def _is_hidden(relative: Path) -> bool:
    return any(part.startswith(".") for part in relative.parts)


def _spool_pipe(path: Path, target: Path) -> Path:
    with path.open("rb") as pipe:
        return _spooled(pipe, target)


def _spooled(source: BinaryIO, target: Path) -> Path:
    """What can be read once only, kept in a file: formats with a footer need to seek, and the digest comes first."""
    with target.open("wb") as file:
        shutil.copyfileobj(source, file, _READ)
    return target


def digest_of(path: Path) -> str:
    """SHA-256 of the decompressed content: a log and its gzip are one. Of the stored bytes where gzip is damaged."""
    digest = hashlib.sha256()
    try:
        for block in _content(path, lambda _: None, read_size=_READ):
            digest.update(block)
    except DamagedInput:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    return digest.hexdigest()


def _content(path: Path, on_bytes: Callable[[int], None], *, read_size: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        magic = file.read(2)
        file.seek(0)
        if magic == _GZIP:
            yield from _gunzip(file, on_bytes, read_size)
            return
        while block := file.read(read_size * _EXPANSION):
            on_bytes(len(block))
            yield block


def _gunzip(file: BinaryIO, on_bytes: Callable[[int], None], read_size: int) -> Iterator[bytes]:
    """Every member of a gzip file, one after the other (RFC 1952 section 2.2); zero padding between is passed over."""
    stream, is_open, rest = isal_zlib.decompressobj(_GZIP_WINDOW), False, b""
    while True:
        stored = file.read(read_size)
        on_bytes(len(stored))
        if not stored and not rest:
            break
        rest += stored
        while rest:
            if not is_open:
                rest = rest.lstrip(b"\0")
                if not rest:
                    break
                stream, is_open = isal_zlib.decompressobj(_GZIP_WINDOW), True
            out, rest, is_open = _inflate(stream, rest)
            if out:
                yield out
    if is_open:
        raise DamagedInput("gzip-truncated", "the gzip file ends before its content does")


def _inflate(stream: isal_zlib.Decompress, stored: bytes) -> tuple[bytes, bytes, bool]:
    """(content, what is left of the stored bytes, is the member unfinished)."""
    try:
        out: bytes = stream.decompress(stored, BLOCK)
    except (_ZLIB_ERROR, EOFError) as error:
        raise DamagedInput("gzip-damaged", f"the gzip file cannot be decompressed further: {error}") from error
    rest: bytes = stream.unused_data if stream.eof else stream.unconsumed_tail
    if not out and len(rest) == len(stored):
        raise DamagedInput("gzip-damaged", "the gzip file cannot be decompressed further: no progress")
    return out, rest, not stream.eof
