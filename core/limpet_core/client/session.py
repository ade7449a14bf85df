"""Session: one client across any number of connections, as a pure state machine.

It reads no clock, draws no randomness and does no IO: the time comes in as ``now``, the same inputs give the
same outputs. The one rule: **after any call, drain before you wait**: open or drop what :attr:`Session.dial`
says, send what :meth:`Session.messages_to_send` returns, handle what :meth:`Session.events` returns, and call
:meth:`Session.wake` at :attr:`Session.deadline`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from limpet_core.client.events import Event
from limpet_core.client.inbound import Receiver
from limpet_core.client.lifecycle import connect_error
from limpet_core.client.request import JOIN, LEAVE, PUBLISH, Request
from limpet_core.client.states import CONNECTED, STOPPED, STOPPING, Dial, State
from limpet_core.client.timers import Timer
from limpet_core.client.url import parse_url, place
from limpet_core.client.wire_log import frames, trace
from limpet_core.errors import ConnectError, LocalProtocolError
from limpet_core.protocol.close import NO_CLOSE_FRAME, Close, describe_close
from limpet_core.protocol.json import (
    ACK_ID_SIZE,
    decode,
    encode_event,
    encode_join,
    encode_leave,
    encode_send,
    with_ack_id,
)
from limpet_core.protocol.messages import AckMessage, GroupMessage, ServerMessage
from limpet_core.protocol.rules import DataType
from limpet_core.text import one_line, without_secrets


class Session(Receiver):
    """One client, from ``start()`` to ``Stopped`` and again, over any number of connections.

    Args:
        options: see :class:`Options`.
        random: draws from [0, 1), for the jitter of delays; ``random.random`` will do.

    The methods are of four kinds, in this order: what is true; what happened (these never raise because of
    the peer, and repeated or stale calls do nothing); what the application wants (wrong use raises
    LocalProtocolError and changes nothing); what to do about it.
    """

    # ---- What is true

    @property
    def state(self) -> State:
        """Where the session is in its life."""
        return self._state

    @property
    def deadline(self) -> float:
        """When to call :meth:`wake`, in the clock of ``now``; ``math.inf``: nothing is due."""
        return self._timers.deadline

    @property
    def dial(self) -> Dial | None:
        """The one transport that is wanted, see :class:`Dial`; None: none at all."""
        return self._dial

    @property
    def reading(self) -> bool:
        """Whether to read from the transport now.

        False while the consumer is too slow (:meth:`reading_paused`), with two exceptions: until a connection stands,
        which could not be made or recovered otherwise, and while requests wait for their answers or senders for the
        transport (:meth:`sender_waits`), since the slow consumer may be one of these. While it is False, silence
        means nothing.
        """
        return not self._deaf or self._state is not CONNECTED

    @property
    def publishing(self) -> bool:
        """Whether to make publishes without an ack now.

        False while so many are on their way that their echoes could end the connection: the service gives up on one
        with 1000 unacknowledged messages, and reads our acknowledgements only behind what we have published. One that
        is made all the same is sent. See :meth:`sender_waits`.
        """
        return not self._pacing.full

    @property
    def connection_id(self) -> str | None:
        """The id of the connection, also while it is recovered; None without one."""
        return self._connection_id

    @property
    def user_id(self) -> str | None:
        """The user the service took us for; None without a connection, or for an anonymous user."""
        return self._user_id

    @property
    def groups(self) -> frozenset[str]:
        """The groups joined by this client, those to be joined again included."""
        return frozenset(self._groups)

    def presentable(self, text: str) -> str:
        """``text`` of the service, or of a library that may quote it or a URL, as it may be logged or shown.

        One line, at most 300 characters, escapes for what a terminal would obey, and none of the tokens that this
        session knows, nor what looks like one.
        """
        return one_line(text, secrets=self._secrets)

    # ---- What happened

    def start(self, now: float) -> None:
        """Connect. :attr:`dial` asks for a URL now; the answer is ``Connected``, or ``Stopped`` with an error.

        Raises:
            LocalProtocolError: the session is not stopped.
        """
        if self._state is not STOPPED:
            raise LocalProtocolError(f"the client cannot be started: it is {self._state.value}")
        self._stood, self._failure = False, None
        self._attempts.reset()
        self._connect(now)

    def url_ready(self, url: str, now: float, *, fixed: bool = False) -> None:
        """Here is the Client Access URL that the current :attr:`dial` asks for; now open the transport.

        Args:
            url: see :func:`parse_url`; one that cannot be used counts as a failed attempt.
            fixed: there will never be another one, so that a refusal of the URL is final.
        """
        dial = self._dial
        if dial is None or dial.url is not None:
            return
        self._fixed_url = fixed
        try:
            parse_url(url)
        except LocalProtocolError as error:
            self._attempt_failed(ConnectError(f"cannot connect: {one_line(str(error))}"), now, final=fixed)
        else:
            self._url = dial.url = url
            self._secrets.learn_url(url)

    def url_failed(self, error: BaseException, now: float) -> None:
        """The application has no URL for the current :attr:`dial`; ``error`` says why."""
        if self._dial is not None and self._dial.url is None:
            self._attempt_failed(connect_error("no URL to connect to", error, self._secrets), now)

    def connected(self, now: float) -> None:
        """The transport for the current :attr:`dial` is open, the WebSocket handshake done."""
        dial = self._dial
        if dial is None or dial.url is None or self._open:
            return
        self._open = True
        self._disconnected_message = None
        if dial.recovery:
            # The service need not say anything after a recovery: a pong will show that it took us back.
            if self._sequence.last:
                self._acknowledge()
            self._ping()

    def dial_failed(self, error: BaseException, now: float, *, status: int | None = None) -> None:
        """No transport could be opened for the current :attr:`dial`.

        Args:
            error: why; its text is shown to people.
            status: the HTTP status, where the handshake was refused with one.
        """
        if self._dial is None or self._dial.url is None or self._open:
            return
        final = self._fixed_url and status in (401, 403, 404)
        what = f"cannot connect to {place(self._dial.url)}"
        self._attempt_failed(connect_error(what, error, self._secrets, status), now, final=final)

    def receive_message(self, message: str | bytes, now: float) -> None:
        """One whole text message arrived, as str or as its UTF-8 bytes."""
        self.receive_messages([message.encode(errors="surrogatepass") if isinstance(message, str) else message], now)

    def receive_messages(self, messages: Sequence[bytes], now: float) -> None:
        """Whole text messages arrived, in this order, as UTF-8; for transports that have many at once."""
        if not self._open or self._state is STOPPING or not messages:
            return
        self._heard = now
        if frames.isEnabledFor(logging.DEBUG):
            trace("<", messages, self._secrets)
        sequence = self._sequence
        append = self._events.append
        reliable = self.options.reliable
        sequenced = 0
        for message in messages:
            incoming = decode(message)
            if self._state is not CONNECTED and self._receive_first(incoming, now):
                if not self._open:
                    return
                continue
            if type(incoming) is GroupMessage or type(incoming) is ServerMessage:
                if reliable and (sequence_id := incoming.sequence_id) is not None:
                    sequenced += 1
                    if sequence_id != sequence.last + 1 and not self._skip_to(sequence_id, now):
                        if not self._open:
                            return
                        continue
                    sequence.last = sequence_id
                append(incoming)
            elif type(incoming) is AckMessage:
                if (settled := self._requests.acked(incoming, now)) is not None:
                    self._settled(settled)
            else:
                self._receive(incoming, now)
                if not self._open:
                    return  # what follows will be sent again on the next transport
        if sequenced and sequence.last:  # 0: none of them had an id that could be acknowledged
            sequence.messages += sequenced
            sequence.bytes += sum(map(len, messages))
            self._schedule_sequence_ack(now)
        self._schedule_requests()

    def receive_binary(self, now: float) -> None:
        """A binary message arrived, which has no place in these subprotocols."""
        if self._open and self._state is not STOPPING:
            self._heard = now
            self._broken(1003, "a binary message where text belongs", now)

    def heard(self, now: float) -> None:
        """The peer showed life without a whole message: some bytes, a WebSocket ping or pong."""
        self._heard = now

    def reading_paused(self, now: float) -> None:
        """The consumer is too slow: no more messages for now. See :attr:`reading`."""
        self._paused = True

    def reading_resumed(self, now: float) -> None:
        """The consumer has caught up."""
        if self._paused:
            self._paused = False
            self._heard = now

    def sender_waits(self, now: float) -> None:
        """Somebody waits until the transport can take more or until :attr:`publishing`; :meth:`sender_goes_on` ends it.

        Until then there is reading even if the consumer is too slow, so that a peer that is gone can be told from one
        that is busy.
        """
        self._hear_from(now)
        self._senders += 1

    def sender_goes_on(self) -> None:
        """One of those who waited goes on, or has given up."""
        self._senders -= 1

    def transport_broken(self, code: int, reason: str, now: float) -> None:
        """The peer broke the rules of the transport, which can only be closed, with ``code`` (1002, 1007, 1009)."""
        if self._open and self._state is STOPPING:
            self._finish(None)
        elif self._open:
            self._broken(code, reason, now, can_skip=False)

    def disconnected(self, now: float, *, code: int = NO_CLOSE_FRAME, reason: str = "") -> None:
        """The transport of the current :attr:`dial` is gone.

        Args:
            code: the peer's close code; 1006 where there was none.
            reason: the close reason, or the text of the error.
        """
        if self._dial is None or not self._open:
            return
        reason = without_secrets(reason, secrets=self._secrets) if reason else ""
        if self._state is STOPPING:
            self._finish(None)
        elif self._state is State.CONNECTING:
            error = ConnectError(
                f"the connection was closed before it stood: {describe_close(code, reason)}", code=code
            )
            self._attempt_failed(error, now)
        else:
            self._dropped(code, reason, now)

    def wake(self, now: float) -> None:
        """Do what is due. To be called at :attr:`deadline`; too early or too often does nothing."""
        for timer in self._timers.expired(now):
            if self._timers[timer] <= now:  # else one before it has moved or stopped it
                self._timers.stop(timer)
                self._ON_TIMER[timer](self, now)

    # ---- What the application wants

    def join_group(self, group: str, now: float, *, ack_id: int | None = None, user_data: Any = None) -> int:
        """Ask to join ``group``; the answer is an :class:`Acked` with the returned ack id.

        Args:
            group: 1 to 1024 characters, not blank.
            ack_id: repeat an earlier request under its ack id; by default a fresh id.
            user_data: comes back with ``Acked``.

        Raises:
            ClientStopped: the session is not started.
            TooManyRequests: ``max_pending_requests`` are waiting.
            LocalProtocolError: an argument cannot be used, or ``ack_id`` is in use; the message names it.
        """
        key = self._reserve(ack_id)
        payload = encode_join(group, key)
        return self._submit(Request(key, JOIN, payload, user_data, now, group), now)

    def leave_group(self, group: str, now: float, *, ack_id: int | None = None, user_data: Any = None) -> int:
        """Ask to leave ``group``. Arguments, result and errors are those of :meth:`join_group`."""
        key = self._reserve(ack_id)
        payload = encode_leave(group, key)
        return self._submit(Request(key, LEAVE, payload, user_data, now, group), now)

    def send_to_group(
        self,
        group: str,
        data: Any,
        now: float,
        *,
        data_type: DataType | None = None,
        no_echo: bool = False,
        ack: bool = True,
        ack_id: int | None = None,
        user_data: Any = None,
    ) -> int | None:
        """Publish ``data`` to ``group``; needs no membership, only the permission to send.

        Args:
            group: 1 to 1024 characters, not blank.
            data: str is sent as ``text``, bytes as ``binary``, anything else as ``json``.
            data_type: overrides that: ``text``, ``json``, ``binary`` or ``protobuf``.
            no_echo: do not deliver it to this connection.
            ack: ask for an answer; without one, errors are silent and None is returned. See :attr:`publishing`.
            ack_id, user_data: as for :meth:`join_group`.

        Raises:
            As :meth:`join_group`; also InvalidValue for a message above ``max_request_size``.
        """
        own = not ack and ack_id is None and self._pacing.asks
        key = self._reserve(ack_id, ack, own)
        payload = encode_send(group, data, data_type, no_echo, key, self.options.max_request_size)
        if not ack:
            self._pacing.published()
        self._submit(Request(key, PUBLISH, payload, user_data, now, own=own), now)
        return key if ack else None

    def send_event(
        self,
        event: str,
        data: Any,
        now: float,
        *,
        data_type: DataType | None = None,
        ack: bool = True,
        ack_id: int | None = None,
        user_data: Any = None,
    ) -> int | None:
        """Send ``event`` to the application server.

        The service calls an event handler, and again if that fails. What comes of it after that is not repeated here
        unless ``resend`` is ``"always"``: the handler may have done its work.

        Args:
            event: a letter, then at most 127 letters, digits, ``_``, ``.`` and ``-``.
            data, data_type, ack, ack_id, user_data: as for :meth:`send_to_group`.

        Raises:
            As :meth:`send_to_group`.
        """
        key = self._reserve(ack_id, ack)
        payload = encode_event(event, data, data_type, key, self.options.max_request_size)
        self._submit(Request(key, PUBLISH, payload, user_data, now, event=True), now)
        return key if ack else None

    def prepare_send(
        self, group: str, data: Any, *, data_type: DataType | None = None, no_echo: bool = False
    ) -> bytes | None:
        """Check and encode a publish without an ack, for :meth:`send_prepared`; changes nothing, in any thread.

        Returns:
            None for one so large that it has to be sent by :meth:`send_to_group`: it may need an ack id as well.

        Raises:
            InvalidType, InvalidValue: an argument cannot be used; the message names it.
        """
        limit = self.options.max_request_size
        message = encode_send(group, data, data_type, no_echo, -1, limit)
        return message if len(message) + ACK_ID_SIZE <= limit else None

    def prepare_event(self, event: str, data: Any, *, data_type: DataType | None = None) -> bytes:
        """The same for an event without an ack."""
        return encode_event(event, data, data_type, -1, self.options.max_request_size)

    def send_prepared(self, message: bytes, now: float, *, publish: bool) -> None:
        """Send what :meth:`prepare_send` (``publish``) or :meth:`prepare_event` returned.

        Raises:
            ClientStopped, TooManyRequests: as :meth:`send_to_group`.
        """
        own = publish and self._pacing.asks
        key = self._reserve(None, False, own)
        if publish:
            self._pacing.published()
        self._submit(Request(key, PUBLISH, with_ack_id(message, key) if own else message, None, now, own=own), now)

    def withdraw(self, ack_id: int) -> bool:
        """Take a request back that was never handed to a transport, without an ``Acked``.

        Returns:
            False where it is too late or the ack id is unknown: then everything goes on as before.
        """
        request = self._requests.withdraw(ack_id)
        if request is not None and request.kind is LEAVE:
            self._unpark(request.group)
        return request is not None

    def stop(self, now: float) -> None:
        """Stop, in whatever state; the answer is ``Stopped``, at the latest after ``close_timeout``.

        What waits for an answer fails: ``unsent`` if it was never handed to a transport, else ``unknown``.
        """
        if self._state is STOPPED or self._state is STOPPING:
            return
        if not self._open or self._dial is None:
            self._finish(None)
            return
        self._fail_requests()
        if self._sequence.messages:
            self._acknowledge()
        # 1000 makes the service end the connection at once; anything else would leave it waiting for us.
        self._dial.close = Close(1000)
        self._go(STOPPING)
        self._timers.stop(*Timer)
        self._timers.set(Timer.CLOSE, now + self.options.close_timeout)

    # ---- What to do about it

    def events(self) -> list[Event]:
        """What has happened since the last call, in order."""
        if not self._events:
            return []
        events, self._events = self._events, []
        return events

    def messages_to_send(self) -> list[bytes]:
        """The text messages to send now, in order; to be called only when the transport can take them.

        From here on they count as sent: whether the service has seen them is known only by its acks.
        """
        if not self._open:
            return []
        messages = self._requests.take()
        if not messages and not self._control:
            return messages
        if self._control:
            messages[:0] = self._control
            self._control.clear()
        if frames.isEnabledFor(logging.DEBUG):
            trace(">", messages, self._secrets)
        return messages
