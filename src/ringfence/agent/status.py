"""What `ringfence-agent status` says: of a running agent, or of what a stopped one left."""

from __future__ import annotations

from datetime import UTC, datetime

from ringfence.agent.clock import Clock
from ringfence.agent.config import Config
from ringfence.agent.control import Status
from ringfence.agent.held import breakglass
from ringfence.agent.held.disk import Disk
from ringfence.core.errors import RingfenceError
from ringfence.ports.target import State
from ringfence.targets.nftables import NftablesTarget
from ringfence.wire.messages import Realised


def from_disk(config: Config) -> Status:
    """No agent runs: what is in the kernel, read now, and what is on the disk. Raises InputError `identity-missing`."""
    disk = Disk(config.directory)
    trust, loaded = disk.load_trust(), disk.load()
    assignment = loaded.record.snapshot.assignment if loaded.record else None
    disabled = breakglass.current(disk.folder, Clock())
    state, digest, problem = _kernel(config)
    return Status(
        workload=trust.workload,
        realised=Realised(state, digest=digest, problems=tuple(filter(None, (problem, loaded.problem)))),
        is_running=False,
        name=assignment.station.name if assignment else "",
        held_revision=assignment.revision if assignment else 0,
        groups=len(loaded.record.snapshot.groups) if loaded.record else 0,
        rejected=loaded.record.rejected if loaded.record else 0,
        why_not="the agent is not running",
        disabled_until=disabled.until if disabled else 0.0,
        disabled_why=disabled.why if disabled else "",
    )


def _kernel(config: Config) -> tuple[State, str, str]:
    try:
        found = NftablesTarget(config.netns).observe()
    except RingfenceError as error:
        return "unreachable", "", error.message
    return found.state, found.digest, ""


def words(status: Status) -> str:
    """For people."""
    return "\n".join(f"{name:14}{value}" for name, value in _lines(status) if value)


def _lines(status: Status) -> list[tuple[str, str]]:
    told = status.realised
    certificate = status.certificate_until
    return [
        ("workload", f"{status.name} {status.workload}".strip()),
        ("agent", "running" if status.is_running else "not running: the rules stay, nobody follows changes"),
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
    said = f"{told.state}, revision {told.assignment}, version {told.policy_version}, digest {told.digest[:12]}"
    if status.trial_left_s:
        return f"{said}, on trial for {status.trial_left_s:.0f} s more"
    return f"{said}, revision {status.rejected} was taken back" if told.is_reverted else said


def _controller(status: Status) -> str:
    if status.is_cloned:
        return "says another host lives under this identity"
    if not status.is_connected:
        return f"not connected: {status.why_not}" if status.why_not else "not connected"
    return "connected" if status.answered_ago_s is None else f"answered {status.answered_ago_s:.0f} s ago"


def _time(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%SZ}"
