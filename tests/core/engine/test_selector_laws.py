"""Selectors: Kubernetes' strings, read back as written, matching as a naive reading of Kubernetes' rules does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringfence.core.labels.selector import Labels, Requirement, Selector, parse_selector, selector_of

KEYS, VALUES = ("app", "env", "team.example.com/role"), ("a", "b", "c-1", "D_2.x")
keys, values = st.sampled_from(KEYS), st.sampled_from(VALUES)
label_sets = st.dictionaries(keys, values)
value_lists = st.lists(values, min_size=1, max_size=3)


def sets(op: str) -> st.SearchStrategy[tuple[str, ...]]:
    return st.tuples(st.just(op), keys, value_lists.map(lambda chosen: ",".join(chosen)))


written = st.one_of(
    st.tuples(st.sampled_from(["=", "==", "!="]), keys, values),
    sets("in"),
    sets("notin"),
    st.tuples(st.sampled_from(["exists", "absent"]), keys, st.just("")),
)
Written = tuple[str, str, str]


def text_of(one: Written, *, space: str = "") -> str:
    op, key, value = one
    if op in ("in", "notin"):
        return f"{space}{key} {op} ({space}{value}{space}){space}"
    return {"exists": f"{space}{key}", "absent": f"!{space}{key}"}.get(op, f"{key}{space}{op}{space}{value}")


def naively(one: Written, labels: Labels) -> bool:
    """apimachinery `Requirement.Matches`: a missing key matches what is negative."""
    op, key, value = one
    listed = value.split(",")
    if op in ("=", "==", "in"):
        return key in labels and labels[key] in listed
    if op in ("!=", "notin"):
        return key not in labels or labels[key] not in listed
    return (key in labels) == (op == "exists")


@given(st.lists(written, min_size=1, max_size=4), label_sets)
def test_a_selector_is_all_of_its_requirements(parts: list[Written], labels: dict[str, str]) -> None:
    """It matches exactly the label sets that every requirement, read naively, matches."""
    selector = parse_selector(",".join(map(text_of, parts)))
    assert selector.matches(labels) == all(naively(part, labels) for part in parts)


@given(st.lists(written, min_size=1, max_size=4))
def test_a_selector_is_read_back(parts: list[Written]) -> None:
    """Printed and parsed again it is equal, and printing is settled after once."""
    selector = parse_selector(",".join(map(text_of, parts)))
    assert parse_selector(str(selector)) == selector
    assert str(parse_selector(str(selector))) == str(selector)


@given(st.lists(written, min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_order_repetition_and_space_mean_nothing(parts: list[Written], random: object) -> None:
    """The same requirements in another order, twice, with spaces, are the same value."""
    shuffled = parts * 2
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    spaced = " , ".join(text_of(part, space=" ") for part in shuffled)
    assert parse_selector(spaced) == parse_selector(",".join(map(text_of, parts)))


@given(st.lists(written, min_size=1, max_size=3), st.lists(written, min_size=1, max_size=3), label_sets)
def test_joined_selectors_match_what_both_match(
    one: list[Written], other: list[Written], labels: dict[str, str]
) -> None:
    """`&` is conjunction."""
    left, right = (parse_selector(",".join(map(text_of, parts))) for parts in (one, other))
    assert (left & right).matches(labels) == (left.matches(labels) and right.matches(labels))
    assert left & right == right & left


@given(st.lists(written, min_size=1, max_size=3))
def test_a_selector_that_nothing_can_match_is_known(parts: list[Written]) -> None:
    """`is_satisfiable` tells whether some label set at all matches: any value, another value, or no key."""
    selector = parse_selector(",".join(map(text_of, parts)))
    choices = (*VALUES, "another", None)
    worlds = ({k: v for k, v in zip(KEYS, pick, strict=True) if v} for pick in _picks(choices))
    assert selector.is_satisfiable == any(selector.matches(labels) for labels in worlds)


def _picks(choices: tuple[str | None, ...]) -> list[tuple[str | None, ...]]:
    return [(a, b, c) for a in choices for b in choices for c in choices]


@given(label_sets.filter(bool), label_sets)
def test_the_selector_of_labels_matches_whoever_has_them(labels: dict[str, str], others: dict[str, str]) -> None:
    """`selector_of` picks the supersets of its labels."""
    selector = Selector(tuple(sorted(Requirement(k, "in", (v,)) for k, v in labels.items())))
    assert selector.matches(others) == (labels.items() <= others.items())
    assert selector_of(app="a", env="b") == parse_selector("env=b,app=a")
    assert selector.keys == labels.keys()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "anyone"),
        ("   ", "anyone"),
        (",app=a", "cannot read"),
        ("app=a,", "cannot read"),
        ("app=a env=b", "expected `,`"),
        ("app in ()", "picks nobody"),
        ("app in a", "expected `,`"),
        ("app notin (a", "expected `,`"),
        ("-app=a", "cannot read"),
        ("app=a=b", "expected `,`"),
        ("app in (a b)", "not a label value"),
    ],
)
def test_what_is_no_selector_is_refused(text: str, message: str) -> None:
    """ValueError says what could not be read; an empty selector never means everyone."""
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        parse_selector(text)


def test_an_empty_value_is_a_value() -> None:
    """`app=` picks those whose label is empty, as in Kubernetes, not those that lack it."""
    selector = parse_selector("app=")
    assert selector.matches({"app": ""})
    assert not selector.matches({})
    assert not selector.matches({"app": "a"})
