"""The YAML reader: YAML 1.2 values, places, comments, refusals; libyaml and the pure parser agree."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringfence.core.policy.codes import CODES
from ringfence.core.policy.yaml import Mapping, Node, Scalar, Sequence, last_line, native_of, read

PARSERS = [pytest.param(False, id="libyaml"), pytest.param(True, id="pure")]


def root(text: str, *, pure: bool = False) -> Node:
    reading = read(text, pure=pure)
    assert reading.findings == ()
    return reading.documents[0].root


@pytest.mark.parametrize("pure", PARSERS)
def test_yaml_1_1_values_stay_text(pure: bool) -> None:
    """What YAML 1.1 turns into truth values, sexagesimals, octals, dates and merges is text, as keys and as values."""
    words = ["on", "off", "yes", "no", "y", "n", "22:30", "2027-03-01", "1_000", "0b1", "<<", "=", "0o", ".inf", ".nan"]
    text = "".join(f"{word}: {word}\n" for word in words)
    assert native_of(root(text, pure=pure)) == {word: word for word in words}


def test_core_schema_values() -> None:
    """Null, truth values, integers and floats of the core schema are what the specification says; quotes make text."""
    text = "[~, null, '', true, FALSE, 7, -7, 0o17, 0xff, 1.5, .5, 1e3, 007, 'true', \"7\", '~']"
    expected = [None, None, "", True, False, 7, -7, 15, 255, 1.5, 0.5, 1000.0, 7, "true", "7", "~"]
    assert native_of(root(text)) == expected
    assert native_of(root("a:\nb: 1")) == {"a": None, "b": 1}


@pytest.mark.parametrize("pure", PARSERS)
def test_every_node_knows_its_place(pure: bool) -> None:
    """Lines and columns count from 1, in characters, for keys, values, lists and mappings."""
    node = root("ü: [ä, {b: c}]\nd:\n  - e\n", pure=pure)
    assert isinstance(node, Mapping)
    key, value = node.entries["ü"]
    assert (key.line, key.column, value.line, value.column) == (1, 1, 1, 4)
    assert isinstance(value, Sequence)
    inner = value.items[1]
    assert isinstance(inner, Mapping)
    assert [(n.line, n.column) for n in (value.items[0], inner, inner.entries["b"][1])] == [(1, 5), (1, 8), (1, 12)]
    listed = node.get("d")
    assert isinstance(listed, Sequence)
    assert (listed.line, listed.column, listed.items[0].line, listed.items[0].column) == (3, 3, 3, 5)


@pytest.mark.parametrize(
    ("text", "line"),
    [("a: |\n  x\n  y\n", 3), ("a: |\n  x\n\n\n", 4), ("a: 'x\n  y'\n", 2), ("a:\n  b:\n    - c\n", 3), ("a: []\n", 1)],
)
def test_last_line_of_a_node(text: str, line: int) -> None:
    """A node ends on the line its last scalar ends on, block scalars included."""
    assert last_line(root(text)) == line


@pytest.mark.parametrize("pure", PARSERS)
def test_documents_of_a_stream(pure: bool) -> None:
    """A stream gives its documents; empty ones give nothing."""
    reading = read("a: 1\n---\n---\n# only a comment\n---\nb: 2\n...\n", pure=pure)
    assert [native_of(d.root) for d in reading.documents] == [{"a": 1}, {"b": 2}]
    assert [d.first_line for d in reading.documents] == [1, 5]
    assert read("").documents == read("# nothing\n").documents == ()


def test_comments_are_all_found_and_nothing_else() -> None:
    """Every comment, with its place; `#` inside quotes, plain words and block scalars is no comment."""
    text = '# top\na: "x # y" # tail\nb: x#y\nc: | # header\n  # text\n  more\n#end\nd: {e: f} # flow\n\t# tab\n'
    found = [(c.text, c.line, c.column, c.is_trailing) for c in read(text).comments]
    assert found == [
        ("top", 1, 1, False),
        ("tail", 2, 12, True),
        ("header", 4, 6, True),
        ("end", 7, 1, False),
        ("flow", 8, 11, True),
        ("tab", 9, 2, False),
    ]


def test_line_ends_of_every_system() -> None:
    """Unix, DOS and old Macintosh line ends give the same nodes, places and comments."""
    text = "a: b # c\nd:\n  - e\n# f\n"
    assert read(text.replace("\n", "\r\n")) == read(text) == read(text.replace("\n", "\r"))


def test_a_byte_order_mark_does_not_shift_places() -> None:
    """A leading byte order mark is skipped; bytes and text read alike."""
    assert read("\ufeffa: b") == read("a: b") == read(b"\xef\xbb\xbfa: b")


def test_a_duplicate_key_keeps_the_first() -> None:
    """The first value counts and the finding names the place of the second."""
    reading = read("a: 1\nb: 2\na: 3\n", "f")
    assert native_of(reading.documents[0].root) == {"a": 1, "b": 2}
    assert [(f.code, f.where.line) for f in reading.findings] == [("duplicate-key", 3)]


def test_an_alias_bomb_does_not_grow() -> None:
    """Aliases are refused one by one; nothing is ever expanded."""
    bomb = "a: &a [x, x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefg", "bcdefgh", strict=True))
    reading = read(bomb)
    assert {f.code for f in reading.findings} == {"yaml-anchor"}
    assert len(reading.findings) == 8 + 14


def test_depth_is_bounded() -> None:
    """A hundred thousand opening brackets end in a finding, not in the stack."""
    assert [f.code for f in read("[" * 100_000).findings] == ["yaml-depth"]
    assert [f.code for f in read("{a: " * 100_000).findings] == ["yaml-depth"]
    assert [f.code for f in read("".join(f"{' ' * i}a:\n" for i in range(100))).findings] == ["yaml-depth"]


@pytest.mark.parametrize("pure", PARSERS)
def test_half_a_character_is_refused(pure: bool) -> None:
    """An escape that names a lone surrogate never becomes text that cannot be written out again."""
    reading = read('a: "\\ud800"\n', pure=pure)
    assert [f.where.line for f in reading.findings] == [1]
    assert "\ud800" not in str(native_of(reading.documents[0].root) if reading.documents else "")


YAML_LIKE = st.text(st.sampled_from("ab01 \n\n:-,[]{}#&*!|>'\"%@`?~\t\\/="), max_size=60)


@given(st.one_of(st.text(max_size=80), YAML_LIKE))
def test_any_text_is_read_or_refused(text: str) -> None:
    """No text raises; each finding has a code of the table and a place in the text."""
    for finding in read(text, "f").findings:
        assert finding.code in CODES
        assert finding.where.file == "f"
        assert finding.where.line >= 1


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    """No bytes raise."""
    assert all(finding.code in CODES for finding in read(data, "f").findings)


@given(YAML_LIKE)
def test_libyaml_and_the_pure_parser_agree(text: str) -> None:
    """Where both parsers accept a text, nodes, places and comments are the same."""
    fast, slow = read(text), read(text, pure=True)
    if not fast.findings and not slow.findings:
        assert shape(fast.documents) == shape(slow.documents)
        assert fast.comments == slow.comments


def shape(documents: tuple[object, ...]) -> list[object]:
    return [(native_of(d.root), d.root.line, d.root.column) for d in documents]  # type: ignore[attr-defined]


def test_scalar_booleans() -> None:
    """Only plain `true` and `false` are truth values."""
    assert [Scalar(v, 1, 1, 1, True).boolean for v in ("true", "False", "yes", "1")] == [True, False, None, None]
    assert Scalar("true", 1, 1, 1, False).boolean is None
