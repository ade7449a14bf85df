"""Data of messages as objects of the application's own types."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from typing import Any

import msgspec
import pydantic
import pytest

from limpet import GroupMessage, InvalidData, InvalidType, Reply, ServerMessage, StreamChunk
from limpet_core.protocol.typed_data import check_type


class Order(msgspec.Struct):
    id: int
    note: str = ""


@dataclass
class Place:
    x: int

    def __post_init__(self) -> None:
        if self.x < 0:
            raise ValueError("x must not be negative")


class Model(pydantic.BaseModel):
    id: int
    name: str


class Narrow(msgspec.Struct, forbid_unknown_fields=True):
    id: int


def message(data: Any, data_type: str = "json") -> GroupMessage:
    return GroupMessage(group="room", data=data, data_type=data_type)


@pytest.mark.parametrize(
    ("kind", "data", "expected"),
    [
        (Order, {"id": 1, "more": None}, Order(1)),
        (Place, {"x": 1}, Place(1)),
        (Model, {"id": 1, "name": "n"}, Model(id=1, name="n")),
        (list[Model], [{"id": 1, "name": "n"}], [Model(id=1, name="n")]),
        (dict[int, Order], {"7": {"id": 1}}, {7: Order(1)}),
        (float, 1, 1.0),
    ],
)
@pytest.mark.parametrize(
    "envelope",
    [
        message,
        lambda data: ServerMessage(data=data),
        lambda data: Reply(data, "json"),
        lambda data: StreamChunk(data, "json", 1),
    ],
)
def test_what_has_data_decodes_it(envelope: Any, kind: Any, data: Any, expected: Any) -> None:
    check_type(kind)
    assert envelope(data).decode(kind) == expected


@pytest.mark.parametrize(
    ("kind", "raw", "text"),
    [
        (Order, message({"id": "x"}), "fit Order: Expected `int`, got `str` - at `$.id`"),
        (Order, message({}), "fit Order: Object missing required field `id`"),
        (Order, message('{"id":1}', "text"), "got `str`; it has data of type text, not json"),
        (Order, message(b"\x00", "binary"), "got `bytes`; it has data of type binary, not json"),
        (Place, message({"x": -1}), "fit Place: x must not be negative"),
        (
            Model,
            message({"id": "x"}),
            "unable to parse string as an integer - at `id`; Field required",
        ),
        (Model, message(7), "- at `$`"),
        (list[Model], message([{"name": "n"}]), "fit list: Field required - at `id` - at `$[0]`"),
        (Narrow, message({"id": 1, "a\nb": 2}), "unknown field `a\\nb`"),
        (Order | list[int], message("x"), "does not fit"),
    ],
)
def test_what_does_not_fit_is_told_with_field_and_reason(kind: Any, raw: GroupMessage, text: str) -> None:
    with pytest.raises(InvalidData) as caught:
        raw.decode(kind)
    error = caught.value
    assert text in str(error)
    assert str(error).startswith("the data of a GroupMessage of the group 'room' does not fit ")
    assert "\n" not in str(error)
    assert error.message is raw
    assert error.type is kind or error.type == kind
    assert isinstance(error, ValueError)


def test_a_reply_without_data_says_so() -> None:
    with pytest.raises(InvalidData, match=r"^the data of a Reply does not fit Order: .*; it has no data$"):
        Reply().decode(Order)


def test_an_error_shows_no_token_and_no_more_than_a_few_fields() -> None:
    token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJlc2lnbmF0dXJl"
    with pytest.raises(InvalidData) as caught:
        message({"id": 1, token: 2}).decode(Narrow)
    assert token not in str(caught.value)
    many = pydantic.create_model("Many", **{f"f{number}": (int, ...) for number in range(9)})  # type: ignore[call-overload]
    with pytest.raises(InvalidData, match=r"at `f4`; and 4 more$"):
        message({}).decode(many)


def test_a_check_of_the_application_that_fails_otherwise_is_told_too() -> None:
    class Odd:
        @classmethod
        def model_validate(cls, data: Any) -> Any:
            return data["missing"]

    with pytest.raises(InvalidData, match="KeyError: 'missing'") as caught:
        message({}).decode(Odd)
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_model_that_says_no_in_its_own_words_is_quoted() -> None:
    class Own:
        @classmethod
        def model_validate(cls, data: Any) -> Any:
            raise ValueError("not today")

    with pytest.raises(InvalidData, match=r"fit Own: not today$"):
        message({}).decode(Own)


def test_a_class_deep_within_a_type_that_cannot_be_decoded_is_named() -> None:
    class Plain:
        pass

    with pytest.raises(InvalidData, match=r"Plain'> is no type that can be decoded"):
        message([1]).decode(list[Plain])
    with pytest.raises(InvalidType, match="type must be a msgspec Struct, a dataclass, a pydantic model"):
        check_type(Plain)


@pytest.mark.parametrize("wrong", ["Order", 7, Model | Place.__class__, Order | Narrow])
def test_a_type_that_cannot_be_decoded_is_refused(wrong: Any) -> None:
    with pytest.raises(InvalidType, match=r"^type "):
        check_type(wrong)


def test_an_error_can_be_pickled() -> None:
    with pytest.raises(InvalidData) as caught:
        message({}).decode(Order)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.message, again.type) == (str(caught.value), caught.value.message, Order)
