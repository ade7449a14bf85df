"""The slower ways of reading JSON, each beside a plain one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from limpet_core.protocol.lenient_json import is_deep, read_object, replace_half_pairs, without_deep_values

TEXTS = st.text('[]{}"\\a,:', max_size=5)
DOCUMENTS = st.recursive(
    st.none() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=30,
)
NESTS = st.builds(
    lambda document, keys: nested(document, keys), DOCUMENTS, st.lists(st.none() | TEXTS, min_size=0, max_size=14)
)


def nested(document: Any, keys: list[str | None]) -> Any:
    for key in keys:
        document = [document, key] if key is None else {key: document, "": key}
    return document


def depth(value: Any) -> int:
    if isinstance(value, list | dict):
        return 1 + max(map(depth, value.values() if isinstance(value, dict) else value), default=0)
    return 0


def cut(value: Any, levels: int) -> Any:
    """The value with None in place of what is nested more than so many levels deep."""
    if not isinstance(value, list | dict):
        return value
    if levels == 0:
        return None
    if isinstance(value, list):
        return [cut(item, levels - 1) for item in value]
    return {key: cut(item, levels - 1) for key, item in value.items()}


@given(NESTS, st.integers(0, 20))
@example(["]", [[]]], 2)
@example(['\\"[', ['\\"]']], 2)
def test_how_deep_json_is_nested_is_told_whatever_is_in_its_strings(document: Any, limit: int) -> None:
    text = json.dumps(document).encode()
    assert is_deep(text, limit) == (depth(document) > limit)


@given(NESTS)
def test_what_is_not_deep_stays_as_it_is(document: Any) -> None:
    assert json.loads(without_deep_values(json.dumps(document).encode())) == cut(document, 8)


@given(st.binary() | st.text('[]{}"\\a', max_size=30).map(str.encode))
def test_what_is_no_json_is_cut_without_a_fault(text: bytes) -> None:
    assert len(without_deep_values(text)) <= len(text) + 4 * text.count(b"[") + 4 * text.count(b"{")
    is_deep(text, 3)


@given(st.text(st.characters() | st.sampled_from('\ud83d\ude00\udbff\udfff\\u"d8'), max_size=12))
def test_only_halves_of_pairs_are_replaced(text: str) -> None:
    whole = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    units = memoryview(text.encode("utf-16-le", "surrogatepass")).cast("H")
    lower, upper = ("".join(rf"\u{unit:{form}}" for unit in units) for form in ("04x", "04X"))
    for encoded in (json.dumps(text), f'"{lower}"', f'"{upper}"'):
        assert json.loads(replace_half_pairs(encoded.encode())) == whole


@pytest.mark.parametrize("text", [r'"\ud8"', r'"\ud8zz"', r'"\ud"', '"\\', r'"\ud83', "\\ud83"])
def test_what_is_no_escape_is_left_to_the_decoder(text: str) -> None:
    assert replace_half_pairs(text.encode()) == text.encode()


@pytest.mark.parametrize(
    "text", ["[1]", "NaN", '{"a":NaN}', '{"a":-Infinity}', '\ufeff{"a":1}', "{}x", '{"a":"\n"}', ""]
)
def test_only_an_object_of_json_is_read(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_object(text.encode())
    with pytest.raises(ValueError, match=r"utf-8"):
        read_object(b'{"a":"\xed\xa0\xbd"}')
