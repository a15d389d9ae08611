"""Text lines to fields with numpy alone: what `_flowlines.c` does, where there is no compiler.

INVARIANT: for every input, the same rows, counts, reasons and stops as the C reader (a property test compares them).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ringfence.core.flow import tally
from ringfence.core.flow.record import HASH_FACTOR, HASHED_CHARS
from ringfence.core.net.address import parse_address
from ringfence.flows import plan as op
from ringfence.flows.plan import Plan
from ringfence.flows.settle import Bools, Field, Words64

Bytes = NDArray[np.uint8]
Positions = NDArray[np.int64]

MAX_LINE = 65536
_ADDRESS_CHARS = 45
"""The longest an address is written: INET6_ADDRSTRLEN less the NUL."""
_SAFE_DIGITS = 19
_LOW = (1 << 64) - 1


class Tokens:
    """One column of many lines: where each token starts and ends in the buffer."""

    def __init__(self, buffer: Bytes, start: Positions, end: Positions) -> None:
        self.buffer, self.start, self.end = buffer, start, end
        self.length = end - start

    def __len__(self) -> int:
        return len(self.start)

    def characters(self, width: int) -> Bytes:
        """The first `width` characters of each token, zero beyond its end."""
        at = self.start[:, None] + np.arange(width)
        inside = at < self.end[:, None]
        return np.where(inside, self.buffer[np.minimum(at, len(self.buffer) - 1)], 0).astype(np.uint8)

    def equal(self, word: bytes) -> Bools:
        same = self.length == len(word)
        if same.any() and word:
            same[same] = (self.part(same).characters(len(word)) == np.frombuffer(word, np.uint8)).all(axis=1)
        result: Bools = same
        return result

    def part(self, mask: Bools) -> Tokens:
        return Tokens(self.buffer, self.start[mask], self.end[mask])

    def text(self, index: int) -> bytes:
        return self.buffer[self.start[index] : self.end[index]].tobytes()

    def contains(self, character: bytes) -> Bools:
        result: Bools = self.find(character) < self.end
        return result

    def find(self, character: bytes) -> Positions:
        """Where each token first has the character; its end where it has none."""
        at = np.flatnonzero(self.buffer == character[0])
        first = np.r_[at, len(self.buffer)][np.searchsorted(at, self.start)]
        result: Positions = np.minimum(first, self.end)
        return result


class Reading:
    """The values of one column, and why a token has none."""

    def __init__(self, value: Words64, reason: NDArray[np.uint8], high: Words64 | None = None) -> None:
        self.value, self.reason, self.high = value, reason, high


def read(tokens: Tokens, meaning: int) -> Reading:
    """Every token of a column by its meaning; nulls are the caller's."""
    if meaning in op.ADDRESS_OPS:
        return _addresses(tokens)
    if meaning in op.LIMITS:
        return _numbers(tokens, op.LIMITS[meaning])
    if meaning in (op.TS, op.DURATION):
        return _seconds(tokens)
    if meaning in op.WORDS:
        return _words(tokens, op.WORDS[meaning])
    value = _states(tokens) if meaning == op.STATE else _flag(tokens) if meaning == op.HISTORY else _ids(tokens)
    return Reading(value, np.zeros(len(tokens), np.uint8))


def read_columns(lines: Tokens, plan: Plan) -> tuple[dict[int, Field], NDArray[np.uint8], NDArray[np.int64]]:
    """Lines with the right number of separators -> (fields, reason a line, column at fault, -1 for none)."""
    starts, ends = _split(lines, plan)
    reason, fault = np.zeros(len(lines), np.uint8), np.full(len(lines), -1, np.int64)
    fields: dict[int, Field] = {}
    for column, meaning in enumerate(plan.ops):
        if meaning == op.SKIP:
            continue
        tokens = Tokens(lines.buffer, starts[column], ends[column])
        has = ~tokens.equal(plan.null)
        reading = read(tokens, meaning)
        fields[meaning] = Field(reading.value, has, reading.high)
        fails = has & (reading.reason != 0) & (reason == 0)
        reason[fails], fault[fails] = reading.reason[fails], column
    return fields, reason, fault


def _split(lines: Tokens, plan: Plan) -> tuple[list[Positions], list[Positions]]:
    at = np.flatnonzero(lines.buffer == plan.separator)
    first = np.searchsorted(at, lines.start)
    cuts = [at[first + k] for k in range(len(plan.ops) - 1)] if len(lines) else [lines.start] * (len(plan.ops) - 1)
    return [lines.start, *(cut + 1 for cut in cuts)], [*cuts, lines.end]


def count_separators(lines: Tokens, separator: int) -> Positions:
    at = np.flatnonzero(lines.buffer == separator)
    return np.searchsorted(at, lines.end) - np.searchsorted(at, lines.start)


# ---- whole numbers and times --------------------------------------------------------------------------------


def _digits(tokens: Tokens) -> tuple[Words64, Bools, Bools]:
    """(value, is it all digits, is it beyond 63 bits)."""
    value = np.zeros(len(tokens), np.uint64)
    is_number = tokens.length > 0
    width = int(min(tokens.length.max(initial=0), _SAFE_DIGITS))
    characters = tokens.characters(width) if width else np.zeros((len(tokens), 0), np.uint8)
    for position in range(width):
        inside = tokens.length > position
        digit = characters[:, position] - np.uint8(48)
        is_number &= ~inside | (digit <= 9)
        value = np.where(inside, value * np.uint64(10) + digit, value)
    is_huge = value > op.LIMITS[op.BYTES]
    for index in np.flatnonzero(tokens.length > _SAFE_DIGITS).tolist():
        text = tokens.text(index)
        is_number[index] = text.isdigit()
        number = int(text.lstrip(b"0")[: _SAFE_DIGITS + 1] or b"0") if is_number[index] else 0
        is_huge[index], value[index] = number > op.LIMITS[op.BYTES], min(number, op.LIMITS[op.BYTES])
    return value, is_number, is_huge


def _numbers(tokens: Tokens, limit: int) -> Reading:
    value, is_number, is_huge = _digits(tokens)
    reason = np.where(is_number, np.where(is_huge | (value > np.uint64(limit)), tally.RANGE, 0), tally.NUMBER)
    return Reading(value, reason.astype(np.uint8))


def _seconds(tokens: Tokens) -> Reading:
    """Seconds with an optional fraction -> whole milliseconds, cut off."""
    dot = tokens.find(b".")
    has_fraction = dot < tokens.end
    whole = _numbers(Tokens(tokens.buffer, tokens.start, dot), op.LIMITS[op.START])
    after = np.minimum(dot + 1, tokens.end)
    _, is_number, _ = _digits(Tokens(tokens.buffer, after, tokens.end))
    leading = Tokens(tokens.buffer, after, np.minimum(after + 3, tokens.end))
    value, _, _ = _digits(leading)
    ms = value * np.array([0, 100, 10, 1], np.uint64)[leading.length]
    reason = np.where(has_fraction & ~is_number, tally.NUMBER, whole.reason).astype(np.uint8)
    return Reading(whole.value * np.uint64(1000) + ms, reason)


# ---- addresses ----------------------------------------------------------------------------------------------


def _addresses(tokens: Tokens) -> Reading:
    """Each distinct text is read once."""
    codes, texts = _distinct(tokens, _ADDRESS_CHARS)
    is_odd = (tokens.length > _ADDRESS_CHARS) | tokens.contains(b"\0")
    value, high, ok = address_columns(texts)
    reason = np.where(is_odd | ~ok[codes], tally.ADDRESS, 0).astype(np.uint8) if len(tokens) else np.zeros(0, np.uint8)
    return Reading(value[codes], reason, high[codes])


def _distinct(tokens: Tokens, width: int) -> tuple[NDArray[np.int32], list[bytes]]:
    if not len(tokens):
        return np.zeros(0, np.int32), []
    characters = np.ascontiguousarray(tokens.characters(width))
    column = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(width), len(tokens), [None, pa.py_buffer(characters)]
    ).dictionary_encode()
    return np.asarray(column.indices), [text.rstrip(b"\0") for text in column.dictionary.to_pylist()]


def address_columns(texts: Iterable[bytes]) -> tuple[Words64, Words64, Bools]:
    """Texts -> (low halves, high halves, which are addresses)."""
    values = [_address(text) for text in texts]
    low = np.array([v & _LOW for v in values], np.uint64)
    high = np.array([v >> 64 if v >= 0 else 0 for v in values], np.uint64)
    return low, high, np.array([v >= 0 for v in values], dtype=bool)


@lru_cache(maxsize=1 << 18)
def _address(text: bytes) -> int:
    try:
        return parse_address(text.decode("ascii"))
    except (ValueError, ipaddress.AddressValueError):
        return -1


# ---- words and names ----------------------------------------------------------------------------------------


def _words(tokens: Tokens, words: dict[bytes, int]) -> Reading:
    value, reason = np.zeros(len(tokens), np.uint64), np.full(len(tokens), tally.WORD, np.uint8)
    for word, number in words.items():
        same = tokens.equal(word)
        value[same], reason[same] = number, 0
    return Reading(value, reason)


def _states(tokens: Tokens) -> Words64:
    value = np.zeros(len(tokens), np.uint64)
    for number, words in ((1, op.SPOKE), (2, op.GUESS)):
        for word in words:
            value[tokens.equal(word)] = number
    return value


def _flag(tokens: Tokens) -> Words64:
    return tokens.contains(b"^").astype(np.uint64)


def _ids(tokens: Tokens) -> Words64:
    """`record.opaque_id` of every token."""
    value = tokens.length.astype(np.uint64)
    width = int(min(tokens.length.max(initial=0), HASHED_CHARS))
    words = np.ascontiguousarray(tokens.characters(max(-(-width // 8), 1) * 8)).view("<u8")
    for position in range(0, width, 8):
        mixed = (value ^ words[:, position // 8]) * np.uint64(HASH_FACTOR)
        value = np.where(tokens.length > position, mixed ^ (mixed >> np.uint64(32)), value)
    return value
