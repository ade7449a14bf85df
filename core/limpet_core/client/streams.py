"""Streams: those that this client writes, from the start to the service's ``streamClosed`` (client-spec 3.6)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar, Final

from limpet_core.client.deadlines import Deadlines
from limpet_core.client.events import Event, StreamClosed, StreamOpened, StreamProgress
from limpet_core.client.options import Options
from limpet_core.client.outgoing_stream import OutgoingStream
from limpet_core.client.timers import Timer
from limpet_core.errors import (
    InvalidType,
    InvalidValue,
    LimpetError,
    LocalProtocolError,
    NoSuchStream,
    StreamError,
    StreamTimeout,
    TooManyRequests,
    restated,
)
from limpet_core.protocol.codec import Codec, codec_for
from limpet_core.protocol.messages import (
    ErrorDetail,
    StreamAckMessage,
    StreamClosedMessage,
    StreamEndError,
    StreamNackMessage,
)
from limpet_core.protocol.rules import check_number, check_text
from limpet_core.redaction import Secrets
from limpet_core.text import without_secrets

MAX_UNACKED_BYTES: Final = 1 << 20
"""Bytes of one stream that may be unacknowledged before a writer waits."""

MAX_STREAM_ID: Final = 1024
"""Characters of a stream's id, which every fragment carries."""

_MOST_FAILED: Final = 1000
"""Failed streams that are remembered until the service has closed them; the oldest are forgotten first."""

_LONGEST_IDLE_TIMEOUT: Final = (2**32 - 1) / 1000
"""The longest idle timeout in seconds: on the wire, milliseconds in 32 bits."""

_END_PATIENCE: Final = 2.0
"""Seconds without an acknowledgement after which the end follows the fragments all the same.

A service that has refused a fragment cannot take it back in behind the end. So the end waits for the acknowledgements;
but a service may acknowledge only every so many fragments. The same time decides, after a refusal behind such an end,
that the service has not taken the end either: then the fragments are sent again, and the end behind them.
"""


class Streams:
    """All streams that are being written.

    Attributes:
        sending: the streams that have something to send, in the order of their turns.
        wake_at: the time of the next :meth:`wake`, in seconds; may be early, never late.
    """

    timer: ClassVar[Timer] = Timer.STREAMS

    __slots__ = (
        "_codec",
        "_count",
        "_deadlines",
        "_events",
        "_failed",
        "_most_fragments",
        "_options",
        "_random",
        "_ready",
        "_secrets",
        "_streams",
        "_waiting",
        "sending",
        "wake_at",
    )

    def __init__(
        self, options: Options, random: Callable[[], float], codec: Codec, secrets: Secrets, events: list[Event]
    ) -> None:
        self._options = options
        self._most_fragments = options.max_stream_unacked
        self._random = random
        self._codec = codec
        self._secrets = secrets
        self._events = events
        self._ready = False
        self._count = 0  # of the ids drawn so far
        self._waiting = 0  # how many streams wait for an answer of the service
        self._streams: dict[str, OutgoingStream] = {}
        self._deadlines = Deadlines(self._streams)  # of starts
        self._failed: dict[str, OutgoingStream] = {}  # the service may hold them open; their ids are taken until then
        self.sending: dict[OutgoingStream, None] = {}
        self.wake_at: float = math.inf

    @property
    def waits(self) -> bool:
        """Whether a stream waits for an answer of the service."""
        return self._waiting > 0

    @property
    def to_send(self) -> int:
        """How many messages :meth:`take` would return."""
        return sum(stream.to_send for stream in self.sending)

    def __len__(self) -> int:
        return len(self._streams)

    # ---- The writer

    def open(
        self,
        group: str,
        now: float,
        stream_id: str | None,
        no_echo: bool,
        idle_timeout: float,
        user_data: Any,
        timeout: float | None,
    ) -> str:
        """Begin a stream; send its start at once if a connection is established, else as soon as one is."""
        if len(self._streams) >= self._options.max_streams:
            raise TooManyRequests(
                f"{len(self._streams)} streams are open already (max_streams); end some of them first"
            )
        check_number("idle_timeout", idle_timeout, minimum=0.001, maximum=_LONGEST_IDLE_TIMEOUT, unit="seconds")
        if stream_id is None:
            count, stream_id = self._fresh_id()
        else:
            count = self._count
            check_text("stream_id", stream_id, minimum=1, maximum=MAX_STREAM_ID)
            if stream_id in self._streams:
                raise LocalProtocolError(f"stream_id {stream_id!r} belongs to a stream that is still open")
            if stream_id in self._failed:
                raise LocalProtocolError(
                    f"stream_id {stream_id!r} belongs to a failed stream that the service has not closed yet"
                )
        milliseconds = math.ceil(round(idle_timeout * 1000, 3))
        start = self._codec.encode_stream_start(group, stream_id, no_echo, milliseconds)
        self._count = count
        stream = OutgoingStream(stream_id, start, user_data, idle_timeout / 3)
        self._streams[stream_id] = stream
        name = "timeout"
        if timeout is None:
            timeout, name = self._options.request_timeout, "request_timeout"
        if timeout is not None:
            stream.limit = f"{name} ({timeout:g} s)"
            self._deadlines.add(stream_id, stream, now + timeout)
            self._wake_by(now + timeout)
        self._send(stream)
        self._expect(stream, now)
        return stream_id

    def _fresh_id(self) -> tuple[int, str]:
        """Draw an id: 96 random bits, and a count, which keeps the ids apart even if ``random`` does not work."""
        drawn = "".join(f"{min(int(self._random() * 2**32), 2**32 - 1):08x}" for _ in range(3))
        count = self._count + 1
        while (stream_id := f"{drawn}{count:08x}") in self._streams:
            count += 1
        return count, stream_id

    def write(self, stream_id: str, data: Any, now: float, data_type: str | None) -> int:
        """Take a fragment over and return its number, from 1."""
        stream = self._streams.get(stream_id) if stream_id.__class__ is str else None
        if stream is None:
            stream = self._open_stream(stream_id)
        if stream.ending:
            raise LocalProtocolError(f"the stream {stream_id!r} has been ended or aborted: nothing can follow")
        if len(stream.fragments) >= self._most_fragments or stream.size >= MAX_UNACKED_BYTES:
            raise TooManyRequests(
                f"{len(stream.fragments)} fragments with {stream.size} bytes are not acknowledged yet "
                f"(max_stream_unacked is {self._options.max_stream_unacked}, and {MAX_UNACKED_BYTES} bytes); "
                "wait for StreamProgress before writing more"
            )
        number = stream.next
        message = self._codec.encode_stream_data(stream_id, number, data, data_type, self._options.max_request_size)
        stream.fragments[number] = message
        stream.size += len(message)
        stream.next = number + 1
        if stream.opened:
            if self._ready:
                self.sending[stream] = None
            if not stream.backing_off:  # else nothing goes out for now
                stream.quiet_at = now + stream.keepalive
        if not stream.waits:
            self._expect(stream, now)
        return number

    def has_room(self, stream_id: str) -> bool:
        """Whether :meth:`write` would take a fragment."""
        stream = self._streams.get(stream_id)
        return (
            stream is not None
            and not stream.ending
            and len(stream.fragments) < self._most_fragments
            and stream.size < MAX_UNACKED_BYTES
        )

    def end(self, stream_id: str, now: float, error: StreamEndError | None = None) -> None:
        """End a stream behind its fragments; an ``error`` replaces an end that was not sent yet."""
        stream = self._open_stream(stream_id)
        if error is not None:
            check_text("message", error.message)
            if error.user_error_code is not None:
                check_text("code", error.user_error_code)
        message = self._codec.encode_stream_end(stream_id, error)
        text = error is not None and (error.message or error.user_error_code)
        if text and len(message) > self._options.max_request_size:  # a stream can always be ended
            raise InvalidValue(
                f"message makes a request of {len(message)} bytes; max_request_size is {self._options.max_request_size}"
            )
        if stream.ending and (error is None or stream.aborted or stream.end_tried):
            return
        if error is not None and not stream.tried:
            self._close(stream, None if stream.next == 1 else StreamError("Aborted", "it was aborted before its start"))
            return
        stream.ending = message
        stream.aborted = error is not None
        if stream.opened:
            self._send(stream)
        self._expect(stream, now)

    def _open_stream(self, stream_id: str) -> OutgoingStream:
        if not isinstance(stream_id, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidType(f"stream_id must be a str, not {type(stream_id).__name__}")
        stream = self._streams.get(stream_id)
        if stream is None:
            raise NoSuchStream(f"stream_id {stream_id!r} belongs to no open stream")
        return stream

    # ---- On the way to the transport

    def _send(self, stream: OutgoingStream) -> None:
        if self._ready:
            self.sending[stream] = None

    def take(self) -> list[bytes]:
        """Return the messages to send now, of all streams in turns; from here on they count as handed out."""
        messages: list[bytes] = []
        while self.sending:
            turn = tuple(self.sending)
            for stream in turn:
                if len(turn) == 1:  # the ordinary case, in one go
                    messages += stream.take_fragments()
                message = stream.take()
                if message is None:
                    del self.sending[stream]
                else:
                    messages.append(message or self._codec.encode_stream_keepalive(stream.id))
        return messages

    # ---- Connections and transports

    def connected(self, now: float) -> None:
        """Send the starts of all streams: those that had begun have failed with the connection before."""
        self.recovered(now)

    def recovered(self, now: float) -> None:
        """Send again, in order, what is not acknowledged."""
        self._ready = True
        for stream in self._failed.values():
            stream.end_sent = False
            self._send(stream)
        for stream in self._streams.values():
            stream.resume()
            stream.keepalive_due = stream.opened  # a fragment or an end that is sent again stands for it
            stream.quiet_at = now + stream.keepalive if stream.opened else math.inf
            self._send(stream)
            self._expect(stream, now)

    def transport_lost(self) -> None:
        """Note that the transport is lost: nothing is due until the next one."""
        self._ready = False
        self.sending.clear()

    def connection_lost(self) -> None:
        """Fail the streams that the service may know; the others wait for the next connection."""
        for stream in list(self._streams.values()):
            if stream.tried:
                self._close(stream, StreamError("ConnectionLost", "the connection was lost, and the stream with it"))
        self._failed.clear()

    def stop(self, error: LimpetError | None) -> None:
        """Fail all streams."""
        why = "the client was stopped" if error is None else f"the client has stopped: {error}"
        for stream in list(self._streams.values()):
            self._close(stream, StreamError("Stopped", why))
        self._failed.clear()
        self.sending.clear()

    # ---- The service

    def receive(self, control: StreamAckMessage | StreamNackMessage | StreamClosedMessage, now: float) -> bool:
        """Handle what the service says of a stream; return whether it is one of these."""
        stream = self._streams.get(control.stream_id)
        if stream is None or not stream.tried:
            if isinstance(control, StreamClosedMessage):
                self._failed.pop(control.stream_id, None)
            return False
        if isinstance(control, StreamClosedMessage):
            error = control.error
            if error is not None and error.name == "StreamNotFound" and not stream.opened:
                return False  # no answer to a start, but to late fragments of a failed stream with the same id
            self._closed(stream, error)
        elif isinstance(control, StreamNackMessage) and not stream.opened:
            if stream.started:  # else the start is to be sent again anyway
                self._back_off(stream, control, now)
        elif self._acknowledge(stream, control.expected_sequence_id, now):
            self._send(stream)
            if isinstance(control, StreamNackMessage):
                self._refused(stream, control, now)
        return True

    def _acknowledge(self, stream: OutgoingStream, expected: int, now: float) -> bool:
        """Let go of the fragments before ``expected``; return whether the stream goes on."""
        if not stream.oldest <= expected <= stream.handed:
            text = f"the service expects fragment {expected}, but {stream.oldest} to {stream.handed} can come next"
            self._fail(stream, StreamError("InvalidAck", text))
            return False
        if not stream.opened:
            stream.opened = True
            stream.quiet_at = now + stream.keepalive
            self._events.append(StreamOpened(stream.id, stream.user_data))
            self._progress(stream, now)
        elif expected > stream.oldest:
            stream.acknowledge(expected)
            self._events.append(StreamProgress(stream.id, expected - 1, stream.user_data))
            self._progress(stream, now)
        return True

    def _progress(self, stream: OutgoingStream, now: float) -> None:
        stream.failures = 0
        stream.backing_off = False
        self._expect(stream, now)

    def _refused(self, stream: OutgoingStream, nack: StreamNackMessage, now: float) -> None:
        """Send again from the oldest fragment, which the service has not taken (client-spec 3.6.4.5).

        All that were in flight behind it are refused as well. So only the first refusal leads to a repeat at once;
        others make sense again when that repeat has failed, too.
        """
        if stream.end_here:
            stream.incomplete = True  # the service has read the end behind it
        if stream.cursor == stream.oldest:
            return  # it is to be sent anyway
        if stream.refused == stream.oldest:
            self._back_off(stream, nack, now)
            return
        stream.refused = stream.oldest
        if stream.end_sent:
            # The service has read the end behind it. Unless it closes the stream now, it has not taken the end either.
            stream.end_due = now + _END_PATIENCE
            self._wake_by(stream.end_due)
        else:
            self._repeat(stream, now)

    def _repeat(self, stream: OutgoingStream, now: float) -> None:
        """Send again from the oldest fragment."""
        stream.rewind()
        self._send(stream)
        self._expect(stream, now)

    def _back_off(self, stream: OutgoingStream, nack: StreamNackMessage, now: float) -> None:
        """Send again later what the service has refused twice, or give the stream up."""
        if stream.backing_off:
            return
        stream.failures += 1
        if not self._options.retry.allows(stream.failures):
            message = nack.message or "the service refused the same fragment again and again"
            self._fail(stream, self._error(nack.name or "Unknown", message))
            return
        stream.backing_off = True
        stream.due = now + self._options.retry.delay(stream.failures, self._random)
        self._wake_by(stream.due)

    def _closed(self, stream: OutgoingStream, error: ErrorDetail | None) -> None:
        """End a stream that the service has closed."""
        if error is not None:
            # An end that was sent before a recovery, too, has done its work then.
            done = error.name == "StreamNotFound" and stream.end_tried and not stream.fragments
            reason = error.message or "the service gave no reason"
            self._close(stream, None if done else self._error(error.name, reason))
        elif not stream.end_here and not (stream.end_tried and not stream.fragments):
            self._close(stream, StreamError("Closed", "the service closed the stream before its end"))
        elif stream.incomplete and stream.fragments:  # else it has taken them after all
            text = f"the service ended the stream without the fragments from {stream.oldest} on"
            self._close(stream, StreamError("Incomplete", text))
        else:
            stream.acknowledge(stream.next)
            self._close(stream, None)

    def _error(self, name: str, message: str) -> StreamError:
        secrets = self._secrets
        return StreamError(without_secrets(name, secrets=secrets), without_secrets(message, secrets=secrets))

    def _fail(self, stream: OutgoingStream, error: StreamError) -> None:
        """End a stream that cannot go on; its readers learn of it by an end with an error."""
        self._close(stream, error)
        if stream.tried and self._ready:
            stream.give_up(self._codec.encode_stream_end(stream.id, StreamEndError(f"{error.name}: {error.message}")))
            self.sending[stream] = None
            self._failed[stream.id] = stream
            if len(self._failed) > _MOST_FAILED:
                self._failed.pop(next(iter(self._failed)))

    def _close(self, stream: OutgoingStream, error: StreamError | None) -> None:
        """Forget a stream, and tell its writer."""
        acknowledged = stream.oldest - 1
        if error is not None:
            error = restated(error, acknowledged)
        del self._streams[stream.id]
        if stream.number:
            self._deadlines.tidy()
        self.sending.pop(stream, None)
        self._waiting -= stream.waits
        stream.waits = False
        self._events.append(StreamClosed(stream.id, acknowledged, stream.user_data, error))

    # ---- Time

    def _expect(self, stream: OutgoingStream, now: float) -> None:
        """Wait from now on for what the service has to say of a stream, if anything is to come."""
        waits = stream.waits_for_answer
        self._waiting += waits - stream.waits
        stream.waits = waits
        timeout = self._options.ack_timeout
        if not stream.backing_off:
            stream.due = now + timeout if waits and timeout is not None and self._ready else math.inf
        held_up = stream.ending and not stream.end_sent and stream.opened and stream.fragments
        stream.end_due = now + _END_PATIENCE if held_up else math.inf
        self._wake_by(min(stream.due, stream.end_due, stream.quiet_at))

    def _wake_by(self, due: float) -> None:
        if due < self.wake_at:
            self.wake_at = due

    def wake(self, now: float) -> None:
        """Send again, keep alive or give up what is due, and set :attr:`wake_at` anew."""
        self.wake_at = math.inf
        self._expire(now)
        if not self._ready:
            return
        for stream in list(self._streams.values()):
            if stream.quiet_at <= now:
                stream.quiet_at = now + stream.keepalive
                stream.keepalive_due = not stream.end_sent
                self._send(stream)
            if stream.due <= now and not self._overdue(stream, now):
                continue
            if stream.end_due <= now and stream.end_sent:
                self._repeat(stream, now)
            elif stream.end_due <= now:
                stream.end_due = math.inf
                stream.hurry = True
                self._send(stream)
            self._wake_by(min(stream.due, stream.end_due, stream.quiet_at))

    def _expire(self, now: float) -> None:
        """Give up the streams that should have been opened by now."""
        for stream in self._deadlines.take(now):
            if not stream.opened:
                missing = "the service has not accepted the start of the stream"
                if not stream.tried:
                    missing = "the start of the stream could not be sent"
                text = f"{missing} within {stream.limit}"
                self._fail(stream, StreamTimeout("Timeout", text, 0, "unknown" if stream.tried else "unsent"))
        self._wake_by(self._deadlines.next)

    def _overdue(self, stream: OutgoingStream, now: float) -> bool:
        """Send again from the oldest fragment, or give the stream up; return whether it goes on."""
        if not stream.backing_off:
            stream.failures += 1
            if not self._options.retry.allows(stream.failures):
                missing = "no answer came to the stream, although it was sent again"
                if not stream.tried:
                    missing = "the stream could not be started: the connection takes nothing"
                self._fail(stream, StreamError("Timeout", missing))
                return False
        self._repeat(stream, now)
        return True


NO_STREAMS: Final = Streams(Options(), lambda: 0.0, codec_for(Options().protocol), Secrets(), [])
"""In place of those of a session that has not opened one so far. All sessions share it: never call
:meth:`Streams.open`, and all else leaves it as it is.
"""
