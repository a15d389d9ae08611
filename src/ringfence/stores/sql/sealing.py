"""A file sealed with a passphrase, written and read as a stream.

    magic, salt, argon2id limits, stream header | pieces of 64 KiB, each authenticated and in its place | the last one

Argon2id makes the key, XChaCha20-Poly1305 seals (libsodium's secretstream): a piece that is changed, moved, left out or
cut off at the end is noticed.
"""

from __future__ import annotations

import struct
from typing import IO

from nacl import bindings
from nacl.exceptions import CryptoError
from nacl.pwhash import argon2id
from nacl.utils import random as random_bytes

from ringfence.ports.state import StateError

MAGIC = b"RINGFENCE-SEALED-1\n"
_LIMITS = struct.Struct(">II")
_PIECE_BYTES = 64 << 10
_SEALED_BYTES = _PIECE_BYTES + bindings.crypto_secretstream_xchacha20poly1305_ABYTES
_KEY_BYTES = bindings.crypto_secretstream_xchacha20poly1305_KEYBYTES
_HEADER_BYTES = bindings.crypto_secretstream_xchacha20poly1305_HEADERBYTES
_FINAL = bindings.crypto_secretstream_xchacha20poly1305_TAG_FINAL
_PLAIN = bindings.crypto_secretstream_xchacha20poly1305_TAG_MESSAGE


def _key(passphrase: str, salt: bytes, ops: int, memory_bytes: int) -> bytes:
    return argon2id.kdf(_KEY_BYTES, passphrase.encode(), salt, opslimit=ops, memlimit=memory_bytes)


class SealedWriter:
    """Seals what is written; `close` seals the end, and leaves the file beneath open."""

    def __init__(self, file: IO[bytes], passphrase: str) -> None:
        salt = random_bytes(argon2id.SALTBYTES)
        limits = _LIMITS.pack(argon2id.OPSLIMIT_MODERATE, argon2id.MEMLIMIT_MODERATE)
        self._file, self._buffer = file, bytearray()
        self._stream = bindings.crypto_secretstream_xchacha20poly1305_state()
        key = _key(passphrase, salt, *_LIMITS.unpack(limits))
        start = bindings.crypto_secretstream_xchacha20poly1305_init_push(self._stream, key)
        file.write(MAGIC + salt + limits + start)

    def write(self, piece: bytes) -> int:
        self._buffer += piece
        while len(self._buffer) > _PIECE_BYTES:
            self._push(bytes(self._buffer[:_PIECE_BYTES]), _PLAIN)
            del self._buffer[:_PIECE_BYTES]
        return len(piece)

    def close(self) -> None:
        self._push(bytes(self._buffer), _FINAL)

    def _push(self, piece: bytes, tag: int) -> None:
        self._file.write(bindings.crypto_secretstream_xchacha20poly1305_push(self._stream, piece, tag=tag))


class SealedReader:
    """Reads what was sealed. Raises StateError `backup-locked`, `backup-unreadable`."""

    def __init__(self, file: IO[bytes], passphrase: str) -> None:
        head = file.read(len(MAGIC) + argon2id.SALTBYTES + _LIMITS.size + _HEADER_BYTES)
        salt, limits = head[len(MAGIC) :][: argon2id.SALTBYTES], head[len(MAGIC) + argon2id.SALTBYTES :][: _LIMITS.size]
        start = head[-_HEADER_BYTES:]
        if len(head) < len(MAGIC) + argon2id.SALTBYTES + _LIMITS.size + _HEADER_BYTES or not head.startswith(MAGIC):
            raise StateError("backup-unreadable", "the backup ends in its first line", help="use another backup")
        ops, memory_bytes = _LIMITS.unpack(limits)
        is_ours = ops == argon2id.OPSLIMIT_MODERATE and memory_bytes == argon2id.MEMLIMIT_MODERATE
        if not is_ours:
            raise locked()
        self._file, self._buffer, self._is_done = file, b"", False
        self._stream = bindings.crypto_secretstream_xchacha20poly1305_state()
        key = _key(passphrase, salt, ops, memory_bytes)
        bindings.crypto_secretstream_xchacha20poly1305_init_pull(self._stream, start, key)

    def read(self, size: int = -1) -> bytes:
        while (size < 0 or len(self._buffer) < size) and not self._is_done:
            self._pull()
        end = len(self._buffer) if size < 0 else size
        piece, self._buffer = self._buffer[:end], self._buffer[end:]
        return piece

    def _pull(self) -> None:
        sealed = self._file.read(_SEALED_BYTES)
        try:
            piece, tag = bindings.crypto_secretstream_xchacha20poly1305_pull(self._stream, sealed)
        except (CryptoError, RuntimeError, ValueError, TypeError) as error:
            raise locked() from error
        self._is_done = tag == _FINAL
        self._buffer += piece


def locked() -> StateError:
    message = "the backup does not open: the passphrase is another one, or somebody changed the file"
    return StateError("backup-locked", message, help="check the passphrase")
