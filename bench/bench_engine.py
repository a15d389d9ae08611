"""How fast the engine is on the standard estate, each figure beside its target (and two peers beside its decisions).

.venv/bin/python -m bench.bench_engine [--json] [--only build,edit,...] [--no-peers]
"""

from __future__ import annotations

import argparse
import random
import statistics
from collections.abc import Callable, Iterator
from functools import partial

import msgspec
import numpy as np
from numpy.typing import NDArray

from bench import estate, measure
from bench.engine_peers import peer_figures
from bench.intent_figures import pieces
from bench.measure import Figure, cpu_s, each_cpu_s
from ringfence.core.engine import Engine, judgement, kernel, matrix
from ringfence.core.engine.diff import compare as compare_engines
from ringfence.core.engine.lint import lint
from ringfence.core.engine.live import LiveEngine
from ringfence.core.engine.prove import canvas_of, prove
from ringfence.core.engine.reach import Reachability
from ringfence.core.engine.rules import Facts
from ringfence.core.flow.conversations import Conversations
from ringfence.core.identity.inventory import Inventory
from ringfence.core.intent.compile import IntentCompiler
from ringfence.core.labels.selector import selector_of
from ringfence.core.net.intervals import union
from ringfence.core.net.service import ANY, parse_service
from ringfence.core.policy.model import Everywhere, Expectation, Policy, Rule, Workloads
from ringfence.core.world import Endpoint, Flow, World

DECISIONS = 1_000_000
PURE_DECISIONS = 100_000
JEWELS = 50
LATERAL = union(parse_service(s) for s in ("tcp/22", "tcp/3389", "tcp/9100"))


def build(world: World) -> Iterator[Figure]:
    """Compile, bitmaps and connection sets, from an inventory that has never been asked anything."""

    def compiled() -> Engine:
        return Engine.compile(msgspec.structs.replace(world, inventory=Inventory(world.inventory.workloads)))

    def painted() -> matrix.Numbers:
        ids = np.arange(len(engine.classes))
        return matrix.passed(canvas_of(engine, ids, ids, Facts(world.at)))

    compile_s, engine = cpu_s(compiled)
    bitmaps_s, _ = cpu_s(lambda: kernel.bitmaps_of(engine.relation), runs=1)
    matrix_s, numbers = cpu_s(painted)
    total = compile_s + bitmaps_s + matrix_s
    size = f"{len(engine.classes)} classes, {len(engine.atoms)} atoms, {np.mean(numbers > 0):.1%} of pairs connected"
    yield Figure("full build", total, target=1.0, note=size)
    yield Figure("  compile", compile_s)
    yield Figure("  bitmaps", bitmaps_s)
    yield Figure("  connection sets", matrix_s)


def edit(world: World) -> Iterator[Figure]:
    """Rules and workloads that come and go under a resident matrix."""
    live = LiveEngine(world)
    _ = live.numbers
    owner, rng = world.policies[0], random.Random(3)
    chosen = rng.sample(owner.rules, 300)
    removals = each_cpu_s([partial(live.remove_rule, owner.ref(rule)) for rule in chosen])
    additions = each_cpu_s([partial(live.add_rule, owner.name, rule) for rule in chosen])
    times = removals + additions
    yield Figure("rule edit, median of 600", statistics.median(times), target=1e-3)
    yield Figure("  mean", statistics.mean(times))
    yield Figure("  max", max(times))
    broad = Rule(
        "broad", "allow", (Everywhere("anyone"),), (_picking(role="lb"),), parse_service("tcp/443"), ("tcp/443",)
    )
    yield Figure("  add anyone -> role=lb tcp/443", each_cpu_s([partial(live.add_rule, owner.name, broad)])[0])
    yield Figure("  remove it", each_cpu_s([partial(live.remove_rule, f"{owner.name}/broad")])[0])
    yield from _relabel(live, rng)


def _relabel(live: LiveEngine, rng: random.Random) -> Iterator[Figure]:
    workloads = live.engine.world.inventory.workloads
    known = [
        msgspec.structs.replace(rng.choice(workloads), labels=dict(rng.choice(workloads).labels)) for _ in range(50)
    ]
    fresh = [
        msgspec.structs.replace(w, labels=w.labels | {"loc": f"new{i}"}) for i, w in enumerate(workloads[1000:1030])
    ]

    def put(workload: object) -> None:
        live.put_workload(workload)  # type: ignore[arg-type]
        _ = live.numbers

    yield Figure("relabel to a known identity, median", statistics.median(each_cpu_s([partial(put, w) for w in known])))
    to_new = each_cpu_s([partial(put, w) for w in fresh])
    yield Figure("relabel to a new identity, median", statistics.median(to_new), target=3e-3)
    yield Figure("  max", max(to_new))


def decide(world: World) -> Iterator[Figure]:
    """A million decisions in bulk, with the rule and without, and one by one."""
    engine = Engine.compile(world)
    relation = engine.relation
    maps = kernel.bitmaps_of(relation)
    ids = np.arange(len(engine.classes))
    canvas = canvas_of(engine, ids, ids, Facts(world.at))
    numbers = matrix.passed(canvas)
    columns = _mixed(engine, numbers, canvas.interner)
    believes = np.ones(DECISIONS, np.uint8)
    held = kernel.Held(relation.allow, 0)

    def with_rule(rows: int, *, pure: bool) -> list[NDArray[np.int32]]:
        ends = tuple(column[:rows] for column in columns)
        return [
            kernel.decide(relation, maps, held, ends, believes[:rows], end, pure=pure)
            for end in ("source", "destination")
        ]

    compiled_s, found = cpu_s(lambda: with_rule(DECISIONS, pure=False))
    allowed = np.all([(f[:, 0] < 0) & (f[:, 1] >= 0) for f in found], axis=0)
    yield Figure("1e6 decisions with rule, both ends", compiled_s, target=0.4, note=f"{allowed.mean():.0%} allowed")
    pure_s, _ = cpu_s(lambda: with_rule(PURE_DECISIONS, pure=True), runs=1)
    note = f"measured on {PURE_DECISIONS:,}"
    yield Figure("  the same without the C kernel", pure_s * DECISIONS / PURE_DECISIONS, note=note)
    gather_s, gathered = cpu_s(lambda: _passes(numbers, canvas.interner, len(engine.atoms), columns))
    essential = np.array([bool(engine.essential >> a & 1) for a in range(len(engine.atoms))])[columns[2]]
    assert np.array_equal(gathered[~essential], allowed[~essential]), "the two indexes disagree"
    yield Figure("1e6 decisions only, connection sets", gather_s, target=0.2)
    yield from _judged(engine, world)
    yield from _one_by_one(engine, world)


def _mixed(engine: Engine, numbers: matrix.Numbers, interner: matrix.Interner) -> tuple[NDArray[np.int32], ...]:
    """Half the rows on connected pairs and one of the services connected there, half anywhere."""
    rng = np.random.default_rng(5)
    half = DECISIONS // 2
    source, destination = np.nonzero(numbers)
    chosen = rng.integers(len(source), size=half)
    first = np.array([(atoms & -atoms).bit_length() - 1 for atoms in interner.sets])
    s = np.r_[source[chosen], rng.integers(len(numbers), size=half)].astype(np.int32)
    d = np.r_[destination[chosen], rng.integers(len(numbers), size=half)].astype(np.int32)
    a = np.r_[first[numbers[s[:half], d[:half]]], rng.integers(len(engine.atoms), size=half)].astype(np.int32)
    order = rng.permutation(DECISIONS)
    return s[order], d[order], a[order]


def _passes(
    numbers: matrix.Numbers, interner: matrix.Interner, atoms: int, columns: tuple[NDArray[np.int32], ...]
) -> NDArray[np.bool_]:
    s, d, a = columns
    width = (atoms + 7) >> 3
    table = np.frombuffer(b"".join(x.to_bytes(width, "little") for x in interner.sets), np.uint8).reshape(-1, width)
    passing: NDArray[np.bool_] = (table[numbers[s, d], a >> 3] >> (a & 7).astype(np.uint8) & 1).astype(bool)
    return passing


def _judged(engine: Engine, world: World) -> Iterator[Figure]:
    """The whole of `Engine.judge` on a million conversations between all workloads."""
    rng = np.random.default_rng(6)
    workloads = world.inventory.workloads
    endpoints = tuple(Endpoint(w, w.addresses[0].address) for w in workloads)
    s, d = (rng.integers(len(workloads), size=DECISIONS).astype(np.int32) for _ in range(2))
    starts = np.array(engine.atoms.starts, np.int32)
    point = starts[rng.integers(len(starts), size=DECISIONS)]
    zero = np.zeros(DECISIONS, np.int64)
    small = zero.astype(np.uint8)
    flows = Conversations(endpoints, s, d, point, small, zero, zero, zero, zero, zero, zero, small)
    judged_s, _ = cpu_s(lambda: judgement.judge(engine, flows), runs=2)
    yield Figure("judge 1e6 conversations of 1e5 workloads", judged_s)


def _one_by_one(engine: Engine, world: World) -> Iterator[Figure]:
    rng = random.Random(8)
    workloads, starts = world.inventory.workloads, engine.atoms.starts
    ends = [Endpoint(w, w.addresses[0].address) for w in rng.choices(workloads, k=4_000)]
    flows = [Flow(s, d, rng.choice(starts)) for s, d in zip(ends[::2], ends[1::2], strict=True)]
    total, _ = cpu_s(lambda: [engine.decide(flow) for flow in flows])
    yield Figure("decide one connection with reasons", total / len(flows), target=10e-6)


def compare(world: World) -> Iterator[Figure]:
    """Semantic diff of two versions, proofs, lint."""
    new = (_edited(world.policies[0]),)

    def built() -> tuple[Engine, Engine]:
        after = Engine(msgspec.structs.replace(world, policies=new), refine_by=world.policies)
        before = after.with_policies(world.policies)
        _ = before.relation.words(), after.relation.words()
        return before, after

    build_s, (before, after) = cpu_s(built, runs=2)
    diff_s, found = cpu_s(lambda: compare_engines(before, after), runs=2)
    yield Figure("diff of two versions, 75 edits, after build", diff_s, target=0.3, note=f"{len(found.boxes)} boxes")
    yield Figure("  the build of both", build_s)
    tested = msgspec.structs.replace(world, policies=(_with_tests(world, 100),))
    engine = Engine.compile(tested)
    prove_s, proofs = cpu_s(lambda: prove(engine), runs=2)
    failed = sum(p.outcome == "failed" for p in proofs)
    yield Figure("prove 100 tests", prove_s, note=f"{failed} with a counterexample")
    lint_s, findings = cpu_s(lambda: lint(Engine.compile(world)), runs=1)
    yield Figure("lint 10,000 rules, with a build", lint_s, note=f"{len(findings)} findings")


def _edited(policy: Policy) -> Policy:
    """25 rules gone, 25 on other services, 25 between other ends."""
    rng = random.Random(5)
    rules = list(policy.rules)
    for index in rng.sample(range(len(rules)), 25):
        rules[index] = msgspec.structs.replace(rules[index], services=rng.choice(policy.rules).services)
    for index in sorted(rng.sample(range(len(rules)), 25), reverse=True):
        del rules[index]
    for number in range(25):
        one, other = rng.choice(policy.rules), rng.choice(policy.rules)
        rules.append(msgspec.structs.replace(one, name=f"new{number}", destinations=other.destinations))
    return msgspec.structs.replace(policy, rules=tuple(rules))


def _with_tests(world: World, count: int) -> Policy:
    """Half about one rule's ends, half about whole environments."""
    policy, rng = world.policies[0], random.Random(11)
    tests = []
    for number in range(count):
        rule = rng.choice([r for r in policy.rules if r.action == "allow"])
        sides = (rule.sources, rule.destinations)
        if number % 2:
            envs = rng.sample(estate.ENVIRONMENTS, 2)
            sides = ((_picking(env=envs[0]),), (_picking(env=envs[1], compliance=rng.choice(estate.COMPLIANCE)),))
        services, words = (ANY, ("any",)) if number % 4 == 1 else (rule.services, rule.service_words)
        expect = "blocked" if number % 2 else "allowed"
        tests.append(Expectation(*sides, services, words, expect, name=f"t{number}"))
    return msgspec.structs.replace(policy, tests=tuple(tests))


def reach(world: World) -> Iterator[Figure]:
    """Who can reach fifty crown jewels, and what they can reach, in any number of hops."""
    engine = Engine(world, services=(LATERAL,))
    ready_s, graph = cpu_s(lambda: Reachability(engine, LATERAL), runs=2)
    rng = np.random.default_rng(9)
    jewels = rng.choice(len(engine.classes) - 1, JEWELS, replace=False)
    yield Figure("class graph of the lateral services", ready_s, note="connection sets included")
    to_s, to = cpu_s(lambda: graph.of(jewels, "to", hops=16))
    yield Figure("who reaches 50 crown jewels, all hops", to_s, target=0.1, note=f"{len(to.reached)} classes reached")
    from_s, onward = cpu_s(lambda: graph.of(jewels, "from", hops=16))
    yield Figure("what they reach, all hops", from_s, target=0.1, note=f"{len(onward.reached)} classes reached")


def intents(world: World) -> Iterator[Figure]:
    """What one host, and a thousand, must enforce."""
    engine = Engine.compile(world)
    hosts = random.Random(13).sample(world.inventory.workloads, 1_000)
    first_s, _ = cpu_s(lambda: IntentCompiler(engine).compile(hosts[0]), runs=2)
    yield Figure("intent of one host, from nothing", first_s)
    compiler = IntentCompiler(engine)
    compiler.compile(hosts[0])
    all_s, compiled = cpu_s(lambda: [compiler.compile(host) for host in hosts], runs=1)
    peers = statistics.mean(len(i.peers) for i in compiled)
    cells = statistics.mean(sum(len(p.cells) for p in i.parts) for i in compiled)
    yield Figure("intents of 1,000 hosts", all_s, note=f"mean {peers:.0f} classes and {cells:.0f} cells a host")


def _picking(**labels: str) -> Workloads:
    selector = selector_of(**labels)
    return Workloads((selector,), str(selector))


PARTS: dict[str, Callable[[World], Iterator[Figure]]] = {
    "build": build,
    "edit": edit,
    "decide": decide,
    "compare": compare,
    "reach": reach,
    "intents": intents,
    "pieces": lambda _: pieces(),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one document on stdout")
    parser.add_argument("--only", default=",".join([*PARTS, "peers"]), help="parts, comma separated")
    wanted = parser.parse_args()
    world = estate.generate()
    parts = wanted.only.split(",")
    figures = [figure for name, part in PARTS.items() if name in parts for figure in part(world)]
    figures.append(Figure("peak memory", measure.peak_rss_mb(), "MB", note="this process, all of the above"))
    if "peers" in parts:
        figures += peer_figures(world)
    measure.show("engine", figures, as_json=wanted.json)


if __name__ == "__main__":
    main()
