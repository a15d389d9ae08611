"""Atoms: every point in exactly one, every set a union of them, no two alike."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ringfence.core.engine.partition import Partition
from ringfence.core.net.address import LAST as LAST_ADDRESS
from ringfence.core.net.intervals import IntervalSet

LAST = 60
points = st.integers(0, LAST)
ranges = st.tuples(points, points).map(lambda pair: (min(pair), max(pair)))
sets = st.lists(ranges, max_size=4).map(IntervalSet.of)
families = st.lists(sets, max_size=6)


@given(families)
def test_segments_tile_the_line(family: list[IntervalSet]) -> None:
    """The segments are 0..last without gap or overlap, and neighbours differ in atom or are one atom's joined parts."""
    partition = Partition(family, LAST)
    starts = [start for start, _, _ in partition.segments]
    ends = [end for _, end, _ in partition.segments]
    assert starts == [0, *(end + 1 for end in ends[:-1])]
    assert ends[-1] == LAST


@given(families)
def test_a_point_is_in_the_atom_of_the_sets_that_hold_it(family: list[IntervalSet]) -> None:
    """Two points share an atom exactly when the same sets contain them."""
    partition = Partition(family, LAST)
    holding = [tuple(point in one for one in family) for point in range(LAST + 1)]
    atoms = [partition.atom(point) for point in range(LAST + 1)]
    assert len(set(zip(atoms, holding, strict=True))) == len(set(atoms)) == len(set(holding)) == len(partition)


@given(families)
def test_masks_give_the_sets_back(family: list[IntervalSet]) -> None:
    """Each set is the points of its mask, and the mask of its points."""
    partition = Partition(family, LAST)
    for one, mask in zip(family, partition.masks(len(family)), strict=True):
        assert partition.points(mask) == one
        assert partition.mask(one) == mask


@given(families, sets)
def test_only_a_union_of_atoms_has_a_mask(family: list[IntervalSet], wanted: IntervalSet) -> None:
    """A set that holds a part of an atom has no mask; any other has the atoms of its points."""
    partition = Partition(family, LAST)
    inside = {partition.atom(point) for point in range(LAST + 1) if point in wanted}
    outside = {partition.atom(point) for point in range(LAST + 1) if point not in wanted}
    expected = None if inside & outside else sum(1 << atom for atom in inside)
    assert partition.mask(wanted) == expected


@given(families)
def test_many_points_are_placed_like_one(family: list[IntervalSet]) -> None:
    """The array path finds the atoms that the scalar path finds."""
    partition = Partition(family, LAST)
    line = np.arange(LAST + 1)
    assert partition.atoms(line).tolist() == [partition.atom(point) for point in range(LAST + 1)]


@given(families)
def test_addresses_of_128_bits_are_cut_alike(family: list[IntervalSet]) -> None:
    """The same laws at the far end of the address line."""
    shift = LAST_ADDRESS - LAST
    far = [IntervalSet.of((lo + shift, hi + shift) for lo, hi in one) for one in family]
    partition = Partition(far, LAST_ADDRESS)
    for one, mask in zip(far, partition.masks(len(far)), strict=True):
        assert partition.points(mask) == one
        assert partition.mask(one) == mask
