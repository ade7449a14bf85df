"""Every type of data arrives as it was sent, whoever sent it."""

from __future__ import annotations

from typing import Any

import pytest
from tests.interop.clients import KINDS
from tests.interop.stage import Stage

PAYLOADS: list[tuple[str, Any]] = [
    ("text", "hi"),
    ("text", ""),
    ("text", 'snow \u2603, face \U0001f600, "quotes", \\ and \u0000'),
    ("json", {"nested": {"list": [1, 2.5, None, True, "\u00e9"]}}),
    ("json", [1, [2]]),
    ("json", "a string"),
    ("json", 0),
    ("json", -1.5e300),
    ("json", False),
    ("json", {}),
    ("json", ""),
    ("binary", bytes(range(256))),
    ("binary", b""),
    ("protobuf", b"\n\x04type\x12\x02hi"),
]


@pytest.mark.parametrize("reliable", [True, False], ids=["reliable", "plain"])
@pytest.mark.parametrize("kind", KINDS)
def test_data_between_clients(stage: Stage, kind: str, reliable: bool) -> None:
    receivers = [stage.open(each, f"to {each}", reliable=reliable) for each in KINDS]
    sender = stage.open(kind, "ann", reliable=reliable)
    for receiver in receivers:
        receiver.join("room")
    for data_type, data in PAYLOADS:
        sender.send("room", data, data_type)
        for receiver in receivers:
            receiver.events.wait("message", PAYLOADS.index((data_type, data)) + 1)
    for receiver in receivers:
        found = [(message.data_type, message.data) for message in receiver.events.of("message")]
        assert [(kind, type(data), data) for kind, data in found] == [(k, type(d), d) for k, d in PAYLOADS]


@pytest.mark.parametrize("kind", KINDS)
def test_data_of_the_server(stage: Stage, kind: str) -> None:
    service = stage.service(kind)
    client = stage.open(kind)
    client.join("room")
    payloads = [(data_type, data) for data_type, data in PAYLOADS if data_type != "protobuf"]
    count = 0
    for target in ("all", "group:room", "user:ann", f"connection:{client.connection_id}"):
        for data_type, data in payloads:
            service.send(target, data, data_type)
            count += 1
            client.events.wait("message", count)
    found = [(message.data_type, message.data) for message in client.events.of("message")]
    assert found == payloads * 4
    assert {message.group for message in client.events.of("message")} == {None, "room"}
