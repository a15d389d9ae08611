"""Above the resident matrix: proofs, diff and lint hold a strip of bounded size, and a live engine refuses by name."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from collections.abc import Callable

import pytest
from worlds import ENFORCE, peer, replace, rule

from ringfence.core.engine import matrix
from ringfence.core.engine.diff import compare
from ringfence.core.engine.engine import Engine
from ringfence.core.engine.lint import lint
from ringfence.core.engine.live import MAX_RESIDENT, LiveEngine
from ringfence.core.engine.prove import prove
from ringfence.core.errors import InputError
from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import Lease, Workload
from ringfence.core.net.address import V4_BASE
from ringfence.core.net.service import ANY
from ringfence.core.policy.model import Expectation, Policy
from ringfence.core.world import World

IDENTITIES = 12_000
WHOLE_BYTES = IDENTITIES * IDENTITIES * 4
"""What the connection sets of all pairs would take; never to be held."""
BOUND_BYTES = WHOLE_BYTES // 3
ROLES = ("web", "api", "db", "cache")
RULES = (
    rule("r0", "allow", "role=web", "role=api", "tcp/8080"),
    rule("r1", "allow", "role=api", "role=db", "tcp/5432"),
    rule("r2", "forbid", "tier=t1", "tier=t2"),
    rule("r3", "allow", "tier in (t3,t4)", "role=cache", "tcp/6379"),
    rule("r4", "allow", "role=api", "role=db", "tcp/5432-5433"),
)
TESTS = (
    Expectation((peer("role=web"),), (peer("role=db"),), ANY, ("any",), "blocked", name="apart"),
    Expectation((peer("anyone"),), (peer("anyone"),), ANY, ("any",), "blocked", name="all apart"),
)


@pytest.fixture(scope="module")
def big_world() -> World:
    """12,000 workloads with as many identities: the last label is one each."""
    workloads = [
        Workload(
            f"w{n}",
            f"u{n}",
            {"role": ROLES[n % 4], "tier": f"t{n % 7}", "pod": f"p{n}"},
            (Lease(V4_BASE | 10 << 24 | n),),
            mode=ENFORCE,
        )
        for n in range(IDENTITIES)
    ]
    return World(Inventory(workloads), (Policy("p", rules=RULES, tests=TESTS),))


NEW = rule("new", "allow", "role=cache", "role=web", "tcp/1")


@pytest.fixture(scope="module")
def big_engine(big_world: World) -> Engine:
    engine = Engine(big_world, refine_by=(Policy("q", rules=(NEW,)),))
    engine.relation.words()
    return engine


def peak_of(work: Callable[[], object]) -> int:
    """The most memory allocated at once while the work is done."""
    tracemalloc.start()
    work()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def test_a_live_engine_refuses_more_than_stays_in_memory(big_world: World) -> None:
    """Above the cap the resident matrix is refused with a code and a way out; decisions are still given."""
    live = LiveEngine(big_world)
    assert len(live.engine.classes) > MAX_RESIDENT
    with pytest.raises(InputError) as refused:
        _ = live.numbers
    assert refused.value.code == "too-many-identities"
    assert "identity.ignore" in refused.value.help
    live.add_rule("p", rule("late", "allow", "role=db", "role=db", "tcp/5432"))
    assert live.engine.find_rule("p/late") is not None


def test_proofs_hold_a_strip(big_engine: Engine) -> None:
    """A test over all pairs, 144 million, is proven or failed without the whole in memory."""
    proofs = []
    assert peak_of(lambda: proofs.extend(prove(big_engine))) < BOUND_BYTES
    apart, all_apart = proofs
    assert (apart.outcome, apart.pairs) == ("proven", 3_000 * 3_000)
    assert all_apart.outcome == "failed"
    assert all_apart.pairs == (IDENTITIES + 1) ** 2
    assert all_apart.violations > 3_000 * 2_900


def test_a_diff_holds_a_strip(big_engine: Engine) -> None:
    """One rule more opens its pairs, less those a forbid bars, in two boxes found strip by strip."""
    more = replace(big_engine.world.policies[0], rules=(*RULES, NEW))
    after = big_engine.with_policies((more,))
    found = []
    assert peak_of(lambda: found.append(compare(big_engine, after))) < BOUND_BYTES
    (diff,) = found
    tiers = [Counter(n % 7 for n in range(role, IDENTITIES, 4)) for role in (3, 0)]
    assert (diff.opened, diff.closed) == (3_000 * 3_000 - tiers[0][1] * tiers[1][2], 0)
    assert len(diff.boxes) == 2


def test_lint_holds_a_strip(big_engine: Engine) -> None:
    """A shadowed rule is found among twelve thousand identities."""
    found = []
    assert peak_of(lambda: found.extend(lint(big_engine))) < BOUND_BYTES
    assert ("shadowed", "p/r1") in [(f.code, f.subject) for f in found]


def test_strips_cover_every_row_once() -> None:
    """Whatever the width, the strips are the rows in order, none empty, none above the bound but a single row."""
    engine = Engine.compile(World(Inventory(())))
    rows = engine.classes.of_peer(0)
    for width in (0, 1, matrix.STRIP_CELLS, matrix.STRIP_CELLS * 3):
        strips = list(matrix.strips(rows, _many(width)))
        assert [row for strip in strips for row in strip.tolist()] == rows.tolist()
        assert all(len(strip) for strip in strips)


def _many(count: int) -> object:
    return range(count)
