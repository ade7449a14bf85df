"""A session with a protobuf subprotocol: the same client, whose messages are in binary frames."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from google.protobuf import wrappers_pb2
from tests.helpers import frames
from tests.helpers.driving import PING, Drive, closed_with, hello, news, ok, refused, sequence_ack
from tests.helpers.protobuf import downstream, upstream

from limpet import (
    JSON,
    PROTOBUF,
    RELIABLE_JSON,
    RELIABLE_PROTOBUF,
    Acked,
    Channel,
    Connected,
    GroupMessage,
    InvalidType,
    InvalidValue,
    Link,
    LocalProtocolError,
    MessagesMissed,
    Options,
    Recovered,
    ServerMessage,
    State,
)

BOTH = pytest.mark.parametrize("protocol", [PROTOBUF, RELIABLE_PROTOBUF])


class ProtobufDrive(Drive):
    """A drive whose messages are spelled as in JSON, and are protobuf on their way."""

    def __init__(self, protocol: str = RELIABLE_PROTOBUF, **options: Any) -> None:
        super().__init__(protocol=protocol, **options)

    def says(self, *messages: Any) -> None:
        encoded = [message if isinstance(message, bytes) else downstream(message) for message in messages]
        self.session.receive_messages(encoded, self.now)

    def sent(self) -> list[dict[str, Any]]:
        return [upstream(message) for message in self.session.messages_to_send()]


@pytest.mark.parametrize(
    ("protocol", "reliable", "binary"),
    [(JSON, False, False), (RELIABLE_JSON, True, False), (PROTOBUF, False, True), (RELIABLE_PROTOBUF, True, True)],
)
def test_the_subprotocol_says_what_a_client_can_do(protocol: str, reliable: bool, binary: bool) -> None:
    options = Options(protocol=protocol)
    assert (options.reliable, options.binary) == (reliable, binary)


@BOTH
def test_the_life_of_a_client(protocol: str) -> None:
    drive = ProtobufDrive(protocol)
    drive.start()
    assert drive.open().protocol == protocol
    drive.says(hello("c1", user="ann", token="t1" if protocol == RELIABLE_PROTOBUF else None))
    (connected,) = drive.events()
    assert isinstance(connected, Connected)
    assert drive.session.user_id == "ann"
    drive.session.join_group("g", drive.now)
    drive.session.send_to_group("g", wrappers_pb2.StringValue(value="x"), drive.now)
    drive.session.send_event("e", {"a": 1}, drive.now)
    assert [(message["type"], message["ackId"]) for message in drive.sent()] == [
        ("joinGroup", 1), ("sendToGroup", 2), ("event", 3),
    ]  # fmt: skip
    drive.says(ok(1), ok(2), refused(3, "NotFound"))
    assert drive.answers() == {1: "done", 2: "done", 3: "NotFound/rejected"}
    number = 1 if protocol == RELIABLE_PROTOBUF else None
    drive.says(news(number, "x"), news(number and 2, 1, dataType="json"))
    assert [(event.data, event.sequence_id) for event in drive.events()] == [("x", number), (1, number and 2)]
    drive.advance(1.0)
    assert drive.sent() == ([sequence_ack(2)] if protocol == RELIABLE_PROTOBUF else [])


def test_a_recovery_goes_on_where_the_connection_was() -> None:
    drive = ProtobufDrive()
    drive.connect()
    drive.says(news(1))
    drive.session.join_group("g", drive.now)
    drive.session.messages_to_send()
    drive.drop()
    drive.until_dial()
    assert drive.open().recovery
    assert [message["type"] for message in drive.sent()] == ["sequenceAck", "ping"]
    drive.events()
    drive.says({"type": "pong"}, news(1), news(2))
    events = drive.events()
    assert [type(event) for event in events] == [Recovered, GroupMessage]
    assert [message["type"] for message in drive.sent()] == ["joinGroup"]


@pytest.mark.parametrize(
    ("protocol", "wrong", "text"),
    [
        (RELIABLE_PROTOBUF, "receive_message", "a text message where binary belongs"),
        (RELIABLE_JSON, "receive_binary", "a binary message where text belongs"),
    ],
)
def test_a_frame_of_the_other_kind_closes_with_1003(protocol: str, wrong: str, text: str) -> None:
    drive = ProtobufDrive() if protocol == RELIABLE_PROTOBUF else Drive()
    dial = drive.connect()
    getattr(drive.session, wrong)(b"{}", drive.now)
    assert closed_with(dial) == 1003
    assert dial.close is not None
    assert dial.close.reason == text
    assert drive.state is State.RECOVERING


def test_messages_that_come_one_by_one() -> None:
    drive = ProtobufDrive()
    drive.start()
    drive.open()
    drive.session.receive_binary(downstream(hello()), drive.now)
    drive.session.receive_binary(downstream(news(1)), drive.now)
    assert [type(event) for event in drive.events()] == [Connected, GroupMessage]


def test_messages_that_cannot_be_read_are_skipped_or_cost_one_recovery() -> None:
    drive = ProtobufDrive()
    drive.connect()
    bad = downstream(news(1, "x")).replace(b"\n\1x", b"\n\1\xff")
    drive.says(bad, news(2), b"\x2a\0")
    assert drive.events() == [
        MessagesMissed(1, 1),
        GroupMessage(group="g", data="news", data_type="text", sequence_id=2),
    ]
    drive.says(b"\xff")
    assert drive.state is State.RECOVERING


def test_invocations_and_group_states_are_refused_by_the_call() -> None:
    drive = ProtobufDrive()
    drive.connect()
    with pytest.raises(LocalProtocolError, match="has no form in the protobuf subprotocols"):
        drive.session.invoke("e", "x", drive.now)
    assert not drive.sent()
    assert drive.session.deadline == float("inf")


def test_a_large_message_is_refused_by_the_call() -> None:
    drive = ProtobufDrive(max_request_size=100)
    drive.connect()
    with pytest.raises(InvalidValue, match="above max_request_size"):
        drive.session.send_to_group("g", b"x" * 100, drive.now)
    with pytest.raises(InvalidType, match="data_type must be 'protobuf'"):
        drive.session.send_to_group("g", wrappers_pb2.StringValue(), drive.now, data_type="text")
    assert not drive.sent()


def test_publishes_without_ack_ask_for_one_now_and_then() -> None:
    drive = ProtobufDrive()
    drive.connect()
    prepared = drive.session.prepare_send("g", "x")
    assert prepared is not None
    for _ in range(1000):
        drive.session.send_prepared(prepared, drive.now, publish=True)
    sent = drive.sent()
    assert len(sent) == 1000
    assert 0 < sum("ackId" in message for message in sent) < 1000
    assert {message["data"] for message in sent} == {"x"}


def test_the_log_shows_messages_and_no_token(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="limpet.frames"):
        drive = ProtobufDrive()
        drive.start()
        drive.open()
        drive.says(hello("c1", token="SECRET-TOKEN"), news(1, "hi there"))
        drive.session.send_to_group("g", "hello you", drive.now)
        drive.sent()
        drive.session.events()
    assert "hi there" in caplog.text
    assert 'text_data: "hello you"' in caplog.text
    assert "c1" in caplog.text
    assert "SECRET-TOKEN" not in caplog.text


# ---- Links and channels


def opened(drive: Drive) -> tuple[Link, bytes]:
    drive.session.start(drive.now)
    drive.session.url_ready("ws://example.test/client/hubs/chat", drive.now)
    link = Link(drive.session, drive.dial, random_bytes=lambda size: bytes(range(256))[:size])
    (handshake,) = link.data_to_send()
    assert frames.request_of(handshake).subprotocols == [drive.options.protocol]
    link.receive_data(frames.accept(handshake), drive.now)
    return link, handshake


@pytest.mark.parametrize("size", [10, 2000, 70_000])
def test_a_link_sends_and_receives_binary_frames(size: int) -> None:
    drive = ProtobufDrive()
    link, _ = opened(drive)
    whole = downstream(news(1, "x" * size))
    parts = frames.fragments(whole, 3, 5, opcode=frames.BINARY, between=frames.frame(frames.PING))
    link.receive_data(frames.frame(frames.BINARY, downstream(hello())) + parts, drive.now)
    assert [type(event) for event in drive.session.events()] == [Connected, GroupMessage]
    link.data_to_send()
    drive.session.send_to_group("g", "y" * size, drive.now)
    ((opcode, payload),) = frames.parse_client_frames(b"".join(link.data_to_send()))
    assert opcode == frames.BINARY
    assert upstream(payload)["data"] == "y" * size


def test_a_channel_sends_and_receives_bytes() -> None:
    drive = ProtobufDrive()
    drive.session.start(drive.now)
    drive.session.url_ready("ws://example.test/client/hubs/chat", drive.now)
    channel = Channel(drive.session, drive.dial)
    channel.opened(drive.now)
    channel.binary(downstream(hello()), drive.now)
    channel.binary(
        downstream({"type": "message", "from": "server", "dataType": "text", "data": "x", "sequenceId": 1}), drive.now
    )
    assert [type(event) for event in drive.session.events()] == [Connected, ServerMessage]
    drive.session.join_group("g", drive.now)
    sent = channel.to_send()
    assert [upstream(message)["type"] for message in sent if isinstance(message, bytes)] == ["joinGroup"]
    channel.message("{}", drive.now)
    assert channel.close is not None
    assert channel.close.code == 1003


def test_a_keepalive_is_a_ping_in_protobuf() -> None:
    drive = ProtobufDrive(keepalive_interval=20.0, keepalive_timeout=120.0)
    drive.connect()
    drive.advance(20.0)
    assert drive.sent() == [PING]
    assert not drive.events(Acked)
