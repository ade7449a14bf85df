"""The exceptions of Limpet.

Wrong use raises :class:`LocalProtocolError` (or a ``ValueError`` or ``TypeError`` that derives from it) at once and
changes nothing. Faults of the peer or the network are events, and never exceptions of the core.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final, Literal

from limpet_core.text import LONGEST_REASON, error_text, one_line, shorten, shown_fields

Outcome = Literal["rejected", "unsent", "unknown"]
"""The outcome of a request that did not succeed.

- ``rejected``: the service answered, and did not execute the request.
- ``unsent``: the request was never handed to a transport, so it was certainly not executed.
- ``unknown``: the request may have been executed. It was handed to a transport and no answer can come any more, or the
  service failed while executing it, or an event handler may have been called and failed.
"""


class LimpetError(Exception):
    """The base class of Limpet's exceptions."""

    _SHOWN: ClassVar[tuple[str, ...]] = ()  # attributes in the repr

    def __init__(self, *args: object) -> None:  # else inspect.signature() finds none
        super().__init__(*args)

    def __repr__(self) -> str:
        if not self._SHOWN:
            return super().__repr__()
        return shown_fields(self, self._SHOWN, dict.fromkeys(self._SHOWN))


class LocalProtocolError(LimpetError):
    """The client was used in a wrong way; nothing was changed."""


class InvalidValue(LocalProtocolError, ValueError):
    """An argument has a value that cannot be used; the message names the argument."""


class InvalidType(LocalProtocolError, TypeError):
    """An argument has a type that cannot be used; the message names the argument."""


class TooManyRequests(LocalProtocolError):
    """``max_pending_requests`` requests are pending, or ``max_streams`` streams are open, or a stream has no room.

    Wait for answers, or raise the option.
    """


class NoSuchStream(LocalProtocolError):
    """The stream is not open: it was never opened, or it is over; ``StreamClosed`` may still be among the events."""


class ClientStopped(LocalProtocolError):
    """The client is stopped, or was stopped during this call. Call ``start()`` to go on."""


_NAME: Final = 128
"""Characters of an error's name."""

_EXPLANATION: Final = 500
"""Characters of an explanation in the text of an error."""


_MEANINGS: Final[dict[Outcome, str]] = {
    "rejected": "the service did not execute it",
    "unsent": "it was never sent",
    "unknown": "it may or may not have been executed",
}


class SendError(LimpetError):
    """A join, leave, send or event did not succeed; :attr:`outcome` says what is known of it.

    Attributes:
        ack_id: the request's ack id (int). As long as the connection id lives, a repeat of the request under this
            ``ack_id`` cannot execute it twice (client-spec 3.1.2). The service keeps no ids of requests that failed: an
            event whose handler has failed is handled once more.
        name: the service's name of the error, such as ``Forbidden``; or ``Stopped``, ``Timeout``, ``ConnectionLost`` or
            ``Superseded`` (a join or leave that could only be repeated after a later request for the opposite).
        message: an explanation, by the service or by Limpet; at most 1000 characters.
        outcome: ``rejected``, ``unsent`` or ``unknown``, see :data:`Outcome`.
    """

    _SHOWN = ("name", "outcome", "ack_id", "message")

    def __init__(self, ack_id: int, name: str, message: str, outcome: Outcome) -> None:
        name, message = shorten(name, _NAME), shorten(message, LONGEST_REASON)
        super().__init__(ack_id, name, message, outcome)
        self.ack_id = ack_id
        self.name = name
        self.message = message
        self.outcome: Outcome = outcome

    def __str__(self) -> str:
        meaning = _MEANINGS[self.outcome]
        return f"{one_line(self.name)}: {one_line(self.message, _EXPLANATION)} (ack id {self.ack_id}; {meaning})"


class SendTimeout(SendError, TimeoutError):
    """The time for a request is over: its ``timeout``, ``request_timeout``, or that for all repeats.

    ``name`` is ``Timeout``. The outcome is ``unsent``: the request was taken back, and is never sent; or
    ``unknown``: it was sent, and may have been executed. A message without an ack has the ack id 0 here.
    """

    def __init__(self, ack_id: int, name: str, message: str, outcome: Outcome) -> None:
        super().__init__(ack_id, name, message, outcome)
        _no_os_error(self, ack_id, self.name, self.message, outcome)


class ConnectError(LimpetError):
    """A connection could not be made, or was lost for good.

    The text may quote the service or a proxy. It is one line of at most 2000 characters, with control characters
    escaped.

    Attributes:
        status: the HTTP status of a refused handshake (int), or None.
        code: the WebSocket close code (int), or None.
        retry_after: seconds to wait before the next attempt, as the service or a proxy asked (``Retry-After`` of a 429
            or 503), or None. A function that is asked for a URL may raise an error with one, too: the client waits for
            that long, at most :attr:`Options.max_retry_after <limpet.Options>`.
    """

    def __init__(
        self, message: str, *, status: int | None = None, code: int | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(error_text(message))
        self.status = status
        self.code = code
        self.retry_after = retry_after

    def __repr__(self) -> str:
        known = {"status": self.status, "code": self.code, "retry_after": self.retry_after}
        more = "".join(f", {name}={value}" for name, value in known.items() if value is not None)
        return f"{type(self).__name__}({one_line(str(self))!r}{more})"


class ConnectTimeout(ConnectError, TimeoutError):
    """The ``timeout`` of a start is over, and there is no connection; the client is stopped."""


class StreamError(LimpetError):
    """A stream ended otherwise than by its publisher's end.

    Attributes:
        name: for a publisher, the service's name of the error, such as ``Forbidden``, ``IdleTimeout`` or
            ``StreamNotFound``; or ``ConnectionLost``, ``Stopped``, ``Timeout`` (nothing was acknowledged),
            ``InvalidAck`` (what was not sent was acknowledged), ``Closed`` (by the service, without an error, before
            the end), ``Incomplete`` (the service ended the stream without its last fragments), ``Aborted`` or
            ``Ended`` (by the writer). For a subscriber, the name on the wire, such as ``UserError`` or ``Cancelled``;
            or ``Gap`` or ``Disconnected``.
        message: an explanation, by the publisher, the service or Limpet; at most 1000 characters.
        code: the code of a publisher's own error (str), or None.
        acknowledged: for a publisher, how many fragments the service has for certain (int); for a subscriber, how many
            fragments came before the error.
    """

    _SHOWN = ("name", "acknowledged", "code", "message")

    def __init__(self, name: str, message: str, acknowledged: int = 0, code: str | None = None) -> None:
        name, message = shorten(name, _NAME), shorten(message, LONGEST_REASON)
        super().__init__(name, message, acknowledged, code)
        self.name = name
        self.message = message
        self.acknowledged = acknowledged
        self.code: str | None = None if code is None else shorten(code, _NAME)

    def __str__(self) -> str:
        code = "" if self.code is None else f" (code {one_line(self.code)})"
        return f"{one_line(self.name)}{code}: {one_line(self.message, _EXPLANATION)}"


class StreamTimeout(StreamError, TimeoutError):
    """The ``timeout`` of a call about a stream is over; ``name`` is ``Timeout``.

    The stream goes on, unless it was to be opened. A stream that was to be ended or aborted ends all the same.

    Attributes:
        outcome: ``unsent``: nothing of the call was sent, or ever will be: the stream was not opened, the fragment not
            written; ``unknown``: the service may have done what the call waited for.
    """

    _SHOWN = ("name", "outcome", "acknowledged", "message")

    def __init__(self, name: str, message: str, acknowledged: int = 0, outcome: Outcome = "unknown") -> None:
        super().__init__(name, message, acknowledged)
        _no_os_error(self, self.name, self.message, acknowledged, outcome)
        self.outcome: Outcome = outcome


class InvocationError(LimpetError):
    """An invocation did not succeed; :attr:`outcome` says what is known of it.

    Attributes:
        name: the service's name of the error, such as ``NotFound`` or ``BadRequest``; or ``Stopped``, ``Timeout``,
            ``ConnectionLost`` or ``InvalidReply`` (the event handler was called, and its reply cannot be read).
        message: an explanation, by the service or by Limpet; at most 1000 characters.
        outcome: ``rejected``, ``unsent`` or ``unknown``, see :data:`Outcome`.
    """

    _SHOWN = ("name", "outcome", "message")

    def __init__(self, name: str, message: str, outcome: Outcome) -> None:
        name, message = shorten(name, _NAME), shorten(message, LONGEST_REASON)
        super().__init__(name, message, outcome)
        self.name = name
        self.message = message
        self.outcome: Outcome = outcome

    def __str__(self) -> str:
        return f"{one_line(self.name)}: {one_line(self.message, _EXPLANATION)} ({_MEANINGS[self.outcome]})"


class InvocationTimeout(InvocationError, TimeoutError):
    """The ``timeout`` of an invocation is over; ``name`` is ``Timeout``.

    The outcome is ``unsent``: it was never sent; or ``unknown``: the event handler may have been called. Then the
    service was asked to cancel the call.
    """

    def __init__(self, name: str, message: str, outcome: Outcome) -> None:
        super().__init__(name, message, outcome)
        _no_os_error(self, self.name, self.message, outcome)


class InvalidData(LimpetError, ValueError):
    """The data of a message does not fit the type that the application expects. Nothing is lost.

    The text names the message's group, the field and what is wrong with it, and shows no data.

    Attributes:
        message: the message, fragment or reply as it came.
        type: the type that was expected.
        reason: which field does not fit, and why (str); one line of at most 300 characters.
    """

    _SHOWN = ("type", "reason", "message")

    def __init__(self, message: Any, type: Any, reason: str) -> None:
        super().__init__(message, type, reason)
        self.message: Any = message
        self.type: Any = type
        self.reason = reason

    def __str__(self) -> str:
        kind = self.message.__class__.__name__
        group = getattr(self.message, "group", None)
        where = f" of the group {one_line(repr(group), 100)}" if group is not None else ""
        expected = getattr(self.type, "__name__", None) or repr(self.type)
        return f"the data of a {kind}{where} does not fit {expected}: {self.reason}"


def _no_os_error(error: TimeoutError, *args: object) -> None:
    """Give ``error`` its arguments back: an OSError takes two to five for an error of the system."""
    error.args = args
    error.errno = error.strerror = error.filename = error.filename2 = None


def restated(error: StreamError, acknowledged: int) -> StreamError:
    """Return a new error that is like ``error``, to be raised once, with the number of acknowledged fragments."""
    if isinstance(error, StreamTimeout):
        return StreamTimeout(error.name, error.message, acknowledged, error.outcome)
    return StreamError(error.name, error.message, acknowledged, error.code)
