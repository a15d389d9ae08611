"""`ringfence render` and `enforce`: what one enforcement point must realise, and realising it on this host."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
import typer
from rich.console import RenderableType
from rich.text import Text

from ringfence import catalog
from ringfence.cli.ask import AsOption, AtOption, parse_at, parse_mode
from ringfence.cli.enforce_words import (
    change_document,
    change_words,
    failsafe_table,
    intent_document,
    passage_document,
    size_words,
)
from ringfence.cli.session import CLEAN, FINDINGS, Session, command, write_out
from ringfence.cli.tables import count
from ringfence.core.engine import Engine
from ringfence.core.errors import Finding, FindingsError, InputError, TargetError, errors_among
from ringfence.core.identity.workload import Workload
from ringfence.core.intent.compile import IntentCompiler
from ringfence.core.intent.model import Intent
from ringfence.core.net.address import parse_address
from ringfence.core.policy.suggest import did_you_mean


def register(app: typer.Typer) -> None:
    """Add the commands to the root."""
    command(app, "render", epilog="Example: ringfence render nftables web-1")(render)
    command(app, "enforce", epilog="Example: ringfence enforce nftables web-1 --plan")(enforce)


TargetArgument = Annotated[str, typer.Argument(help="The enforcement technology: nftables.")]
WorkloadArgument = Annotated[str, typer.Argument(help="A workload's name or UUID.")]


def render(
    session: Session, target: TargetArgument, workload: WorkloadArgument, at: AtOption = None, as_: AsOption = None
) -> int:
    """What would be realised there: the rules as text, or the intent with --json. Exit 1 when something is refused."""
    adapter = catalog.load(catalog.TARGETS, target)()
    intent = intent_of(session, workload, at, as_)
    refusals = (*intent.refusals, *adapter.support(intent))
    if session.is_json:
        session.emit({"intent": intent_document(intent), "digest": intent.digest, "refusals": refusals})
    else:
        write_out(adapter.render(intent).rstrip("\n") + "\n")
        session.show_findings(refusals)
    return FINDINGS if refusals else CLEAN


def enforce(
    session: Session,
    target: TargetArgument,
    workload: WorkloadArgument,
    plan: Annotated[bool, typer.Option("--plan", help="Show the transaction, change nothing.")] = False,
    accept_refused: Annotated[
        bool, typer.Option("--accept-refused", help="Go on although some allows stay closed.")
    ] = False,
    netns: Annotated[
        str | None, typer.Option(help="A network namespace of this host instead of the host itself.")
    ] = None,
    accept_expiry: Annotated[
        bool, typer.Option("--accept-expiry", help="Go on although a rule's time or a lease ends: you enforce again.")
    ] = False,
    another_host: Annotated[
        bool, typer.Option("--another-host", help="Go on although this host is not, or was not, that workload.")
    ] = False,
    at: AtOption = None,
    as_: AsOption = None,
) -> int:
    """Realise a workload's policy on this host, in one transaction, and prove it by reading it back (root).

    Exit 1 when --plan shows changes, or what was read back is not all that was asked.
    """
    adapter = catalog.load(catalog.TARGETS, target)(netns)
    if at is not None and not plan:
        help_ = "leave --at out, or look with --plan"
        raise InputError("at-needs-plan", "another day's policy can be planned, not enforced", help=help_)
    intent = intent_of(session, workload, at, as_)
    refusals = (*intent.refusals, *adapter.support_here(intent))
    if plan:
        return _show_plan(session, adapter, intent, refusals)
    _check_refusals(refusals, accepted=accept_refused)
    _check_lasts(intent, accepted=accept_expiry)
    if not another_host:
        _check_is_this_host(intent, adapter.observe().intent, netns)
    realised = adapter.converge(intent)
    session.emit(realised_document(intent, realised), _realised_line(intent, realised))
    session.show_findings(refusals)
    return CLEAN if realised.state == "realised" else FINDINGS


def _check_lasts(intent: Intent, *, accepted: bool) -> None:
    """The kernel keeps no calendar: what a date or window opens stays open until somebody enforces again."""
    if intent.valid_until is None or accepted:
        return
    when = f"{intent.valid_until:%Y-%m-%dT%H:%MZ}"
    message = f"what `{intent.name}` may do changes at {when}, and no kernel rule tells the time"
    help_ = "enforce again by then (a timer will do) and say so with --accept-expiry"
    raise InputError("needs-renewal", message, help=help_)


def _check_is_this_host(intent: Intent, found: Intent | None, netns: str | None) -> None:
    """A typo must not put one host's firewall on another. Raises InputError `another-host`."""
    help_ = "check the name, or go on with --another-host"
    if found is not None and found.workload != intent.workload:
        message = f"this host enforces another workload (UUID {found.workload}), not `{intent.name}`"
        raise InputError("another-host", message, help=help_)
    if intent.own and not set(intent.own) & _local_addresses(netns):
        raise InputError("another-host", f"no address of `{intent.name}` is on this host", help=help_)


def _local_addresses(netns: str | None) -> set[int]:
    """The addresses of the interfaces here. Raises TargetError `unreachable` when they cannot be read."""
    command = ["ip", *(["-netns", netns] if netns else []), "-json", "address"]
    try:
        printed = subprocess.run(command, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise TargetError("unreachable", "cannot read this host's addresses", help="install iproute2") from error
    links = msgspec.json.decode(printed)
    return {parse_address(entry["local"]) for link in links for entry in link.get("addr_info", ()) if "local" in entry}


def _check_refusals(refusals: tuple[Finding, ...], *, accepted: bool) -> None:
    """A refused allow stays closed and must be accepted; any other refusal stops the whole host (law 4)."""
    if errors_among(refusals):
        raise FindingsError(refusals)
    if refusals and not accepted:
        message = f"{count(len(refusals), 'rule')} cannot be expressed here and would stay closed; nothing was applied"
        refusal = Finding("refusals-not-accepted", message, help="change the rules, or go on with --accept-refused")
        raise FindingsError([refusal, *refusals])


def intent_of(session: Session, name: str, at: str | None = None, as_: str | None = None) -> Intent:
    """The intent of one workload. Raises InputError `unknown-workload`, `not-controlled`."""
    world = session.estate.world(at=parse_at(at), as_mode=parse_mode(as_))
    workload = world.inventory.find(name)
    if workload is None:
        guess = did_you_mean(name, world.inventory.by_name)
        raise InputError(
            "unknown-workload", f"there is no workload `{name}`", help=guess or "give its name or UUID from inventory/"
        )
    _check_controlled(workload)
    return IntentCompiler(Engine.compile(world)).compile(workload)


def _check_controlled(workload: Workload) -> None:
    if not workload.is_controlled or workload.kind == "process":
        message = f"`{workload.name}` is a {workload.kind}, which is no enforcement point of its own"
        raise InputError("not-controlled", message, help="a process is enforced with its host; a device by its peers")


def _show_plan(session: Session, adapter: Any, intent: Intent, refusals: tuple[Finding, ...]) -> int:
    observed = adapter.observe()
    plan, changes = adapter.plan(intent, observed), adapter.changes(intent, observed)
    document = {
        "workload": intent.name,
        "digest": intent.digest,
        "changes": plan.summary,
        "elements": {"added": plan.size.added, "removed": plan.size.removed, "rules": plan.size.rules},
        "judges_again": plan.judges_again,
        "is_first": changes.is_first,
        "policy": change_document(changes.policy),
        "drift": {
            "is_touched": changes.is_touched,
            "repairs": change_document(changes.repairs),
            "foreign": changes.foreign,
        },
        "valid_until": intent.valid_until,
        "failsafe": [passage_document(passage) for passage in intent.failsafe],
        "refusals": refusals,
    }
    session.emit(document, *_plan_words(intent, plan, changes))
    session.show_findings(refusals)
    return FINDINGS if plan.summary else CLEAN


def _plan_words(intent: Intent, plan: Any, changes: Any) -> Iterator[RenderableType]:
    if not plan.summary:
        yield "nothing to change"
    if changes.is_first:
        yield f"{intent.name} has no firewall of ours yet: everything passes"
    if changes.is_touched:
        yield Text("changed by somebody else since it was applied, and put back:", "bold yellow")
        yield from change_words(intent, changes.repairs)
        yield from (Text(f"  {line}") for line in changes.foreign)
        if not changes.foreign and changes.repairs.is_empty:
            yield "  rules or elements; which, cannot be told from what changes below"
    yield from change_words(intent, changes.policy)
    if plan.summary and not (changes.policy.opens or changes.policy.closes or changes.is_touched):
        yield "nothing opens and nothing closes"
    yield failsafe_table(intent)
    if plan.summary:
        yield size_words(*plan.size, judges_again=plan.judges_again)
    yield f"holds until {intent.valid_until:%Y-%m-%dT%H:%MZ}" if intent.valid_until else "holds until something changes"


def realised_document(intent: Intent, realised: Any) -> dict[str, object]:
    """What was asked and what was read back."""
    return {
        "workload": intent.name,
        "state": realised.state,
        "digest": intent.digest,
        "differences": realised.differences,
    }


def _realised_line(intent: Intent, realised: Any) -> Text:
    style = "green" if realised.state == "realised" else "bold red"
    words = f"{intent.name}: {realised.state} (read back and equal to intent {intent.digest[:12]})"
    return Text(
        words if realised.state == "realised" else f"{intent.name}: {realised.state} {realised.differences}", style
    )
