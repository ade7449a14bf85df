"""The ``stream`` of a group message: what is understood, and what costs this one message."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.helpers.driving import Drive

from limpet import GroupMessage, MessagesMissed, StreamFault, StreamInfo
from limpet_core.protocol.json import decode
from limpet_core.protocol.messages import Broken

HEAD = '{"sequenceId":1,"type":"message","from":"group","group":"g"'
DEEP = "[" * 400_000 + "]" * 400_000
"""Too deep for every Python: up to 3.13 calls are counted, from 3.14 on the stack is measured."""


def decoded(stream: str, rest: str = ',"dataType":"text","data":"x"') -> Any:
    return decode(f'{HEAD}{rest},"stream":{stream}}}'.encode())


FAULT = '{"streamId":"s","streamSequenceId":4,"endOfStream":true,"error":%s}'
UNREADABLE = StreamFault(message="the error with which the stream ended cannot be read")

UNDERSTOOD: dict[str, tuple[str, StreamInfo | None]] = {
    "a fragment": ('{"streamId":"s","streamSequenceId":1}', StreamInfo(stream_id="s", sequence_id=1)),
    "more than is known": (
        '{"more":[1],"streamSequenceId":2,"streamId":"","endOfStream":false}',
        StreamInfo(stream_id="", sequence_id=2),
    ),
    "null": ("null", None),
    "null for all that may be missing": (
        '{"streamId":"s","streamSequenceId":1,"endOfStream":null,"error":null}',
        StreamInfo(stream_id="s", sequence_id=1),
    ),
    "beyond 64 bits": (f'{{"streamId":"s","streamSequenceId":{2**70}}}', StreamInfo(stream_id="s", sequence_id=2**70)),
    "the end": (
        '{"streamId":"s","streamSequenceId":4,"endOfStream":true}',
        StreamInfo(stream_id="s", sequence_id=4, end=True),
    ),
    "an error": (
        FAULT % '{"name":"UserError","message":"why","userErrorCode":"E42"}',
        StreamInfo(stream_id="s", sequence_id=4, end=True, error=StreamFault("UserError", "why", "E42")),
    ),
    "an empty error": (FAULT % "{}", StreamInfo(stream_id="s", sequence_id=4, end=True, error=StreamFault())),
    "an error with null": (
        FAULT % '{"name":"IdleTimeout","message":null,"userErrorCode":null}',
        StreamInfo(stream_id="s", sequence_id=4, end=True, error=StreamFault("IdleTimeout")),
    ),
    "half a pair in an error": (
        FAULT % r'{"name":"UserError","message":"\ud800"}',
        StreamInfo(stream_id="s", sequence_id=4, end=True, error=StreamFault("UserError", "\ufffd")),
    ),
    "a replacement in an id": (
        r'{"streamId":"\ufffd","streamSequenceId":1,"error":{"message":null}}',
        StreamInfo(stream_id="\ufffd", sequence_id=1, error=StreamFault()),
    ),
}
for error in ("7", '"x"', "[]", '{"name":1}', '{"userErrorCode":42}'):
    UNDERSTOOD[f"the error {error}"] = (
        FAULT % error,
        StreamInfo(stream_id="s", sequence_id=4, end=True, error=UNREADABLE),
    )


@pytest.mark.parametrize("name", UNDERSTOOD)
def test_what_is_understood(name: str) -> None:
    stream, expected = UNDERSTOOD[name]
    message = decoded(stream)
    assert message == GroupMessage(group="g", data="x", data_type="text", sequence_id=1, stream=expected)
    assert isinstance(message, GroupMessage)
    assert message.stream is None or type(message.stream.end) is bool


BROKEN = [
    "5",
    '"x"',
    "[]",
    "true",
    "{}",
    '{"streamId":"s"}',
    '{"streamSequenceId":1}',
    '{"streamId":null,"streamSequenceId":1}',
    '{"streamId":1,"streamSequenceId":1}',
    '{"streamId":"s","streamSequenceId":null}',
    '{"streamId":"s","streamSequenceId":0}',
    '{"streamId":"s","streamSequenceId":-1}',
    '{"streamId":"s","streamSequenceId":1.5}',
    '{"streamId":"s","streamSequenceId":1e30}',
    '{"streamId":"s","streamSequenceId":1e999}',
    '{"streamId":"s","streamSequenceId":"1"}',
    '{"streamId":"s","streamSequenceId":true}',
    f'{{"streamId":"s","streamSequenceId":{"9" * 5000}}}',
    '{"streamId":"s","streamSequenceId":1,"endOfStream":"yes"}',
    '{"streamId":"s","streamSequenceId":1,"endOfStream":1}',
    r'{"streamId":"a\ud800","streamSequenceId":1}',
    f'{{"streamId":"s","streamSequenceId":1,"more":{DEEP}}}',
    f'{{"streamId":{DEEP},"streamSequenceId":1}}',
    FAULT % DEEP,
]


@pytest.mark.parametrize("stream", BROKEN, ids=lambda stream: stream[:40])
def test_what_is_broken_costs_this_one_message(stream: str) -> None:
    broken = decoded(stream)
    assert isinstance(broken, Broken)
    assert broken.sequence_id == 1
    drive = Drive()
    drive.connect()
    drive.says(f'{HEAD},"dataType":"text","data":"x","stream":{stream}}}')
    drive.says(f'{HEAD},"dataType":"text","data":"next"}}'.replace('"sequenceId":1', '"sequenceId":2'))
    missed, message = drive.session.events()
    assert missed == MessagesMissed(1, 1)
    assert isinstance(message, GroupMessage)
    assert message.data == "next"


@pytest.mark.parametrize(
    ("rest", "data_type"),
    [
        ("", "json"),
        (',"dataType":"text"', "text"),
        (',"dataType":"text","data":null', "text"),
        (',"dataType":"text","data":7', "text"),
        (',"dataType":"binary"', "binary"),
        (',"dataType":"binary","data":"no base64"', "binary"),
        (',"dataType":null,"data":null', "json"),
    ],
)
def test_the_end_of_a_stream_is_not_lost_over_its_data(rest: str, data_type: str) -> None:
    message = decoded('{"streamId":"s","streamSequenceId":4,"endOfStream":true}', rest)
    assert isinstance(message, GroupMessage)
    assert (message.data, message.data_type) == (None, data_type)
    if data_type != "json":
        assert isinstance(decoded('{"streamId":"s","streamSequenceId":4}', rest), Broken)


def test_the_stream_of_a_message_of_the_server_is_not_looked_at() -> None:
    assert decode(b'{"type":"message","from":"server","dataType":"text","data":"x","stream":5}').data == "x"  # type: ignore[union-attr]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["name", "message", "x"]), inner),
    max_leaves=5,
)


@given(
    st.dictionaries(st.sampled_from(["streamId", "streamSequenceId", "endOfStream", "error"]), VALUES),
    st.sampled_from(["text", "binary", None]),
    VALUES,
)
def test_no_stream_makes_the_decoder_raise_or_give_a_wrong_type(stream: Any, data_type: Any, data: Any) -> None:
    message = decode(
        json.dumps(
            {"type": "message", "from": "group", "group": "g", "stream": stream, "dataType": data_type, "data": data}
        ).encode()
    )
    assert isinstance(message, Broken | GroupMessage)
    if isinstance(message, GroupMessage):
        info = message.stream
        assert info is not None
        assert type(info.stream_id) is str
        assert type(info.sequence_id) is int
        assert info.sequence_id >= 1
        assert type(info.end) is bool
        assert info.error is None or type(info.error.name) is type(info.error.message) is str
