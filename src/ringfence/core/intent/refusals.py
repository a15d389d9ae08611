"""What of a host's policy no address-based firewall can express. Never silently: a refused allow stays closed, which
may be accepted; a refused deny, forbid or quarantine fails the plan.
"""

from __future__ import annotations

from collections.abc import Iterator

from ringfence.core.engine.bits import members
from ringfence.core.engine.engine import Engine
from ringfence.core.engine.rules import RuleRef
from ringfence.core.errors import Finding, Severity
from ringfence.core.identity.workload import Workload
from ringfence.core.intent.isolate import live_quarantines


def refusals_of(engine: Engine, workload: Workload) -> tuple[Finding, ...]:
    """The refusals of one host, at the addresses it is known to have."""
    return (*_conditions(engine, workload), *_processes(engine, workload))


def _conditions(engine: Engine, workload: Workload) -> Iterator[Finding]:
    """Allows about this host whose conditions cannot be checked; they stay closed."""
    relation, peers, inventory = engine.relation, engine.peers, engine.world.inventory
    if not relation.conditional:
        return
    named = 0
    for judged in (workload, *inventory.processes_of(workload.name)):
        named |= peers.of_labels(inventory.labels_of(judged))
    for address in engine.addresses_of(workload, engine.world.at):
        named |= peers.of_address(address, is_held=True)
    source, destination, _ = relation.row_of(named)
    for number in members((source | destination) & relation.conditional):
        rule = engine.rules[number]
        if rule.rule.conditions.mutual_tls:
            message = "`require: mutual-tls` needs an identity handshake, which this target does not have"
            help_ = "the allow stays closed; remove the condition or accept the refusal"
            yield _refused("mutual-tls-unsupported", message, rule, help_)


def _processes(engine: Engine, workload: Workload) -> Iterator[Finding]:
    """What a host cannot do about the processes on it."""
    world = engine.world
    processes = world.inventory.processes_of(workload.name)
    if not processes:
        return
    isolated = {q.workload for q in live_quarantines(world.quarantines, world.at)}
    for process in processes:
        if process.uuid in isolated:
            message = f"process `{process.name}` is quarantined; a host isolates as a whole"
            yield Finding("process-quarantine-unsupported", message, help="quarantine its host", subject=process.name)
        if process.mode != workload.mode:
            message = f"process `{process.name}` has another mode than its host `{workload.name}`"
            yield Finding("process-mode-unsupported", message, help="give both the same mode", subject=process.name)
    yield from _between(engine, workload, processes)


def _between(engine: Engine, workload: Workload, processes: tuple[Workload, ...]) -> Iterator[Finding]:
    """Rules that ask for control between processes of one host."""
    classes = [engine.class_of(process, None) for process in processes]
    own = engine.class_of(workload, None)
    between = 0
    for source in classes:
        for destination in classes:
            if source != destination:
                between |= _naming(engine, source, destination) & ~_naming(engine, own, own)
    for number in members(between):
        rule = engine.rules[number]
        message = f"names processes on one host, `{workload.name}`; traffic between them is loopback and not controlled"
        help_ = "move one of them to another host, or drop the rule"
        yield _refused("process-to-process-unsupported", message, rule, help_)


def _naming(engine: Engine, source: int, destination: int) -> int:
    """The rules that name one class as source and another as destination."""
    return engine.relation.rows(source)[0] & engine.relation.rows(destination)[1]


def _refused(code: str, message: str, rule: RuleRef, help_: str) -> Finding:
    severity: Severity = "warning" if rule.rule.action == "allow" else "error"
    return Finding(code, message, severity, rule.rule.where, help=help_, subject=rule.ref)
