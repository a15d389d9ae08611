"""`ringfence`: the command line. Each module of this package is one family of commands."""

from __future__ import annotations

import contextlib
import json
import sys
import traceback

import typer

from ringfence import __version__
from ringfence.cli.exits import BAD_INPUT, INTERRUPTED, UNREACHABLE
from ringfence.cli.lazy import Entry, is_json_asked, lazy_group
from ringfence.cli.streams import discard, open_streams

COMMANDS = {
    "init": Entry(
        "ringfence.cli.init",
        "Make an estate here (or in --estate DIR): settings, inventory and policies with commented examples.",
    ),
    "flows": Entry("ringfence.cli.flows", "Import, count and forget observed traffic."),
    "map": Entry("ringfence.cli.map", "Who talks to whom, by any labels, judged against the current policies."),
    "recommend": Entry(
        "ringfence.cli.recommend",
        "A minimal identity-based policy for what was seen, each rule with its evidence, and how far to trust it.",
    ),
    "policy": Entry("ringfence.cli.policy", "Check, prove, compare and format policies."),
    "simulate": Entry(
        "ringfence.cli.simulate",
        "Replay stored flows against policies: what passes, what would break, what would open. Exit 1 when something"
        " breaks.",
    ),
    "explain": Entry(
        "ringfence.cli.ask",
        "The verdict of a connection, the rule with its line, both ends, and what would have allowed it.",
    ),
    "decide": Entry(
        "ringfence.cli.ask",
        'JSON lines {"source","destination","service"} on stdin -> verdicts on stdout, one line each.',
    ),
    "reach": Entry(
        "ringfence.cli.ask", "Who can reach a segment, or what it can reach, as if everything were enforced."
    ),
    "render": Entry(
        "ringfence.cli.enforce",
        "What would be realised there: the rules as text, or the intent with --json. Exit 1 when something is refused.",
    ),
    "enforce": Entry(
        "ringfence.cli.enforce",
        "Realise a workload's policy on this host, in one transaction, and prove it by reading it back (root).",
    ),
    "up": Entry(
        "ringfence.cli.up",
        "Run the controller of a fleet until it is told to stop: API, bus, state and flows in one directory.",
    ),
    "nats-config": Entry(
        "ringfence.cli.nats_config",
        "Write what NATS servers need to be the bus of a controller: configuration, certificate and roots, for each.",
    ),
    "login": Entry(
        "ringfence.cli.access",
        "Keep a controller's address, CA and one's token, and use it from now on. Nothing is said to another's CA.",
    ),
    "logout": Entry(
        "ringfence.cli.access",
        "Forget a controller and one's token there. The token stays good: `ringfence token revoke` ends it.",
    ),
    "status": Entry(
        "ringfence.cli.status",
        "How the controller and its fleet are. Exit 1 when a part fails, or a host has drifted, refuses or went back.",
    ),
    "plan": Entry(
        "ringfence.cli.publish",
        "What the estate's policies would open, close and break on the fleet. Nothing is changed.",
    ),
    "apply": Entry(
        "ringfence.cli.publish",
        "Put the estate's policies in force on the fleet: proven, as a new version, each host on trial.",
    ),
    "rollback": Entry(
        "ringfence.cli.publish",
        "Put what an old version says in force, as a new version. A test that fails today is told, and stops nothing.",
    ),
    "rollout": Entry(
        "ringfence.cli.publish", "How far the newest version is, and which hosts are behind. Exit 1 when it stopped."
    ),
    "versions": Entry(
        "ringfence.cli.publish",
        "Versions of the policies: each a restore point. Exit 1 when --diff finds a difference.",
    ),
    "pull": Entry(
        "ringfence.cli.pull",
        "Write the policies and settings of the newest version into the estate here (or in --estate DIR).",
    ),
    "propose": Entry(
        "ringfence.cli.publish", "Put the estate's policies before a second person, who approves or rejects them."
    ),
    "proposals": Entry("ringfence.cli.publish", "Policies that wait for a second person."),
    "label": Entry(
        "ringfence.cli.fleet",
        "Put labels on workloads, or take them off. A change of labels is a change of policy: it is shown first.",
    ),
    "mode": Entry(
        "ringfence.cli.fleet", "How strictly workloads are held, in each direction. What would stop is shown first."
    ),
    "quarantine": Entry(
        "ringfence.cli.contain",
        "Isolate workloads, now, on themselves and on every peer; whatever the policies say.",
    ),
    "release": Entry(
        "ringfence.cli.contain", "End the quarantine of workloads: from then on policies and modes say what passes."
    ),
    "alerts": Entry(
        "ringfence.cli.alerts",
        "Alerts, the most severe first. Exit 1 when one above `info` is open that nobody looks after.",
    ),
    "audit": Entry(
        "ringfence.cli.audit",
        "Who did what, the latest first. `verify` reads all of it; exit 1 when an entry is not as it was written.",
    ),
    "evidence": Entry(
        "ringfence.cli.evidence",
        "Who talks with what program under which rules, on one host: asked for, listed, fetched, deleted.",
    ),
    "backup": Entry(
        "ringfence.cli.backup",
        "The controller's state, CA, keys and evidence as one file. Whoever has it unsealed has the estate.",
    ),
    "restore": Entry(
        "ringfence.cli.backup",
        "Make a controller's directory of a backup; `ringfence up DIR` starts it.",
    ),
    "confirm-restore": Entry(
        "ringfence.cli.backup",
        "What a backup held is in force from now on. Until then a restored controller tells hosts quarantines, no"
        " more.",
    ),
    "agent": Entry("ringfence.cli.agent", "Hosts: invited, listed, retired; and the agent of this one."),
    "token": Entry("ringfence.cli.token", "Who may do what on the controller."),
    "lab": Entry("ringfence.cli.lab", "Worlds of real hosts in network namespaces, with real traffic."),
}

app = typer.Typer(
    cls=lazy_group(COMMANDS),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # help in plain text takes a third of the time
    help="Micro-segmentation by identity: observe, propose, prove, simulate, enforce.",
    epilog="""
Examples:

\b
  ringfence init                                     an estate to begin with
  ringfence flows import LOGS                        what talks, from recorded traffic
  ringfence map --by app,env                         who talks to whom
  ringfence explain web-1 db-1 tcp/5432              may it, and because of which rule
  ringfence plan                                     what the policies would open, close and break
  ringfence apply --canary 5% --note 'the shop'      in force, on a few hosts first
  ringfence quarantine web-1 --why 'it beacons'      isolated now

Exit codes: 0 done and clean, 1 findings, 2 usage or bad input, 3 could not reach or apply, 130 interrupted.
""",
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ringfence {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
) -> None:
    """Shared by all commands."""


def main() -> None:
    """The entry point. A fault of ours ends with 3, never with a code that means something was found."""
    open_streams()
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except OSError as error:  # what commands meet they tell themselves: this is help that cannot be written
        discard(sys.stdout)
        with contextlib.suppress(OSError):
            print(f"error[file-system] {(error.strerror or str(error)).lower()}", file=sys.stderr)
        sys.exit(BAD_INPUT)
    except Exception:
        with contextlib.suppress(OSError):
            traceback.print_exc()
            _tell_fault()
        sys.exit(UNREACHABLE)


def _tell_fault() -> None:
    message, help_ = "this is a fault in Ringfence", "report it with what stands on stderr"
    if is_json_asked(sys.argv[1:]):
        finding = {"code": "internal-error", "message": message, "severity": "error", "help": help_}
        print(json.dumps({"error": "internal-error", "findings": [finding]}))
    print(f"error[internal-error] {message}\n  help: report it with the lines above", file=sys.stderr)
