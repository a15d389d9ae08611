"""Network namespaces of a lab: built, entered, destroyed, and swept when their owner died.

    one router namespace with a bridge for each network, the first address of each CIDR on it, forwarding on
    one namespace for each host, a veth into its network's bridge, default routes, connection tracking on

INVARIANT: everything of a lab is in namespaces named `rf-ID-...`, so deleting those deletes all of it; ID belongs to
whoever holds the lock on `/run/ringfence/lab/ID`, and a lock that nobody holds marks leftovers.

Connection tracking is inactive in a namespace until a rule needs it. A managed host loads the one-rule table
`inet lab`, which matches on tracking state, has no hook and therefore costs and decides nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import secrets
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

from ringfence.core.errors import RingfenceError
from ringfence.lab.world import Host, World

LOCKS = Path("/run/ringfence/lab")
MOUNTS = Path("/run/netns")
ROUTER = "router"
_CLONE_NEWNET = 0x40000000
_CLONE_NEWUTS = 0x04000000
_PR_SET_PDEATHSIG = 1
_SIGKILL = 9

ROUTER_SYSCTLS = {
    "net/ipv4/ip_forward": "1",
    "net/ipv6/conf/all/forwarding": "1",
    "net/ipv6/conf/default/accept_dad": "0",
    "net/bridge/bridge-nf-call-iptables": "0",
    "net/bridge/bridge-nf-call-ip6tables": "0",
    "net/bridge/bridge-nf-call-arptables": "0",
}
"""The router forwards and filters nothing, not even between ports of a bridge."""

HOST_SYSCTLS = {
    "net/ipv4/conf/all/rp_filter": "1",
    "net/ipv4/conf/default/rp_filter": "1",
    "net/ipv6/conf/default/accept_dad": "0",
    "net/ipv6/conf/default/accept_ra": "0",
    "net/ipv4/ping_group_range": "0 2147483647",
    "net/ipv4/icmp_ratelimit": "0",
    "net/ipv4/icmp_msgs_per_sec": "1000000",
    "net/ipv6/icmp/ratelimit": "0",
    "net/netfilter/nf_conntrack_acct": "1",
    "net/netfilter/nf_conntrack_timestamp": "1",
    "net/netfilter/nf_conntrack_events": "1",
}
"""Bytes and times for each connection; ICMP errors without a rate limit, so that a scan can tell refused from
filtered."""

_TRACKING = "table inet lab { chain tracking { ct state new; }; }"


def preflight() -> None:
    """Raises RingfenceError `lab-needs-linux`, `lab-needs-root`, `lab-tool-missing`, `lab-not-permitted`; touches
    nothing."""
    if not hasattr(os, "geteuid") or not Path("/proc/self/ns/net").exists():
        raise RingfenceError("lab-needs-linux", "a lab needs Linux network namespaces", help="use the recorded flows")
    if os.geteuid() != 0:
        help_ = "run it with sudo, or use the recorded flows"
        raise RingfenceError("lab-needs-root", "only root can make network namespaces", help=help_)
    missing = [tool for tool in ("ip", "nft", "nsenter", "unshare") if shutil.which(tool) is None]
    if missing:
        help_ = "apt-get install iproute2 nftables util-linux"
        raise RingfenceError("lab-tool-missing", f"`{'`, `'.join(missing)}` is not installed", help=help_)
    if subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False).returncode != 0:
        help_ = "a container needs CAP_SYS_ADMIN and CAP_NET_ADMIN; else use the recorded flows"
        raise RingfenceError("lab-not-permitted", "root may not make network namespaces here", help=help_)


def name_of(lab_id: str, host: str) -> str:
    """The namespace of a host."""
    return f"rf-{lab_id}-{host}"


def enter(namespace: str) -> None:
    """Move this thread into a namespace; only for processes of the lab's own, never for the caller's."""
    with open(MOUNTS / namespace, "rb") as file:
        _setns(file.fileno())


@contextlib.contextmanager
def within(namespace: str) -> Iterator[None]:
    """Be in a namespace for a while; only for a process with one thread."""
    with open("/proc/self/ns/net", "rb") as home:
        enter(namespace)
        try:
            yield
        finally:
            _setns(home.fileno())


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent dies; exits at once if it already has."""
    _libc().prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def enter_hostname(name: str) -> None:
    """Give this process a host name that is its own (uts_namespaces(7))."""
    if _libc().unshare(_CLONE_NEWUTS) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    socket.sethostname(name)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _setns(fd: int) -> None:
    if _libc().setns(fd, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


class Claim:
    """The right to one lab id, held as a file lock until released or until the holder dies."""

    def __init__(self) -> None:
        LOCKS.mkdir(parents=True, exist_ok=True)
        while True:
            self.lab_id = secrets.token_hex(3)
            self._path = LOCKS / self.lab_id
            self.fd = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fcntl.flock(self.fd, fcntl.LOCK_EX)
            os.write(self.fd, f"{os.getpid()}\n".encode())
            if self._path.exists():  # else a sweep took the file between creation and lock
                return
            os.close(self.fd)

    def release(self) -> None:
        self._path.unlink(missing_ok=True)
        os.close(self.fd)


def build(world: World, lab_id: str) -> None:
    """Make every namespace of a lab. Raises RingfenceError `lab-command-failed`; the caller destroys what is there."""
    router = name_of(lab_id, ROUTER)
    names = [router, *(name_of(lab_id, host.name) for host in world.hosts)]
    _batch([f"netns add {name}" for name in names])
    for name in names:
        with within(name):
            _sysctls(ROUTER_SYSCTLS if name == router else HOST_SYSCTLS)
    _batch(list(_router_lines(world, lab_id)), namespace=router)
    for host in world.hosts:
        _batch(list(_host_lines(world, host)), namespace=name_of(lab_id, host.name))
        if host.kind == "host":
            track(name_of(lab_id, host.name))


def track(namespace: str) -> None:
    """Turn connection tracking on in a managed host's namespace. Raises RingfenceError `lab-command-failed`."""
    load_rules(namespace, _TRACKING)


def forget_neighbours(name: str) -> None:
    """A namespace asks anew who has which address."""
    _batch(["neigh flush all"], namespace=name)


def load_rules(namespace: str, text: str) -> None:
    """Load nftables rules into a namespace. Raises RingfenceError `lab-command-failed`."""
    _run(["nsenter", f"--net={MOUNTS / namespace}", "nft", "-f", "-"], text)


def _router_lines(world: World, lab_id: str) -> Iterator[str]:
    yield "link set lo up"
    for network in world.networks:
        yield f"link add br-{network.name} type bridge mcast_snooping 0"
        for gateway in network.gateways():
            yield f"addr add {gateway} dev br-{network.name}"
        yield f"link set br-{network.name} up"
    for index, host in enumerate(world.hosts):
        peer = name_of(lab_id, host.name)
        yield f"link add port{index} type veth peer name eth0 netns {peer}"
        yield f"link set port{index} master br-{host.network} up"


def _host_lines(world: World, host: Host) -> Iterator[str]:
    network = next(n for n in world.networks if n.name == host.network)
    yield "link set lo up"
    for address in host.addresses:
        gateway = next(g for g in network.gateways() if ("." in address) == (g.version == 4))
        yield f"addr add {address}/{gateway.network.prefixlen} dev eth0"
    yield "link set eth0 up"
    for gateway in network.gateways():
        if any(("." in address) == (gateway.version == 4) for address in host.addresses):
            yield f"route add default via {gateway.ip}"


def destroy(lab_id: str) -> None:
    """Delete every namespace of a lab; veths, bridges and rules go with them. Its processes must be dead already."""
    ours = namespaces_of(lab_id)
    if ours:
        with contextlib.suppress(RingfenceError):  # another sweep may have taken some; what counts is that none is left
            _batch([f"netns del {name}" for name in ours], goes_on=True)
    if left := namespaces_of(lab_id):
        raise RingfenceError("lab-leftover", f"cannot delete namespace `{left[0]}`", help="`ip netns del` says why")


def namespaces_of(lab_id: str) -> list[str]:
    """The namespaces of a lab that exist, sorted."""
    return sorted(path.name for path in MOUNTS.glob(name_of(lab_id, "*")))


def sweep() -> tuple[str, ...]:
    """Destroy the leftovers of labs whose owner died without cleaning up; returns their ids."""
    swept: list[str] = []
    for lab_id in _claimed():
        with _unowned(lab_id) as is_unowned:
            if is_unowned:
                destroy(lab_id)
                (LOCKS / lab_id).unlink(missing_ok=True)
                swept.append(lab_id)
    return tuple(swept)


def running() -> dict[str, int]:
    """The labs that are up on this machine: id -> the process that owns it."""
    found: dict[str, int] = {}
    for lab_id in _claimed():
        with contextlib.suppress(FileNotFoundError, ValueError), _unowned(lab_id) as is_unowned:
            if not is_unowned:
                found[lab_id] = int((LOCKS / lab_id).read_text())
    return found


def take_down(lab_id: str) -> None:
    """Have the owner of a running lab destroy it, and wait until it has. Raises RingfenceError `lab-not-running`."""
    owner = running().get(lab_id)
    if owner is None:
        help_ = f"running: {', '.join(running()) or 'none'}"
        raise RingfenceError("lab-not-running", f"no lab `{lab_id}` is up", help=help_)
    with contextlib.suppress(ProcessLookupError), open(LOCKS / lab_id, "rb") as lock:
        os.kill(owner, signal.SIGTERM)
        fcntl.flock(lock, fcntl.LOCK_EX)
    sweep()


def _claimed() -> list[str]:
    return sorted(path.name for path in LOCKS.glob("*")) if LOCKS.is_dir() else []


@contextlib.contextmanager
def _unowned(lab_id: str) -> Iterator[bool]:
    """Whether nobody holds the lab's lock; held here meanwhile if so."""
    try:
        lock = open(LOCKS / lab_id, "rb")  # noqa: SIM115 closed below
    except FileNotFoundError:
        yield False
        return
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def _sysctls(values: dict[str, str]) -> None:
    """Those this kernel has; `/proc/sys/net` shows the namespace of the reader."""
    for name, value in values.items():
        path = Path("/proc/sys") / name
        if path.exists():
            path.write_text(value)


def _batch(lines: list[str], *, namespace: str | None = None, goes_on: bool = False) -> None:
    options = [*(["-n", namespace] if namespace else []), *(["-force"] if goes_on else [])]
    _run(["ip", *options, "-batch", "-"], "\n".join(lines) + "\n")


def _run(command: list[str], text: str) -> None:
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        message = f"`{' '.join(command)}` failed: {said[0] if said else done.returncode}"
        raise RingfenceError("lab-command-failed", message, help="does this kernel have veth, bridge and nftables?")
