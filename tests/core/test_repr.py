"""What `repr` shows: what matters, in a few hundred characters, without tokens."""

from __future__ import annotations

from typing import Any

import pytest

from limpet import (
    Ack,
    Acked,
    Backoff,
    ConnectError,
    ConnectTimeout,
    GroupMessage,
    GroupState,
    GroupStatesChanged,
    InvalidData,
    InvocationError,
    Options,
    Reply,
    SendError,
    SendTimeout,
    ServerMessage,
    StreamChunk,
    StreamError,
    StreamFault,
    StreamInfo,
    StreamTimeout,
)
from limpet_core.errors import LimpetError

TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIiwiZXhwIjoxNzAwMDAwMDAwfQ.c2lnbmF0dXJlc2lnbmF0dXJlc2lnbmF0dXJl"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (Options(), "Options()"),
        (
            Options(ack_timeout=5.0, reconnect=Backoff(limit=3)),
            "Options(reconnect=Backoff(limit=3), ack_timeout=5.0)",
        ),
        (Backoff(), "Backoff()"),
        (Ack(7), "Ack(ack_id=7)"),
        (Ack(7, True), "Ack(ack_id=7, duplicate=True)"),
        (Acked(7), "Acked(ack_id=7)"),
        (GroupMessage(group="g", data={"id": 1}), "GroupMessage(group='g', data={'id': 1})"),
        (
            GroupMessage(
                group="g",
                data="",
                data_type="text",
                stream=StreamInfo(
                    stream_id="s" * 40, sequence_id=2, end=True, error=StreamFault(name="Cancelled", message="m" * 500)
                ),
            ),
            f"GroupMessage(group='g', data='', data_type='text', stream=StreamInfo(stream_id='{'s' * 40}', "
            f"sequence_id=2, end=True, error=StreamFault(name='Cancelled', message='{'m' * 80}... (500 characters)')))",
        ),
        (
            ServerMessage(data="x", data_type="text", sequence_id=3),
            "ServerMessage(data='x', data_type='text', sequence_id=3)",
        ),
        (Reply(), "Reply()"),
        (StreamChunk("x", "text", 1), "StreamChunk(data='x', data_type='text', sequence_id=1)"),
        (
            SendError(7, "Forbidden", "no", "rejected"),
            "SendError(name='Forbidden', outcome='rejected', ack_id=7, message='no')",
        ),
        (
            SendTimeout(7, "Timeout", "late", "unsent"),
            "SendTimeout(name='Timeout', outcome='unsent', ack_id=7, message='late')",
        ),
        (ConnectError("no", status=503, retry_after=2.0), "ConnectError('no', status=503, retry_after=2.0)"),
        (ConnectTimeout("late"), "ConnectTimeout('late')"),
        (StreamError("Gap", "lost", 3), "StreamError(name='Gap', acknowledged=3, message='lost')"),
        (
            StreamTimeout("Timeout", "late", 3),
            "StreamTimeout(name='Timeout', outcome='unknown', acknowledged=3, message='late')",
        ),
        (
            InvocationError("NotFound", "no", "rejected"),
            "InvocationError(name='NotFound', outcome='rejected', message='no')",
        ),
        (LimpetError("x"), "LimpetError('x')"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_it_shows_what_matters(value: Any, shown: str) -> None:
    assert repr(value) == shown


@pytest.mark.parametrize(
    "data",
    [
        "x" * 10**6,
        b"\x00" * 10**6,
        ["x" * 1000] * 1000,
        {str(number): [number] * 100 for number in range(1000)},
        [[[[[[[["deep"] * 50] * 50] * 50]]]]],
        type("Big", (), {"__repr__": lambda _: "x" * 10**6})(),
        type("Broken", (), {"__repr__": lambda _: 1 // 0})(),
        10**5000,
    ],
    ids=["str", "bytes", "list", "dict", "nested", "object", "broken", "int"],
)
def test_no_payload_is_too_large(data: Any) -> None:
    values: tuple[Any, ...] = (
        GroupMessage(group="g" * 1024, data=data, from_user_id="u" * 1000, metadata={"a": "b" * 1000}),
        ServerMessage(data=data),
        Reply(data, "json"),
        StreamChunk(data, "json", 1),
    )
    for value in (*values, InvalidData(values[0], int, "no")):
        assert len(repr(value)) < 1500


def test_many_states_are_short_too() -> None:
    states = tuple(GroupState(connection_id=f"c{number}", updated_at=number) for number in range(10_000))
    assert len(repr(GroupStatesChanged("g", states, ("c",) * 10_000))) < 1000


@pytest.mark.parametrize("data", [TOKEN, {"token": TOKEN}, [f"wss://host/?access_token={TOKEN}" * 3], TOKEN.encode()])
def test_no_token_is_shown(data: Any) -> None:
    for value in (GroupMessage(group="g", data=data), Reply(data, "json"), ConnectError(f"no {TOKEN}", status=1)):
        assert TOKEN not in repr(value)
        assert TOKEN[24:60] not in repr(value)
