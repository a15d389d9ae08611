"""What `ringfence-agent status` says: of a running agent, or of what a stopped one left."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import product

from ringfence.agent.clock import Clock
from ringfence.agent.config import Config
from ringfence.agent.control import Status
from ringfence.agent.held import breakglass
from ringfence.agent.held.breakglass import Disabled
from ringfence.agent.held.disk import Disk, Loaded
from ringfence.agent.held.wanted import Wanted, wanted
from ringfence.core.errors import RingfenceError
from ringfence.ports.target import Observed
from ringfence.targets.nftables import NftablesTarget
from ringfence.wire.messages import Realised


def from_disk(config: Config) -> Status:
    """No agent runs: what is in the kernel, read now, and what on the disk it is of. Raises InputError
    `identity-missing`."""
    disk, clock = Disk(config.directory), Clock()
    trust, loaded = disk.load_trust(), disk.load()
    held, disabled = loaded.held(), breakglass.current(disk.folder, clock)
    found, problem = _kernel(config)
    known = _source(found.digest, loaded, breakglass.last(disk.folder), clock)
    newest, intent = held.pending or held.assignment if held else None, found.intent
    problems = (problem, loaded.problem, _strangeness(found, known))
    return Status(
        workload=trust.workload,
        realised=_realised(found, known, tuple(filter(None, problems))),
        is_running=False,
        name=newest.station.name if newest else "",
        mode={"in": intent.mode.inbound, "out": intent.mode.outbound} if intent else {},
        held_revision=newest.revision if newest else 0,
        groups=len(held.groups) if held else 0,
        peers=sum(len(peer.addresses) for peer in intent.peers) if intent else 0,
        rejected=loaded.record.rejected if loaded.record else 0,
        why_not="the agent is not running",
        disabled_until=disabled.until if disabled else 0.0,
        disabled_why=disabled.why if disabled else "",
    )


def _kernel(config: Config) -> tuple[Observed, str]:
    try:
        return NftablesTarget(config.netns).observe(), ""
    except RingfenceError as error:
        return Observed("unreachable"), error.message


def _source(digest: str, loaded: Loaded, disabled: Disabled | None, clock: Clock) -> Wanted | None:
    """Which policy of those on the disk the kernel has: the newest or the one before it, disabled or not. None: none of
    them, as they are by now."""
    record, held = loaded.record, loaded.held()
    if record is None or held is None or not digest:
        return None
    newest = held.assignment.revision if held.assignment else 0
    for rejected, how in product(dict.fromkeys((record.rejected, newest)), dict.fromkeys((None, disabled))):
        one = wanted(held, clock.now(), rejected=rejected, channel=record.channel, disabled=how)
        if one is not None and one.intent.digest == digest:
            return one
    return None


def _realised(found: Observed, known: Wanted | None, problems: tuple[str, ...]) -> Realised:
    if known is None:
        state = "drifted" if found.state == "realised" else found.state
        return Realised(state, digest=found.digest, problems=problems)
    return Realised(
        found.state,
        assignment=known.assignment.revision,
        digest=known.policy.digest,
        problems=(*found.differences, *problems),
        is_reverted=known.is_reverted,
        policy_version=known.assignment.policy_version,
    )


def _strangeness(found: Observed, known: Wanted | None) -> str:
    if known is not None or found.state != "realised":
        return ""
    return "the rules in the kernel are of no policy on the disk as it is by now; start the agent to put that right"


def words(status: Status) -> str:
    """For people."""
    return "\n".join(f"{name:14}{value}" for name, value in _lines(status) if value)


def _lines(status: Status) -> list[tuple[str, str]]:
    told = status.realised
    certificate = status.certificate_until
    return [
        ("workload", f"{status.name} {status.workload}".strip()),
        ("agent", "running" if status.is_running else f"not running: {_unattended(status)}, nobody follows changes"),
        ("rules", _rules(status)),
        ("mode", " ".join(f"{way}: {mode}" for way, mode in status.mode.items())),
        ("told", f"revision {status.held_revision}, {status.groups} groups, {status.peers} addresses"),
        ("controller", _controller(status)),
        ("disabled", f"until {_time(status.disabled_until)}: {status.disabled_why}" if status.disabled_until else ""),
        ("certificate", f"until {_time(certificate)}" if certificate else ""),
        ("telemetry", f"{status.waiting_messages} messages wait ({status.waiting_bytes} B), {status.lost} lost"),
        ("uses", f"{status.rss_bytes >> 20} MiB, {status.cpu_s:.1f} s of processor" if status.rss_bytes else ""),
        *(("problem", text) for text in (*told.problems, *status.faults)),
    ]


def _rules(status: Status) -> str:
    told = status.realised
    said = f"{told.state}{_policy(status)}" + (f", digest {told.digest[:12]}" if told.digest else "")
    if status.trial_left_s:
        return f"{said}, on trial for {status.trial_left_s:.0f} s more"
    return f"{said}, revision {status.rejected} was taken back" if told.is_reverted else said


def _unattended(status: Status) -> str:
    return "no rule of ours is in the kernel" if status.realised.state == "absent" else "the rules stay"


def _policy(status: Status) -> str:
    """Which it is; that of a stopped agent may be none it was told."""
    told = status.realised
    if status.is_running or told.assignment:
        return f", revision {told.assignment}, version {told.policy_version}"
    return ", of no version that is on the disk" if told.digest else ""


def _controller(status: Status) -> str:
    if status.is_cloned:
        return "says another host lives under this identity"
    if not status.is_connected:
        return f"not connected: {status.why_not}" if status.why_not else "not connected"
    return "connected" if status.answered_ago_s is None else f"answered {status.answered_ago_s:.0f} s ago"


def _time(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%SZ}"
