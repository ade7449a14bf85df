"""OData filters, against a table and against plain Python."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet_core.service import Filter, InvalidFilter


@dataclass(frozen=True)
class Somebody:
    connection_id: str = "c1"
    user_id: str | None = "Ann"
    groups: tuple[str, ...] = ("room", "hall")
    subprotocol: str | None = "json.webpubsub.azure.v1"


ANN = Somebody()
NOBODY = Somebody("c2", None, (), None)


@pytest.mark.parametrize(
    ("text", "ann", "nobody"),
    [
        # The examples of the documentation.
        ("'room' in groups or 'attic' in groups", True, False),
        ("userId in ('Ann','Ben') and 'room' in groups", True, False),
        ("userId eq 'Ann' and connectionId ne 'c9'", True, False),
        ("userId eq null", False, True),
        ("not (length(userId) gt 5)", True, False),
        # Names and operators in any case, values not.
        ("USERID EQ 'Ann' And Not (ConnectionID Eq 'C1')", True, False),
        ("userId eq 'ann'", False, False),
        ("ToLower(userId) eq 'ann'", True, False),
        ("  userId eq 'Ann'\t", True, False),
        ("(((userId eq 'Ann')))", True, False),
        # Binding: not, comparisons, and, or.
        ("true or true and false", True, True),
        ("(true or true) and false", False, False),
        ("not false or true", True, True),
        ("not (false or true)", False, False),
        ("not true eq false", True, True),
        ("not not true", True, True),
        # Comparisons.
        ("userId ge 'Ann' and userId le 'Ann'", True, False),
        ("userId gt 'Ann' or userId lt 'Ann'", False, False),
        ("userId ne 'Ann'", False, True),
        ("userId ne null", True, False),
        ("null eq null", True, True),
        ("null eq userId", False, True),
        ("userId gt null", False, False),
        ("length(groups) eq 2", True, False),
        ("length(groups) ge +0 and -1 lt length(groups)", True, True),
        ("true eq true and true ne false", True, True),
        ("startswith(userId,'A') eq true", True, False),
        # Null is neither true nor false.
        ("startswith(userId,'B')", False, False),
        ("not startswith(userId,'B')", True, False),
        ("startswith(userId,'B') or true", True, True),
        ("not (startswith(userId,'B') and true)", True, False),
        ("not (startswith(userId,'B') and false)", True, True),
        # In.
        ("userId in ('Ann')", True, False),
        ("userId in (null,'Ben')", False, True),
        ("length(groups) in (1,2)", True, False),
        ("not ('room' in groups)", False, True),
        ("userId in groups", False, False),
        ("concat('ro','om') in groups", True, False),
        # Functions.
        ("toupper(userId) eq 'ANN'", True, False),
        ("trim('  x ') eq 'x'", True, True),
        ("substring(userId,1) eq 'nn'", True, False),
        ("substring(userId,1,1) eq 'n' and substring(userId,9) eq '' and substring(userId,-2) eq 'Ann'", True, False),
        ("concat(userId,connectionId) eq 'Annc1'", True, False),
        ("contains(userId,'nn') and endswith(userId,'n')", True, False),
        ("indexof(userId,'nn') eq 1 and indexof(userId,'x') eq -1", True, False),
        ("length(null) eq null", True, True),
        ("protocol eq 'json.webpubsub.azure.v1'", True, False),
        ("protocol eq null", False, True),
        ("userId eq 'it''s'", False, False),
        ("'''' eq '''' and '' ne ''''", True, True),
    ],
)
def test_what_a_filter_selects(text: str, ann: bool, nobody: bool) -> None:
    assert (Filter(text).matches(ANN), Filter(text).matches(NOBODY)) == (ann, nobody)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "character 1"),
        ("  ", "character 3"),
        ("userId", "is string"),
        ("null", "is null"),
        ("groups", "is groups"),
        ("length(groups)", "is integer"),
        ("userId eq", "character 10"),
        ("userId eq 'Ann", "character 11"),
        ("userId eq 'Ann' 'Ben'", "expected an operator"),
        ("userId = 'Ann'", "character 8"),
        ("(userId eq 'Ann'", r"expected '\)'"),
        ("userId eq 'Ann')", "character 16"),
        ("userId eq 5", "cannot compare string and integer"),
        ("not length(userId) gt 5", "'not' needs a condition"),
        ("not userId eq 'Ann'", "parentheses"),
        ("userId and true", "'and' needs a condition"),
        ("true gt false", "cannot order"),
        ("groups eq 'room'", "cannot compare groups"),
        ("groups eq null", "cannot compare groups"),
        ("name eq 'Ann'", "there is no 'name'"),
        ("reverse(userId) eq 'x'", "no function 'reverse'"),
        ("length(5) eq 5", "cannot take"),
        ("length() eq 5", "cannot take"),
        ("length(userId,userId) eq 5", "cannot take"),
        ("startswith(userId 'A')", "expected ','"),
        ("startswith(userId,'A',)", "value"),
        ("tolower(groups) eq 'x'", r"tolower\(string\)"),
        ("userId in ()", "a value"),
        ("userId in ('a',5)", "other values"),
        ("userId in (connectionId)", "a value"),
        ("userId in connectionId", "groups on its right"),
        ("5 in groups", "text on its left"),
        ("groups in ('a')", "other values"),
        ("length(groups) eq 5x", "character 19"),
        ("length(groups) eq 9223372036854775808", "64 bits"),
        ("length(groups) eq " + "9" * 5000, "character 19"),
        (" or ".join(["true"] * 101), "at most 100"),
        ("(" * 500 + "true" + ")" * 500, "too deeply"),
        ("not " * 5000 + "true", "too deeply"),
        ("trim(" * 500 + "userId" + ")" * 500 + " eq ''", "too deeply"),
        ("'" * 99_999, "character 99999:"),
    ],
    ids=lambda value: value[:30],
)
def test_what_is_not_a_filter(text: str, complaint: str) -> None:
    with pytest.raises(InvalidFilter, match=complaint):
        Filter(text)


def test_a_hundred_conditions_and_thirty_levels_are_fine() -> None:
    assert Filter(" and ".join(["userId eq 'Ann'"] * 100)).matches(ANN)
    assert Filter("(" * 30 + "true" + ")" * 30).matches(ANN)


# ---- Against plain Python

Predicate = Callable[[Somebody], Any]
Case = tuple[str, Predicate]

NAMES = ["", "a", "b", "ab", "A", "it's", "or", "ü"]
TEXTS = st.sampled_from(NAMES)
SOMEBODIES = st.builds(
    Somebody,
    TEXTS,
    st.none() | TEXTS,
    st.lists(TEXTS, unique=True).map(tuple),
    st.none() | TEXTS,
)
OPERATORS = st.sampled_from(["eq", "ne", "gt", "ge", "lt", "le"])


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def of_known(function: Callable[..., Any], *parts: Predicate) -> Predicate:
    def predicate(somebody: Somebody) -> Any:
        values = [part(somebody) for part in parts]
        return None if any(value is None for value in values) else function(*values)

    return predicate


def constant(text: str) -> Case:
    return quoted(text), lambda _: text


ATOMS = (
    TEXTS.map(constant)
    | st.just(("userId", lambda somebody: somebody.user_id))
    | st.just(("connectionId", lambda somebody: somebody.connection_id))
    | st.just(("protocol", lambda somebody: somebody.subprotocol))
)


def larger_text(inner: st.SearchStrategy[Case]) -> st.SearchStrategy[Case]:
    return (
        inner.map(lambda case: (f"tolower({case[0]})", of_known(str.lower, case[1])))
        | inner.map(lambda case: (f"trim({case[0]})", of_known(str.strip, case[1])))
        | st.tuples(inner, st.integers(0, 3)).map(
            lambda c: (f"substring({c[0][0]},{c[1]})", of_known(lambda text: text[c[1] :], c[0][1]))
        )
        | st.tuples(inner, inner).map(
            lambda c: (f"concat({c[0][0]},{c[1][0]})", of_known(operator.add, c[0][1], c[1][1]))
        )
    )


TEXT_CASES = st.recursive(ATOMS, larger_text, max_leaves=4)
NUMBER_CASES: st.SearchStrategy[Case] = (
    st.integers(-3, 3).map(lambda number: (str(number), lambda _: number))
    | TEXT_CASES.map(lambda case: (f"length({case[0]})", of_known(len, case[1])))
    | st.tuples(TEXT_CASES, TEXT_CASES).map(
        lambda c: (f"indexof({c[0][0]},{c[1][0]})", of_known(str.find, c[0][1], c[1][1]))
    )
    | st.just(("length(groups)", lambda somebody: len(somebody.groups)))
)


def comparison(case: tuple[Case, str, Case]) -> Case:
    (left, get_left), name, (right, get_right) = case
    compare: Callable[[Any, Any], bool] = getattr(operator, name)
    if name in ("eq", "ne"):
        return f"{left} {name} {right}", lambda somebody: compare(get_left(somebody), get_right(somebody))
    return f"{left} {name} {right}", of_known(compare, get_left, get_right)


def within(case: tuple[Case, list[str]]) -> Case:
    (text, get), values = case
    return f"{text} in ({','.join(map(quoted, values))})", lambda somebody: get(somebody) in values


CONDITIONS = (
    st.tuples(TEXT_CASES, OPERATORS, TEXT_CASES).map(comparison)
    | st.tuples(NUMBER_CASES, OPERATORS, NUMBER_CASES).map(comparison)
    | st.tuples(TEXT_CASES, st.lists(TEXTS, min_size=1)).map(within)
    | TEXT_CASES.map(lambda case: (f"{case[0]} in groups", lambda somebody: case[1](somebody) in somebody.groups))
    | st.tuples(TEXT_CASES, TEXT_CASES).map(
        lambda c: (f"contains({c[0][0]},{c[1][0]})", of_known(operator.contains, c[0][1], c[1][1]))
    )
)


def both(left: bool | None, right: bool | None) -> bool | None:
    if left is False or right is False:
        return False
    return None if left is None or right is None else True


def opposite(value: bool | None) -> bool | None:
    return None if value is None else not value


def either(left: bool | None, right: bool | None) -> bool | None:
    return opposite(both(opposite(left), opposite(right)))


def larger_condition(inner: st.SearchStrategy[Case]) -> st.SearchStrategy[Case]:
    return (
        inner.map(lambda case: (f"not ({case[0]})", lambda somebody: opposite(case[1](somebody))))
        | st.tuples(inner, inner).map(
            lambda c: (f"({c[0][0]}) and ({c[1][0]})", lambda s: both(c[0][1](s), c[1][1](s)))
        )
        | st.tuples(inner, inner).map(
            lambda c: (f"({c[0][0]}) or ({c[1][0]})", lambda s: either(c[0][1](s), c[1][1](s)))
        )
    )


@given(st.recursive(CONDITIONS, larger_condition, max_leaves=6), st.lists(SOMEBODIES, min_size=1, max_size=4))
def test_a_filter_selects_what_the_same_condition_in_python_does(case: Case, somebodies: list[Somebody]) -> None:
    text, predicate = case
    compiled = Filter(text)
    for somebody in somebodies:
        assert compiled.matches(somebody) is (predicate(somebody) is True), text


@given(st.lists(st.booleans(), min_size=1, max_size=6), st.data())
def test_and_binds_stronger_than_or(values: list[bool], data: st.DataObject) -> None:
    joints = data.draw(st.lists(st.sampled_from(["and", "or"]), min_size=len(values) - 1, max_size=len(values) - 1))
    words = [str(values[0])] + [f"{joint} {value}" for joint, value in zip(joints, values[1:], strict=True)]
    text = " ".join(words)
    # Python's own rule is the same.
    assert Filter(text).matches(ANN) is bool(eval(text))


PIECES = st.sampled_from(
    ["userId", "groups", "connectionId", "eq", "in", "not", "and", "or", "(", ")", ",", "'a'", "''", "'", "5", "-", " ",
     "null", "true", "length(", "concat(", "=", "\x00", "ü"]
)  # fmt: skip


@given(st.lists(PIECES, max_size=20).map(" ".join) | st.text())
def test_any_text_is_a_filter_or_refused_and_evaluating_never_fails(text: str) -> None:
    try:
        compiled = Filter(text)
    except InvalidFilter:
        return
    for somebody in (ANN, NOBODY):
        assert compiled.matches(somebody) in (True, False)
