"""Did you mean: distances and near misses are exact."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringfence.core.policy.suggest import MAX_EDITS, NearMisses, did_you_mean, distance, nearest

WORDS = st.text("abc.", max_size=8)


@cache
def plain_distance(one: str, other: str) -> int:
    """Levenshtein's recursion, by definition."""
    if not one or not other:
        return len(one) + len(other)
    replaced = plain_distance(one[1:], other[1:]) + (one[0] != other[0])
    return min(replaced, plain_distance(one[1:], other) + 1, plain_distance(one, other[1:]) + 1)


@given(st.text("abc", max_size=5), st.text("abc", max_size=5))
def test_distance_is_at_most_levenshteins(one: str, other: str) -> None:
    """The distance is Levenshtein's, or less where neighbours are swapped, and symmetric."""
    limit = 10
    assert distance(one, other, limit) == distance(other, one, limit) <= plain_distance(one, other)
    assert (distance(one, other, limit) == 0) == (one == other)


def test_a_swap_is_one_edit() -> None:
    """The commonest typing error costs one."""
    assert distance("shpo.db", "shop.db") == 1


@given(st.lists(WORDS, max_size=20), WORDS)
def test_near_misses_are_all_found(words: list[str], text: str) -> None:
    """Every word within two plain edits is found, and nothing farther than two edits."""
    found = set(NearMisses(words).of(text))
    assert {w for w in words if plain_distance(w, text) <= MAX_EDITS} <= found
    assert all(distance(w, text) <= MAX_EDITS for w in found)


@pytest.mark.parametrize(
    ("text", "meant"),
    [("alow", "allow"), ("Allow", "allow"), ("forbidd", "forbid"), ("xyz", None), ("deyn", "deny")],
)
def test_nearest(text: str, meant: str | None) -> None:
    """The nearest word within a third of the length, without regard to case."""
    assert nearest(text, ["allow", "deny", "forbid"]) == meant


def test_nothing_is_suggested_for_itself() -> None:
    """A word is no correction of itself."""
    assert did_you_mean("allow", ["allow"]) == ""
