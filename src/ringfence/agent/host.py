"""What this host says of itself: its machine, its addresses, what it uses."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import logging
import os
import resource
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ringfence.core.net.address import V4_BASE
from ringfence.flows.conntrack import netlink
from ringfence.targets.nftables.netlink import in_namespace
from ringfence.wire.messages import Interface

_log = logging.getLogger(__name__)
_MACHINE_FILES: Final = ("/etc/machine-id", "/sys/class/dmi/id/product_uuid")
_TRIES: Final = 3
_CONNTRACK = Path("/proc/sys/net/netfilter")
_FAMILIES = (Path("/proc/sys/net/ipv4/conf"), Path("/proc/sys/net/ipv6/conf"))
"""Of the namespace of the thread that reads them."""
_NO_DEVICES = frozenset(("all", "default", "lo"))
_GET_LINK_NAME = 0x8910  # SIOCGIFNAME (linux/sockios.h)
_GET_ADDRESS, _NEW_ADDRESS = 22, 20
_ADDRESS, _LOCAL = 1, 2
_FLAGS, _FLAGS_BEFORE, _INTERRUPTED = struct.Struct("=H"), 10, 0x10
"""NLM_F_DUMP_INTR (linux/netlink.h): a dump that is no picture of any one moment."""
_MESSAGE = struct.Struct("=BBBBI")
"""`struct ifaddrmsg` (rtnetlink(7)): family, prefix length, flags, scope, interface."""


def machine() -> str:
    """Digest of what tells this machine from a copy of its disk: the installation's id and the hardware's."""
    parts = []
    for name in _MACHINE_FILES:
        with contextlib.suppress(OSError):
            parts.append(Path(name).read_text().strip())
    return hashlib.sha256("\n".join(parts or [socket.gethostname()]).encode()).hexdigest()[:32]


def interfaces(netns: str | None = None) -> tuple[Interface, ...] | None:
    """Every interface with addresses but the loopback, by name. None where the kernel does not say: not to know is not
    to have none."""
    for _ in range(_TRIES):
        try:
            found = in_namespace(netns, lambda: list(_addresses()))
            break
        except OSError as error:  # an interface that goes while it is read is gone the next time
            _log.info("the addresses of this host cannot be read: %s", error)
    else:
        return None
    by_name: dict[str, set[int]] = {}
    for name, address in found:
        if name != "lo":
            by_name.setdefault(name, set()).add(address)
    return tuple(Interface(name, tuple(sorted(addresses))) for name, addresses in sorted(by_name.items()))


def conntrack_fill(netns: str | None = None) -> tuple[int, int]:
    """(entries used, most there may be); zeros where the kernel does not track."""
    try:
        return in_namespace(netns, lambda: (_number("nf_conntrack_count"), _number("nf_conntrack_max")))
    except (OSError, ValueError):
        return 0, 0


def forwards(netns: str | None = None) -> bool:
    """Whether it passes packets on between interfaces, of either family: for containers, virtual machines, a network
    behind it (ip-sysctl(7), `forwarding`)."""
    return in_namespace(netns, _forwards)


def _forwards() -> bool:
    for family in _FAMILIES:
        devices = [folder for folder in family.glob("*") if folder.name not in _NO_DEVICES]
        if len(devices) > 1 and any(_is_on(folder / "forwarding") for folder in devices):
            return True
    return False


def _is_on(setting: Path) -> bool:
    try:
        return int(setting.read_text()) != 0
    except (OSError, ValueError):  # an interface that goes while it is read passes nothing on
        return False


def rss_bytes() -> int:
    """What this process holds in memory (proc(5), statm)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def cpu_s() -> float:
    """Processor time of this process since it started."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _number(name: str) -> int:
    return int((_CONNTRACK / name).read_text())


def _addresses() -> Iterator[tuple[str, int]]:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0) as sock:
        sock.settimeout(5)
        sock.bind((0, 0))
        flags = netlink.NLM_F_REQUEST | netlink.NLM_F_DUMP
        sock.send(struct.pack("=IHHII", 24, _GET_ADDRESS, flags, 1, 0) + bytes(_MESSAGE.size))
        names: dict[int, str] = {}
        while True:
            for kind, data, start, end in netlink.messages(sock.recv(netlink.BUFFER_BYTES)):
                if kind == netlink.NLMSG_ERROR or _FLAGS.unpack_from(data, start - _FLAGS_BEFORE)[0] & _INTERRUPTED:
                    raise OSError(errno.EAGAIN, "the addresses changed while they were read")
                if kind == netlink.NLMSG_DONE:
                    return
                if kind != _NEW_ADDRESS:
                    continue
                index = _MESSAGE.unpack_from(data, start)[4]
                found = netlink.attributes(data, start + _MESSAGE.size, end)
                place = found.get(_LOCAL) or found.get(_ADDRESS)
                if place is not None:
                    name = names.setdefault(index, _name(index))
                    yield name, _on_line(data[slice(*place)])


def _name(index: int) -> str:
    """The name of an interface of the namespace this thread is in (netdevice(7))."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        answer = fcntl.ioctl(sock, _GET_LINK_NAME, struct.pack("=16si16x", b"", index))
    return answer[:16].split(b"\0")[0].decode()


def _on_line(raw: bytes) -> int:
    return V4_BASE + int.from_bytes(raw, "big") if len(raw) == 4 else int.from_bytes(raw, "big")
