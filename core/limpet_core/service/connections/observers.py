"""The observers of a service, and the trace events that they are called with."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from typing import Final, Literal

import msgspec

from limpet_core.protocol.close import Close
from limpet_core.service import closes, trace
from limpet_core.service.connections.connection import Connection
from limpet_core.service.connections.stream import Stream
from limpet_core.service.connections.totals import Totals
from limpet_core.service.webhooks.answers import Answer, Failure
from limpet_core.service.webhooks.handlers import HandlerCall
from limpet_core.service.wire.requests import DataType, Event, Invoke, SendToGroup
from limpet_core.service.wire.to_client import Publication, StreamFault

_LOGGER: Final = logging.getLogger("limpet.service")

SHORT: Final = 240
"""Longest payload or foreign text in a trace event, in characters."""


class Observers(list[trace.Observer]):
    """The functions called with every trace event; usually there are none.

    Without observers no event is made: each method checks this first. For :meth:`published`, :meth:`fragment`,
    :meth:`answered`, :meth:`sequence_acked`, :meth:`stream_acked` and others that are called once or more per message,
    the caller checks instead, which saves the call. The callers of :meth:`published`, :meth:`server_published`,
    :meth:`answered` and :meth:`sequence_acked` also look at ``is_brief``, and count without a call: a service under
    load does little else for its observers.

    Attributes:
        totals: numbers of events, of the time in which there was an observer.
        is_brief: set by an observer that has enough for the moment: while it is the only one, events that come once or
            more per message are counted and not made.
        may_fail: the error of an observer is only logged: in a cluster each node has observers of its own, and what
            they do must not change what happens.
    """

    __slots__ = ("_muted", "is_brief", "may_fail", "totals")

    def __init__(self) -> None:
        super().__init__()
        self.totals: Totals = Totals()
        self.is_brief: bool = False
        self.may_fail: bool = False
        self._muted: list[trace.Observer] = []

    def mute(self) -> None:
        """Tell nothing until :meth:`unmute`."""
        self._muted, self[:] = [*self, *self._muted], []

    def unmute(self) -> None:
        """Tell everything again."""
        self[:], self._muted = [*self._muted, *self], []

    def notify(self, event: trace.TraceEvent) -> None:
        """Call all observers with an event; an observer may remove itself meanwhile."""
        self.totals.others += 1
        self._tell(event)

    def _tell(self, event: trace.TraceEvent) -> None:
        for observer in tuple(self):
            try:
                observer(event)
            except Exception:
                if not self.may_fail:
                    raise
                _LOGGER.exception("an observer of this node has failed, and goes on")

    # ---- Connections

    def opened(self, connection: Connection) -> None:
        if self:
            self.notify(
                trace.ConnectionOpened(*_identity(connection), connection.subprotocol or "", tuple(connection.groups))
            )

    def dropped(self, connection: Connection, code: int, window: float) -> None:
        if self:
            self.totals.dropped += 1
            self.notify(trace.ConnectionDropped(*_identity(connection), code, window))

    def recovered(self, connection: Connection, replayed: int, replaced: bool) -> None:
        if self:
            self.totals.recovered += 1
            self.notify(trace.ConnectionRecovered(*_identity(connection), replayed, replaced))

    def recovery_refused(self, hub: str, connection_id: str) -> None:
        """Report a refused recovery. The connection id comes from the client: it can be any text."""
        if self:
            self.totals.refused += 1
            self.notify(trace.RecoveryRefused(hub, shortened(connection_id)))

    def handshake_refused(self, hub: str | None, status: int, reason: str) -> None:
        """Report a refused client. ``hub`` comes from the client: it can be any text."""
        if self:
            self.totals.refused += 1
            self.notify(trace.HandshakeRefused(shortened(hub or ""), status, shortened(reason)))

    def closed(self, connection: Connection, close: Close, *, by_client: bool) -> None:
        if self:
            reason = shortened(close.reason) or closes.CLIENT_CLOSED
            self.notify(trace.ConnectionClosed(*_identity(connection), close.code, reason))

    def shut_down(self) -> None:
        if self:
            self.notify(trace.ShutDown())

    # ---- Requests and messages

    def joined(self, connection: Connection, group: str) -> None:
        if self:
            self.notify(trace.Joined(*_identity(connection), group))

    def left(self, connection: Connection, group: str) -> None:
        if self:
            self.notify(trace.Left(*_identity(connection), group))

    def published(self, connection: Connection, message: SendToGroup, receivers: int) -> None:
        """Report a client's message to a group, before its delivery. The caller has counted it."""
        payload = _payload(message.data_type, bytes(message.data))
        self._tell(trace.Published(*_identity(connection), "group", message.group, *payload, receivers))

    def server_published(
        self,
        hub: str,
        to: Literal["group", "hub", "user", "connection"],
        name: str,
        publication: Publication,
        receivers: int,
    ) -> None:
        """Report a message of the application server, before its delivery. The caller has counted it."""
        message = _message_decoder.decode(publication.plain)
        payload = _payload(message.data_type, bytes(message.data))
        self._tell(trace.Published(hub, None, None, to, name, *payload, receivers))

    def raised(self, connection: Connection, message: Event) -> None:
        if self:
            payload = _payload(message.data_type, bytes(message.data))
            self.notify(trace.EventRaised(*_identity(connection), message.event, *payload))

    def answered(self, connection: Connection, ack_id: int | None, error: tuple[str, str] | None) -> None:
        """Report the outcome of a request, unless it succeeded and has no ack id."""
        if error is not None:
            name, text = error
            self.totals.refused += 1
            self.notify(trace.Refused(*_identity(connection), ack_id, name, shortened(text)))
        elif ack_id is not None:
            self.totals.acked += 1
            self._tell(trace.Acked(*_identity(connection), ack_id))

    def sequence_acked(self, connection: Connection, sequence_id: int) -> None:
        """Report a sequence ack, after the acknowledged messages were released."""
        self.notify(trace.SequenceAcked(*_identity(connection), sequence_id, connection.retained))

    # ---- Streams

    def stream_started(self, connection: Connection, stream: Stream) -> None:
        if self:
            stream_id = shortened(stream.stream_id)
            self.notify(
                trace.StreamStarted(*_identity(connection), stream.group, stream_id, stream.idle_timeout),
            )

    def fragment(
        self,
        connection: Connection,
        stream: Stream,
        number: int,
        data_type: DataType,
        data: bytes,
        members: Collection[Connection],
    ) -> None:
        """Report a fragment, before its delivery."""
        receivers = len(members) - (stream.no_echo and connection in members)
        totals = self.totals
        totals.published += 1
        totals.delivered += receivers
        if self.is_brief and len(self) == 1:
            return
        payload = _payload(data_type, data)
        place = (shortened(stream.stream_id), number)
        self._tell(trace.Published(*_identity(connection), "group", stream.group, *payload, receivers, *place))

    def stream_acked(self, connection: Connection, stream: Stream) -> None:
        if self.is_brief and len(self) == 1:
            self.totals.others += 1
            return
        self.notify(trace.StreamAcked(*_identity(connection), shortened(stream.stream_id), stream.expected))

    def stream_nacked(self, connection: Connection, stream: Stream, name: str, text: str) -> None:
        stream_id = shortened(stream.stream_id)
        self.notify(trace.StreamNacked(*_identity(connection), stream_id, stream.expected, name, shortened(text)))

    def stream_ended(self, connection: Connection, stream: Stream, fault: StreamFault | None) -> None:
        if self:
            name, text = (None, None) if fault is None else (fault.name, fault.message)
            place = (stream.group, shortened(stream.stream_id), stream.expected - 1)
            shown = None if text is None else shortened(text)
            self.notify(trace.StreamEnded(*_identity(connection), *place, name, shown))

    def stream_refused(self, connection: Connection, stream_id: str, name: str, text: str) -> None:
        """Report a message about a stream that is not open. The stream id comes from the client: it can be any text."""
        self.totals.refused += 1
        self.notify(
            trace.StreamRefused(*_identity(connection), shortened(stream_id), name, shortened(text)),
        )

    # ---- Invocations

    def invoked(self, connection: Connection, message: Invoke) -> None:
        if self:
            payload = _payload(message.data_type, bytes(message.data))
            self.notify(
                trace.Invoked(*_identity(connection), shortened(message.invocation_id), message.event, *payload)
            )

    def invocation_answered(
        self, connection: Connection, invocation_id: str, data_type: str | None, data: bytes
    ) -> None:
        if self:
            _, shown, size = _payload(data_type or "", data)
            place = (*_identity(connection), shortened(invocation_id))
            self.notify(trace.InvocationAnswered(*place, data_type, shown, size))

    def invocation_failed(self, connection: Connection, invocation_id: str, error: tuple[str, str]) -> None:
        """Report a failure. The id comes from the client: it can be any text."""
        if self:
            place = (*_identity(connection), shortened(invocation_id))
            self.notify(trace.InvocationFailed(*place, error[0], shortened(error[1])))

    def invocation_cancelled(self, connection: Connection, invocation_id: str) -> None:
        if self:
            self.notify(trace.InvocationCancelled(*_identity(connection), shortened(invocation_id)))

    # ---- Event handlers

    def handler_called(self, call: HandlerCall, outcome: Answer | Failure) -> None:
        """Report the end of a call, after all its attempts."""
        if self:
            status = outcome.status if isinstance(outcome, Answer) else None
            error = None if isinstance(outcome, Answer) else shortened(outcome.text)
            if call.attempts:
                self.totals.add_call(call.event, call.duration, failed=status is None or status >= 500)
            hub, connection_id, user_id = call.about
            user_id = None if user_id is None else shortened(user_id)
            address, took = shortened(call.address), (call.duration, call.attempts)
            self.notify(trace.HandlerCalled(hub, connection_id, user_id, call.event, address, status, error, *took))

    # ---- The states of groups

    def state_set(self, connection: Connection, group: str, state: Mapping[str, str], receivers: int) -> None:
        if self:
            _, shown, size = _payload("", msgspec.json.encode(state))
            self.notify(trace.GroupStateSet(*_identity(connection), group, shown, size, receivers))

    def state_cleared(self, connection: Connection, group: str, receivers: int) -> None:
        if self:
            self.notify(trace.GroupStateCleared(*_identity(connection), group, receivers))

    def states_watched(self, connection: Connection, group: str, states: int) -> None:
        if self:
            self.notify(trace.GroupStatesWatched(*_identity(connection), group, states))

    def states_unwatched(self, connection: Connection, group: str) -> None:
        if self:
            self.notify(trace.GroupStatesUnwatched(*_identity(connection), group))


def shortened(text: str) -> str:
    """Return a text, cut to ``SHORT`` characters with an ellipsis at the end if it is longer."""
    return text if len(text) <= SHORT else text[: SHORT - 1] + "…"


class _Message(msgspec.Struct, rename="camel"):
    data_type: str
    data: msgspec.Raw


_message_decoder = msgspec.json.Decoder(_Message)


def _identity(connection: Connection) -> tuple[str, str, str | None]:
    user_id = connection.user_id
    if user_id is not None and len(user_id) > SHORT:
        user_id = shortened(user_id)
    return connection.hub, connection.connection_id, user_id


def _payload(data_type: str, data: bytes) -> tuple[str, str, int]:
    # A character takes at most four bytes, so the beginning is enough: a megabyte is never decoded for it.
    size = len(data)
    if data_type in ("binary", "protobuf") and size >= 2:  # base64 in quotes
        size = (size - 2) * 3 // 4 - data.count(b"=", -3)
    return data_type, shortened(data[: SHORT * 4 + 4].decode("utf-8", "replace")), size
