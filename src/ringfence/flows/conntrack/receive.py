"""Hundreds of netlink datagrams in one system call (recvmmsg(2)), as lines of one table.

ctnetlink sends one datagram an event; read one by one, the system calls and the interpreter cost more than all that
follows. INVARIANT: a datagram is whole or counted in `cut`; an overrun (ENOBUFS) is not an end, the kernel counts what
it dropped (`netlink.dropped`).
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

DATAGRAMS, SLOT_BYTES = 256, 1024
"""At once, and the most of each; an event about a connection takes 160 to 500 bytes."""
_MSG_DONTWAIT = 0x40


class _Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("size", ctypes.c_size_t))


class _Message(ctypes.Structure):
    """`struct msghdr`."""

    _fields_ = (
        ("name", ctypes.c_void_p), ("name_size", ctypes.c_uint), ("vectors", ctypes.POINTER(_Vector)),
        ("vector_count", ctypes.c_size_t), ("control", ctypes.c_void_p), ("control_size", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )  # fmt: skip


class _Header(ctypes.Structure):
    """`struct mmsghdr`."""

    _fields_ = (("message", _Message), ("size", ctypes.c_uint))


_SIZE_WORD = _Header.size.offset // 4


class Receiver:
    """One socket's queue."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._call = ctypes.CDLL(None, use_errno=True).recvmmsg
        self._slots = np.zeros((DATAGRAMS, SLOT_BYTES), np.uint8)
        self._vectors = (_Vector * DATAGRAMS)()
        self._headers = (_Header * DATAGRAMS)()
        for index in range(DATAGRAMS):
            self._vectors[index] = _Vector(self._slots[index].ctypes.data, SLOT_BYTES)
            self._headers[index].message.vectors = ctypes.pointer(self._vectors[index])
            self._headers[index].message.vector_count = 1
        self._words = np.frombuffer(memoryview(self._headers).cast("B"), np.uint32).reshape(DATAGRAMS, -1)
        self.cut = 0
        """Datagrams that did not fit."""

    def waiting(self) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.int64]]]:
        """(lines, bytes of each) of what is queued now; a table is good until the next is asked for.

        Raises OSError.
        """
        while True:
            count = self._call(self._sock.fileno(), self._headers, DATAGRAMS, _MSG_DONTWAIT, None)
            if count < 0:
                number = ctypes.get_errno()
                if number in (errno.EAGAIN, errno.EWOULDBLOCK):
                    return
                if number in (errno.ENOBUFS, errno.EINTR):
                    continue
                raise OSError(number, os.strerror(number))
            sizes = self._words[:count, _SIZE_WORD].astype(np.int64)
            is_whole = self._is_whole(count)
            self.cut += int(count - is_whole.sum())
            yield (self._slots[:count], sizes) if is_whole.all() else (self._slots[:count][is_whole], sizes[is_whole])
            if count < DATAGRAMS:
                return

    def _is_whole(self, count: int) -> NDArray[np.bool_]:
        flags: NDArray[np.uint32] = self._words[:count, _Message.flags.offset // 4]
        is_whole: NDArray[np.bool_] = flags & np.uint32(socket.MSG_TRUNC) == 0
        return is_whole
