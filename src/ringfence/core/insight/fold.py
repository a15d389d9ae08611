"""Grouped sums over numpy columns: one sort, then `reduceat`, exact in int64 (no float weights).

INVARIANT: folds are numbered by ascending key, 0..len-1, whatever the order of the rows.
"""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

Int64s = NDArray[np.int64]


class Fold:
    """The rows of equal key, as groups to sum over."""

    def __init__(self, key: NDArray[Any]) -> None:
        self._order = np.argsort(key, kind="stable")
        ranked = key[self._order]
        is_start = np.ones(len(key), np.bool_)
        np.not_equal(ranked[1:], ranked[:-1], out=is_start[1:])
        self._starts = np.flatnonzero(is_start)
        self.number: Int64s = np.empty(len(key), np.int64)
        """Each row's fold."""
        self.number[self._order] = np.cumsum(is_start) - 1

    def __len__(self) -> int:
        return len(self._starts)

    def sum(self, column: NDArray[Any]) -> Int64s:
        return self._reduce(np.add, column)

    def min(self, column: NDArray[Any]) -> Int64s:
        return self._reduce(np.minimum, column)

    def max(self, column: NDArray[Any]) -> Int64s:
        return self._reduce(np.maximum, column)

    def first_row(self, column: NDArray[Any]) -> Int64s:
        """The column's value in each fold, where all its rows share one."""
        return column[self._order[self._starts]].astype(np.int64)

    def _reduce(self, operation: np.ufunc, column: NDArray[Any]) -> Int64s:
        ranked = column[self._order].astype(np.int64)
        # reduceat of no rows is an error, and no rows fold to nothing.
        return np.asarray(operation.reduceat(ranked, self._starts), np.int64) if len(ranked) else ranked


def dense(*columns: NDArray[Any]) -> Int64s:
    """One key for the tuple of these non-negative columns, in their lexicographic order; never overflows."""
    return reduce(_join, (np.asarray(column, np.int64) for column in columns))


def _join(left: Int64s, right: Int64s) -> Int64s:
    span = int(right.max(initial=0)) + 1
    if (int(left.max(initial=0)) + 1) * span >= 1 << 62:
        left = np.unique(left, return_inverse=True)[1].astype(np.int64)
    return left * span + right
