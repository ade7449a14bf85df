"""Exceptions: readable, kind by kind, and without secrets."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from tests.helpers import driving
from tests.helpers.driving import URL, Drive, hello

import limpet
from limpet import (
    ClientStopped,
    ConnectError,
    InvalidType,
    InvalidValue,
    InvocationError,
    InvocationTimeout,
    LimpetError,
    LocalProtocolError,
    NoSuchStream,
    SendError,
    Stopped,
    TooManyRequests,
)
from limpet_core.client.refusals import refused


@pytest.mark.parametrize(
    ("kind", "bases"),
    [
        (LocalProtocolError, (LimpetError,)),
        (InvalidValue, (LocalProtocolError, ValueError)),
        (InvalidType, (LocalProtocolError, TypeError)),
        (TooManyRequests, (LocalProtocolError,)),
        (NoSuchStream, (LocalProtocolError,)),
        (ClientStopped, (LocalProtocolError,)),
        (SendError, (LimpetError,)),
        (InvocationTimeout, (InvocationError, TimeoutError)),
        (ConnectError, (LimpetError,)),
    ],
)
def test_each_exception_can_be_caught_by_its_bases(kind: type[Exception], bases: tuple[type, ...]) -> None:
    assert issubclass(kind, bases)
    assert all(issubclass(kind, base) for base in bases)
    assert kind.__module__ == "limpet"


def test_what_the_peer_does_is_no_wrong_use() -> None:
    assert not issubclass(SendError, LocalProtocolError)
    assert not issubclass(ConnectError, LocalProtocolError)


@pytest.mark.parametrize(
    ("outcome", "text"),
    [
        ("rejected", "Forbidden: no permission (ack id 7; the service did not execute it)"),
        ("unsent", "Forbidden: no permission (ack id 7; it was never sent)"),
        ("unknown", "Forbidden: no permission (ack id 7; it may or may not have been executed)"),
    ],
)
def test_a_send_error_says_what_happened_and_what_is_known(outcome: Any, text: str) -> None:
    error = SendError(7, "Forbidden", "no permission", outcome)
    assert str(error) == text
    assert (error.ack_id, error.name, error.message, error.outcome) == (7, "Forbidden", "no permission", outcome)


@pytest.mark.parametrize(
    "error",
    [
        SendError(7, "Forbidden", "no", "rejected"),
        InvocationTimeout("Timeout", "no reply", "unknown"),
        ConnectError("refused", status=403, code=1008),
        InvalidValue("x"),
    ],
)
def test_exceptions_survive_pickling(error: Exception) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)


def test_an_invocation_that_is_out_of_time_has_no_number_of_the_operating_system() -> None:
    error = InvocationTimeout("Timeout", "no reply", "unknown")
    assert error.args == ("Timeout", "no reply", "unknown")
    assert (error.errno, error.strerror, error.filename) == (None, None, None)
    assert str(error) == "Timeout: no reply (it may or may not have been executed)"


def provider(drive: Drive) -> None:
    drive.session.url_failed(OSError(f"GET {URL} failed"), drive.now)


def bad_url(drive: Drive) -> None:
    drive.session.url_ready("http://h/?access_token=SECRET", drive.now)


def dial(drive: Drive) -> None:
    drive.session.url_ready(URL, drive.now)
    drive.session.dial_failed(OSError(f"cannot open {URL}"), drive.now)


def timeout(drive: Drive) -> None:
    drive.session.url_ready(URL, drive.now)
    drive.advance(30)


def closed(drive: Drive) -> None:
    drive.open()
    drive.drop(1008, "access denied")


def broken(drive: Drive) -> None:
    drive.open()
    drive.says('{"type":"system","event":"connected","reconnectionToken":"SECRET","connectionId":5}')


@pytest.mark.parametrize("fail", [provider, bad_url, dial, timeout, closed, broken])
def test_no_token_is_in_an_exception_a_repr_or_a_log(
    fail: Callable[[Drive], None], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "limpet")
    drive = Drive()
    drive.start()
    fail(drive)
    (stopped,) = drive.events(Stopped)
    assert "SECRET" not in f"{stopped} {stopped.error} {stopped.error!r} {drive.session!r} {drive.session.dial!r}"
    assert "SECRET" not in caplog.text


def test_no_token_is_in_a_log_or_repr_of_a_recovery(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "limpet")
    drive = Drive()
    drive.start()
    drive.open()
    drive.says(hello(token="HIDDEN"))
    drive.drop()
    shown = repr(drive.session.dial)
    drive.session.dial_failed(OSError(f"cannot open {drive.dial.url}"), drive.now)
    drive.advance(60)
    shown += repr(drive.events()) + caplog.text
    assert "SECRET" not in shown
    assert "HIDDEN" not in shown


def of_the_provider(drive: Drive) -> None:
    drive.lose()
    drive.until_dial()
    drive.session.url_failed(OSError("SECRET"), drive.now)


def of_the_dial(drive: Drive) -> None:
    drive.drop()
    drive.session.dial_failed(OSError("SECRET"), drive.now)


def of_a_first_url(drive: Drive) -> None:
    drive.lose()
    drive.until_dial()
    drive.session.url_ready(URL, drive.now)
    drive.session.dial_failed(OSError("SECRET"), drive.now)


def in_the_name_of_an_error(drive: Drive) -> None:
    drive.session.join_group("g", drive.now)
    drive.sent()
    drive.says(driving.refused(1, "SECRET", "no"))


def in_the_message_of_an_error(drive: Drive) -> None:
    drive.session.join_group("g", drive.now)
    drive.sent()
    drive.says(driving.refused(1, "Forbidden", "SECRET"))


def in_the_unknown(drive: Drive) -> None:
    drive.says({"type": "SECRET"})


def in_what_broke_the_transport(drive: Drive) -> None:
    drive.session.transport_broken(1002, "SECRET", drive.now)


def in_the_farewell(drive: Drive) -> None:
    drive.says({"type": "system", "event": "disconnected", "message": "SECRET"})
    drive.drop(1000)


def in_the_reason_of_the_close(drive: Drive) -> None:
    drive.drop(1006, "SECRET")


def in_a_request(drive: Drive) -> None:
    drive.session.send_to_group("g", "SECRET", drive.now)
    drive.sent()


@pytest.mark.parametrize(
    "quote",
    [
        of_the_provider,
        of_the_dial,
        of_a_first_url,
        in_the_name_of_an_error,
        in_the_message_of_an_error,
        in_the_unknown,
        in_what_broke_the_transport,
        in_the_farewell,
        in_the_reason_of_the_close,
        in_a_request,
    ],
)
def test_a_token_of_the_session_is_hidden_wherever_it_is_quoted_by_itself(
    quote: Callable[[Drive], None], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "limpet")
    drive = Drive()
    transport = drive.connect()
    caplog.clear()
    quote(drive)
    shown = f"{drive.events()} {transport.close} {caplog.text}"
    assert "SECRET" not in shown
    assert "***" in shown


def test_every_exception_that_limpet_exports_has_a_docstring() -> None:
    for name in limpet.__all__:
        value = getattr(limpet, name)
        if isinstance(value, type) and issubclass(value, Exception):
            assert value.__doc__, name


@pytest.mark.parametrize(
    ("status", "body", "text"),
    [
        (401, None, "HTTP status 401 (the access token was refused)"),
        (404, b"", "HTTP status 404 (there is no such endpoint)"),
        (403, b" You\n shall not\tpass ", "HTTP status 403 (access is forbidden): You shall not pass"),
        (503, b"\xff" + b"x" * 5000, "HTTP status 503: \ufffd" + "x" * 978 + "... (5001 characters)"),
    ],
)
def test_a_refused_handshake_is_explained(status: int, body: bytes | None, text: str) -> None:
    error = refused(status, body)
    assert str(error) == f"the service refused the connection with {text}"
    assert (error.status, error.code) == (status, None)
