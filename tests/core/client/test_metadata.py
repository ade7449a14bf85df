"""Metadata and times to live: what is sent, and what is refused by the call."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.helpers.driving import Drive

from limpet import InvalidType, InvalidValue, LocalProtocolError, Session
from limpet_core.protocol.rules import check_metadata
from limpet_core.service.wire.metadata import InvalidMetadata, encode_metadata

Sent = dict[str, Any]


def started(**options: Any) -> Drive:
    drive = Drive(**options)
    drive.connect()
    return drive


CALLS: dict[str, Callable[[Session, float, dict[str, Any]], object]] = {
    "send_to_group": lambda session, now, more: session.send_to_group("g", "x", now, **more),
    "send_to_group without ack": lambda session, now, more: session.send_to_group("g", "x", now, ack=False, **more),
    "send_event": lambda session, now, more: session.send_event("e", "x", now, **more),
    "prepare_send": lambda session, now, more: _send(session, now, session.prepare_send("g", "x", **more)),
    "prepare_event": lambda session, now, more: _send(session, now, session.prepare_event("e", "x", **more)),
}

SENDS = [name for name in CALLS if "send" in name and "event" not in name]


def _send(session: Session, now: float, message: bytes | None) -> None:
    assert message is not None
    session.send_prepared(message, now, publish=b"sendToGroup" in message)


@pytest.mark.parametrize("call", CALLS)
def test_metadata_goes_along_with_the_data(call: str) -> None:
    drive = started()
    CALLS[call](drive.session, drive.now, {"metadata": {"trace-id": "abc", "empty": ""}})
    (message,) = drive.sent()
    assert message["metadata"] == {"trace-id": "abc", "empty": ""}
    assert "ttlSeconds" not in message


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("nothing", [None, {}])
def test_without_metadata_the_wire_has_none(call: str, nothing: dict[str, str] | None) -> None:
    drive = started()
    CALLS[call](drive.session, drive.now, {"metadata": nothing})
    (message,) = drive.sent()
    assert "metadata" not in message


def test_any_mapping_is_metadata_and_is_copied() -> None:
    drive = started()
    given_to_the_call = {"a": "1"}
    drive.session.send_to_group("g", "x", drive.now, metadata=MappingProxyType(given_to_the_call))
    given_to_the_call["a"] = "2"
    assert drive.sent()[0]["metadata"] == {"a": "1"}


@pytest.mark.parametrize("call", SENDS)
@pytest.mark.parametrize(
    ("ttl", "seconds"), [(0, 0), (0.0, 0), (0.001, 1), (0.5, 1), (1, 1), (1.5, 2), (299.1, 300), (300, 300)]
)
def test_a_time_to_live_is_rounded_up_to_whole_seconds(call: str, ttl: float, seconds: int) -> None:
    drive = started()
    CALLS[call](drive.session, drive.now, {"ttl": ttl})
    message = drive.session.messages_to_send()[0]
    assert json.loads(message)["ttlSeconds"] == seconds
    assert b'"ttlSeconds":%d' % seconds in message  # an integer: the service refuses 1.0


REFUSED_TTL: list[tuple[Any, type[Exception]]] = [
    (-1, InvalidValue),
    (-0.5, InvalidValue),
    (300.5, InvalidValue),
    (float("inf"), InvalidValue),
    (float("nan"), InvalidValue),
    ("5", InvalidType),
    (True, InvalidType),
]


@pytest.mark.parametrize("call", SENDS)
@pytest.mark.parametrize(("ttl", "error"), REFUSED_TTL)
def test_a_time_to_live_out_of_range_is_refused_and_nothing_is_sent(
    call: str, ttl: Any, error: type[Exception]
) -> None:
    drive = started()
    with pytest.raises(error, match=r"^ttl must be (from 0 to 300|a number)"):
        CALLS[call](drive.session, drive.now, {"ttl": ttl})
    assert drive.sent() == []


REFUSED: list[tuple[Any, type[Exception], str]] = [
    ([("a", "b")], InvalidType, r"^metadata must be a dict of str to str, not list"),
    ("a=b", InvalidType, r"^metadata must be a dict"),
    ({1: "b"}, InvalidType, r"^metadata must have keys of type str, not int"),
    ({"a": 1}, InvalidType, r"^metadata\['a'\] must be a str, not int"),
    ({"a": None}, InvalidType, r"^metadata\['a'\] must be a str, not NoneType"),
    ({"": "b"}, InvalidValue, r"1 to 256 letters.*not ''$"),
    ({"a b": "c"}, InvalidValue, r"an HTTP token\), not 'a b'$"),
    ({"a:": "c"}, InvalidValue, r"an HTTP token"),
    ({"é": "c"}, InvalidValue, r"an HTTP token"),
    ({"a\n": "c"}, InvalidValue, r"an HTTP token"),
    ({"k" * 257: "v"}, InvalidValue, r"1 to 256 .* not 'k{32}\.\.\.'$"),
    ({"a": "é"}, InvalidValue, r"must be ASCII and have at most 1024 characters$"),
    ({"a": "\ud800"}, InvalidValue, r"must be ASCII"),
    ({"a": "v" * 1025}, InvalidValue, r"at most 1024 characters, not 1025$"),
    ({f"{number}": "v" * 1023 for number in range(8)} | {"x": ""}, InvalidValue, r"at most 8192 .* not 8193$"),
]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(("metadata", "error", "text"), REFUSED)
def test_metadata_beyond_the_limits_is_refused_and_nothing_is_sent(
    call: str, metadata: Any, error: type[Exception], text: str
) -> None:
    drive = started()
    with pytest.raises(error, match=text) as raised:
        CALLS[call](drive.session, drive.now, {"metadata": metadata})
    assert isinstance(raised.value, LocalProtocolError)
    assert drive.sent() == []
    assert drive.session.send_to_group("g", "x", drive.now) == 1, "the refused call has used no ack id"


ACCEPTED: list[dict[str, str]] = [
    {"!#$%&'*+-.^_`|~09AZaz": 'any ASCII: \x00\x7f"\\'},
    {"k" * 256: "v" * 1024},
    {f"{number}": "v" * 1023 for number in range(8)},
]


@pytest.mark.parametrize("metadata", ACCEPTED)
def test_metadata_within_the_limits_is_sent(metadata: dict[str, str]) -> None:
    drive = started()
    drive.session.send_to_group("g", "x", drive.now, metadata=metadata)
    assert drive.sent()[0]["metadata"] == metadata


NAMES = st.text(st.sampled_from("ab-!~ :é"), max_size=4) | st.sampled_from(["k" * 256, "k" * 257])
VALUES = st.text(st.sampled_from("a \x00é"), max_size=3) | st.sampled_from(["v" * 1024, "v" * 1025])


@given(st.dictionaries(NAMES, VALUES, max_size=12))
def test_a_client_refuses_what_the_service_refuses_and_nothing_else(metadata: dict[str, str]) -> None:
    try:
        by_service = encode_metadata(metadata.items())
    except InvalidMetadata:
        with pytest.raises(InvalidValue):
            check_metadata(metadata)
    else:
        assert json.loads(by_service or "null") == check_metadata(metadata)


def test_a_message_with_metadata_counts_against_the_largest_request() -> None:
    drive = started(max_request_size=100)
    with pytest.raises(InvalidValue, match="max_request_size"):
        drive.session.send_to_group("g", "x", drive.now, metadata={"a": "v" * 100})
    assert drive.sent() == []


def test_a_repeat_has_the_metadata_and_the_time_to_live_of_the_first() -> None:
    drive = started()
    drive.session.send_to_group("g", "x", drive.now, metadata={"a": "b"}, ttl=2)
    (first,) = drive.sent()
    drive.drop()
    assert first in drive.recover()
