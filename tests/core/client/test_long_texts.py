"""Long texts: their UTF-8 is looked at where they are decoded; what is seen is the same as of short ones."""

from __future__ import annotations

import logging
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.core.client.test_frames import through_link, through_wsproto
from tests.helpers import frames
from tests.helpers.driving import QUIET, URL, encoded, hello
from tests.helpers.profiles import examples
from tests.helpers.protobuf import downstream

from limpet import RELIABLE_JSON, RELIABLE_PROTOBUF, Link, LocalProtocolError, Options, Session, State
from limpet_core.client.frames import LONG, is_utf8, text_frame
from limpet_core.protocol.json import decode, decode_long
from limpet_core.protocol.messages import Broken, GroupMessage

HEAD = b'{"type":"message","from":"group","group":"g","dataType":"text","sequenceId":1'


def message(data: bytes, more: bytes = b"", head: bytes = HEAD) -> bytes:
    return head + b',"data":' + data + more + b"}"


LONG_TEXT = b'"%b"' % (b"x" * LONG)
TEXTS = [
    message(LONG_TEXT),
    message(LONG_TEXT, b',"future":"\xff"'),
    message(LONG_TEXT, b',"future":"\xff"'.ljust(5000)),
    message(LONG_TEXT, head=b'{"future":"\xff",' + HEAD[1:]),
    message(LONG_TEXT, b',"future":"\xc3\xa9"'),
    message(b'"%b\xc3\xa9"' % (b"x" * LONG)),
    message(b'"%b\xff"' % (b"x" * LONG)),
    message(b'"a"', b',"future":"\xff%b"' % (b"x" * LONG)),
    # The second data counts, and is shorter or longer than the first.
    message(LONG_TEXT, b',"data":"short","future":"\xff"'),
    message(b'"short"', b',"future":"\xff","data":' + LONG_TEXT),
    # Ten times as many bytes as characters.
    message(b'"%b"' % (b"\\u0041" * LONG), b',"future":"\xff"'),
    message(b'"%b"' % (b"\\u0041" * LONG)),
    message(b"[%b1]" % (b"1," * LONG), head=HEAD.replace(b"text", b"json")),
    message(LONG_TEXT, head=HEAD.replace(b"text", b"json")),
    message(b'"%b"' % (b"QUFB" * LONG), head=HEAD.replace(b"text", b"binary")),
    message(b'"%b!"' % (b"QUFB" * LONG), head=HEAD.replace(b"text", b"binary")),
    message(b"[%b1]" % (b"1," * LONG)),
    LONG_TEXT,
    b"\xff" * LONG,
    b'{"type":"ack","ackId":1,"success":true,"more":' + LONG_TEXT + b"}",
    b'{"type":"future","more":' + LONG_TEXT + b"}",
]


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
@pytest.mark.parametrize("scene", ["connecting", "connected", "recovering", "stopping"])
def test_long_texts_are_seen_as_by_wsproto(text: bytes, scene: str) -> None:
    assert len(text) >= LONG
    stream = frames.text(message(b'"before"')) + frames.text(text) + frames.text(message(b'"after"'))
    expected = through_wsproto(scene, stream, 1 << 20)
    for chunks in ([stream], [stream[:200], stream[200:]], [stream[:5000], stream[5000:5001], stream[5001:]]):
        assert through_link(scene, chunks, 1 << 20, fast_lane=True) == expected


@pytest.mark.parametrize("scene", ["connecting", "recovering"])
def test_a_long_text_may_be_the_first_of_a_transport(scene: str) -> None:
    greeting = encoded(hello("c1"))[:-1] + b',"more":' + LONG_TEXT + b"}"
    for text in (greeting, *TEXTS[:2], *TEXTS[-5:]):
        stream = frames.text(text) + frames.text(message(b'"after"'))
        expected = through_wsproto(scene, stream, 1 << 20)
        for chunks in ([stream], [stream[:200], stream[200:]]):
            assert through_link(scene, chunks, 1 << 20, fast_lane=True) == expected


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_a_long_text_is_decoded_as_any_other(text: bytes) -> None:
    assert decode_long(memoryview(text)) == (decode(text) if is_utf8(text) else None)


FIELDS = st.dictionaries(
    st.sampled_from(["type", "from", "group", "dataType", "data", "sequenceId", "future"]),
    st.one_of(
        st.sampled_from(["message", "group", "server", "text", "json", "binary", "QUFB"]),
        st.integers(0, 9),
        st.text(max_size=9),
        st.lists(st.text(max_size=3), max_size=3),
    ),
)


@given(FIELDS, st.integers(0, 300), st.binary(max_size=2), st.booleans())
@example({"type": "message", "from": "group", "group": "g", "data": "d", "future": "f"}, 95, b"\xff", False)
@settings(max_examples=examples(300))
def test_any_bytes_are_decoded_as_short_ones(fields: dict[str, Any], at: int, noise: bytes, ascii: bool) -> None:
    fields = {"type": "message", "from": "group", "group": "g"} | fields
    whole = msgspec.json.encode(fields)
    text = whole[:at] + noise + whole[at + (0 if ascii else len(noise)) :]
    assert decode_long(memoryview(text)) == (decode(text) if is_utf8(text) else None)


def connected(protocol: str = RELIABLE_JSON, *, greeted: bool = True) -> tuple[Session, Link]:
    session = Session(Options(**QUIET, protocol=protocol), random=lambda: 0.5)
    session.start(0.0)
    session.url_ready(URL, 0.0)
    assert session.dial is not None
    link = Link(session, session.dial, random_bytes=bytes)
    (handshake,) = link.data_to_send()
    link.receive_data(frames.accept(handshake), 0.0)
    greeting = frames.text(encoded(hello("c1")))
    if session.options.binary:
        greeting = frames.frame(frames.BINARY, downstream(hello("c1")))
    if greeted:
        link.receive_data(greeting, 0.0)
        session.events()
    return session, link


def test_a_long_text_is_logged_as_any_other(caplog: pytest.LogCaptureFixture) -> None:
    session, link = connected()
    with caplog.at_level(logging.DEBUG, "limpet.frames"):
        link.receive_data(frames.text(message(LONG_TEXT)), 1.0)
        (event,) = session.events()
    assert isinstance(event, GroupMessage)
    assert any("xxxxxxxx" in record.getMessage() for record in caplog.records)


def test_a_long_text_counts_as_received() -> None:
    session, link = connected()
    before = session.stats.bytes_in
    link.receive_data(frames.text(message(LONG_TEXT)), 1.0)
    assert session.stats.messages_in == 1
    assert session.stats.bytes_in - before == len(message(LONG_TEXT))


def test_nothing_is_received_amid_another_call() -> None:
    session, _ = connected()
    session.running = "other"
    with pytest.raises(LocalProtocolError, match=r"receive_long_text was called while Session.other runs"):
        session.receive_long_text(memoryview(message(LONG_TEXT)), 1.0)


@pytest.mark.parametrize("greeted", [False, True])
def test_a_long_text_is_a_fault_where_binary_belongs(greeted: bool) -> None:
    session, link = connected(RELIABLE_PROTOBUF, greeted=greeted)
    assert session.receive_long_text(memoryview(message(LONG_TEXT)), 1.0)
    assert link.close_expected
    assert "a text message where binary belongs" in repr(session.events())
    assert session.state is (State.RECOVERING if greeted else State.STOPPED)


def test_a_text_that_is_not_utf_8_changes_nothing() -> None:
    session, _ = connected()
    assert not session.receive_long_text(memoryview(b"\xff"), 1.0)
    assert not session.events()


@pytest.mark.parametrize("size", [126, (1 << 16) - 1, 1 << 16])
def test_the_frame_of_a_text_is_as_it_came(size: int) -> None:
    assert text_frame(memoryview(b"x" * size)) == frames.text(b"x" * size)


def test_a_broken_text_is_told_with_its_sequence_id() -> None:
    assert isinstance(decode_long(memoryview(TEXTS[15])), Broken)
