"""The closes of the service: what the client is told, and what the event handler."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.core.service.backend import NEWS, Backend, body, talking
from tests.core.service.virtual import Client, ServiceUnderTest

from limpet_core.protocol.close import Close
from limpet_core.protocol.names import PROTOBUF, RELIABLE_PROTOBUF
from limpet_core.service import JSON, RELIABLE_JSON, RawMode
from limpet_core.service.closes import DROPPED, by_application, not_valid

APPLICATION = "Application server closed the connection."


def over(
    end: Callable[[ServiceUnderTest, Client], object],
    subprotocol: str | None = RELIABLE_JSON,
    raw: RawMode | None = None,
    roles: tuple[str, ...] = (),
    **limits: int,
) -> tuple[Close | None, str]:
    """Let a connection end; return the close frame that the client gets, and the reason for the event handler."""
    service = ServiceUnderTest(NEWS, **limits)
    backend = Backend(service)
    client = service.connect(subprotocol=subprotocol, roles=roles, groups=("room",), raw=raw)
    backend.answer()
    end(service, client)
    for _ in range(3):
        calls = [call for call in backend.calls() if call.event == "disconnected"]
        if calls:
            return client.transport.close, body(calls[0])["reason"]
        backend.answer(status=400)
    raise AssertionError("nobody was told")


def says(message: str | bytes) -> Callable[[ServiceUnderTest, Client], object]:
    return lambda _, client: client.send_raw(message)


def leaves(code: int, reason: str = "") -> Callable[[ServiceUnderTest, Client], object]:
    return lambda service, client: service.core.disconnected(client.transport, code, service.now, reason)


# ---- The application server closes


@pytest.mark.parametrize(
    ("reason", "said"), [("", APPLICATION), ("bye", f"{APPLICATION} Reason: bye"), ("é" * 500, None)]
)
def test_a_close_for_the_application_server_has_a_fixed_sentence_and_an_empty_frame(
    reason: str, said: str | None
) -> None:
    service, backend, client = talking(NEWS)
    backend.answer()
    service.core.close_connection("c1", reason)
    said = said or f"{APPLICATION} Reason: {reason}"
    assert client.received() == [{"type": "system", "event": "disconnected", "message": said}]
    assert client.transport.close == Close(1000, "")
    assert body(backend.call()) == {"reason": said}


def test_a_raw_client_gets_only_the_frame() -> None:
    service = ServiceUnderTest(NEWS)
    backend = Backend(service)
    client = service.connect(raw=RawMode())
    backend.answer()
    service.core.close_connection("c1", "bye")
    assert client.received_raw() == []
    assert client.transport.close == Close(1000, "")
    assert body(backend.call()) == {"reason": f"{APPLICATION} Reason: bye"}


def test_half_of_a_surrogate_pair_in_a_reason_is_replaced_for_everybody() -> None:
    assert by_application("\ud83d") == f"{APPLICATION} Reason: ?"


# ---- The client closes, or is lost


@pytest.mark.parametrize("subprotocol", [JSON, RELIABLE_JSON])
@pytest.mark.parametrize("reason", ["done", "", "zu Ende: schön"])
def test_the_handler_gets_the_clients_own_reason(subprotocol: str, reason: str) -> None:
    assert over(leaves(1000, reason), subprotocol) == (None, reason)


@pytest.mark.parametrize(
    ("code", "reason", "told"),
    [
        (1001, "", "The connection ended."),
        (1006, "", "The connection ended."),
        (1005, "", "The connection ended."),
        (4000, "logged out", "logged out"),
    ],
)
def test_without_a_recovery_any_other_close_ends_the_connection_too(code: int, reason: str, told: str) -> None:
    assert over(leaves(code, reason), JSON) == (None, told)


def test_more_than_a_close_frame_holds_is_not_passed_on() -> None:
    _, told = over(leaves(1000, "é" * 10_000))
    assert told == "é" * 61


def test_a_connection_that_is_not_recovered_has_a_fixed_reason() -> None:
    def expire(service: ServiceUnderTest, client: Client) -> None:
        leaves(4000, "logged out")(service, client)
        service.advance(30)

    assert over(expire) == (None, "The connection recovery timeout expired.")


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (1002, "The client frame is invalid."),
        (1007, "The client frame is invalid."),
        (1009, "The client message is too large."),
    ],
)
def test_a_broken_frame_has_a_fixed_reason(code: int, told: str) -> None:
    assert over(lambda service, client: service.core.transport_broken(client.transport, code, service.now))[1] == told


# ---- The service closes

NOT_JSON = "The client message is not a valid JSON protocol message. "
NOT_PROTOBUF = "The client message is not a valid protobuf.webpubsub.azure.v1 protocol message. "


@pytest.mark.parametrize(
    ("subprotocol", "message", "code", "text"),
    [
        (JSON, "[", 1007, NOT_JSON + "Invalid message: "),
        (
            RELIABLE_JSON,
            '{"type":"joinGroup","group":" "}',
            1007,
            NOT_JSON + "Invalid group name: 1 to 1024 characters",
        ),
        (PROTOBUF, b"\xff", 1007, NOT_PROTOBUF + "The message is not protobuf"),
        (RELIABLE_PROTOBUF, b"\xff", 1007, NOT_PROTOBUF + "The message is not protobuf"),
        (PROTOBUF, "{}", 1003, "The protobuf.webpubsub.azure.v1 subprotocol requires binary messages."),
        (RELIABLE_PROTOBUF, "{}", 1003, "The protobuf.webpubsub.azure.v1 subprotocol requires binary messages."),
        (JSON, '"' + "x" * 100 + '"', 1009, "The client message is too large. It may have 100 bytes."),
    ],
)
def test_a_broken_message_has_a_fixed_sentence_and_a_hint(
    subprotocol: str, message: str | bytes, code: int, text: str
) -> None:
    close, told = over(says(message), subprotocol, max_message_size=100)
    assert close is not None
    assert (close.code, close.reason) == (code, told[: len(close.reason)])
    assert told.startswith(text)
    assert len(close.reason.encode()) <= 123


@pytest.mark.parametrize(
    ("raw", "message", "code", "text"),
    [
        (RawMode("room"), "x", 1008, "The connection is not authorized for raw sendToGroup mode. The client does not "),
        (RawMode(), "x", 1011, "Internal server error"),
        (RawMode(), "\udcff", 1007, "The client message is not valid. The message is not valid UTF-8."),
    ],
)
def test_raw_clients_are_told_by_the_close_frame(raw: RawMode, message: str, code: int, text: str) -> None:
    close, told = over(says(message), None, raw)
    assert close is not None
    assert (close.code, close.reason) == (code, told[: len(close.reason)])
    assert told.startswith(text)


def test_a_hint_that_quotes_the_client_is_short_and_in_one_line() -> None:
    text = not_valid("no\n" + "x" * 5000, binary=False, raw=False).reason
    assert "\n" not in text
    assert len(text) < 400


@pytest.mark.parametrize(
    ("subprotocol", "text"),
    [
        (JSON, "The outbound message queue is full. Make a new connection."),
        (RELIABLE_JSON, "The reliable message buffer is full. Make a new connection."),
    ],
)
def test_a_slow_client_is_told_which_queue_is_full(subprotocol: str, text: str) -> None:
    def flood(_: ServiceUnderTest, client: Client) -> None:
        client.publish(1)
        client.publish(2)

    roles = ("webpubsub.sendToGroup",)
    assert over(flood, subprotocol, roles=roles, retained_messages=1) == (Close(1008, text), text)


def test_a_failed_recovery_has_a_fixed_text() -> None:
    service = ServiceUnderTest()
    hello = service.connect().hello()
    refused = service.recover(hello, token="wrong")
    assert refused.transport.close == Close(1008, "The connection could not be recovered.")


def test_the_first_order_to_close_counts() -> None:
    service = ServiceUnderTest()
    client = service.connect()
    client.hello()
    assert service.core.drop("c1")
    service.core.close_connection("c1", "bye")
    assert client.transport.close == DROPPED
    assert not service.core.drop("c1")
