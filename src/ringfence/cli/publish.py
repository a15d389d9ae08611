"""`ringfence plan`, `apply`, `rollback`, `rollout`, `versions`: the estate's policies to a fleet."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Annotated, Literal, cast, get_args

import msgspec
import typer

from ringfence.cli.as_draft import draft_of
from ringfence.cli.consent import NoteOption, PlannedOption, WhyOption, YesOption, confirm, reason
from ringfence.cli.fleet import NOTHING
from ringfence.cli.fleet_words import diff_words, failing_tests, plan_words, removed_files, rollout_words
from ringfence.cli.remote import FAILING, fleet, parse_duration, say_time
from ringfence.cli.session import CLEAN, FINDINGS, Session
from ringfence.cli.tables import Rows, count
from ringfence.client.client import Client
from ringfence.core.errors import Finding, FindingsError, InputError, TargetError
from ringfence.wire import api
from ringfence.wire.messages import Live, Probe

_POLL_S = 1.0
_NAMED = 5
CanaryOption = Annotated[
    str, typer.Option("--canary", metavar="WHO", help="Who goes first: a share like 5%, or a selector.")
]
LiveOption = Annotated[str, typer.Option("--live", help="Connections that lose permission: keep, drain or cut.")]
GraceOption = Annotated[str, typer.Option("--grace", metavar="TIME", help="How long `drain` lets them finish.")]
TrialOption = Annotated[
    str, typer.Option("--trial", metavar="TIME", help="A host that does not confirm by then goes back; none: no trial.")
]
ProbeOption = Annotated[
    list[str] | None,
    typer.Option("--probe", metavar="HOST:PORT", help="What every host must still reach for the policy to stay."),
]
RefusedOption = Annotated[
    bool, typer.Option("--accept-refused", help="Go on although some allows stay closed somewhere.")
]
WaitOption = Annotated[bool, typer.Option("--wait", help="Until every host read it back, or it stopped (exit 1).")]
WithinOption = Annotated[str, typer.Option("--within", metavar="TIME", help="How long to wait (exit 3 after that).")]


def register(app: typer.Typer) -> None:
    """Add the commands to the root."""
    fleet(app, "plan", epilog="Example: ringfence plan --days 14")(plan)
    fleet(app, "apply", epilog="Example: ringfence apply --canary 5% --note 'orders talk to db' --wait")(apply)
    fleet(app, "rollback", epilog="Example: ringfence rollback 11 --note 'orders cannot reach db'")(rollback)
    fleet(app, "rollout", epilog="Example: ringfence rollout --go-on")(rollout)
    fleet(app, "versions", epilog="Example: ringfence versions --diff 11 12")(versions)
    fleet(app, "propose", epilog="Example: ringfence propose --note 'orders talk to db'")(propose)
    fleet(app, "proposals", epilog="Example: ringfence proposals --approve 5b1c0d2e9f3a")(proposals)


def current(client: Client) -> int:
    """The version in force; 0: none."""
    return next((one.number for one in client.versions(limit=1)), 0)


def plan(
    session: Session,
    client: Client,
    days: Annotated[int, typer.Option(min=0, max=365, help="Of stored traffic to judge; 0: none.")] = 7,
    all_: Annotated[
        bool, typer.Option("--all", help="List what would break with it and without it, too, and not only the first.")
    ] = False,
) -> int:
    """What the estate's policies would open, close and break on the fleet. Nothing is changed.

    Exit 1 when a test fails, or seen traffic would break by it. What would break without it as well, once its hosts
    enforce, is counted. Where nothing is in force, and in a scope that is new, all that breaks does so by it.
    """
    planned = client.plan(api.Plan(draft_of(session.estate, current(client)), days))
    session.emit(planned, *plan_words(planned, is_all=all_))
    session.show_findings((*_besides_tests(planned.findings), *planned.refusals))
    is_broken = planned.impact is not None and planned.impact.breaks > 0
    return FINDINGS if is_broken or failing_tests(planned) else CLEAN


def _besides_tests(findings: Iterable[Finding]) -> Iterator[Finding]:
    """What a plan does not say itself: it names each test that fails."""
    return (finding for finding in findings if finding.code not in FAILING)


def apply(
    session: Session,
    client: Client,
    note: NoteOption = "",
    canary: CanaryOption = "",
    live: LiveOption = "drain",
    grace: GraceOption = "60s",
    trial: TrialOption = "90s",
    probe: ProbeOption = None,
    accept_refused: RefusedOption = False,
    base: Annotated[
        int | None, typer.Option(help="The version these policies were made from.", show_default="the one in force")
    ] = None,
    wait: WaitOption = False,
    within: WithinOption = "10m",
    planned: PlannedOption = "",
    yes: YesOption = False,
) -> int:
    """Put the estate's policies in force on the fleet: proven, as a new version, each host on trial.

    Exit 1 when a test fails; nothing is changed then.
    """
    how = how_of(canary, live, grace, trial, probe or [], accept_refused=accept_refused)
    wait_s = _wait_s(within, is_asked=wait)
    _demand_canary(client, how)
    draft = draft_of(session.estate, current(client) if base is None else base, note)
    shown = _shown(session, client, draft, with_tests=False)
    if shown is None:
        return _nothing(session, client)
    _refuse_failing(shown)
    draft = msgspec.structs.replace(draft, note=reason(session, note, "a new version of the policies"))
    confirm(session, f"apply this to {count(shown.hosts, 'host')}{_removing(shown)}?", yes=yes)
    applied = client.apply(api.Apply(draft, how, planned or shown.digest))
    session.show_findings(applied.findings)
    return _end(session, client, applied, wait_s=wait_s)


def rollback(
    session: Session,
    client: Client,
    version: Annotated[int, typer.Argument(help="The version to go back to; it becomes a new one.")],
    note: NoteOption = "",
    canary: CanaryOption = "",
    live: LiveOption = "drain",
    grace: GraceOption = "60s",
    trial: TrialOption = "90s",
    accept_refused: RefusedOption = False,
    wait: WaitOption = False,
    within: WithinOption = "10m",
    planned: PlannedOption = "",
    yes: YesOption = False,
) -> int:
    """Put what an old version says in force, as a new version. A test that fails today is told, and stops nothing.

    Before version 1 there was none: to let pass all that policies block, set the mode (`ringfence mode WHO --in observe
    --out observe`).

    With --yes and without --planned it is held to no plan: the way back is open however fast hosts come and go.
    """
    how = how_of(canary, live, grace, trial, [], accept_refused=accept_refused)
    wait_s = _wait_s(within, is_asked=wait)
    _demand_canary(client, how)
    base, old = current(client), client.version(version)
    shown = _shown(session, client, api.Draft(old.files, base, old.settings))
    if shown is None:
        return _nothing(session, client)
    note = reason(session, note, "going back")
    confirm(session, f"go back to version {version} on {count(shown.hosts, 'host')}{_removing(shown)}?", yes=yes)
    looked_at = planned or ("" if yes else shown.digest)
    applied = client.rollback(api.Rollback(version, base, note, how, looked_at))
    session.show_findings(_besides_tests(applied.findings))
    return _end(session, client, applied, wait_s=wait_s)


def _removing(shown: api.Planned) -> str:
    """What a question says of the files that go: their names, as far as a line takes them."""
    names = [one.name for one in removed_files(shown)]
    more = [f"{len(names) - _NAMED:,} more"] if len(names) > _NAMED else []
    return f" and remove {', '.join([*names[:_NAMED], *more])}" if names else ""


def _refuse_failing(shown: api.Planned) -> None:
    """Before anybody is asked about what would be refused. Raises FindingsError `test-failed`, `test-unmatched`."""
    failing = [msgspec.structs.replace(one, severity="error") for one in shown.findings if one.code in FAILING]
    if failing:
        raise FindingsError(failing)


def _shown(session: Session, client: Client, draft: api.Draft, *, with_tests: bool = True) -> api.Planned | None:
    """What a draft would do, said to people; None: word for word it is what is in force."""
    if draft.base and draft.base == current(client):
        newest = client.version(draft.base)
        if (newest.files, newest.settings) == (draft.files, draft.settings):
            return None
    shown = client.plan(api.Plan(draft))
    for line in plan_words(shown, with_tests=with_tests):
        session.say(line)
    return shown


def _nothing(session: Session, client: Client) -> int:
    (newest,) = client.versions(limit=1)
    session.say(f"version {newest.number} says this word for word")
    session.emit({"version": newest, "rollout": client.rollout(), "changed": False}, NOTHING)
    return CLEAN


def how_of(
    canary: str, live: str, grace: str, trial: str, probes: list[str], *, accept_refused: bool = False
) -> api.How:
    """Raises InputError `bad-canary`, `bad-live`, `bad-duration`, `bad-probe`."""
    if live not in get_args(Live):
        raise InputError("bad-live", f"`{live}` is nothing to do with connections", help="one of keep, drain and cut")
    percent, selector = 0.0, canary
    if canary.replace(".", "", 1).isdigit():
        raise InputError("bad-canary", f"`{canary}` is neither a share nor a selector", help=f"write {canary}%")
    if canary.endswith("%"):
        selector = ""
        try:
            percent = float(canary[:-1])
        except ValueError as error:
            raise InputError("bad-canary", f"`{canary}` is no share", help="write it like 5%") from error
        if not 0 < percent <= 100:
            raise InputError("bad-canary", f"`{canary}` is no share of the hosts", help="give 1% to 100%")
    return api.How(
        live=cast("Live", live),
        grace_s=int(parse_duration(grace).total_seconds()),
        trial_s=None if trial == "none" else int(parse_duration(trial).total_seconds()),
        probes=tuple(map(_probe, probes)),
        canary=selector,
        canary_percent=percent,
        accept_refused=accept_refused,
    )


def _demand_canary(client: Client, how: api.How) -> None:
    """Before anything is planned. Raises InputError `bad-selector`, `unmatched`."""
    if how.canary and next(iter(client.workloads(how.canary, agents=True)), None) is None:
        message = f"the canary `{how.canary}` picks no host with an agent"
        raise InputError("unmatched", message, help="write a share like 5%, or a selector of labels that hosts carry")


def _probe(text: str) -> Probe:
    host, sign, port = text.rpartition(":")
    if not sign or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise InputError("bad-probe", f"`{text}` is no host and port", help="write it like db.example.com:5432")
    return Probe(host.strip("[]"), int(port))


def _wait_s(within: str, *, is_asked: bool) -> float | None:
    """How long to wait; None: not at all. Read before anything is changed. Raises InputError `bad-duration`."""
    wait_s = parse_duration(within).total_seconds()
    return wait_s if is_asked else None


def _end(session: Session, client: Client, applied: api.Applied, *, wait_s: float | None) -> int:
    session.say(f"version {applied.version.number} is published")
    found = applied.rollout or client.rollout() if wait_s is None else _waited(session, client, wait_s)
    document = {"version": applied.version, "rollout": found, "changed": True}
    session.emit(document, *rollout_words(found))
    return FINDINGS if found.stage == "stopped" else CLEAN


def _waited(session: Session, client: Client, within_s: float) -> api.RolloutView:
    """Raises TargetError `rollout-unfinished`."""
    end = time.monotonic() + within_s
    try:
        while (found := client.rollout()).stage not in ("done", "stopped"):
            if time.monotonic() > end:
                how_far = f"is {found.stage}: {found.confirmed} of {found.total} hosts read it back"
                help_ = "it goes on; `ringfence rollout` tells how far it is"
                raise TargetError("rollout-unfinished", f"version {found.version} {how_far}", help=help_)
            time.sleep(_POLL_S)
    except KeyboardInterrupt:
        session.say("the rollout goes on without you; `ringfence rollout` tells how far it is")
        raise
    return found


def rollout(
    session: Session,
    client: Client,
    what: Annotated[Literal["status"], typer.Argument(help="Nothing else can be asked.")] = "status",
    go_on: Annotated[bool, typer.Option("--go-on", help="Everybody now, whatever the canary says.")] = False,
    stop: Annotated[bool, typer.Option("--stop", help="Nobody more, and who has it goes back.")] = False,
    why: WhyOption = "",
    wait: WaitOption = False,
    within: WithinOption = "10m",
    yes: YesOption = False,
) -> int:
    """How far the newest version is, and which hosts are behind. Exit 1 when it stopped."""
    if go_on and stop:
        raise InputError("contradictory-options", "--go-on and --stop at once", help="say one of them")
    wait_s = _wait_s(within, is_asked=wait)
    found = client.rollout()
    if stop:
        for line in rollout_words(found):
            session.say(line)
        confirm(session, f"stop version {found.version}, and take back every host that has it?", yes=yes)
        found = client.stop_rollout(why)
    if go_on:
        if found.stage in ("canary", "stopped"):
            for line in rollout_words(found):
                session.say(line)
            confirm(session, f"roll version {found.version} out to everybody now?", yes=yes)
        found = client.go_on()
    if wait_s is not None:
        found = _waited(session, client, wait_s)
    session.emit(found, *rollout_words(found))
    return FINDINGS if found.stage == "stopped" else CLEAN


def versions(
    session: Session,
    client: Client,
    diff: Annotated[
        tuple[int, int] | None, typer.Option(metavar="OLD NEW", help="What one opens and closes against another.")
    ] = None,
    show: Annotated[int | None, typer.Option(metavar="VERSION", help="The text of one.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="So many, the newest first.")] = 20,
) -> int:
    """Versions of the policies: each a restore point. Exit 1 when --diff finds a difference."""
    if diff is not None:
        found = client.diff(*diff)
        session.emit(found, *diff_words(found))
        return FINDINGS if found.boxes else CLEAN
    if show is not None:
        text = client.version(show)
        session.emit(text, *(f"# {name}\n{content}" for name, content in sorted(text.files.items())))
        return CLEAN
    listed = client.versions(limit=limit)
    table = Rows(("version>", "at", "by", "note", "files"))
    for one in listed:
        table.add(str(one.number), say_time(one.at), one.actor, one.note, " ".join(one.files))
    session.emit(listed, table if listed else "nothing was published yet")
    return CLEAN


def propose(session: Session, client: Client, note: NoteOption = "") -> int:
    """Put the estate's policies before a second person, who approves or rejects them."""
    draft = draft_of(session.estate, current(client), reason(session, note, "a proposal"))
    made = client.propose(draft)
    session.emit(made, f"proposal {made.id}: somebody else approves it with `ringfence proposals --approve {made.id}`")
    return CLEAN


def proposals(
    session: Session,
    client: Client,
    approve: Annotated[str | None, typer.Option(metavar="ID", help="Publish that one, and roll it out.")] = None,
    reject: Annotated[str | None, typer.Option(metavar="ID", help="Decide against that one.")] = None,
    why: WhyOption = "",
    canary: CanaryOption = "",
    live: LiveOption = "drain",
    grace: GraceOption = "60s",
    trial: TrialOption = "90s",
    accept_refused: RefusedOption = False,
    planned: PlannedOption = "",
    yes: YesOption = False,
) -> int:
    """Policies that wait for a second person."""
    if approve is not None:
        how = how_of(canary, live, grace, trial, [], accept_refused=accept_refused)
        return _approve(session, client, approve, how, planned=planned, yes=yes)
    if reject is not None:
        client.reject(reject, reason(session, why, "turning a proposal down"))
    found = client.proposals()
    table = Rows(("id", "at", "by", "note", "from version>", "files"))
    for one in found:
        table.add(one.id, say_time(one.at), one.actor, one.note, str(one.base or 0), " ".join(one.files))
    session.emit(found, table if found else "nothing waits")
    return CLEAN


def _approve(session: Session, client: Client, id_: str, how: api.How, *, planned: str, yes: bool) -> int:
    """Publish what somebody else proposed, once it was looked at."""
    text = client.proposal(id_)
    shown = client.plan(api.Plan(api.Draft(text.files, text.base or 0, text.settings)))
    for line in plan_words(shown):
        session.say(line)
    confirm(session, f"publish proposal {id_} to {count(shown.hosts, 'host')}{_removing(shown)}?", yes=yes)
    applied = client.approve(id_, api.Approve(planned or shown.digest, how))
    return _end(session, client, applied, wait_s=None)
