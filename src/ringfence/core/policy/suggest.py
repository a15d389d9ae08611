"""Did you mean: the nearest known word, by edit distance.

INVARIANT: `NearMisses` finds every word within two inserted, deleted or replaced characters, however many words
there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

MAX_EDITS = 2


def distance(one: str, other: str, limit: int = MAX_EDITS) -> int:
    """Edits (insert, delete, replace, swap neighbours) from one to the other; `limit + 1` for anything beyond it."""
    if abs(len(one) - len(other)) > limit:
        return limit + 1
    before: list[int] = []
    above = list(range(len(other) + 1))
    for i, char in enumerate(one, 1):
        row = [i] + [0] * len(other)
        for j, wanted in enumerate(other, 1):
            row[j] = min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (char != wanted))
            if i > 1 and j > 1 and char == other[j - 2] and one[i - 2] == wanted:
                row[j] = min(row[j], before[j - 2] + 1)
        if min(row) > limit and min(above) > limit:
            return limit + 1
        before, above = above, row
    return min(above[-1], limit + 1)


def nearest(text: str, known: Iterable[str]) -> str | None:
    """The known word a typing error may have turned into `text`: within a third of its length, nearest first.

    It compares every word: for a handful of them. Use `NearMisses` for names that an estate may have thousands of.
    """
    limit, lower = _tolerance(text), text.lower()
    ranked = sorted((distance(lower, word.lower(), limit), word) for word in known)
    return ranked[0][1] if ranked and ranked[0][0] <= limit else None


def _tolerance(text: str) -> int:
    """Edits after which a word is another word: a third of a short one."""
    return min(MAX_EDITS, max(1, len(text) // 3))


def did_you_mean(text: str, known: Iterable[str]) -> str:
    """`did you mean `x`?`, or nothing."""
    return question(text, nearest(text, known))


def question(text: str, word: str | None) -> str:
    """The question for a word found elsewhere."""
    return f"did you mean `{word}`?" if word is not None and word != text else ""


class NearMisses:
    """All words within two edits of a text, in time that hardly grows with their number.

    A word cut into three pieces keeps at least one of them whole, at most two places off, through any two edits
    (the pigeonhole of Pass-Join, Li et al., VLDB 2012); only words that share such a piece are compared.
    """

    def __init__(self, words: Iterable[str]) -> None:
        self._by_piece: dict[tuple[int, int, str], list[str]] = {}
        for word in words:
            for number, start, stop in _pieces(len(word)):
                self._by_piece.setdefault((len(word), number, word[start:stop]), []).append(word)

    def of(self, text: str) -> tuple[str, ...]:
        found = {word for word in self._candidates(text) if distance(text, word) <= MAX_EDITS}
        return tuple(sorted(found, key=lambda word: (distance(text, word), word)))

    def question(self, text: str) -> str:
        """`did you mean `x`?` for the nearest word within a third of the text's length, or nothing."""
        lower = text.lower()
        near = [word for word in self.of(lower) if distance(lower, word) <= _tolerance(text)]
        return question(text, near[0] if near else None)

    def _candidates(self, text: str) -> Iterator[str]:
        for length in range(max(0, len(text) - MAX_EDITS), len(text) + MAX_EDITS + 1):
            for number, start, stop in _pieces(length):
                for shift in range(-MAX_EDITS, MAX_EDITS + 1):
                    if start + shift >= 0 and stop + shift <= len(text):
                        piece = text[start + shift : stop + shift]
                        yield from self._by_piece.get((length, number, piece), ())


def _pieces(length: int) -> Iterator[tuple[int, int, int]]:
    """(number, start, stop) of MAX_EDITS + 1 nearly equal pieces."""
    count = MAX_EDITS + 1
    for number in range(count):
        yield number, number * length // count, (number + 1) * length // count
