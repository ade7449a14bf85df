"""What the machine makes of the messages that are rare or broken; data and acks are read in the Session itself."""

from __future__ import annotations

import logging
from typing import Final

from limpet_core.client.events import MessagesMissed
from limpet_core.client.lifecycle import Machine, log
from limpet_core.client.states import CONNECTED, State
from limpet_core.errors import ConnectError
from limpet_core.protocol.close import NO_CLOSE_FRAME, Close
from limpet_core.protocol.messages import MAX_SEQUENCE_ID, Broken, Ignored, Incoming, SystemMessage
from limpet_core.text import one_line

MAX_IDENTITY: Final = 16 * 1024
"""Characters of a connection id and its reconnection token, which go into the URL of every recovery."""


class Receiver(Machine):
    """A machine that reads. Nothing here is called from outside."""

    def _receive_first(self, incoming: Incoming, now: float) -> bool:
        """Handle the first message of a transport; False: it is to be handled as any other now."""
        if self._state is State.CONNECTING and type(incoming) is not SystemMessage:
            reason = incoming.reason if type(incoming) is Broken else "a message before the connected message"
            self._broken(1002, reason, now)
        elif type(incoming) is SystemMessage or type(incoming) is Broken:
            self._receive(incoming, now)
        else:
            self._recovered(now)  # whatever it is, the service took us back
            return False
        return True

    def _receive(self, incoming: Incoming, now: float) -> None:
        """Handle what is rare: anything but data and acks."""
        if type(incoming) is Broken:
            if incoming.sequence_id is None or not self.options.reliable:
                self._broken(1007, incoming.reason, now, may_be_data=incoming.may_be_data)
                return
            # A whole text was not garbled on the way: sent again it would be the same.
            log.warning("the service sent %s; it is skipped", incoming.reason)
            if self._state is State.RECOVERING:
                self._recovered(now)
            self._skip(incoming.sequence_id, now)
        elif type(incoming) is Ignored:
            if log.isEnabledFor(logging.DEBUG):  # to look for secrets takes far longer than to send such a message
                log.debug("ignored a message of unknown %s", one_line(incoming.what, secrets=self._secrets))
            if incoming.sequence_id is not None:
                self._skip(incoming.sequence_id, now)
        elif type(incoming) is SystemMessage:
            if incoming.event == "connected":
                if incoming.reconnection_token:
                    self._secrets.learn(incoming.reconnection_token)
                self._connected_message(incoming, now)
            elif incoming.event == "disconnected":
                self._disconnected_message = incoming.message or ""  # the close follows

    def _connected_message(self, message: SystemMessage, now: float) -> None:
        if not message.connection_id:
            self._broken(1007, "a connected message without connectionId", now, may_be_data=False)
        elif len(message.connection_id) + len(message.reconnection_token or "") > MAX_IDENTITY:
            reason = f"a connection id and token of more than {MAX_IDENTITY} characters"
            self._broken(1007, reason, now, may_be_data=False)
        elif message.connection_id == self._connection_id:
            # The service may hand out a fresh token at any time (client-spec 1.2.4).
            self._token = message.reconnection_token or self._token
            if self._state is State.RECOVERING:
                self._recovered(now)
        elif self._state is CONNECTED:
            # A transport has one connection. To follow it to another one would be to join all groups again as often
            # as the service likes, so the next one comes after a backoff.
            reason = "a connected message of another connection, in the middle of one"
            log.warning("the service sent %s", reason)
            self._let_go(Close(1002, reason))
            self._lose(1002, reason, now)
        else:
            if self._connection_id is not None:
                self._end_connection(NO_CLOSE_FRAME, "the service replaced the connection by another")
            self._stands(message, now)

    def _broken(self, code: int, reason: str, now: float, *, can_skip: bool = True, may_be_data: bool = True) -> None:
        """The peer broke the protocol: with a message that does not belong to it, or has no readable sequence id.

        Close with ``code`` and recover: a fault of the peer's may be over then. If the same comes again, skip it
        rather than lose all later messages. Tell the application if it may have been a data message.
        """
        reason = one_line(reason, secrets=self._secrets)  # it may quote what was sent
        log.warning("the service sent %s", reason)
        if self._state is State.CONNECTING:
            self._attempt_failed(ConnectError(f"the service sent {reason}", code=code), now)
            return
        again = self._broken_at == self._sequence.last
        if can_skip and (again or not self.options.reliable):
            if self._state is State.RECOVERING:
                self._recovered(now)
            if may_be_data:
                self._events.append(MessagesMissed(0, 0))
            return
        self._broken_at = self._sequence.last
        self._let_go(Close.because(code, reason))
        if again:
            self._lose(code, reason, now)
        else:
            self._dropped(code, reason, now)

    def _skip(self, sequence_id: int, now: float) -> None:
        """A message that cannot be delivered counts as received all the same; the application is told."""
        if self.options.reliable:
            if sequence_id > self._sequence.last:
                self._events.append(MessagesMissed(self._sequence.last + 1, sequence_id))
                self._sequence.last = sequence_id
            self._sequence.messages += 1
            self._schedule_sequence_ack(now)

    def _skip_to(self, sequence_id: int, now: float) -> bool:
        """Whether a message out of the usual order is new; tells the application of a gap before it."""
        last = self._sequence.last
        if sequence_id <= last:
            return False  # seen before: the service sends again what it does not know to be acknowledged
        if sequence_id > MAX_SEQUENCE_ID:
            self._broken(1007, "a sequence id of more than 64 bits", now)
            return False
        self._events.append(MessagesMissed(last + 1, sequence_id - 1))
        return True
