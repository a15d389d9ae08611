"""What a host has to offer before anything is enforced on it: facts, then findings about them.

    facts = observe_facts()              # probes in a network namespace of its own, thrown away; reads /proc and dumps
    for finding in check(facts): ...     # pure: codes and severities

INVARIANT: a feature is one the kernel accepted a moment ago, in a scratch table of the very shape we use. Nothing is
guessed from a version, and nothing on the host is changed.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from ringfence.core.errors import Finding, Severity, TargetError
from ringfence.targets.nftables import conntrack
from ringfence.targets.nftables import messages as m
from ringfence.targets.nftables import statements as s
from ringfence.targets.nftables.cgroups import hierarchy
from ringfence.targets.nftables.foreign import overwrites_marks
from ringfence.targets.nftables.generations import FAMILY_KEYS, TRIAL
from ringfence.targets.nftables.layout import IPV4, NFPROTO, TABLE, Chain, SetSpec
from ringfence.targets.nftables.marks import MASK
from ringfence.targets.nftables.netlink import DUMP, SUBSYS_NFTABLES, Message, Netlink, Refused, in_namespace
from ringfence.targets.nftables.ownership import has_persist
from ringfence.targets.nftables.sockets import can_destroy
from ringfence.targets.nftables.statements import rule
from ringfence.targets.nftables.wire import as_int, as_text, attribute_map

Feature = str
FEATURES: dict[Feature, tuple[Severity, str]] = {
    "nf_tables": ("error", "nothing can be enforced"),
    "conntrack-marks": ("error", "nothing can be enforced"),
    "conntrack-netlink": ("error", "connections older than the rules would be cut"),
    "timeouts": ("error", "no policy can be tried, and no connection drained"),
    "timed-confirm": ("error", "no trial can be confirmed"),
    "reject": ("error", "what is refused on the way out could not be told to programs"),
    "log": ("error", "what is blocked could not be seen"),
    "cgroupv2": ("warning", "rules about processes stay closed"),
    "persist": ("warning", "other programs can change our table, which is noticed and undone"),
    "sock-destroy": ("info", "programs learn of a cut connection by their own timeouts"),
}
"""What is probed -> how bad it is to lack it, and what follows."""
OWNERS: tuple[tuple[str, str], ...] = (
    ("cilium", r"cilium"), ("calico", r"\bcali-|calico"), ("kube-proxy", r"KUBE-|kube-proxy"), ("docker", r"DOCKER"),
    ("firewalld", r"firewalld"), ("ufw", r"ufw6?-"), ("tailscale", r"\bts-"), ("libvirt", r"LIBVIRT|libvirt"),
)  # fmt: skip
"""Who makes tables and chains with such names; the first that fits."""
MANY = 0.8
"""Of the connection table: beyond this share new connections will soon be refused by the kernel."""
_CLONE_NEWNET = 0x40000000
_NF_MAX = Path("/proc/sys/net/netfilter/nf_conntrack_max")
_NF_COUNT = Path("/proc/sys/net/netfilter/nf_conntrack_count")
_FORWARDING = (Path("/proc/sys/net/ipv4/ip_forward"), Path("/proc/sys/net/ipv6/conf/all/forwarding"))
"""Of the namespace of the thread that reads them."""
_BOOT_EPOCH_S = 1_700_000_000
"""A clock before this (November 2023) was never set."""

T = TypeVar("T")


class Neighbour(msgspec.Struct, frozen=True):
    """Another firewall's table."""

    family: str
    table: str
    owner: str
    """By the names it uses; empty: not known."""
    hooks: tuple[str, ...]
    """Of those that see packets of this host itself: `input drop`, `output accept`."""
    overwrites_marks: bool = False
    """Whether its rules write connection marks without keeping the byte of them that is ours."""


class Facts(msgspec.Struct, frozen=True):
    kernel: str
    machine: str
    features: dict[Feature, bool]
    neighbours: tuple[Neighbour, ...]
    conntrack_used: int
    conntrack_max: int
    """0: not loaded."""
    now: float
    """The host's clock, seconds since the epoch."""
    is_legacy: bool
    """Whether iptables-legacy has tables, which judge too."""
    forwards: bool = False
    """Whether packets pass through on their way to others: containers, virtual machines, networks behind it."""


# -- reading -----------------------------------------------------------------------------------------------------------


def observe_facts(netns: str | None = None) -> Facts:
    """Look at this host, or at a network namespace of it. Needs CAP_NET_ADMIN and CAP_SYS_ADMIN.

    Raises TargetError `not-permitted`, `unreachable`.
    """
    kernel = platform.uname()
    used, most = in_namespace(netns, lambda: (_number(_NF_COUNT), _number(_NF_MAX)))
    forwards = in_namespace(netns, lambda: any(map(_number, _FORWARDING)))
    features = in_scratch(_features)
    neighbours = tuple(_neighbours(netns)) if features["nf_tables"] else ()
    now = time.time()
    return Facts(kernel.release, kernel.machine, features, neighbours, used, most, now, _has_legacy(), forwards)


def _number(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0


def _has_legacy() -> bool:
    names = (Path("/proc/net/ip_tables_names"), Path("/proc/net/ip6_tables_names"))
    return any(path.exists() and path.read_text().strip() for path in names)


def in_scratch(action: Callable[[], T]) -> T:
    """Run `action` in a new network namespace that goes with its thread. Raises TargetError `not-permitted`."""
    result: list[T] = []
    failure: list[BaseException] = []

    def enter() -> None:
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.unshare(_CLONE_NEWNET):
                number = ctypes.get_errno()
                raise TargetError("not-permitted", f"cannot make a network namespace: {os.strerror(number)}")
            result.append(action())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=enter, name="preflight")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return result[0]


def _features() -> dict[Feature, bool]:
    with Netlink() as netlink:
        found = {"nf_tables": _takes(netlink)}
        if not found["nf_tables"]:
            return dict.fromkeys(FEATURES, False)
        for name, messages in _probes().items():
            found[name] = _takes(netlink, *messages)
        found["conntrack-netlink"] = _answers(netlink)
        found["persist"] = has_persist(netlink)
        found["sock-destroy"] = can_destroy()
        return found


def _probes() -> dict[Feature, tuple[Message, ...]]:
    chain = Chain("probe")
    switch = SetSpec(TRIAL, (NFPROTO,), has_timeout=True)
    departed = SetSpec("departed4", (IPV4,), has_timeout=True)
    timed = (
        m.new_set(switch, 1),
        m.new_set(departed, 2),
        *m.add_timed(TRIAL, dict.fromkeys(FAMILY_KEYS, 60.0)),
        m.new_chain(chain),
        m.new_rule("probe", rule(s.family_in(TRIAL), s.accept())),
    )
    rules = {
        "conntrack-marks": (
            s.state("established"),
            s.mark_is(0xFF000000, 0x01000000),
            s.set_mark(0xFFFFFF, 0x01000000),
        ),
        "reject": (s.reject_tcp(),),
        "log": (s.log("probe"),),
    }
    found: dict[Feature, tuple[Message, ...]] = {
        name: (m.new_chain(chain), m.new_rule("probe", rule(*parts))) for name, parts in rules.items()
    }
    again = (m.flush_set(TRIAL), *m.add_timed(TRIAL, dict.fromkeys(FAMILY_KEYS)))
    found |= {"timeouts": timed, "timed-confirm": (*timed, *again)}
    return found | {"cgroupv2": (m.new_chain(chain), m.new_rule("probe", rule(_own_group(), s.accept())))}


def _own_group() -> s.Statement:
    """The root's number does, where nothing is mounted: the expression is what is asked for."""
    root = hierarchy()
    return s.socket_in("probe", 1, root.stat().st_ino if root is not None else 1)


def _takes(netlink: Netlink, *messages: Message) -> bool:
    """Whether the kernel accepts these in a table that is made before and deleted after, all in one transaction."""
    try:
        netlink.commit((m.new_table(), *messages, *_undo(messages), m.delete_table()))
    except Refused as refusal:
        if refusal.errno in (errno.EPERM, errno.EACCES):
            raise TargetError("not-permitted", "the kernel needs more rights", help="run as root") from refusal
        return False
    return True


def _undo(messages: tuple[Message, ...]) -> Iterator[Message]:
    if any(message.kind == m.NEWRULE for message in messages):
        yield m.flush_chain("probe")


def _answers(netlink: Netlink) -> bool:
    try:
        conntrack.tcp_marks(netlink)
    except TargetError:
        return False
    return True


_FAMILIES = {1: "inet", 2: "ip", 5: "netdev", 7: "bridge", 10: "ip6"}
_HOOKS = {1: "input", 3: "output"}


def _neighbours(netns: str | None) -> Iterator[Neighbour]:
    with Netlink(netns) as netlink:
        for number, family in _FAMILIES.items():
            tables = netlink.request(SUBSYS_NFTABLES << 8 | m.GETTABLE, DUMP, b"", family=number)
            chains = netlink.request(SUBSYS_NFTABLES << 8 | m.GETCHAIN, DUMP, b"", family=number)
            read = [attribute_map(body) for body in chains]
            rules = netlink.request(SUBSYS_NFTABLES << 8 | m.GETRULE, DUMP, b"", family=number)
            marking = {as_text(parts[1]) for parts in map(attribute_map, rules) if overwrites_marks(parts.get(4, b""))}
            for table in sorted(as_text(attribute_map(body)[1]) for body in tables):
                if not table.startswith(TABLE):
                    found = neighbour(family, table, [parts for parts in read if as_text(parts[1]) == table])
                    yield msgspec.structs.replace(found, overwrites_marks=table in marking)


def neighbour(family: str, table: str, chains: list[dict[int, bytes]]) -> Neighbour:
    """A table by the attributes of its chains (NFTA_CHAIN_*)."""
    names = "\n".join([table, *(as_text(parts[3]) for parts in chains)])
    hooks = tuple(sorted(filter(None, map(_hook, chains))))
    return Neighbour(family, table, owner_of(names), hooks)


def _hook(parts: dict[int, bytes]) -> str:
    if 4 not in parts:
        return ""
    number = as_int(attribute_map(parts[4])[1])
    return f"{_HOOKS[number]} {'accept' if as_int(parts.get(5, b'')) else 'drop'}" if number in _HOOKS else ""


def owner_of(names: str) -> str:
    """Whose table has these names, one a line; empty when nobody's we know."""
    return next((owner for owner, pattern in OWNERS if re.search(pattern, names)), "")


# -- judging, pure -----------------------------------------------------------------------------------------------------


def check(facts: Facts) -> tuple[Finding, ...]:
    """What a person should know before enforcing on this host; errors are what makes it impossible."""
    return (*_lacking(facts), *_beside(facts), *_passing_by(facts), *_connections(facts), *_clock(facts))


def _lacking(facts: Facts) -> Iterator[Finding]:
    for name, (severity, effect) in FEATURES.items():
        if not facts.features.get(name, False):
            message = f"kernel {facts.kernel} lacks `{name}`: {effect}"
            yield Finding(f"kernel-without-{name.replace('_', '-')}", message, severity, help=_HELP.get(name, _LOAD),
                          subject=name)  # fmt: skip


_LOAD = "load the module that has it, or use a newer kernel"
_HELP = {
    "persist": "use kernel 6.9 or newer",
    "sock-destroy": "nothing is needed; CONFIG_INET_DIAG_DESTROY and the module tcp_diag give it",
    "cgroupv2": "mount cgroup v2, and load the module nft_socket",
    "conntrack-netlink": "load the module nf_conntrack_netlink",
}


def _beside(facts: Facts) -> Iterator[Finding]:
    for other in facts.neighbours:
        who = other.owner or "another program"
        blocks = [hook.split()[0] for hook in other.hooks if hook.endswith("drop")]
        also = f", and drops by default at {' and '.join(blocks)}" if blocks else ""
        yield Finding(
            "firewall-beside",
            f"table `{other.family} {other.table}` of {who} judges too{also}",
            "warning" if blocks else "info",
            help="what passes must pass both; look there when something allowed is blocked",
            subject=f"{other.family} {other.table}",
        )
        if other.overwrites_marks:
            yield Finding(
                "marks-overwritten",
                f"table `{other.family} {other.table}` of {who} writes connection marks without keeping {MASK:#010x}",
                "warning",
                help="whoever may mark packets here passes the policy, though not a quarantine: let it keep those bits"
                " (`ct mark set ct mark & 0xff000000 | ...`, CONNMARK --mask 0x00ffffff)",
                subject=f"{other.family} {other.table}",
            )
    if facts.is_legacy:
        help_ = "`iptables-legacy-save` shows its rules"
        yield Finding("firewall-legacy", "iptables-legacy has tables, which judge too", "info", help=help_)


def _passing_by(facts: Facts) -> Iterator[Finding]:
    if facts.forwards:
        message = "this host forwards packets: no policy judges what it forwards; quarantine drops it"
        help_ = (
            "containers, their published ports and virtual machines stay open to all while the host is not isolated:"
            " close them where they are made, or bind published ports to a loopback address"
        )
        yield Finding("forwarded-uncontrolled", message, "warning", help=help_)


def _connections(facts: Facts) -> Iterator[Finding]:
    if facts.conntrack_max and facts.conntrack_used > MANY * facts.conntrack_max:
        message = f"{facts.conntrack_used} of {facts.conntrack_max} connections are tracked: new ones are soon refused"
        yield Finding("conntrack-nearly-full", message, "warning", help="raise net.netfilter.nf_conntrack_max")


def _clock(facts: Facts) -> Iterator[Finding]:
    if facts.now < _BOOT_EPOCH_S:
        help_ = "start a time service: certificates, dates and windows need the time"
        yield Finding("clock-not-set", "the host's clock was never set", "error", help=help_)
