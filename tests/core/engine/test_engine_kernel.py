"""The batch kernel: compiled path, numpy path and a bit-by-bit reading are one function; bad shapes are refused."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from ringfence.core.engine import kernel
from ringfence.core.engine.bits import of_words, to_words
from ringfence.core.engine.relation import Relation

COMPILED = pytest.importorskip("ringfence.core.engine._kernel", reason="built without a compiler: numpy serves")
CLASSES, ATOMS, ROWS = 17, 9, 400
Case = tuple[Relation, kernel.Bitmaps, kernel.Held, tuple[NDArray[np.int32], ...], NDArray[np.uint8]]


def random_case(seed: int, width: int, density: float) -> Case:
    """Bitmaps of any density over `width` words, with actions that are disjoint sets of rules."""
    rng = np.random.default_rng(seed)
    rules = width * 64

    def words(rows: int, share: float) -> NDArray[np.uint64]:
        return np.packbits(rng.random((rows, rules)) < share, axis=1, bitorder="little").view(np.uint64)

    action = rng.choice(4, size=rules, p=[0.6, 0.1, 0.2, 0.1])
    allow, allow_if, deny, forbid = (
        of_words(np.packbits(action == kind, bitorder="little").view(np.uint64)) for kind in range(4)
    )
    columns = tuple(rng.integers(limit, size=ROWS).astype(np.int32) for limit in (CLASSES, CLASSES, ATOMS))
    source, destination = words(CLASSES, density), words(CLASSES, density)
    scope, service = words(CLASSES, 0.5), words(ATOMS, density)
    summaries = tuple(kernel._summary(matrix) for matrix in (source, destination, service))
    maps = kernel.Bitmaps(source, destination, scope, service, cast(Any, summaries))
    relation = cast(Relation, SimpleNamespace(width=width, forbid=forbid, deny=deny, allow=allow | allow_if))
    return relation, maps, kernel.Held(allow, allow_if), columns, rng.integers(2, size=ROWS).astype(np.uint8)


def bit_by_bit(case: Case, end: str) -> list[list[int]]:
    """The definition: rules in order, one at a time."""
    relation, maps, held, (s, d, a), believes = case
    out = []
    for row in range(ROWS):
        matrices = ((maps.source, s), (maps.destination, d), (maps.service, a))
        matching = -1
        for matrix, column in matrices:
            matching &= of_words(matrix[column[row]])
        s_scope, d_scope = of_words(maps.scope[s[row]]), of_words(maps.scope[d[row]])
        allows = held.always | (held.if_believed if believes[row] else 0)
        speaking = d_scope if end == "destination" else s_scope | d_scope
        found = (
            matching & (s_scope | d_scope) & relation.forbid,
            matching & speaking & allows,
            matching & (s_scope | d_scope) & relation.deny,
        )
        out.append([(bits & -bits).bit_length() - 1 for bits in found])
    return out


@pytest.mark.parametrize("end", ["source", "destination"])
@pytest.mark.parametrize("density", [0.02, 0.4, 0.9])
@pytest.mark.parametrize("width", [1, 3, 64, 65, 130])
def test_both_paths_find_the_least_rules(width: int, density: float, end: str) -> None:
    """Whatever the density and however many summary words, each path names the least forbid, else allow and deny."""
    case = random_case(width, width, density)
    expected = bit_by_bit(case, end)
    for pure in (True, False):
        found = kernel.decide(*case, end, pure=pure).tolist()
        for got, wanted in zip(found, expected, strict=True):
            assert got[0] == wanted[0]
            assert wanted[0] >= 0 or got == wanted


def test_a_batch_longer_than_a_chunk_is_decided_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """The numpy path gives the same rows whatever the size of its chunks."""
    case = random_case(1, 3, 0.4)
    whole = kernel.decide(*case, "source", pure=True)
    monkeypatch.setattr(kernel, "_CHUNK", 7)
    assert np.array_equal(kernel.decide(*case, "source", pure=True), whole)


@pytest.mark.parametrize("pure", [True, False])
@pytest.mark.parametrize("column", range(3))
@pytest.mark.parametrize("value", [-1, 10_000])
def test_a_class_or_atom_that_does_not_exist_is_refused(column: int, value: int, *, pure: bool) -> None:
    """No path reads outside the bitmaps."""
    relation, maps, held, columns, believes = random_case(1, 2, 0.4)
    columns[column][5] = value
    with pytest.raises(IndexError, match="does not exist"):
        kernel.decide(relation, maps, held, columns, believes, "source", pure=pure)


@pytest.mark.parametrize("pure", [True, False])
def test_columns_of_unequal_length_are_refused(*, pure: bool) -> None:
    """A short column is an error, never read past its end."""
    relation, maps, held, (s, d, a), believes = random_case(1, 2, 0.4)
    with pytest.raises(ValueError, match="as long as"):
        kernel.decide(relation, maps, held, (s, d[:-1], a), believes, "source", pure=pure)
    with pytest.raises(ValueError, match="as long as"):
        kernel.decide(relation, maps, held, (s, d, a), believes[:-1], "source", pure=pure)


def test_no_rows_are_no_answers() -> None:
    """An empty batch is an empty answer on both paths."""
    relation, maps, held, columns, believes = random_case(1, 2, 0.4)
    none = tuple(column[:0] for column in columns)
    for pure in (True, False):
        assert kernel.decide(relation, maps, held, none, believes[:0], "source", pure=pure).shape == (0, 3)


def raw_arguments() -> list[object]:
    """What the compiled function takes, all shapes right."""
    relation, maps, held, columns, believes = random_case(1, 2, 0.4)
    actions = [to_words(bits, 2) for bits in (relation.forbid, held.always, held.if_believed, relation.deny)]
    out = np.full((ROWS, 3), -1, dtype=np.int32)
    bitmaps = (maps.source, maps.destination, maps.scope, maps.service)
    return [*bitmaps, *maps.summaries, *actions, *columns, believes, out, ROWS, CLASSES, ATOMS, 2, False]


def test_the_compiled_path_fills_its_buffer() -> None:
    """The arguments the refusals below spoil are good ones."""
    arguments = raw_arguments()
    COMPILED.decide(*arguments)
    assert (cast(NDArray[np.int32], arguments[15]) >= 0).any()


@pytest.mark.parametrize("position", range(16))
def test_the_compiled_path_refuses_a_short_buffer(position: int) -> None:
    """Every buffer is measured against the shape before a byte of it is read or written."""
    arguments = raw_arguments()
    whole = cast(NDArray[Any], arguments[position])
    arguments[position] = whole[:-1].copy()
    with pytest.raises(ValueError, match="shorter than its shape"):
        COMPILED.decide(*arguments)


@pytest.mark.parametrize("position", range(16))
def test_the_compiled_path_refuses_a_strided_buffer(position: int) -> None:
    """Only contiguous memory is read as rows of words."""
    arguments = raw_arguments()
    arguments[position] = np.repeat(cast(NDArray[Any], arguments[position]), 2, axis=0)[::2]
    with pytest.raises(ValueError, match="contiguous"):
        COMPILED.decide(*arguments)


@pytest.mark.parametrize("position", range(16, 20))
def test_the_compiled_path_refuses_a_negative_shape(position: int) -> None:
    """A shape below zero (width below one) is an error."""
    arguments = raw_arguments()
    arguments[position] = -1
    with pytest.raises(ValueError, match="negative shape"):
        COMPILED.decide(*arguments)


def test_the_compiled_path_refuses_a_frozen_output() -> None:
    """The answer is written only where writing is allowed."""
    arguments = raw_arguments()
    cast(NDArray[np.int32], arguments[15]).flags.writeable = False
    with pytest.raises((ValueError, BufferError)):
        COMPILED.decide(*arguments)
