"""`ringfence-agent`: the program of one Linux host.

Exit codes: 0 done · 1 findings (drift, refused, a preflight that found something) · 2 usage or bad input · 3 could not
reach or apply.

INVARIANT: each command imports what it needs and no more: `boot` is done before others have loaded their libraries.
"""

from __future__ import annotations

import argparse
import os
import stat
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ringfence import __version__
from ringfence.agent.config import FILE, Config, read_config
from ringfence.core.errors import FindingsError, InputError, RingfenceError

if TYPE_CHECKING:
    from ringfence.agent.held.disk import Disk
    from ringfence.agent.uninstall import Leave

DONE, FINDINGS, USAGE, FAILED = 0, 1, 2, 3
STOP_S = 20.0
_EXAMPLES = """examples:
  ringfence-agent enrol --token rfj_...            join the controller that made the token
  ringfence-agent status                           what is enforced here, and how it is known
  ringfence-agent disable --for 30m --why 'ticket 4711: orders stand still'
  ringfence-agent uninstall --leave open           remove every rule of ours

exit codes: 0 done, 1 findings, 2 usage or bad input, 3 could not reach or apply
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script: returns the exit code."""
    options = parser().parse_args(arguments)
    try:
        code: int = options.run(options, read_config(options.config, directory=options.dir))
    except (InputError, FindingsError) as error:
        print(error, file=sys.stderr)
        return USAGE
    except RingfenceError as error:
        print(error, file=sys.stderr)
        return FAILED
    except PermissionError as error:
        print(f"error[not-permitted] {error} (run as root)", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return FAILED
    return code


def parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    top = argparse.ArgumentParser("ringfence-agent", description=__doc__.splitlines()[0], epilog=_EXAMPLES,
                                  formatter_class=raw)  # fmt: skip
    top.add_argument("--version", action="version", version=f"ringfence-agent {__version__}")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--dir", type=Path, metavar="DIR", help="state directory (default /var/lib/ringfence)")
    common.add_argument("--config", type=Path, default=FILE, metavar="FILE", help=f"settings (default {FILE})")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(name: str, run: Callable[[argparse.Namespace, Config], int], help: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=help, description=help, parents=[common])
        made.set_defaults(run=run)
        return made

    enrol = add("enrol", _enrol, "join a controller with a token it made")
    enrol.add_argument("--token", required=True, help="the join token, or - to read it from standard input")
    enrol.add_argument("--again", action="store_true", help="as another workload, though this host is enrolled")
    run = add("run", _run, "enforce, observe and tell until stopped; the rules stay")
    written = "write Prometheus metrics there every 15 s, for node_exporter's textfile collector"
    run.add_argument("--metrics-file", type=Path, metavar="FILE", help=written)
    add("boot", _boot, "put the last policy in force from disk, before the network is up")
    status = add("status", _status, "what is enforced here")
    status.add_argument("--json", action="store_true", help="one JSON document")
    add("metrics", _metrics, "the agent's own figures, as Prometheus reads them")
    preflight = add("preflight", _preflight, "what to know before this host enforces anything")
    preflight.add_argument("--json", action="store_true", help="one JSON document")
    _add_breakglass(add)
    evidence = add("evidence", _evidence, "a bundle of who talks with what program under which rules")
    evidence.add_argument("-o", dest="output", type=Path, required=True, metavar="FILE", help="a .tar.gz to write")
    evidence.add_argument("--with-command-lines", action="store_true", help="they may hold passwords")
    uninstall = add("uninstall", _uninstall, "end the agent on this host; told to the controller and audited")
    uninstall.add_argument(
        "--leave", required=True, choices=("open", "closed", "enforced"), help="what the host is left as"
    )
    uninstall.add_argument("--why", default="", help="the reason, for the audit log")
    return top


def _add_breakglass(
    add: Callable[[str, Callable[[argparse.Namespace, Config], int], str], argparse.ArgumentParser],
) -> None:
    disable = add("disable", _disable, "break-glass: observe only, for a while; told to the controller and audited")
    disable.add_argument("--for", dest="for_", required=True, metavar="TIME", help="45s, 30m, 2h; at most 8h")
    disable.add_argument("--why", required=True, help="the reason, for the audit log")
    disable.add_argument("--even-quarantine", action="store_true", help="lift quarantines on this host, too")
    add("enable", _enable, "end a break-glass before its time")


# ---- the life of an agent -------------------------------------------------------------------------------------------


def _enrol(options: argparse.Namespace, config: Config) -> int:
    import asyncio

    from ringfence.agent.enrol.enrol import enrol
    from ringfence.agent.enrol.keys import IDENTITY
    from ringfence.agent.held.disk import Disk

    if (config.directory / IDENTITY).exists() and not options.again:
        help_ = "see `ringfence-agent status`; --again joins as another workload, and the first stays until retired"
        raise InputError("already-enrolled", "this host is enrolled", help=help_)
    token = sys.stdin.readline() if options.token == "-" else options.token
    joined = asyncio.run(enrol(Disk(config.directory), token, netns=config.netns))
    print(f"enrolled as workload {joined.identity.uuid} of {joined.trust.controller}")
    return DONE


def _run(options: argparse.Namespace, config: Config) -> int:
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy is loaded: it would keep buffers for each core
    from ringfence.agent.service import serve

    if options.metrics_file is not None:
        config = msgspec.structs.replace(config, metrics_file=options.metrics_file)
    return serve(config)


def _boot(_: argparse.Namespace, config: Config) -> int:
    from ringfence.agent.boot import guard
    from ringfence.agent.clock import Clock
    from ringfence.agent.held.disk import Disk
    from ringfence.agent.point import nftables

    found = guard(Disk(config.directory), nftables(config.netns), Clock())
    print(f"{found.state}: {found.digest[:12]}")
    return DONE if found.state == "realised" else FINDINGS


# ---- questions ------------------------------------------------------------------------------------------------------


def _status(options: argparse.Namespace, config: Config) -> int:
    from ringfence.agent.control import Question, ask
    from ringfence.agent.status import from_disk, words

    answer = ask(config.socket, Question("status"))
    if answer is not None and answer.status is None:
        raise RingfenceError("agent-refused", answer.error or "the agent does not answer", help="run as root")
    status = answer.status if answer is not None and answer.status is not None else from_disk(config)
    print(msgspec.json.encode(status).decode() if options.json else words(status))
    return (
        DONE
        if status.is_running and status.realised.state == "realised" and not status.realised.is_reverted
        else FINDINGS
    )


def _metrics(_: argparse.Namespace, config: Config) -> int:
    from ringfence.agent.control import Question, ask

    answer = ask(config.socket, Question("metrics"))
    if answer is None or not answer.metrics:
        raise RingfenceError("agent-not-running", (answer and answer.error) or "no agent answers on this host",
                             help="systemctl start ringfence-agent")  # fmt: skip
    print(answer.metrics, end="")
    return DONE


def _preflight(options: argparse.Namespace, config: Config) -> int:
    from ringfence.agent.preflight import lines, look

    facts, findings = look(config)
    if options.json:
        print(msgspec.json.encode({"facts": facts, "findings": findings}).decode())
    else:
        for name, value in lines(facts):
            print(f"{name:24}{value}")
        for finding in findings:
            print(finding)
    return FINDINGS if any(finding.severity != "info" for finding in findings) else DONE


def _evidence(options: argparse.Namespace, config: Config) -> int:
    from ringfence.agent.control import Question, ask
    from ringfence.agent.observe.evidence import WITH_COMMAND_LINES

    argument = WITH_COMMAND_LINES if options.with_command_lines else ""
    answer = ask(config.socket, Question("evidence", argument))
    if answer is None or not answer.evidence:
        raise RingfenceError(
            "agent-not-running", "no agent answers on this host", help="systemctl start ringfence-agent"
        )
    with open(options.output, "wb", opener=_for_the_owner) as file:
        file.write(answer.evidence)
    print(f"{options.output}: {len(answer.evidence)} bytes")
    return DONE


def _for_the_owner(path: str, flags: int) -> int:
    """Nobody else's to read before there is anything in it, a file that was there included."""
    file = os.open(path, flags, 0o600)
    if stat.S_ISREG(os.fstat(file).st_mode):
        os.fchmod(file, 0o600)
    return file


# ---- break-glass and the end ----------------------------------------------------------------------------------------


def _disable(options: argparse.Namespace, config: Config) -> int:
    from ringfence.agent.clock import Clock
    from ringfence.agent.held import breakglass

    for_s = breakglass.parse_duration(options.for_)
    told = breakglass.disable(
        config.directory, Clock(), for_s=for_s, why=options.why, even_quarantine=options.even_quarantine
    )
    _apply_now(config)
    what = "everything" if told.even_quarantine else "everything but quarantine"
    print(f"{what} is observed only, for {options.for_}; `ringfence-agent enable` ends it")
    return DONE


def _enable(_: argparse.Namespace, config: Config) -> int:
    from ringfence.agent.held import breakglass

    found = breakglass.last(config.directory)
    if found is None:
        raise InputError("not-disabled", "policy is not disabled on this host")
    breakglass.end(config.directory, found)
    _apply_now(config)
    print("policy is enforced again")
    return DONE


def _apply_now(config: Config) -> None:
    """By the agent, or where none runs, by the boot guard."""
    from ringfence.agent.boot import guard
    from ringfence.agent.clock import Clock
    from ringfence.agent.control import Question, ask
    from ringfence.agent.held.disk import Disk
    from ringfence.agent.point import nftables

    if ask(config.socket, Question("reload")) is None:
        guard(Disk(config.directory), nftables(config.netns), Clock())


def _stop(config: Config) -> None:
    """End the agent that runs here: until it is gone the rules are its own."""
    import time

    from ringfence.agent.control import Question, ask

    deadline = time.monotonic() + STOP_S
    while ask(config.socket, Question("stop")) is not None:
        if time.monotonic() > deadline:
            raise RingfenceError("agent-runs-on", "the agent does not end", help="systemctl stop ringfence-agent")
        time.sleep(0.05)


def _uninstall(options: argparse.Namespace, config: Config) -> int:
    from ringfence.agent import uninstall
    from ringfence.agent.held.disk import Disk
    from ringfence.agent.point import nftables

    disk, how = Disk(config.directory), uninstall.leave(options.leave)
    uninstall.disable_units()
    _stop(config)
    _say_farewell(disk, how, options.why)
    uninstall.rules(disk, nftables(config.netns), how)
    uninstall.forget(disk)
    print(f"the agent is gone; the host is left {how}")
    return DONE


def _say_farewell(disk: Disk, how: Leave, why: str) -> None:
    """Whatever keeps the controller from hearing it keeps nobody from uninstalling."""
    import asyncio

    from ringfence.agent import farewell
    from ringfence.agent.clock import Clock
    from ringfence.agent.held.breakglass import who
    from ringfence.ports.bus import BusError

    event = farewell.words(how, why=why, by=who(), at_s=Clock().wall_s())
    try:
        asyncio.run(farewell.tell(disk, event))
    except (BusError, RingfenceError, OSError) as error:
        reason = error.message if isinstance(error, RingfenceError) else error
        print(f"the controller was not told: {reason}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
