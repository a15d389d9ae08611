"""What a controller says, as people read it: tables of hosts, plans, rollouts, quarantines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from rich.console import RenderableType
from rich.text import Text

from ringfence.cli.remote import say_labels, say_time
from ringfence.cli.tables import Rows, count
from ringfence.wire import api

STATE_COLOURS = {
    "realised": "green", "pending": "yellow", "drifted": "bold red", "refused": "bold red", "reverted": "bold red",
    "unreachable": "red", "unmanaged": "dim",
}  # fmt: skip
WRONG_STATES = frozenset({"drifted", "refused", "reverted", "unreachable"})
_PART_COLOURS = {"ok": "green", "degraded": "yellow", "failed": "bold red"}
_SEVERITY_COLOURS = {"info": "cyan", "warning": "yellow", "error": "red", "critical": "bold red"}
_SHOWN = 20


def workloads_table(found: Iterable[api.WorkloadView]) -> Rows:
    """A line a workload."""
    table = Rows(("workload", "state", "in", "out", "version>", "labels", "addresses", "heard", "remarks"), heads=2)
    for one in found:
        state = Text(one.state, STATE_COLOURS.get(one.state, ""))
        version = str(one.policy_version) if one.policy_version else ""
        modes = (one.mode.inbound, one.mode.outbound)
        table.add(
            one.name, state, *modes, version, say_labels(one.labels), " ".join(one.addresses), say_time(one.seen),
            _remarks(one),
        )  # fmt: skip
    return table


def workload_words(one: api.WorkloadView) -> list[RenderableType]:
    """All there is about one."""
    head = Text.assemble(f"{one.name}: ", (one.state, STATE_COLOURS.get(one.state, "")))
    rows = (
        ("labels", say_labels(one.labels)), ("mode", _mode_words(one)),
        ("addresses", " ".join(one.addresses)), ("policy version", str(one.policy_version or "none")),
        ("heard", say_time(one.seen)), ("agent", one.agent), ("kind", f"{one.kind}, from {one.origin}"),
        ("uuid", one.uuid),
    )  # fmt: skip
    table = Rows(("what", "is"))
    for what, said in rows:
        table.add(what, said)
    remarks = _remarks(one)
    return [head, table, *([Text(remarks, "yellow")] if remarks else [])]


def _mode_words(one: api.WorkloadView) -> str:
    said = f"in {one.mode.inbound}, out {one.mode.outbound}"
    return f"{said} (on paper: no agent runs there, so nobody enforces it)" if one.state == "unmanaged" else said


_CLAIMS = {
    "held": "which `{}` has", "outside": "outside the ranges of its pairing profile",
    "unusable": "which no host can have", "too-many": "more than a host may have",
    "contested": "which `{}` has, too: both hold it, and what passes would pass for both",
    "lie": "which `{}` has, and more of others than one host can have taken over: it gets none of them",
}  # fmt: skip


def _claim_words(claim: api.RefusedClaim) -> str:
    return f"claims {claim.address}, {_CLAIMS.get(claim.why, claim.why).format(claim.holder)}"


_FORWARDS = "forwards for others (containers?): not judged by policy, dropped in quarantine"


def _remarks(one: api.WorkloadView) -> str:
    said = ["in quarantine"] if one.is_quarantined else []
    said += [f"observes only until {say_time(one.disabled_until)}"] if one.disabled_until else []
    said += map(_claim_words, one.refused)
    said += [_FORWARDS] if one.forwards else []
    return "; ".join((*said, *one.problems))


def diff_words(diff: api.DiffView) -> tuple[RenderableType, str]:
    """Opened in red (it is exposure), closed in green, the largest first."""
    table = Rows(("", "from", "to", "services", "pairs>", "for example", "when"), heads=3)
    for box in diff.boxes:
        mark = Text("+ opens", "red") if box.change == "opened" else Text("- closes", "green")
        shown = f"{box.example.source} -> {box.example.destination} {box.example.service}"
        table.add(mark, box.sources, box.destinations, " ".join(box.services[:6]), f"{box.workload_pairs:,}", shown,
                  ", ".join(box.when))  # fmt: skip
    more = f" ({diff.more:,} kinds more)" if diff.more else ""
    said = f"{count(diff.opened, 'workload pair')} opened, {diff.closed:,} closed{more}"
    return table, said if diff.boxes else "no difference in what passes"


def plan_words(planned: api.Planned, *, is_all: bool = False, with_tests: bool = True) -> list[RenderableType]:
    """What opens and closes, what would break, what is proven. `is_all`: each kind of traffic that would break with it
    and without it, too; `with_tests`: each test that fails, besides how many do."""
    out: list[RenderableType] = [*file_words(planned), *diff_words(planned.diff)]
    if with_tests:
        out += [Text(f"{p.outcome}: {p.policy}: {p.name}: {p.message}", "bold red") for p in failing_tests(planned)]
    proven = sum(p.outcome in ("proven", "warning") for p in planned.proofs)
    out.append(
        f"{count(proven, 'test')} of {len(planned.proofs)} proven" if planned.proofs else "no test says what must hold"
    )
    out += _traffic_words(planned, is_all=is_all, listing=" (`ringfence plan --all` lists them)")
    told = f"from version {planned.against}, which hosts have, to {count(planned.hosts, 'host')}"
    return [*out, f"{told}; plan {planned.digest}"]


def file_words(planned: api.Planned) -> list[RenderableType]:
    """A line a file that comes, changes or goes; every one that goes, with who made it."""
    removed = removed_files(planned)
    others = [one for one in planned.files if one.change != "removed"]
    out: list[RenderableType] = [Text(f"- removes {one.name}{_made(one)}", "bold red") for one in removed]
    out += [f"- {'adds' if one.change == 'added' else 'changes'} {one.name}{_made(one)}" for one in others[:_SHOWN]]
    out += [f"and {count(more, 'file')} more"] if (more := len(others) - _SHOWN) > 0 else []
    out += ["- changes the settings, ringfence.toml"] if planned.settings_changed else []
    if removed:
        kept = f"what it removes stays in version {planned.base}: `ringfence pull {planned.base}` fetches it"
        out.append(Text(kept, "yellow"))
    return out


def removed_files(planned: api.Planned) -> list[api.FileChange]:
    """What would not be in force any more."""
    return [one for one in planned.files if one.change == "removed"]


def _made(one: api.FileChange) -> str:
    if one.version is None:
        return ""
    return f" ({one.by} made it, in version {one.version}, {say_time(one.at)})"


def failing_tests(planned: api.Planned) -> list[api.ProofView]:
    """Those that refuse it."""
    return [p for p in planned.proofs if p.outcome in ("failed", "unmatched")]


def labels_words(planned: api.LabelsPlanned) -> list[RenderableType]:
    """What opens and closes, which tests would not hold any more, what would break."""
    out: list[RenderableType] = [*diff_words(planned)]
    out += [Text(f"would fail: {one.message}", "bold red") for one in planned.findings]
    return [*out, *_traffic_words(planned), f"plan {planned.digest}"]


def modes_words(planned: api.ModesPlanned) -> list[RenderableType]:
    """Who turns, what would stop there."""
    table = Rows(("host", "in", "out"))
    for turn in planned.hosts[:_SHOWN]:
        table.add(turn.name, *(_turn(turn, side) for side in ("inbound", "outbound")))
    more = planned.changed - min(len(planned.hosts), _SHOWN)
    out: list[RenderableType] = [table, *([f"and {more:,} more hosts"] if more else [])]
    said = f"{count(planned.changed, 'host')} in another mode than now; plan {planned.digest}"
    return [*(out if planned.hosts else []), *_traffic_words(planned), said]


def _turn(turn: api.Turn, side: Literal["inbound", "outbound"]) -> Text:
    before, after = getattr(turn.before, side), getattr(turn.after, side)
    return Text(f"{before} -> {after}", "bold") if before != after else Text(before, "dim")


def _traffic_words(
    planned: api.Planned | api.LabelsPlanned | api.ModesPlanned, *, is_all: bool = False, listing: str = ""
) -> list[RenderableType]:
    """What would break, what would be cut, what passes whatever is planned. `listing`: how to have all of it."""
    impact = _impact_words(planned.impact, is_all=is_all, listing=listing)
    return [*impact, *_session_words(planned.sessions), *_failsafe_words(planned.failsafe)]


def _session_words(sessions: api.LiveSessions | None) -> list[RenderableType]:
    """Live sessions that would be cut, with whose they are."""
    if sessions is None:
        return [Text("which live sessions would be cut is not known: there are too many to look at", "yellow")]
    if not sessions.in_use:
        return [Text("no live session is known: what began in the last minutes is not told yet", "yellow")]
    used = f"{count(sessions.in_use, 'live session')} (in use within {sessions.seconds // 60} minutes)"
    if not sessions.cut:
        return [Text(f"{used}: none would be cut", "green")]
    table = Rows(("would be cut", "", "", "", "owner", "its client's owner", "because of", "last seen"), heads=4)
    for row in sessions.cut[:_SHOWN]:
        because = row.rule or row.reason
        table.add(row.source, "->", row.destination, row.service, row.owner or "nobody's", row.source_owner,
                  because, say_time(row.last))  # fmt: skip
    more = len(sessions.cut) - min(len(sessions.cut), _SHOWN) + sessions.more
    return [used, table, *([f"and {more:,} more"] if more else [])]


def _failsafe_words(failsafe: Iterable[api.FailsafeView]) -> list[RenderableType]:
    """The estate's failsafe list: it passes on every host, whatever policy says."""
    said = [f"{one.direction} {','.join(one.addresses)} {','.join(one.services)}" for one in failsafe]
    return [f"always passes (failsafe): {'; '.join(said) or 'nothing'}"]


def _impact_words(impact: api.Impact | None, *, is_all: bool, listing: str) -> list[RenderableType]:
    if impact is None:
        return [Text("what breaks of the traffic seen is not known: there is too much of it to look at", "yellow")]
    if not impact.connections:
        return [Text(f"no traffic of the last {_days(impact)} is stored, so what breaks is not known", "yellow")]
    seen = f"{count(impact.connections, 'connection')} of the last {_days(impact)}"
    if impact.blocked:
        seen += f" ({impact.blocked:,} of them are blocked today already)"
    if not impact.broken:
        return [Text(f"{seen}: nothing breaks", "green")]
    most = len(impact.broken) if is_all else _SHOWN
    out: list[RenderableType] = [seen]
    if impact.breaks:
        out += _broken_words("would break", [row for row in impact.broken if row.is_new][:most], impact.breaks)
    else:
        out.append(Text("nothing breaks by this", "green"))
    if impact.anyway:
        out.append(Text(_anyway(impact) + ("" if is_all else listing), "dim"))
    if impact.anyway and is_all:
        out += _broken_words("breaks anyway", [row for row in impact.broken if not row.is_new], impact.anyway)
    return out


def _days(impact: api.Impact) -> str:
    return "day" if impact.days == 1 else f"{impact.days} days"


def _broken_words(head: str, rows: list[api.Broken], total: int) -> list[RenderableType]:
    """So many of all that are counted."""
    table = Rows((head, "", "", "", "connections>", "last seen", "nearest fix"), heads=4)
    for row in rows:
        last = f"{row.last:%Y-%m-%d %H:%M}"
        table.add(row.source, "->", row.destination, row.service, f"{row.connections:,}", last, row.hint)
    return [table, *([f"and {count(more, 'kind')} more"] if (more := total - len(rows)) else [])]


def _anyway(impact: api.Impact) -> str:
    kinds = count(impact.anyway, "kind")
    ours = impact.anyway - impact.elsewhere
    of_ours = f", {ours:,} of them of what this is about" if ours and impact.elsewhere else ""
    return f"{kinds} of traffic would break once their hosts enforce, with this and without it{of_ours}"


def rollout_words(rollout: api.RolloutView) -> list[RenderableType]:
    """How far a version is, and who is behind."""
    if not rollout.version:
        return ["nothing was applied yet"]
    colour = {"done": "green", "stopped": "bold red"}.get(rollout.stage, "yellow")
    confirmed = f", {rollout.confirmed:,} of {count(rollout.total, 'host')} read it back"
    head = Text.assemble(f"version {rollout.version}: ", (rollout.stage, colour), confirmed)
    out: list[RenderableType] = [head]
    if rollout.problem:
        out.append(Text(rollout.problem, "bold red"))
    if rollout.laggards:
        table = Rows(("host", "state", "why"))
        for one in rollout.laggards[:_SHOWN]:
            table.add(one.name, one.state, one.why)
        out.append(table)
        if more := len(rollout.laggards[_SHOWN:]) + rollout.more_laggards:
            out.append(Text(f"and {count(more, 'host')} more", "dim"))
    return out


def contained_words(found: Iterable[api.ContainedView]) -> RenderableType:
    """A line a quarantine."""
    table = Rows(("workload", "level", "in force", "peers>", "since", "until", "by", "why", "id"), heads=3)
    for one in found:
        word = "verified" if one.own is not None else "verified by peers: no agent on it"
        state = Text(word, "green") if one.is_verified else Text(_waiting_for(one), "yellow")
        peers = f"{one.verified_peers}/{one.peers}"
        table.add(one.name, one.level, state, peers, say_time(one.since), say_time(one.until), one.by, one.why, one.id)
    return table


def hit_words(hit: api.ContainPlanned) -> list[RenderableType]:
    """Whom an isolation would hit."""
    shown = hit.workloads[:_SHOWN]
    more = f" and {hit.total - len(shown):,} more" if hit.total > len(shown) else ""
    names = ", ".join(one.name for one in shown)
    out: list[RenderableType] = [f"{count(hit.total, 'workload')}: {names}{more}"]
    least = " or more" if len(hit.workloads) < hit.total else ""
    bare = sum(not one.has_agent for one in hit.workloads)
    if bare:
        said = f"{bare:,}{least} of them without an agent: only their peers would drop what is theirs"
        out.append(Text(said, "yellow"))
    between = [one.name for one in hit.workloads if one.forwards]
    if between:
        out.append(Text(_passed_on(between, "is dropped, too"), "yellow"))
    again = sum(one.is_isolated for one in hit.workloads)
    if again:
        out += [f"{again:,}{least} of them isolated already: anew, as asked now", *replaced_words(hit.replaces)]
    return [*out, f"{count(hit.peers, 'other host')} would drop what goes to and comes from them"]


def forwarding_words(found: Iterable[api.ContainedView]) -> list[RenderableType]:
    """What ends with the isolation of hosts that pass on traffic of others."""
    between = [one.name for one in found if one.forwards]
    return [Text(_passed_on(between, "is dropped, too"), "yellow")] if between else []


def _passed_on(names: Sequence[str], ends: str) -> str:
    shown = ", ".join(names[:_SHOWN]) + (" ..." if len(names) > _SHOWN else "")
    return f"what {shown} {'passes' if len(names) == 1 else 'pass'} on for others (containers?) {ends}"


def replaced_words(found: Sequence[api.Replaced]) -> list[RenderableType]:
    """Quarantines whose place another takes, and what of them becomes shorter or weaker."""
    out: list[RenderableType] = []
    for one in found[:_SHOWN]:
        until = f"until {say_time(one.until)}" if one.until else "without end"
        line = f"in the place of {one.id} of {one.name} ({one.level}, {until}, by {one.by}: {one.why})"
        weaker = f": weaker: {', '.join(one.weaker)}" if one.weaker else ""
        out.append(Text(line + weaker, "yellow" if weaker else ""))
    return [*out, f"and {len(found) - _SHOWN:,} more"] if len(found) > _SHOWN else out


def released_words(found: Iterable[api.ContainedView]) -> RenderableType:
    """Quarantines that are to end."""
    table = Rows(("workload", "level", "since", "until", "by", "why"), heads=2)
    for one in found:
        table.add(one.name, one.level, say_time(one.since), say_time(one.until), one.by, one.why)
    return table


def _waiting_for(one: api.ContainedView) -> str:
    """Who has yet to read it back; or, where all that are heard did, of whom nothing is known."""
    whose = "unreachable" if one.state == "partly" else "pending"
    checks = ([] if one.own is None else [one.own]) + list(one.pending)
    names = [check.name for check in checks if check.state == whose]
    if one.state == "partly":
        return f"partly: {one.unreachable} unreachable: {', '.join(names[:3])}{' ...' if len(names) > 3 else ''}"
    return f"pending: {', '.join(names[:3]) or 'nobody is heard'}{' ...' if len(names) > 3 else ''}"


def status_words(status: api.Status) -> list[RenderableType]:
    """The controller's parts, then its fleet."""
    parts = Rows(("part", "state", ""))
    for part in status.parts:
        parts.add(part.name, Text(part.state, _PART_COLOURS[part.state]), part.message)
    agents = ", ".join(f"{number} {state}" for state, number in sorted(status.agents.items())) or "none"
    alerts = Text("alerts: ")
    for severity, number in sorted(status.alerts.items()):
        alerts.append(f"{number} {severity}  ", _SEVERITY_COLOURS.get(severity, ""))
    out: list[RenderableType] = [
        f"{status.name}, Ringfence {status.version}, since {say_time(status.started)}",
        parts,
        f"agents: {agents}   workloads: {status.workloads:,}",
        *rollout_words(status.rollout),
        alerts if status.alerts else "no open alerts",
    ]
    if status.quarantines:
        said = f"{count(status.quarantines, 'quarantine')}, {status.quarantines_verified} verified"
        out.append(Text(said, "green" if status.quarantines == status.quarantines_verified else "yellow"))
    return out


def severity_text(severity: str) -> Text:
    return Text(severity, _SEVERITY_COLOURS.get(severity, ""))
