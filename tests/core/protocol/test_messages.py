"""The JSON on the wire: what is understood, and what is sent."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet import GroupMessage, InvalidType, InvalidValue, ServerMessage, StreamInfo
from limpet_core.protocol import json_requests
from limpet_core.protocol.json import decode, encode_event, encode_join, encode_leave, encode_send, ping, sequence_ack
from limpet_core.protocol.json_requests import encode_json
from limpet_core.protocol.messages import AckMessage, Broken, ErrorDetail, Ignored, PongMessage, SystemMessage
from limpet_core.protocol.rules import check_ack_id, check_data, check_event_name, check_group

LIMIT = 1 << 20


def decoded(text: str) -> Any:
    return decode(text.encode())


def group_message(**fields: Any) -> GroupMessage:
    return GroupMessage(**({"group": "g"} | fields))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            '{"type":"message","from":"group","group":"g","dataType":"text","data":"hi"}',
            group_message(data="hi", data_type="text"),
        ),
        (
            '{"sequenceId":1,"type":"message","from":"group","group":"g","fromUserId":"ann","dataType":"json",'
            '"data":{"a":[1,null]},"metadata":{"k":"v"}}',
            group_message(sequence_id=1, from_user_id="ann", data={"a": [1, None]}, metadata={"k": "v"}),
        ),
        ('{"type":"message","from":"group","group":"g","fromUserId":null,"data":7}', group_message(data=7)),
        # The letters at which an ack is guessed, in what is none; and an ack without them.
        ('{"text":"a","type":"message","from":"group","group":"g","data":7}', group_message(data=7)),
        ('{"text":"a","type":"ack","ackId":1,"success":true}', AckMessage(1, True)),
        ('{"ackId":1,"type":"ack","success":true}', AckMessage(1, True)),
        ('{"text":"a","ackId":1,"success":true}', Broken("the message has no type")),
        (
            '{"type":"message","from":"group","group":"g","dataType":"binary","data":"AAEC"}',
            group_message(data_type="binary", data=b"\x00\x01\x02"),
        ),
        (
            '{"type":"message","from":"group","group":"g","dataType":"protobuf","data":""}',
            group_message(data_type="protobuf", data=b""),
        ),
        (
            '{"type":"message","from":"server","dataType":"text","data":"hi","sequenceId":9}',
            ServerMessage(data="hi", data_type="text", sequence_id=9),
        ),
        ('{"type":"ack","ackId":1,"success":true}', AckMessage(1, True)),
        ('{"ackId":1,"success":true,"type":"ack"}', AckMessage(1, True)),
        (' {"type" : "ack", "ackId":1,"success":true, "more":[1]}', AckMessage(1, True)),
        (
            '{"type":"ack","ackId":1,"success":false,"error":{"name":"Forbidden","message":"no"}}',
            AckMessage(1, False, ErrorDetail("Forbidden", "no")),
        ),
        (
            '{"type":"system","event":"connected","userId":null,"connectionId":"c","reconnectionToken":"t"}',
            SystemMessage("connected", "c", None, "t"),
        ),
        ('{"type":"system","event":"disconnected"}', SystemMessage("disconnected")),
        ('{"type":"pong"}', PongMessage()),
        ('{"type":"future","data":1}', Ignored("type 'future'")),
        ('{"type":"message","from":"moon"}', Ignored("from 'moon'")),
        ('{"type":"message","from":"moon","sequenceId":4}', Ignored("from 'moon'", 4)),
        ('{"type":"message","from":"moon","sequenceId":0}', Ignored("from 'moon'")),
        ('{"type":"system","event":"eclipse","message":[]}', Ignored("event 'eclipse'")),
    ],
)
def test_each_message_is_understood(text: str, expected: Any) -> None:
    assert decoded(text) == expected


@pytest.mark.parametrize(
    ("text", "sequence_id"),
    [
        ('{"type":"message","from":"group","group":5,"sequenceId":3}', 3),
        ('{"type":"message","from":"group","group":"g","dataType":"text","data":5,"sequenceId":3}', 3),
        ('{"type":"message","from":"server","dataType":"binary","data":"*","sequenceId":3}', 3),
        ('{"type":"message","sequenceId":3}', 3),
        ('{"type":"message","from":"group","group":"g","sequenceId":0}', None),
        ('{"type":"message","from":"group","group":5,"sequenceId":18446744073709551616}', None),
        ('{"type":"message","from":"group","group":5,"sequenceId":true}', None),
    ],
)
def test_the_sequence_id_of_something_broken_is_told_where_it_can_be_read(text: str, sequence_id: int | None) -> None:
    broken = decoded(text)
    assert type(broken) is Broken
    assert broken.sequence_id == sequence_id


def test_what_is_said_of_something_broken_never_repeats_its_data() -> None:
    for data_type in ("text", "binary", "protobuf"):
        for data in ('{"password":"SECRET"}', '"SECRET!"'):
            text = f'{{"type":"message","from":"group","group":7,"dataType":"{data_type}","data":{data}}}'
            assert "SECRET" not in decoded(text).reason
            text = text.replace('"group":7', '"group":"g"')
            if type(decoded(text)) is Broken:
                assert "SECRET" not in decoded(text).reason


PLACE = '"type":"message","from":"group","group":"g","dataType":"text","data":"","stream"'


@pytest.mark.parametrize(
    ("said", "end"),
    [
        ("", False),
        (',"endOfStream":false', False),
        (',"endOfStream":null', False),
        (',"endOfStream":true', True),
        (',"endOfStream":0', None),
        (',"endOfStream":"true"', None),
    ],
)
def test_whether_a_stream_ends_is_true_or_false(said: str, end: bool | None) -> None:
    message = decoded(f'{{"sequenceId":7,{PLACE}:{{"streamId":"s","streamSequenceId":3{said}}}}}')
    if end is None:
        assert (type(message), message.sequence_id) == (Broken, 7)
    else:
        assert message == group_message(
            sequence_id=7, data="", data_type="text", stream=StreamInfo(stream_id="s", sequence_id=3, end=end)
        )
        assert type(message.stream.end) is bool


@pytest.mark.parametrize("stream", ["null", "{}", '"s"', "7", '{"endOfStream":null}'])
def test_a_stream_that_is_none(stream: str) -> None:
    message = decoded(f'{{"sequenceId":7,{PLACE}:{stream}}}')
    assert message.sequence_id == 7
    assert type(message) is (GroupMessage if stream == "null" else Broken)


@given(st.binary(max_size=60))
def test_no_bytes_make_the_decoder_raise(data: bytes) -> None:
    decode(data)


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from(
            ["type", "from", "group", "data", "dataType", "sequenceId", "ackId", "success", "error", "event"]
        ),
        st.sampled_from(["message", "ack", "system", "pong", "group", "server", "binary", "connected"]) | JSONS,
    )
)
def test_no_json_makes_the_decoder_raise(message: dict[str, Any]) -> None:
    decode(json.dumps(message).encode("utf-8", "surrogatepass"))


# ---- Sending


@pytest.mark.parametrize(
    ("encoded", "expected"),
    [
        (encode_join("g", 1), {"type": "joinGroup", "group": "g", "ackId": 1}),
        (encode_leave("ä", 2), {"type": "leaveGroup", "group": "ä", "ackId": 2}),
        (
            encode_send("g", "hi", None, False, 3, LIMIT),
            {"type": "sendToGroup", "group": "g", "dataType": "text", "data": "hi", "ackId": 3},
        ),
        (
            encode_send("g", {"a": None}, None, True, None, LIMIT),
            {"type": "sendToGroup", "group": "g", "dataType": "json", "data": {"a": None}, "noEcho": True},
        ),
        (
            encode_event("e", bytearray(b"\x00"), None, 4, LIMIT),
            {"type": "event", "event": "e", "dataType": "binary", "data": "AA==", "ackId": 4},
        ),
        (
            encode_event("e", memoryview(b"\x00"), "protobuf", None, LIMIT),
            {"type": "event", "event": "e", "dataType": "protobuf", "data": "AA=="},
        ),
        (ping, {"type": "ping"}),
        (sequence_ack(42), {"type": "sequenceAck", "sequenceId": 42}),
    ],
)
def test_each_request_is_encoded(encoded: bytes, expected: dict[str, Any]) -> None:
    assert json.loads(encoded) == expected


@pytest.mark.parametrize(
    ("data", "data_type", "expected"),
    [
        ("a", None, "text"),
        ("a", "json", "json"),
        (b"a", None, "binary"),
        (bytearray(b"a"), None, "binary"),
        (memoryview(b"a"), "protobuf", "protobuf"),
        (7, None, "json"),
        (False, None, "json"),
        ([], None, "json"),
        ("", None, "text"),
        (b"", None, "binary"),
    ],
)
def test_the_data_type_is_the_natural_one_unless_given(data: Any, data_type: str | None, expected: str) -> None:
    assert check_data(data, data_type) == expected


@pytest.mark.parametrize("data", [None, float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("data_type", [None, "json"])
def test_json_null_is_refused_however_it_is_written(data: Any, data_type: str | None) -> None:
    with pytest.raises(InvalidValue, match=f"^data must not be {data!r}: .*null"):
        encode_send("g", data, data_type, False, 1, LIMIT)


NAN, INF = float("nan"), float("inf")


class Price(msgspec.Struct):
    price: Any


@dataclasses.dataclass
class Quote:
    price: Any


class Pair(NamedTuple):
    price: Any


class Odd(Enum):
    NAN = NAN


class Shelf(list[Any]):
    pass


NON_FINITE: dict[str, tuple[Any, str]] = {
    "in a dict": ({"price": NAN}, "nan (data['price'])"),
    "in a list": ([1.5, -INF], "-inf (data[1])"),
    "in a tuple": ((None, INF), "inf (data[1])"),
    "in a set": ({NAN}, "nan (data[0])"),
    "in a struct": (Price(INF), "inf (data['price'])"),
    "in a dataclass": ({"a": Quote(NAN)}, "nan (data['a']['price'])"),
    "in a named tuple": (Pair(NAN), "nan (data[0])"),
    "in a subclass": (Shelf([OrderedDict(a=NAN)]), "nan (data[0]['a'])"),
    "as an enum": (Odd.NAN, "nan"),
    "in an enum": ([Odd.NAN], "nan (data[0])"),
    "deep down": ({"a": [{"b": [None, [NAN, INF]]}]}, "nan (data['a'][0]['b'][1][0])"),
    "the first of many": ([None, {"a": {}, "b": NAN}, INF], "nan (data[1]['b'])"),
    "beside numbers of any size": ([2**70, NAN], "nan (data[1])"),
    "beside JSON": ([msgspec.Raw(b"null"), NAN], "nan (data[1])"),
    "under a key that is a number": ({1: None, 2: NAN}, "nan (data[2])"),
    "at the bottom of a nest": (functools.reduce(lambda inner, _: [inner], range(400), NAN), "nan (data" + "[0]" * 400),
}


@pytest.mark.parametrize("name", NON_FINITE)
@pytest.mark.parametrize(
    "send",
    [
        lambda data: encode_send("g", data, None, False, 1, LIMIT),
        lambda data: encode_send("g", data, "json", True, None, LIMIT),
        lambda data: encode_event("e", data, None, 1, LIMIT),
        encode_json,
    ],
    ids=["to a group", "without an ack", "event", "alone"],
)
def test_a_number_that_json_does_not_have_is_refused_wherever_it_is(name: str, send: Callable[[Any], bytes]) -> None:
    data, what = NON_FINITE[name]
    with pytest.raises(InvalidValue, match=f"^data must not hold {re.escape(what)}.*: JSON has no such number"):
        send(data)


@pytest.mark.parametrize(
    "data",
    [
        [None],
        {"a": None, "b": [1.5, None]},
        {"null": 1},
        ["null", "nan"],
        [None, b"\xcb\x7f\xf8", "\u02ff"],  # as MessagePack begins nan
        [None, 2**70],
        [None, msgspec.Raw(b"1e999")],
        [None, {"a": ()}, {1}, frozenset(), b"x", Price(None)],
        Price(None),
    ],
)
def test_null_is_sent_where_it_is_meant(data: Any) -> None:
    encoded = encode_send("g", data, None, False, 1, LIMIT)
    assert b"null" in encoded
    assert msgspec.json.encode(data) in encoded
    assert encode_json(data) in encoded


def test_text_and_binary_data_may_say_null() -> None:
    assert b'"data":"null"' in encode_send("g", "null", None, False, 1, LIMIT)
    assert b'"data":"nan"' in encode_send("null", "nan", "json", False, 1, LIMIT)
    assert b'"data":"null"' in encode_event("null", b"\x9e\xe9e", None, 1, LIMIT)


class Word(str):
    """A text of a type of its own, as libraries have them."""

    __slots__ = ()


class Order:
    """Something that encodes itself as the models of pydantic do."""

    def model_dump(self, mode: str) -> dict[str, str]:
        return {"mode": mode}


JSON_OF = [
    ((1, 2), "[1,2]"),
    ({1}, "[1]"),
    ({1: "a", 1.5: "b", NAN: "c"}, '{"1":"a","1.5":"b","nan":"c"}'),
    ([b"hi", bytearray(b"hi"), memoryview(b"hi")], '["aGk=","aGk=","aGk="]'),
    (Decimal("1.50"), '"1.50"'),
    (Decimal("NaN"), '"NaN"'),
    (datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC), '"2024-05-06T07:08:09Z"'),
    (UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
    (Price(1), '{"price":1}'),
    (Quote(1), '{"price":1}'),
    (2**70, "1180591620717411303424"),
    ([-0.0, 1e22, 0.1], "[-0.0,1e22,0.1]"),
    ([Word("a")], '["a"]'),
    (Order(), '{"mode":"json"}'),
]


@pytest.mark.parametrize(("data", "expected"), JSON_OF, ids=lambda value: value if isinstance(value, str) else "")
def test_what_is_sent_for_what(data: Any, expected: str) -> None:
    assert encode_json(data).decode() == expected


@pytest.mark.parametrize("data", [object(), Order, 1j, {None: 1}, {(1, 2): 1}, [object(), None]])
def test_what_json_has_nothing_for_is_refused(data: Any) -> None:
    with pytest.raises(InvalidType, match=r"^data cannot be encoded"):
        encode_json(data)


@pytest.mark.parametrize("data", [["\ud800"], {"\ud800": 1}, 10**5000], ids=["text", "key", "digits"])
def test_what_json_can_not_hold_is_refused(data: Any) -> None:
    with pytest.raises(InvalidValue, match=r"^data cannot be encoded"):
        encode_json(data)


def test_a_nest_that_is_too_deep_is_refused_whatever_it_holds() -> None:
    sent = 0
    for depth in range(700, 1100):  # at the edge, one of the encoders gets to the end and the other does not
        for leaf in (None, NAN, 2**70):
            data = functools.reduce(lambda inner, _: [inner], range(depth), [None, leaf])
            try:
                encode_json(data)
            except InvalidValue:
                continue
            sent += 1
            assert leaf is not NAN
    assert sent


@given(
    st.recursive(
        st.none() | st.integers() | st.floats() | st.text() | st.binary() | st.just("null"),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    )
)
def test_nan_is_refused_and_nothing_else_is(data: Any) -> None:
    builtins = msgspec.to_builtins(data)
    try:
        json.dumps(builtins, allow_nan=False)
        json.dumps(builtins, ensure_ascii=False).encode()
    except ValueError:
        with pytest.raises(InvalidValue):
            encode_json(data)
    else:
        assert json.loads(encode_json(data)) == builtins


def test_the_size_limit_is_that_of_the_whole_message() -> None:
    size = len(encode_send("g", "x", None, False, 1, LIMIT))
    encode_send("g", "x", None, False, 1, size)
    with pytest.raises(InvalidValue, match=r"max_request_size"):
        encode_send("g", "x", None, False, 1, size - 1)


class Color(IntEnum):
    RED = 1


@pytest.mark.parametrize("group", ["g", "a" * 1024, "\U0001f600" * 512, " a ", "ä.b/c", "\x00"])
def test_group_names_that_can_be_used(group: str) -> None:
    check_group(group)


@pytest.mark.parametrize("group", ["", " ", "\t\n", "a" * 1025, "\U0001f600" * 513, "\udfff", "a" * 600 + "\ud800"])
def test_group_names_that_can_not_be_used(group: str) -> None:
    with pytest.raises(InvalidValue, match="group"):
        check_group(group)


@pytest.mark.parametrize("event", ["e", "E9", "order.create-2_x", "a" * 128])
def test_event_names_that_can_be_used(event: str) -> None:
    check_event_name(event)


@pytest.mark.parametrize("event", ["", "9e", ".e", "a b", "é", "a\n", "a" * 129, "a/b"])
def test_event_names_that_can_not_be_used(event: str) -> None:
    with pytest.raises(InvalidValue, match="event"):
        check_event_name(event)


@pytest.mark.parametrize("ack_id", [1, 2**53 - 1, Color.RED])
def test_ack_ids_that_can_be_used(ack_id: int) -> None:
    check_ack_id(ack_id)


@pytest.mark.parametrize("ack_id", [0, -1, 2**53, True, 1.0, "1", None])
def test_ack_ids_that_can_not_be_used(ack_id: Any) -> None:
    with pytest.raises((InvalidValue, InvalidType), match="ack_id"):
        check_ack_id(ack_id)


@given(JSONS.filter(lambda value: value is not None and value == value and value not in (float("inf"), -float("inf"))))
def test_what_is_sent_as_json_is_received_as_the_same_json(value: Any) -> None:
    try:
        sent = json.loads(encode_send("g", value, "json", False, 1, LIMIT))
    except InvalidValue:
        return  # lone surrogates, integers beyond 64 bits
    received = decode(json.dumps(sent | {"type": "message", "from": "group"}).encode())
    assert type(received) is GroupMessage
    assert received.data == sent["data"]


@given(st.binary())
def test_what_is_sent_as_binary_is_received_as_the_same_bytes(data: bytes) -> None:
    sent = json.loads(encode_send("g", data, None, False, 1, LIMIT))
    received = decode(json.dumps(sent | {"type": "message", "from": "group"}).encode())
    assert type(received) is GroupMessage
    assert received.data == data


def test_names_of_groups_that_are_known_stay_few_and_short_and_are_good() -> None:
    known = json_requests._known_groups
    for number in range(2500):
        encode_send(f"group {number}", "x", None, False, 1, LIMIT)
        encode_send(f"{number:0>1024}", "x", None, False, 1, LIMIT)
        assert 0 < len(known) <= 1000
    assert max(map(len, known)) <= 128
    for bad in ("", " ", "g" * 1025, "\ud800"):
        for _ in range(2):
            with pytest.raises(InvalidValue):
                encode_send(bad, "x", None, False, 1, LIMIT)
