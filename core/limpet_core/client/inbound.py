"""Inbound: the first message of a transport, and messages that are rare or broken.

Data and acks of an established connection are read in :class:`~limpet_core.client.session.Session` itself.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from limpet_core.client.connection import Connection
from limpet_core.client.events import Event, MessagesMissed
from limpet_core.client.invocations import NO_INVOCATIONS, Invocations
from limpet_core.client.lifecycle import Lifecycle
from limpet_core.client.log_lines import LogLines, log
from limpet_core.client.options import Options
from limpet_core.client.requests import Requests
from limpet_core.client.states import CONNECTED, State
from limpet_core.client.stats import Counters
from limpet_core.client.streams import NO_STREAMS, Streams
from limpet_core.errors import ConnectError
from limpet_core.protocol.close import Close
from limpet_core.protocol.codec import Codec
from limpet_core.protocol.messages import (
    MAX_SEQUENCE_ID,
    Broken,
    GroupStateSnapshot,
    GroupStateUpdate,
    Ignored,
    Incoming,
    InvokeResponseMessage,
    StreamAckMessage,
    StreamClosedMessage,
    StreamNackMessage,
    SystemMessage,
)
from limpet_core.redaction import Secrets
from limpet_core.text import one_line

MAX_IDENTITY: Final = 16 * 1024
"""Characters of a connection id and its reconnection token, which go into the URL of every recovery."""


class Inbound:
    """Reads the messages that establish, end or break a connection.

    Attributes:
        streams, invocations: the session's.
    """

    __slots__ = (
        "_codec",
        "_counters",
        "_events",
        "_lifecycle",
        "_log",
        "_options",
        "_requests",
        "_secrets",
        "invocations",
        "streams",
    )

    def __init__(
        self,
        options: Options,
        codec: Codec,
        secrets: Secrets,
        requests: Requests,
        lifecycle: Lifecycle,
        events: list[Event],
        lines: LogLines,
        counters: Counters,
    ) -> None:
        self._options = options
        self._codec = codec
        self._secrets = secrets
        self._requests = requests
        self._lifecycle = lifecycle
        self.streams: Streams = NO_STREAMS
        self.invocations: Invocations = NO_INVOCATIONS
        self._events = events
        self._log = lines
        self._counters = counters

    def receive_first(self, messages: Sequence[bytes], now: float) -> Sequence[bytes]:
        """Read messages until the connection is established or recovered; return the messages that follow."""
        lifecycle = self._lifecycle
        for index, message in enumerate(messages):
            incoming = self._codec.decode(message)
            connection = lifecycle.connection
            if type(incoming) is SystemMessage or (type(incoming) is Broken and connection is not None):
                self.receive(incoming, now)
            elif connection is None:
                reason = incoming.reason if type(incoming) is Broken else "a message before the connected message"
                self.broken(1002, reason, now)
            else:
                lifecycle.recovered(connection, now)  # whatever the message is, the service took the client back
                return messages[index:]
            if not lifecycle.open:
                break
            if lifecycle.state is CONNECTED:
                return messages[index + 1 :]
        return ()

    def receive(self, incoming: Incoming, now: float) -> None:
        """Handle a message that is neither data nor an ack."""
        if type(incoming) is SystemMessage:
            if incoming.event == "connected":
                if incoming.reconnection_token:
                    self._secrets.learn(incoming.reconnection_token)
                self._connected_message(incoming, now)
            elif incoming.event == "disconnected":
                self._lifecycle.disconnected_message = incoming.message or ""  # the close follows
        elif type(incoming) is GroupStateUpdate or type(incoming) is GroupStateSnapshot:
            self._requests.states_received(incoming, now)
        elif (
            type(incoming) is StreamAckMessage
            or type(incoming) is StreamNackMessage
            or type(incoming) is StreamClosedMessage
        ):
            if self.streams.receive(incoming, now):
                self._lifecycle.answered()
                self._lifecycle.schedule(self.streams)
        elif type(incoming) is Broken:
            self._broken_message(incoming, now)
        elif type(incoming) is InvokeResponseMessage:
            if self.invocations.replied(incoming):
                self._lifecycle.answered()
        elif type(incoming) is Ignored:
            if log.isEnabledFor(logging.DEBUG):  # to look for secrets takes far longer than to send such a message
                self._log.debug("ignored a message of unknown %s", one_line(incoming.what, secrets=self._secrets))
            if incoming.sequence_id is not None:
                self._skip(incoming.sequence_id, now)

    def _connected_message(self, message: SystemMessage, now: float) -> None:
        lifecycle = self._lifecycle
        connection = lifecycle.connection
        token = message.reconnection_token or ""
        if not message.connection_id:
            self.broken(1007, "a connected message without connectionId", now, may_be_data=False)
        elif len(message.connection_id) + len(token) > MAX_IDENTITY:
            reason = f"a connection id and token of more than {MAX_IDENTITY} characters"
            self.broken(1007, reason, now, may_be_data=False)
        elif connection is not None and message.connection_id == connection.id:
            # The service may hand out a fresh token at any time (client-spec 1.2.4).
            connection.token = token or connection.token
            if lifecycle.state is State.RECOVERING:
                lifecycle.recovered(connection, now)
        elif lifecycle.state is CONNECTED:
            # A transport has one connection. A session that followed the service to another one would join all
            # groups again as often as the service likes; so the next connection comes after a backoff.
            reason = "a connected message of another connection, in the middle of one"
            self._log.warning("the service sent %s", reason)
            lifecycle.drop_transport(Close(1002, reason))
            lifecycle.connection_lost(1002, reason, now)
        else:
            lifecycle.connected(Connection(message.connection_id, message.user_id, token), now)

    def _broken_message(self, message: Broken, now: float) -> None:
        connection = self._lifecycle.connection
        if connection is None or message.sequence_id is None or not self._options.reliable:
            self.broken(1007, message.reason, now, may_be_data=message.may_be_data)
            return
        # A whole text was not garbled on the way: sent again it would be the same.
        self._tell_fault(connection, message.reason, "; it is skipped")
        if self._lifecycle.state is State.RECOVERING:
            self._lifecycle.recovered(connection, now)
        self._skip(message.sequence_id, now)

    def broken(self, code: int, reason: str, now: float, *, can_skip: bool = True, may_be_data: bool = True) -> None:
        """Handle a break of the protocol: a message that does not belong to it, or has no readable sequence id.

        Close with ``code`` and recover: a fault of the peer's may be over then. If the same comes again, skip it
        rather than lose all later messages. Tell the application if it may have been a data message.
        """
        lifecycle = self._lifecycle
        connection = lifecycle.connection
        reason = one_line(reason, secrets=self._secrets)  # it may quote what was sent
        if connection is None:  # the failed attempt is told
            lifecycle.attempt_failed(ConnectError(f"the service sent {reason}", code=code), now)
            return
        self._tell_fault(connection, reason)
        again = connection.broken_at == connection.sequence_id
        if can_skip and (again or not self._options.reliable):
            if lifecycle.state is State.RECOVERING:
                lifecycle.recovered(connection, now)
            if may_be_data:
                self._missed(0, 0)
            return
        connection.broken_at = connection.sequence_id
        lifecycle.drop_transport(Close.because(code, reason))
        if again:
            lifecycle.connection_lost(code, reason, now)
        else:
            lifecycle.transport_lost(code, reason, now)

    def _tell_fault(self, connection: Connection, reason: str, more: str = "") -> None:
        """Log a message that cannot be used: the first of a connection, the tenth, the hundredth.

        A publisher may cause it, as often as it likes; the others are for who looks closely.
        """
        connection.faults += 1
        count = connection.faults
        if str(count).strip("0") == "1":
            times = "" if count == 1 else f" (message {count} that cannot be used)"
            self._log.warning("the service sent %s%s%s", reason, more, times)
        else:
            self._log.debug("the service sent %s%s", reason, more)

    def _skip(self, sequence_id: int, now: float) -> None:
        """Count a message that cannot be delivered as received, and tell the application."""
        connection = self._lifecycle.connection
        if connection is not None and self._options.reliable:
            if sequence_id > connection.sequence_id:
                self._missed(connection.sequence_id + 1, sequence_id)
                connection.sequence_id = sequence_id
            connection.unacked_messages += 1
            self._lifecycle.schedule_sequence_ack(connection, now)

    def admit(self, connection: Connection, sequence_id: int, now: float) -> bool:
        """Report the gap before a message that is not the next one; return whether the message is new."""
        last = connection.sequence_id
        if sequence_id <= last:
            return False  # seen before: the service sends again what it does not know to be acknowledged
        if sequence_id > MAX_SEQUENCE_ID:
            self.broken(1007, "a sequence id of more than 64 bits", now)
            return False
        self._missed(last + 1, sequence_id - 1)
        return True

    def _missed(self, first: int, last: int) -> None:
        self._counters.missed += last - first + 1
        self._events.append(MessagesMissed(first, last))
