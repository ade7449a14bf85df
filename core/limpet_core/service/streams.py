"""The streams of clients: ordered fragments from one connection to one group (client-spec 3.6)."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Final, TypeAlias

from limpet_core.protocol.close import Close
from limpet_core.service.connections.connection import Connection
from limpet_core.service.connections.observers import Observers
from limpet_core.service.connections.registry import Registry
from limpet_core.service.connections.stream import Stream
from limpet_core.service.wire import to_client
from limpet_core.service.wire.requests import DataType, StartStream, StreamData, StreamEnd, StreamMessage
from limpet_core.service.wire.to_client import StreamFault, StreamPlace

# The errors with which members see a stream end (Azure docs); they see any other one as the last of these.
_FOR_MEMBERS: Final = ("IdleTimeout", "InternalServerError", "Forbidden", "Cancelled")

_REMEMBERED: Final = 64
"""Streams of a connection that are remembered when they have ended, to answer a repeat as the first time."""

_EMPTY_TEXT: Final = b'""'

Fault: TypeAlias = Callable[[Connection, str, int], bool]
"""Returns whether a fragment (of a connection, with a stream id and a sequence id) is refused for the moment."""

Timer: TypeAlias = tuple[float, Connection, Stream]
"""When an open stream of a connection is looked at, in monotonic seconds: at its deadline, or before."""


class Streams:
    """The open streams of all connections.

    A client is told that a stream is closed if and only if it is not open (any more).

    Attributes:
        faults: for tests: fragments that one of them refuses are nacked with ``TransientError``.
    """

    def __init__(self, registry: Registry, observers: Observers) -> None:
        self.faults: list[Fault] = []
        self._registry = registry
        self._observers = observers
        self._with_ack: list[tuple[Connection, Stream]] = []
        # Streams of connections that are over; members are still to be told.
        self._cancelled: deque[tuple[Connection, Stream]] = deque()
        self._cancelling = False
        # An entry is earlier than the deadline of its stream if there was a fragment since, and perhaps of a stream
        # that has ended; a fragment costs nothing here.
        self._timers: list[tuple[float, int, Connection, Stream]] = []
        self._numbers = count()
        self._open = 0
        registry.listen(self)

    # ---- What clients say

    def start(self, connection: Connection, message: StartStream, now: float) -> tuple[str, str] | None:
        """Open a stream; return the name and the text of an error if it is refused."""
        stream_id, group = message.stream_id, message.group
        stream = connection.streams.get(stream_id)
        if stream is not None:
            # The client may only have lost the answer.
            if stream.group == group:
                self._send_ack(connection, stream)
                return None
            text = f"The stream is open already, to group '{stream.group}'."
            self._nack(connection, stream, "TransientError", text)
            return ("BadRequest", text)
        if not connection.permissions.send.allows(group):
            error = ("Forbidden", f"The client does not have permission to send to group '{group}'.")
        elif len(connection.streams) >= self._registry.limits.streams:
            error = ("BadRequest", f"The client has {len(connection.streams)} open streams, which is the limit.")
        else:
            idle_timeout = message.idle_timeout or self._registry.limits.stream_idle_timeout
            connection.ended_streams.pop(stream_id, None)
            stream = connection.streams[stream_id] = Stream(stream_id, group, message.no_echo, idle_timeout, now)
            self._open += 1
            heappush(self._timers, (stream.deadline, next(self._numbers), connection, stream))
            self._observers.stream_started(connection, stream)
            self._send_ack(connection, stream)
            return None
        self.refuse(connection, stream_id, *error)
        return error

    def receive(self, connection: Connection, message: StreamMessage, now: float) -> None:
        """Carry out a fragment, a keepalive or the end of a stream."""
        stream = connection.streams.get(message.stream_id)
        if stream is None:
            self._answer_late(connection, message)
        elif isinstance(message, StreamData):
            number, data_type = message.stream_sequence_id, message.data_type
            if number is None or data_type is None:
                stream.deadline = now + stream.idle_timeout
            elif number == stream.expected:
                self._accept(connection, stream, data_type, bytes(message.data), now)
            elif number < stream.expected:
                self._ack_soon(connection, stream)
            else:
                self._refuse_gap(connection, stream, number)
        else:
            assert isinstance(message, StreamEnd), "the starts are dispatched to start()"
            self._end(connection, stream, message)

    def _answer_late(self, connection: Connection, message: StreamMessage) -> None:
        """Answer a message about a stream that is not open: perhaps a repeat of one whose answer was lost."""
        number = message.stream_sequence_id if isinstance(message, StreamData) else None
        ended = connection.ended_streams.get(message.stream_id)
        if ended is None:
            self.refuse(connection, message.stream_id, "StreamNotFound", "There is no open stream with this id.")
        elif ended.fault is not None:
            self.refuse(connection, message.stream_id, *ended.fault)
        elif isinstance(message, StreamEnd):
            self._registry.send(connection, connection.codec.stream_closed(ended.stream_id, None))
        elif number is not None and number < ended.expected:
            self._send_ack(connection, ended)
        else:
            self.refuse(connection, message.stream_id, "StreamNotFound", "The stream has ended.")

    def refuse(self, connection: Connection, stream_id: str, name: str, text: str) -> None:
        """Tell a client that a stream is closed; if it is open, close it."""
        stream = connection.streams.get(stream_id)
        if stream is not None:
            self.close(connection, stream, name, text)
            return
        if self._observers:
            self._observers.stream_refused(connection, stream_id, name, text)
        self._registry.send(connection, connection.codec.stream_closed(stream_id, (name, text)))

    def _accept(self, connection: Connection, stream: Stream, data_type: DataType, data: bytes, now: float) -> None:
        number, group = stream.expected, stream.group
        if not connection.permissions.send.allows(group):
            text = f"The client does not have permission to send to group '{group}' any more."
            self.close(connection, stream, "Forbidden", text)
            return
        for fault in self.faults.copy():
            if fault(connection, stream.stream_id, number):
                stream.refused = number
                self._nack(connection, stream, "TransientError", "The fragment cannot be published at the moment.")
                return
        stream.expected += 1
        stream.refused = 0
        stream.deadline = now + stream.idle_timeout
        self._ack_soon(connection, stream)
        hub = self._registry.hub(connection.hub)
        members = hub.members(group)
        if self._observers:
            self._observers.fragment(connection, stream, number, data_type, data, members)
        if members:
            place = StreamPlace(stream.stream_id, number)
            publication = to_client.group_publication(group, connection.user_id, data_type, data, stream=place)
            self._registry.deliver_to_group(hub, group, publication, connection if stream.no_echo else None)

    def _refuse_gap(self, connection: Connection, stream: Stream, number: int) -> None:
        # One nack for a burst of fragments behind a gap: the client sends all of them again for each.
        known = 0 < stream.refused < number
        stream.refused = number
        if not known:
            expected = stream.expected
            self._nack(connection, stream, "InvalidSequenceId", f"Fragment {number} came, {expected} is expected.")

    def _end(self, connection: Connection, stream: Stream, message: StreamEnd) -> None:
        if stream.refused:
            # Fragments are missing, and the client knows: the end belongs behind them.
            return
        fault = None
        if message.error is not None:
            fault = StreamFault("UserError", message.error.message, message.error.user_error_code)
        self._forget(connection, stream)
        self._tell_members(connection, stream, fault)
        self._registry.send(connection, connection.codec.stream_closed(stream.stream_id, None))

    # ---- Acks

    def send_acks(self) -> None:
        """Tell the clients what has arrived since the last call: one ack for each stream."""
        if self._with_ack:
            due, self._with_ack = self._with_ack, []
            for connection, stream in due:
                if stream.ack_is_due and stream.is_open:
                    self._send_ack(connection, stream)

    def _ack_soon(self, connection: Connection, stream: Stream) -> None:
        if not stream.ack_is_due:
            stream.ack_is_due = True
            self._with_ack.append((connection, stream))

    def _send_ack(self, connection: Connection, stream: Stream) -> None:
        stream.ack_is_due = False
        if self._observers:
            self._observers.stream_acked(connection, stream)
        self._registry.send(connection, connection.codec.stream_ack(stream.stream_id, stream.expected))

    def _nack(self, connection: Connection, stream: Stream, name: str, text: str) -> None:
        if self._observers:
            self._observers.stream_nacked(connection, stream, name, text)
        self._registry.send(connection, connection.codec.stream_nack(stream.stream_id, stream.expected, name, text))

    # ---- Snapshots

    def save(self) -> list[Timer]:
        """Return when the open streams are looked at, in the order in which they would end; see :meth:`restore`."""
        return [(due, connection, stream) for due, _, connection, stream in sorted(self._timers) if stream.is_open]

    def restore(self, timers: Iterable[Timer]) -> None:
        """Look after the open streams of a snapshot, which their connections have already."""
        # In order, so it is a heap.
        self._timers = [(due, next(self._numbers), connection, stream) for due, connection, stream in timers]
        self._open = len(self._timers)

    # ---- The ends of streams

    @property
    def deadline(self) -> float:
        """When to call :meth:`expire`, in monotonic seconds, perhaps too early; ``math.inf``: nothing is open."""
        return self._timers[0][0] if self._timers else math.inf

    def expire(self, now: float) -> None:
        """End the streams whose idle timeout is over."""
        timers = self._timers
        while timers and timers[0][0] <= now:
            _, _, connection, stream = heappop(timers)
            if stream.is_open:
                if stream.deadline > now:
                    heappush(timers, (stream.deadline, next(self._numbers), connection, stream))
                else:
                    text = f"There was no fragment and no keepalive for {stream.idle_timeout:g} s."
                    self.close(connection, stream, "IdleTimeout", text)

    def close(self, connection: Connection, stream: Stream, name: str, text: str) -> None:
        """End an open stream with an error."""
        if stream.ack_is_due:
            self._send_ack(connection, stream)
        if not stream.is_open:
            return
        stream.fault = (name, text)
        self._forget(connection, stream)
        self._tell_members(connection, stream, StreamFault(name if name in _FOR_MEMBERS else _FOR_MEMBERS[-1], text))
        self._registry.send(connection, connection.codec.stream_closed(stream.stream_id, (name, text)))

    def opened(self, connection: Connection) -> None:
        """Handle a new connection, which has no streams."""

    def closed(self, connection: Connection, close: Close, *, by_client: bool) -> None:
        """Handle the end of a connection: its streams end."""
        for stream in list(connection.streams.values()):
            self._forget(connection, stream)
            self._cancelled.append((connection, stream))
        # What members are told may end further connections. A loop, since their number has no limit.
        if not self._cancelling:
            self._cancelling = True
            while self._cancelled:
                fault = StreamFault("Cancelled", "The connection of the publisher is over.")
                self._tell_members(*self._cancelled.popleft(), fault)
            self._cancelling = False

    def _tell_members(self, connection: Connection, stream: Stream, fault: StreamFault | None) -> None:
        """Publish the end of a stream that is forgotten already."""
        group = stream.group
        self._observers.stream_ended(connection, stream, fault)
        # Raw members get payloads alone, and this message has none.
        members = [member for member in self._registry.hub(connection.hub).members(group) if member.raw is None]
        if members:
            place = StreamPlace(stream.stream_id, stream.expected, True, fault)
            end = to_client.group_publication(group, connection.user_id, "text", _EMPTY_TEXT, stream=place)
            self._registry.deliver(members, end, connection if stream.no_echo else None)

    def _forget(self, connection: Connection, stream: Stream) -> None:
        del connection.streams[stream.stream_id]
        stream.is_open = False
        self._open -= 1
        ended = connection.ended_streams
        ended[stream.stream_id] = stream
        if len(ended) > _REMEMBERED:
            del ended[next(iter(ended))]
        timers = self._timers
        if len(timers) > 2 * self._open + 64:
            # Timeouts can be weeks. In place, since expire() iterates.
            timers[:] = [entry for entry in timers if entry[-1].is_open]
            heapify(timers)
        while timers and not timers[0][-1].is_open:
            heappop(timers)
