"""The rectangle cover: complete, exact about what it permits, and no wider than its evidence."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ringfence.core.insight.cover import Block, LabelSpace, Pairs, cover, of_tightness, surprise_bits
from ringfence.core.insight.namings import extra_keys, scope_of, shapes
from ringfence.core.insight.parties import LabelKeys

KEYS = LabelKeys()


def space_of(labels: list[dict[str, str]]) -> LabelSpace:
    return LabelSpace(labels, np.ones(len(labels), dtype=bool))


def pairs_of(space: LabelSpace, triples: list[tuple[int, int, int]], required: list[bool] | None = None) -> Pairs:
    owners = {scope: i for i, scope in enumerate(dict.fromkeys(scope_of(x, KEYS) for x in space.labels))}
    columns = np.array(triples, np.int64).reshape(-1, 3)
    unit = np.array([owners[scope_of(space.labels[d], KEYS)] for d in columns[:, 1].tolist()], np.int64)
    is_required = np.array(required if required is not None else [True] * len(triples), dtype=bool)
    return Pairs(columns[:, 0], columns[:, 1], columns[:, 2], unit, is_required)


def covered(space: LabelSpace, pairs: Pairs, tight: int = 5) -> list[Block]:
    extras = extra_keys(space, KEYS)
    price = of_tightness(tight, role="role", scope=KEYS.scope)
    return cover(space, pairs, shapes(space, KEYS, extras), price, extra=frozenset(extras))


def estate(apps: int, roles: tuple[str, ...] = ("web", "api", "db")) -> list[dict[str, str]]:
    return [{"app": f"a{i}", "env": "prod", "role": role} for i in range(apps) for role in roles]


def said(block: Block) -> str:
    return " ".join(",".join(f"{k}={v}" for k, v in side) for side in (block.source, block.destination))


class TestAnyPairs:
    """Random labels and pairs."""

    labels = st.fixed_dictionaries(
        {"app": st.sampled_from("abc"), "env": st.sampled_from("pd"), "role": st.sampled_from("wxy")},
        optional={"loc": st.sampled_from("fg")},
    )

    @settings(max_examples=100, deadline=None)
    @given(st.lists(labels, min_size=1, max_size=12), st.data(), st.integers(0, 10))
    def test_complete_and_exact(self, labels: list[dict[str, str]], data: st.DataObject, tight: int) -> None:
        """Every required pair is covered; a block holds only pairs its selectors pick, and counts what it permits."""
        space = space_of(labels)
        party = st.integers(0, len(labels) - 1)
        triples = data.draw(st.lists(st.tuples(party, party, st.integers(0, 3)), max_size=30, unique=True))
        required = data.draw(st.lists(st.booleans(), min_size=len(triples), max_size=len(triples)))
        pairs = pairs_of(space, triples, required)
        blocks = covered(space, pairs, tight)
        inside = {int(p) for block in blocks for p in block.pairs}
        assert set(np.flatnonzero(pairs.is_required).tolist()) <= inside
        for block in blocks:
            s, d = space.picks(block.source), space.picks(block.destination)
            matching = [
                i
                for i, (a, b, v) in enumerate(triples)
                if s[a] and d[b] and v == block.service and int(pairs.unit[i]) == block.unit
            ]
            assert set(block.pairs.tolist()) <= set(matching)
            assert block.permitted == int(s.sum()) * int(d.sum())
            assert 0 < block.seen <= len(block.pairs)

    @settings(max_examples=50, deadline=None)
    @given(st.lists(labels, min_size=1, max_size=12), st.data())
    def test_environments_and_owners(self, labels: list[dict[str, str]], data: st.DataObject) -> None:
        """Both ends of every block name the environment, and the destination its application."""
        space = space_of(labels)
        party = st.integers(0, len(labels) - 1)
        pairs = pairs_of(space, data.draw(st.lists(st.tuples(party, party, st.just(0)), min_size=1, unique=True)))
        for block in covered(space, pairs, tight=0):
            assert "env" in dict(block.source)
            assert {"app", "env"} <= dict(block.destination).keys()


class TestGeneralising:
    """When a label is left out."""

    def test_one_application_is_no_evidence(self) -> None:
        """In an estate of one application nothing is said about every application."""
        space = space_of(estate(1))
        assert [said(b) for b in covered(space, pairs_of(space, [(0, 1, 0)]), tight=0)] == [
            "app=a0,env=prod,role=web app=a0,env=prod,role=api"
        ]

    def test_two_of_three_roles_are_listed(self) -> None:
        """Two roles of three that use a service are two sources, not the whole application."""
        space = space_of(estate(1))
        blocks = covered(space, pairs_of(space, [(0, 2, 0), (1, 2, 0)]))
        assert sorted(dict(b.source)["role"] for b in blocks) == ["api", "web"]

    def test_all_roles_are_the_application(self) -> None:
        """Where every role uses it, the rule is about the application."""
        space = space_of(estate(1, ("web", "api", "worker", "db")))
        [block] = covered(space, pairs_of(space, [(0, 3, 0), (1, 3, 0), (2, 3, 0), (3, 3, 0)]))
        assert said(block) == "app=a0,env=prod app=a0,env=prod,role=db"

    def test_many_applications_are_the_role(self) -> None:
        """Where the same role of most applications uses it, the rule is about the role."""
        space = space_of([*estate(10), {"app": "hub", "env": "prod", "role": "queue"}])
        [block] = covered(space, pairs_of(space, [(3 * i + 1, 30, 0) for i in range(9)]))
        assert said(block) == "env=prod,role=api app=hub,env=prod,role=queue"
        assert (block.permitted, block.seen) == (10, 9)

    @pytest.mark.parametrize(("tight", "blocks"), [(0, 1), (5, 1), (10, 9)])
    def test_the_knob(self, tight: int, blocks: int) -> None:
        """The same nine of ten applications are one general rule, or nine exact ones at the tightest setting."""
        space = space_of([*estate(10), {"app": "hub", "env": "prod", "role": "queue"}])
        assert len(covered(space, pairs_of(space, [(3 * i + 1, 30, 0) for i in range(9)]), tight)) == blocks

    def test_further_labels_narrow_where_it_pays(self) -> None:
        """A location separates what talks from what does not, when the role alone would permit much more."""
        labels = [{"app": f"a{i}", "env": "prod", "role": "web", "loc": "fg"[i % 2]} for i in range(40)]
        space = space_of([*labels, {"app": "hub", "env": "prod", "role": "queue", "loc": "f"}])
        [block] = covered(space, pairs_of(space, [(i, 40, 0) for i in range(0, 40, 2)]))
        assert ("loc", "f") in block.source
        assert (block.permitted, block.seen) == (20, 20)

    def test_weak_pairs_ride_along(self) -> None:
        """A weak pair makes no block of its own, and is inside one that stands for others."""
        space = space_of(estate(2))
        pairs = pairs_of(space, [(0, 1, 0), (0, 1, 1)], [True, False])
        [block] = covered(space, pairs)
        assert block.pairs.tolist() == [0]
        crowd = space_of(estate(1, ("a", "b", "c", "d", "e")))
        both = covered(crowd, pairs_of(crowd, [(i, 4, 0) for i in range(5)], [True] * 4 + [False]))
        assert [b.pairs.tolist() for b in both] == [[0, 1, 2, 3, 4]]


@given(st.integers(0, 300), st.integers(0, 300))
def test_surprise(permitted: int, seen: int) -> None:
    """The price of what nobody saw is log2 of the binomial coefficient, within a hundredth of a bit."""
    seen = min(seen, permitted)
    bits = float(surprise_bits(np.array([permitted]), np.array([seen]))[0])
    assert bits == pytest.approx(math.log2(math.comb(permitted, seen)), abs=0.01)


def test_large_units_and_chunks_change_nothing_required() -> None:
    """Covering in chunks of units, and very large units by service, still covers every required pair."""
    space = space_of(estate(200))
    rng = np.random.default_rng(3)
    triples = np.unique(
        np.stack([rng.integers(0, 600, 9000), rng.integers(0, 9, 9000), rng.integers(0, 3, 9000)], 1), axis=0
    )
    pairs = pairs_of(space, [tuple(t) for t in triples.tolist()])
    blocks = covered(space, pairs)
    assert len({int(p) for b in blocks for p in b.pairs}) == len(pairs)
    assert len(blocks) < len(pairs) / 20
