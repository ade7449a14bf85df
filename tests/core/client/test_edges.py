"""Rare ways through the core that no other test takes."""

from __future__ import annotations

import pytest
from tests.helpers import frames
from tests.helpers.driving import Drive, encoded, hello, news

from limpet import Link, Options, Recovering, Session
from limpet_core.service import ClientGrant, Close, GroupRules, InvalidClaims, Limits, Transport


def test_an_ack_that_has_gone_out_already_is_not_sent_when_its_second_is_over() -> None:
    drive = Drive()
    drive.connect()
    drive.says(news(1))
    drive.says(*(news(n) for n in range(2, 101)))
    assert [message["sequenceId"] for message in drive.sent()] == [100]
    drive.advance(2)
    assert drive.sent() == []


def test_at_most_500_requests_are_in_flight_and_the_next_follow_the_answers() -> None:
    drive = Drive()
    drive.connect()
    for n in range(502):
        drive.session.send_to_group("g", n, drive.now)
    assert len(drive.sent()) == 500
    drive.says({"type": "ack", "ackId": 1, "success": True})
    assert [message["ackId"] for message in drive.sent()] == [501]


def test_a_transport_that_breaks_after_the_handshake_is_recovered() -> None:
    session = Session(Options(), random=lambda: 0.5)
    session.start(0.0)
    session.url_ready("ws://service.test/client/hubs/chat", 0.0)
    assert session.dial is not None
    link = Link(session, session.dial, random_bytes=bytes)
    (handshake,) = link.data_to_send()
    link.receive_data(frames.accept(handshake) + frames.text(encoded(hello("c1"))), 1.0)
    link.failed(OSError("the cable was cut"), 2.0)
    link.failed(OSError("again"), 2.0)
    (lost,) = [event for event in session.events() if isinstance(event, Recovering)]
    assert lost.reason == "the cable was cut"


def test_a_masked_frame_in_pieces_ends_the_transport_whatever_follows() -> None:
    session = Session(Options(), random=lambda: 0.5)
    session.start(0.0)
    session.url_ready("ws://service.test/client/hubs/chat", 0.0)
    assert session.dial is not None
    link = Link(session, session.dial, random_bytes=bytes)
    (handshake,) = link.data_to_send()
    link.receive_data(frames.accept(handshake) + frames.text(encoded(hello("c1"))), 1.0)
    link.receive_data(b"\x81\xff", 1.0)  # refused already, but the parser says so only after the length
    link.receive_data((1 << 16).to_bytes(8, "big") + b"maskmore", 1.0)
    assert link.close_expected
    (lost,) = [event for event in session.events() if isinstance(event, Recovering)]
    assert lost.code == 1002


def test_what_is_sent_is_in_the_log_of_frames(caplog: pytest.LogCaptureFixture) -> None:
    drive = Drive()
    drive.connect()
    drive.session.join_group("blue", drive.now)
    with caplog.at_level("DEBUG", logger="limpet.frames"):
        drive.sent()
        drive.events()
    assert [record.message for record in caplog.records] == ['> {"type":"joinGroup","group":"blue","ackId":1}']


def test_what_arrives_is_in_the_log_of_frames(caplog: pytest.LogCaptureFixture) -> None:
    drive = Drive()
    drive.connect()
    with caplog.at_level("DEBUG", logger="limpet.frames"):
        drive.says('{"type":"pong"}')
        drive.events()
    assert [record.message for record in caplog.records] == ['< {"type":"pong"}']


def test_the_service_ends_a_transport_once() -> None:
    transport = Transport([], Limits(), None)
    transport.end(Close(1001))
    transport.end(Close(1008))
    assert transport.close == Close(1001)


def test_the_pattern_of_two_stars_is_a_permission_for_everything() -> None:
    rules = GroupRules()
    rules.grant_pattern("**")
    assert rules.allows("any.thing")


def test_a_user_id_that_is_no_string_is_refused() -> None:
    with pytest.raises(InvalidClaims, match="sub"):
        ClientGrant.from_claims({"sub": 7})
