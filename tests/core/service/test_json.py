"""JSON on its way from one client or application server to another: whoever gets it can read it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.core.service.virtual import ServiceUnderTest
from tests.helpers.profiles import examples

from limpet import RELIABLE_JSON, GroupMessage, MessagesMissed, Options, ServerMessage, Session, State
from limpet.service import mint_client_token
from limpet_core.service import JSON, ClientGrant, RawMode
from limpet_core.service.access.tokens import InvalidClaims
from limpet_core.service.data_plane.parameters import OperationError, payload
from limpet_core.service.webhooks.answers import Answer
from limpet_core.service.webhooks.cloud_events import read_reply
from limpet_core.service.webhooks.connect_request import connect_request
from limpet_core.service.wire.from_client import ProtocolViolation, UnknownOperation, check_json, decode

INF = float("inf")


def nest(depth: int) -> str:
    return "[" * depth + "]" * depth


def publish(data: str, **fields: Any) -> str:
    """A request to publish JSON that is spelled out."""
    message = {"type": "sendToGroup", "group": "room", "ackId": 7, "dataType": "json", "data": None, **fields}
    return json.dumps(message).replace("null", data)


def strictly(message: bytes) -> Any:
    """What a strict decoder reads; text of it can be sent on."""
    decoded = json.loads(message.decode(), parse_int=float, parse_constant=int)
    json.dumps(decoded, ensure_ascii=False).encode()
    return decoded


class Listener:
    """Our own client, connected to the service, in a group."""

    def __init__(self, service: ServiceUnderTest, protocol: str = RELIABLE_JSON) -> None:
        self.client = service.connect(groups=("room",), subprotocol=protocol)
        options = Options(protocol=protocol, keepalive_interval=None, keepalive_timeout=None)
        self.session = Session(options, random=lambda: 0.5)
        self.session.start(0.0)
        self.session.url_ready("ws://service.test/client/hubs/chat", 0.0)
        self.session.connected(0.0)
        self.hears()

    def hears(self) -> list[Any]:
        """What it is told; nothing that the service sends is beyond a strict decoder, and none of it costs anything."""
        messages = self.client.received_raw()
        for message in messages:
            strictly(message)
        self.session.receive_messages(messages, 0.0)
        assert self.session.state is State.CONNECTED
        return [
            event for event in self.session.events() if type(event) in (GroupMessage, ServerMessage, MessagesMissed)
        ]


FORWARDED: dict[str, tuple[str, Any]] = {
    "half a pair": (r'"\ud83d"', "\ufffd"),
    "half a pair in a key and deep down": (r'{"\ude00":[["\ud83dx"]]}', {"\ufffd": [["\ufffdx"]]}),
    "half a pair beside a whole one": (r'"\ud83d\ud83d\ude00"', "\ufffd\U0001f600"),
    "what only looks like it": (r'"\\ud83d"', "\\ud83d"),
    "both": (r'["\\ud83d","\ud83d"]', ["\\ud83d", "\ufffd"]),
    "a number beyond floats": ("[1e999,-1e999]", [INF, -INF]),
    "an integer of 400 digits": ("9" * 400, int("9" * 400)),
    "U+0000": (r'"\u0000"', "\0"),
    "a key twice": ('{"a":1,"a":2}', {"a": 2}),
    "a nest of 256": (nest(256), json.loads(nest(256))),
    "a nest in text": (json.dumps(nest(300)), nest(300)),
    "a long list": (json.dumps([[]] * 300), [[]] * 300),
}


@pytest.mark.parametrize("name", FORWARDED)
@pytest.mark.parametrize("protocol", [JSON, RELIABLE_JSON])
def test_what_a_client_publishes_can_be_read_by_every_other(name: str, protocol: str) -> None:
    text, expected = FORWARDED[name]
    service = ServiceUnderTest()
    listener, publisher = Listener(service, protocol), service.connect()
    publisher.hello()
    publisher.send_raw(publish(text))
    assert publisher.received() == [{"type": "ack", "ackId": 7, "success": True}]
    (message,) = listener.hears()
    assert message.data == expected


def test_half_a_pair_in_a_text_is_replaced_for_everybody_and_raw_clients_too() -> None:
    service = ServiceUnderTest()
    listener, publisher = Listener(service), service.connect()
    raw = service.connect(raw=RawMode(), groups=("room",))
    publisher.send_raw(publish(r'"cut \ud83d"', dataType="text"))
    assert [message.data for message in listener.hears()] == ["cut \ufffd"]
    assert raw.received_raw() == ["cut \ufffd".encode()]
    publisher.send_raw(publish(r'"\ud83d"', ackId=8))
    assert raw.received_raw() == [rb'"\ufffd"']


@pytest.mark.parametrize("kind", ["sendToGroup", "event"])
@pytest.mark.parametrize(
    ("property", "depth"),
    # 400,000 are too deep for every Python: up to 3.13 calls are counted, from 3.14 on the stack is measured.
    [("data", 257), ("data", 700), ("data", 400_000), ("metadata", 400_000), ("more", 400_000)],
)
def test_a_nest_that_clients_may_not_be_able_to_read_is_refused_with_an_answer(
    kind: str, property: str, depth: int
) -> None:
    service = ServiceUnderTest()
    listener, publisher = Listener(service), service.connect()
    publisher.hello()
    message = {"type": kind, "group": "room", "event": "e", "dataType": "json", "data": 1, property: "DEEP", "ackId": 7}
    publisher.send_raw(json.dumps(message).replace('"DEEP"', '{"a":' + nest(depth - 1) + "}"))
    (answer,) = publisher.received()
    assert answer == {
        "type": "ack",
        "ackId": 7,
        "success": False,
        "error": {"name": "BadRequest", "message": "invalid message: JSON may be nested 256 deep"},
    }
    assert publisher.close_code is None
    assert listener.hears() == []


@pytest.mark.parametrize("depth", [257, 100_000])
def test_without_an_ack_id_there_is_no_other_answer_than_a_close(depth: int) -> None:
    publisher = ServiceUnderTest().connect()
    publisher.send_raw(publish(nest(depth), ackId=18446744073709551616).replace('"ackId": 18446744073709551616, ', ""))
    assert publisher.close_code == 1007


def test_an_ack_id_of_more_than_64_bits_is_answered_by_nobody() -> None:
    publisher = ServiceUnderTest().connect()
    publisher.send_raw(publish(nest(100_000), ackId=2**64))
    assert publisher.close_code == 1007


@pytest.mark.parametrize("depth", [257, 100_000])
def test_a_nest_that_is_passed_to_nobody_does_no_harm(depth: int) -> None:
    service = ServiceUnderTest()
    client = service.connect()
    client.hello()
    client.send_raw('{"type":"JOINgroup","more":' + nest(depth) + r',"group":"room","x":"\ud83d","ackId":1}')
    assert client.received() == [{"type": "ack", "ackId": 1, "success": True}]
    client.send_raw('{"type":"ping","more":{"a":' + nest(depth) + "}}")
    assert client.received() == [{"type": "pong"}]


def below(calls: int, function: Callable[[], object]) -> str:
    """Return what a function returns or raises that is called below so many others."""
    if calls:
        return below(calls - 1, function)
    try:
        return repr(plain(function()))
    except (ProtocolViolation, UnknownOperation) as error:
        return repr((error, vars(error)))


def plain(value: Any) -> Any:
    """Return a value with the bytes of raw JSON, whose repr has an address."""
    if isinstance(value, msgspec.Raw):
        return bytes(value)
    if isinstance(value, msgspec.Struct):
        return type(value).__name__, [plain(getattr(value, name)) for name in value.__struct_fields__]
    return [plain(each) for each in value] if isinstance(value, tuple) else value


@pytest.mark.parametrize("depth", [100, 256, 257, 600, 900, 980, 3000])
@pytest.mark.parametrize(
    "message",
    [
        '{"type":"sendToGroup","group":"g","dataType":"json","data":1,"ackId":1,"more":DEEP}',
        '{"type":"sendToGroup","group":"g","dataType":"json","data":DEEP,"ackId":1}',
        '{"type":"event","event":"e","dataType":"text","data":"x","more":DEEP}',
        '{"type":"joinGroup","group":"g","ackId":1,"more":DEEP}',
        '{"type":"streamData","streamId":"s","streamSequenceId":1,"dataType":"text","data":"x","more":DEEP}',
        '{"type":"invoke","invocationId":"7","target":"event","event":"e","dataType":"text","data":"x","more":DEEP}',
        '{"type":"ping","more":DEEP,,}',
        "DEEPx",
    ],
    ids=["beside the data", "data", "event", "join", "stream", "invocation", "no JSON behind it", "no message"],
)
def test_whatever_is_read_of_a_nest_does_not_depend_on_the_calls_that_led_to_it(message: str, depth: int) -> None:
    # The nodes of a cluster must all do the same with it; one may be a part of a larger program, or of another Python.
    data = message.replace("DEEP", nest(depth)).encode()
    assert below(0, lambda: decode(data)) == below(400, lambda: decode(data))
    answer = Answer(200, (("content-type", "application/json"),), data)
    assert below(0, lambda: read_reply(answer)) == below(400, lambda: read_reply(answer))


@pytest.mark.parametrize(
    "text", ["AAAA=", "AAAA==", "AAAA===", "AAAA====", "AA===", "AAA==", "AA=", "=", "A", "AA\n==", "A-=="]
)
def test_base64_with_a_padding_that_only_some_pythons_take_is_refused(text: str) -> None:
    def message(data: str) -> bytes:
        return json.dumps({"type": "sendToGroup", "group": "g", "dataType": "binary", "data": data}).encode()

    with pytest.raises(ProtocolViolation, match="data is not valid base64"):
        decode(message(text))
    for good in ("", "AA==", "AAA=", "AAAA", "AB=="):
        decode(message(good))


def test_what_is_not_deep_is_answered_also_below_very_many_calls() -> None:
    data = b"[" * 512
    for message in (data, b'{"type":"ping","more":' + b"[" * 490):
        assert "ProtocolViolation" in below(700, partial(decode, message))
    # Python 3.11 counts the calls below; later ones find that it has no end.
    with pytest.raises(ValueError, match="nested too deeply" if sys.version_info < (3, 12) else "not valid JSON"):
        below(700, lambda: check_json(data))


@pytest.mark.parametrize("kind", ["joinGroup", "leaveGroup", "sendToGroup"])
@pytest.mark.parametrize("more", ["", nest(100_000)], ids=["alone", "beside a nest"])
def test_a_group_name_is_never_changed(kind: str, more: str) -> None:
    """U+FFFD would make one group of all names with half of a pair."""
    service = ServiceUnderTest()
    client = service.connect(groups=("\ufffd",))
    client.hello()
    client.send_raw(
        json.dumps({"type": kind, "group": "\ud83d", "data": "x", "ackId": 7, "more": 0}).replace("0", more or "0")
    )
    (answer,) = client.received()
    assert (answer["ackId"], answer["success"], answer["error"]["name"]) == (7, False, "BadRequest")
    assert client.close_code is None
    # What is written as it is, is what it is.
    client.send_raw(r'{"type":"sendToGroup","group":"\ufffd","data":"\ud83d","ackId":8}')
    message, done = client.received()
    assert (message["group"], message["data"], done["success"]) == ("\ufffd", "\ufffd", True)


@pytest.mark.parametrize(
    "message",
    [
        r'{"type":"sendToGroup","group":"room","data":"\ud83d","ackId":1',
        r'{"type":"sendToGroup","data":"\ud83d","ackId":1}',
        r'{"type":"sendToGroup","group":"room","data":"\ud8","ackId":1}',
        '{"x":' + nest(100_000) + "}",
        '{"type":"ping","x":' + "[" * 100_000 + "}",
    ],
)
def test_what_is_wrong_besides_ends_the_connection_as_ever(message: str) -> None:
    client = ServiceUnderTest().connect()
    client.send_raw(message)
    assert client.close_code == 1007


# ---- ApplicationServer servers


def test_the_payload_of_a_request_can_be_read_by_clients() -> None:
    assert payload("application/json", rb' ["\ud83d"] ') == ("json", rb'["\ufffd"]')
    assert payload("application/json", b"1e999") == ("json", b"1e999")
    for body, problem in (
        (nest(257), "nested too deeply"),
        (nest(100_000), "nested too deeply"),
        ("[", "not a valid JSON"),
    ):
        with pytest.raises(OperationError, match=problem) as refusal:
            payload("application/json", body.encode())
        assert refusal.value.status == 400


def test_the_answer_of_an_event_handler_can_be_read_by_clients() -> None:
    def reply(body: bytes) -> Any:
        return read_reply(Answer(200, (("content-type", "application/json"),), body))

    assert reply(rb'{"a":"\ud83d"}').payload == rb'{"a":"\ufffd"}'
    assert reply(nest(256).encode()).payload == nest(256).encode()
    for body in (nest(257), nest(100_000)):
        assert reply(body.encode()) == "The event handler's answer is not valid: its body is nested too deeply."
    for wrong in (b"[", b"NaN", rb'"\ud83d', b'"\xff"'):
        assert reply(wrong).startswith("The event handler's answer is not valid: its body is not ")


@pytest.mark.parametrize("claims", [{"sub": "\ud83d"}, {"webpubsub.group": ["\ud83d"]}])
def test_a_token_with_half_a_pair_in_a_name_is_refused(claims: dict[str, Any]) -> None:
    with pytest.raises(InvalidClaims):
        ClientGrant.from_claims(claims)


def test_a_token_with_any_whole_text_in_a_name_is_taken() -> None:
    claims = {"sub": "\ufffd\U0001f600", "webpubsub.group": "\U0001f600"}
    assert ClientGrant.from_claims(claims) == ClientGrant("\ufffd\U0001f600", (), ("\U0001f600",))


def test_no_token_is_made_that_would_be_refused() -> None:
    key = "Endpoint=http://service.test;AccessKey=" + "k" * 32
    for names in ({"user_id": "\ud83d"}, {"groups": ["\ud83d"]}):
        with pytest.raises(ValueError, match=r"surrogate|group name"):
            mint_client_token(key, **names)  # type: ignore[arg-type]
    assert mint_client_token(key, user_id="\U0001f600", groups=["\U0001f600"])


def test_an_event_handler_is_told_of_claims_whatever_they_are_called() -> None:
    body = connect_request({"a\ud83d": "b\ud83d", "c": ["\ud83d", 1]}, {}, [], []).body()
    assert json.loads(body)["claims"] == {"a?": ["b?"], "c": ["?", "1"]}


def test_text_for_people_is_sent_whatever_is_in_it() -> None:
    service = ServiceUnderTest()
    client = service.connect()
    connection_id = client.hello()["connectionId"]
    service.core.close_connection(connection_id, "bye \ud83d")
    said = "Application server closed the connection. Reason: bye ?"
    assert client.received() == [{"type": "system", "event": "disconnected", "message": said}]


# ---- Any JSON there is

STRINGS = st.text(st.characters() | st.sampled_from('\ud83d\ude00\ud800\udfff\\u"/\0'), max_size=8)
NUMBERS = st.one_of(
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.from_regex(r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,9})?([eE][+-]?[0-9]{1,12})?", fullmatch=True).map(
        lambda text: text
    ),
)


class Spelled(str):
    """JSON that is spelled out."""


def spell(value: Any) -> str:
    """JSON, with numbers as they are spelled and any escapes."""
    if isinstance(value, Spelled):
        return value
    if isinstance(value, list):
        return "[" + ",".join(map(spell, value)) + "]"
    if isinstance(value, tuple):
        return "{" + ",".join(f"{json.dumps(key)}:{spell(item)}" for key, item in value) + "}"
    return json.dumps(value)


DOCUMENTS = st.recursive(
    st.none() | st.booleans() | STRINGS | NUMBERS.map(lambda number: Spelled(number)),
    lambda inner: st.lists(inner, max_size=4) | st.lists(st.tuples(STRINGS, inner), max_size=4).map(tuple),
    max_leaves=12,
).map(spell)


def replaced(value: Any) -> Any:
    """A value with U+FFFD in place of halves of pairs."""
    if isinstance(value, str):
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, list):
        return [replaced(item) for item in value]
    if isinstance(value, dict):
        return {replaced(key): replaced(item) for key, item in value.items()}
    return value


@given(DOCUMENTS, st.sampled_from([JSON, RELIABLE_JSON]))
@example('{"a":1,"a":1e999}', JSON)
@example(r'"\ud83d\\ude00"', JSON)
@example("9" * 5000, RELIABLE_JSON)
@settings(max_examples=examples(100))
def test_any_json_is_delivered_as_python_reads_it_or_told(text: str, protocol: str) -> None:
    service = ServiceUnderTest()
    listener, publisher = Listener(service, protocol), service.connect()
    publisher.hello()
    publisher.send_raw(publish(text))
    if publisher.close_code is not None:
        assert text == "null"
        return
    assert publisher.received() == [{"type": "ack", "ackId": 7, "success": True}]
    (message,) = listener.hears()
    try:
        expected = replaced(json.loads(text))
    except ValueError:
        expected = INF  # more digits than Python converts
    assert message.data == expected
    assert repr(message.data) == repr(expected)


@given(DOCUMENTS, st.sampled_from([JSON, RELIABLE_JSON]), st.booleans())
@settings(max_examples=examples(100))
def test_whatever_service_sends_any_json_it_is_delivered_as_python_reads_it(
    text: str, protocol: str, last: bool
) -> None:
    """Another service may forward all of it as it is."""
    (event,) = arrives(text, protocol, last)
    assert repr(event.data) == repr(replaced(json.loads(text)))


@given(st.integers(1, 3000).map(nest), st.sampled_from([JSON, RELIABLE_JSON]), st.booleans())
@settings(max_examples=examples(50))
def test_whatever_service_sends_any_nest_it_is_delivered_or_told(text: str, protocol: str, last: bool) -> None:
    (event,) = arrives(text, protocol, last)
    if type(event) is MessagesMissed:
        assert len(text) // 2 > 256
        assert event == (MessagesMissed(1, 1) if protocol == RELIABLE_JSON else MessagesMissed(0, 0))
    else:
        depth, inner = 1, event.data
        while inner:
            depth, (inner,) = depth + 1, inner
        assert depth == len(text) // 2


def arrives(text: str, protocol: str, last: bool) -> list[Any]:
    """What a client of ours is told when a service sends it this data, before or after the sequence id."""
    listener = Listener(ServiceUnderTest(), protocol)
    members = [f'"data":{text}', '"sequenceId":1']
    first, second = members if last else reversed(members)
    message = f'{{"type":"message","from":"group","group":"g","dataType":"json",{first},{second}}}'
    listener.session.receive_message(message, 0.0)
    assert listener.session.state is State.CONNECTED
    return list(listener.session.events())
