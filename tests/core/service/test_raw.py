"""Raw clients: those without a subprotocol, in virtual time."""

from __future__ import annotations

import pytest
from tests.core.service.virtual import ServiceUnderTest

from limpet_core.service import (
    JSON,
    Binary,
    InvalidQuery,
    ProtocolViolation,
    RawMode,
    group_publication,
    server_publication,
)

EVENTS = RawMode()
ROOM = RawMode("room")
SEND = ("webpubsub.sendToGroup.room",)


# ---- The query


@pytest.mark.parametrize(
    ("query", "mode"),
    [
        ({}, EVENTS),
        ({"webpubsub_mode": [""]}, EVENTS),
        ({"noEcho": ["yes"], "group": [" "]}, EVENTS),
        ({"WEBPUBSUB_MODE": ["sendToGroup"], "Group": ["room"], "NOECHO": ["true"]}, RawMode("room", True)),
        ({"webpubsub_mode": ["SENDEVENT"], "group": ["room"], "noEcho": ["TRUE"]}, EVENTS),
        ({"webpubsub_mode": ["sendtogroup"], "group": ["room"]}, ROOM),
        ({"webpubsub_mode": ["sendEvent", "sendToGroup"], "group": ["a", "room"]}, ROOM),
        ({"webpubsub_mode": ["sendToGroup"], "group": ["room"], "noEcho": ["false", "True"]}, RawMode("room", True)),
        ({"webpubsub_mode": ["sendToGroup"], "group": [" room "]}, RawMode(" room ")),
    ],
)
def test_the_query_says_what_becomes_of_messages(query: dict[str, list[str]], mode: RawMode) -> None:
    assert RawMode.from_query(query) == mode


@pytest.mark.parametrize(
    "query",
    [
        {"webpubsub_mode": ["sendToAll"]},
        {"webpubsub_mode": ["sendToGroup"], "group": ["room"], "noEcho": ["yes"]},
        {"webpubsub_mode": ["sendToGroup"]},
        {"webpubsub_mode": ["sendToGroup"], "group": [""]},
        {"webpubsub_mode": ["sendToGroup"], "group": ["room", " "]},
        {"webpubsub_mode": ["sendToGroup"], "group": ["r" * 1025]},
    ],
)
def test_a_query_that_makes_no_sense_is_refused(query: dict[str, list[str]]) -> None:
    with pytest.raises(InvalidQuery):
        RawMode.from_query(query)


# ---- The logic


def test_frames_are_published_to_the_group_and_come_back_unless_no_echo() -> None:
    service = ServiceUnderTest()
    raw = service.connect(user="ann", roles=SEND, groups=("room",), raw=ROOM)
    silent = service.connect(roles=SEND, groups=("room",), raw=RawMode("room", no_echo=True))
    member = service.connect(groups=("room",), subprotocol=JSON)
    assert member.hello()["event"] == "connected"
    raw.send_raw('"hi" ☺')
    raw.send_raw(b"\x00\xff")
    silent.send_raw("quiet")
    (text, binary, quiet) = member.received()
    assert (text["dataType"], text["data"], text["fromUserId"], text["group"]) == ("text", '"hi" ☺', "ann", "room")
    assert (binary["dataType"], binary["data"]) == ("binary", "AP8=")
    assert quiet["fromUserId"] is None
    assert raw.received_raw() == ['"hi" ☺'.encode(), b"\x00\xff", b"quiet"]
    assert silent.received_raw() == ['"hi" ☺'.encode(), b"\x00\xff"]


@pytest.mark.parametrize(
    ("data_type", "data", "payload"),
    [
        ("text", '"a\\n☺"', "a\n☺".encode()),
        ("json", '{"a": [1, "x"]}', b'{"a": [1, "x"]}'),
        ("json", '"quotes stay"', b'"quotes stay"'),
        ("binary", '"AAEC"', Binary(b"\0\1\2")),
        ("protobuf", '"AAEC"', Binary(b"\0\1\2")),
    ],
)
def test_raw_clients_get_the_payload_alone(data_type: str, data: str, payload: bytes) -> None:
    service = ServiceUnderTest()
    raw = service.connect(raw=EVENTS, groups=("room",))
    assert raw.received_raw() == []
    service.core.send_to_all("chat", server_publication(data_type, data.encode()))
    service.core.send_to_group("chat", "room", group_publication("room", "ann", data_type, data.encode()))
    received = raw.received_raw()
    assert received == [payload, payload]
    assert {type(message) for message in received} == {type(payload)}


def test_raw_clients_get_neither_acks_nor_system_messages_and_their_json_is_only_text() -> None:
    service = ServiceUnderTest()
    raw = service.connect(roles=SEND, raw=ROOM)
    member = service.connect(groups=("room",))
    member.hello()
    message = '{"type":"joinGroup","group":"room","ackId":1}'
    raw.send_raw(message)
    assert [m["data"] for m in member.received()] == [message]
    service.core.close_connection("c1", "bye")
    assert raw.received_raw() == []
    assert raw.transport.close is not None
    assert (raw.close_code, raw.transport.close.reason) == (1000, "")


def test_what_a_raw_client_may_not_do_or_nobody_handles_ends_it() -> None:
    service = ServiceUnderTest()
    forbidden, unheard, broken, big = (
        service.connect(roles=(), raw=ROOM),
        service.connect(raw=EVENTS),
        service.connect(raw=ROOM),
        service.connect(raw=ROOM),
    )
    forbidden.send_raw("x")
    unheard.send_raw("x")
    broken.send_raw("\udcff")
    big.send_raw(b"x" * (2**20 + 1))
    assert [client.close_code for client in (forbidden, unheard, broken, big)] == [1008, 1011, 1007, 1009]
    assert service.core.connection("c1") is None


def test_a_raw_client_that_drops_is_gone() -> None:
    service = ServiceUnderTest()
    raw = service.connect(raw=EVENTS, groups=("room",))
    raw.drop()
    assert service.core.connection("c1") is None
    assert not service.core.hub("chat").members("room")


def test_text_that_is_no_unicode_is_a_protocol_violation() -> None:
    with pytest.raises(ProtocolViolation, match="UTF-8"):
        ROOM.message("\ud800")
