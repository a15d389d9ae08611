"""Evidence of one host at one moment: who talks, with what program, under which rules. A tar, in memory.

INVARIANT: command lines, environments and contents of files, where secrets are, are never read; command lines only when
whoever asks says so (`argument` of the order: `with-command-lines`).
INVARIANT: what cannot be read is said in the bundle (`faults.txt`), and the rest is there.
"""

from __future__ import annotations

import io
import os
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from ringfence.agent.observe.processes import program_name, readable, unit_of
from ringfence.agent.observe.spool import Spool
from ringfence.core.net.address import format_address
from ringfence.core.net.service import TCP
from ringfence.flows.conntrack import sockets
from ringfence.targets.nftables.netlink import in_namespace

if TYPE_CHECKING:
    import tarfile

WITH_COMMAND_LINES: Final = "with-command-lines"
_STATES = {1: "established", 2: "syn-sent", 3: "syn-received", 4: "fin-wait-1", 5: "fin-wait-2", 6: "time-wait",
           7: "unconnected", 8: "close-wait", 9: "last-ack", 10: "listening", 11: "closing"}  # fmt: skip
"""Linux, net/tcp_states.h."""
_CONNTRACK = Path("/proc/thread-self/net/nf_conntrack")
"""Of the namespace of the thread that reads it."""
_MOST_EVENTS = 64
Parts = dict[str, Callable[[], bytes]]


def bundle(parts: Parts, at_s: float) -> bytes:
    """A gzipped tar of what each part gives."""
    import gzip  # with what they load, only where evidence is asked for
    import tarfile

    out, faults = io.BytesIO(), []
    with (
        gzip.GzipFile(fileobj=out, mode="wb", mtime=int(at_s)) as packed,
        tarfile.open(fileobj=packed, mode="w|") as tar,
    ):
        for name, make in parts.items():
            try:
                _add(tar, name, make(), at_s)
            except Exception as error:  # evidence of the rest is worth more than this part
                faults.append(f"{name}: {error}")
        _add(tar, "faults.txt", "\n".join(faults).encode(), at_s)
    return out.getvalue()


def of_host(*, netns: str | None, with_command_lines: bool = False) -> Parts:
    """What the kernel says."""
    return {
        "host.json": lambda: msgspec.json.encode(_host()),
        "sockets.tsv": lambda: _lines(in_namespace(netns, lambda: list(_sockets()))),
        "connections.txt": lambda: in_namespace(netns, _connections),
        "processes.tsv": lambda: _lines(_processes(with_command_lines=with_command_lines)),
    }


def of_spool(spool: Spool) -> Parts:
    """Violations and events that were not told yet."""
    waiting = [kept.data for kept in spool.pending(_MOST_EVENTS) if kept.kind == "events"]
    return {"waiting-events.jsonl": lambda: b"\n".join(waiting)}


def _add(tar: tarfile.TarFile, name: str, content: bytes, at_s: float) -> None:
    import tarfile

    entry = tarfile.TarInfo(name)
    entry.size, entry.mtime, entry.mode = len(content), int(at_s), 0o600
    tar.addfile(entry, io.BytesIO(content))


def _lines(rows: object) -> bytes:
    return "".join(f"{row}\n" for row in rows).encode()  # type: ignore[attr-defined]


def _host() -> dict[str, object]:
    uname = platform.uname()
    return {"at": time.time(), "name": uname.node, "kernel": uname.release, "machine": uname.machine,
            "boot": time.time() - time.clock_gettime(time.CLOCK_BOOTTIME), "load": os.getloadavg()}  # fmt: skip


def _sockets() -> Iterator[str]:
    with sockets.open_socket() as sock:
        found = sockets.all_sockets(sock)
    owners = _owners()
    yield "protocol\tstate\tlocal\tremote\tpid\tprogram"
    for row in found:
        ends = [
            f"{format_address(int(row[f'{end}_hi']) << 64 | int(row[f'{end}_lo']))} {int(row[f'{end}_port'])}"
            for end in ("local", "remote")
        ]
        protocol = "tcp" if row["protocol"] == TCP else "udp"
        pid, program = owners.get(int(row["inode"]), ("", ""))
        yield "\t".join((protocol, _STATES.get(int(row["state"]), str(row["state"])), *ends, pid, program))


def _owners() -> dict[int, tuple[str, str]]:
    """inode of a socket -> (process id, program), in one walk."""
    out: dict[int, tuple[str, str]] = {}
    for process in _pids():
        try:
            name = program_name(process)
            links = [os.readlink(entry) for entry in (process / "fd").iterdir()]
        except OSError:
            continue
        for link in links:
            if link.startswith("socket:["):
                out[int(link[8:-1])] = (process.name, name)
    return out


def _connections() -> bytes:
    return _CONNTRACK.read_bytes()


def _processes(*, with_command_lines: bool) -> Iterator[str]:
    yield "pid\tparent\tuser\tunit\tprogram\tfile" + ("\tcommand" if with_command_lines else "")
    for process in _pids():
        try:
            yield "\t".join(_described(process, with_command_lines=with_command_lines))
        except OSError:
            continue  # it ended meanwhile


def _described(process: Path, *, with_command_lines: bool) -> list[str]:
    parent = (process / "stat").read_bytes().rpartition(b")")[2].split()[1].decode()
    group = readable((process / "cgroup").read_bytes().strip().rpartition(b"::/")[2])
    user, unit = str(process.stat().st_uid), unit_of(group or ".")
    words = [process.name, parent, user, unit, program_name(process), _program(process)]
    if with_command_lines:
        words.append(readable((process / "cmdline").read_bytes().rstrip(b"\0").replace(b"\0", b" ")))
    return words


def _program(process: Path) -> str:
    """The program's file; kernel threads have none."""
    try:
        return readable(os.readlink(os.fsencode(process / "exe")))
    except OSError:
        return ""


def _pids() -> Iterator[Path]:
    return (path for path in Path("/proc").iterdir() if path.name.isdigit())
