"""Session: one client over any number of connections, as a pure state machine.

The session reads no clock, draws no randomness and does no IO: the time comes in as ``now``, and the same inputs give
the same outputs. There is one rule: **after any call, drain before you wait**: send the messages of
:meth:`Session.messages_to_send`, open or drop the transport that :attr:`Session.dial` asks for, handle the events of
:meth:`Session.events`, and call :meth:`Session.wake` at :attr:`Session.deadline`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from logging import DEBUG
from types import MappingProxyType
from typing import Any, Final, cast

from limpet_core.client.ack_runs import AckRun
from limpet_core.client.allowance import Allowance
from limpet_core.client.attempts import connect_error
from limpet_core.client.control import Control
from limpet_core.client.draws import Draws
from limpet_core.client.events import Event
from limpet_core.client.groups import Groups
from limpet_core.client.headers import HeadersSetting, check_headers, secrets_of
from limpet_core.client.inbound import Inbound
from limpet_core.client.invocations import NO_INVOCATIONS, Invocations
from limpet_core.client.lifecycle import Lifecycle
from limpet_core.client.liveness import Liveness
from limpet_core.client.log_lines import LogLines, frames_log
from limpet_core.client.one_call import alone, check_seconds, reentered
from limpet_core.client.options import Options
from limpet_core.client.outbox import Outbox
from limpet_core.client.pacing import Pacing
from limpet_core.client.request import JOIN, LEAVE, PUBLISH, SET_STATE, SUBSCRIBE, UNSUBSCRIBE, Request, new_request
from limpet_core.client.requests import Requests
from limpet_core.client.states import CONNECTED, STOPPED, STOPPING, Dial, State
from limpet_core.client.stats import Counters, Stats
from limpet_core.client.streams import NO_STREAMS, Streams
from limpet_core.client.timers import REQUESTS, Timers
from limpet_core.client.url import parse_url
from limpet_core.client.wire_log import log_messages
from limpet_core.errors import ConnectError, InvalidType, InvalidValue, LocalProtocolError, Outcome
from limpet_core.protocol.close import NO_CLOSE_FRAME, check_close
from limpet_core.protocol.codec import codec_for
from limpet_core.protocol.json import decode_long
from limpet_core.protocol.messages import AckMessage, GroupMessage, GroupState, Incoming, ServerMessage, StreamEndError
from limpet_core.protocol.rules import DataType, check_group, check_group_state, check_timeout, whole_ttl
from limpet_core.redaction import Secrets
from limpet_core.text import one_line, without_secrets

_LATEST: Final = 1e10
"""No clock in seconds is that late: since 1970 it would be the year 2286."""


class Session:
    """One client, from ``start()`` to ``Stopped`` and again, over any number of connections.

    There is one rule: **after any call, drain before you wait**. To drain is, in this order, to send
    :meth:`messages_to_send`, open or drop the transport that :attr:`dial` asks for, handle :meth:`events`, read on or
    pause as :attr:`reading` says, and arm a timer that calls :meth:`wake` at :attr:`deadline`. Send by the link or
    channel, if there is one.

    The first calls are :meth:`start`; then, as :attr:`dial` asks for a URL and a transport, :meth:`url_ready`; then,
    with an open transport of whole messages, :meth:`connected`. A :class:`Link` makes that call, and all others for a
    transport, from the bytes of a TCP or TLS connection.

    The methods are of four kinds: getters; handlers, which report time and events of the transport (they never raise
    because of the peer, and repeated calls do nothing); requests of the application (wrong use raises
    LocalProtocolError and changes nothing); outputs. The handlers for a transport cannot know for which dial they are
    called: a :class:`Link` (for transports of bytes) or a :class:`Channel` (of messages) calls them for its own dial
    alone, and drops late calls.

    One call runs at a time: a second one, of another thread or greenlet, a signal handler or a finalizer, raises
    LocalProtocolError and changes nothing. Getters, :meth:`reading_paused`, :meth:`reading_resumed`,
    :meth:`sender_waits`, :meth:`sender_goes_on` and the ``prepare_`` methods may be called at any time. The session
    calls nobody, except ``random``. The lines of its log are written in :meth:`events`, when nothing is half done, so
    a handler of the log may call the session.

    Args:
        options: see :class:`Options`.
        random: draws from [0, 1), for the jitter of delays, such as ``random.random``. If it raises or returns anything
            else, an error is logged, and 0.5 is used.
        headers: more headers for every handshake, a dict or pairs of name and value; see :attr:`Dial.headers`.

    Attributes:
        options: the given options.
        running: the name of the method that runs at the moment; empty: none.
        start_hint: the call that starts the client, for the text of ``ClientStopped``.

    Raises:
        InvalidType: ``options`` is no :class:`Options`, ``random`` no function, or ``headers`` no headers.
        InvalidValue: a header cannot be sent, or belongs to the handshake itself.
    """

    __slots__ = (
        "__weakref__",
        "_codec",
        "_control",
        "_counters",
        "_draws",
        "_events",
        "_groups",
        "_inbound",
        "_invocations",
        "_lifecycle",
        "_liveness",
        "_log",
        "_outbox",
        "_pacing",
        "_reliable",
        "_requests",
        "_secrets",
        "_streams",
        "_timers",
        "options",
        "running",
        "start_hint",
    )

    def __init__(
        self, options: Options | None = None, *, random: Callable[[], float], headers: HeadersSetting | None = None
    ) -> None:
        if options is None:
            options = Options()
        elif not isinstance(options, Options):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidType(f"options must be an Options, not {type(options).__name__}")
        if not callable(random):
            raise InvalidType(f"random must be a function such as random.random, not {type(random).__name__}")
        self.running: str = ""
        self._log = LogLines()
        self._counters = Counters()
        self._draws = Draws(random, self._log)
        self.options: Options = options
        self._reliable = options.reliable
        self.start_hint: str = "start()"
        self._events: list[Event] = []  # all parts append to this one list
        checked = check_headers(headers)
        self._secrets = Secrets(*secrets_of(checked))
        self._codec = codec_for(options.protocol)
        self._timers = Timers()
        self._groups = Groups()
        self._pacing = Pacing()
        self._control = Control(self._codec)
        self._liveness = Liveness(options, self._control, self._timers, self._log)
        self._outbox = Outbox()
        self._requests = Requests(
            options,
            self._draws,
            self._codec,
            self._secrets,
            self._groups,
            self._pacing,
            self._outbox,
            Allowance(options.max_pending_requests),
            self._events,
            self._log,
        )
        # Made with the first stream, and with the first invocation: a session that only listens needs neither.
        self._streams = NO_STREAMS
        self._invocations = NO_INVOCATIONS
        self._lifecycle = Lifecycle(
            options,
            self._draws,
            checked,
            self._secrets,
            self._requests,
            self._control,
            self._liveness,
            self._timers,
            self._events,
            self._log,
            self._counters,
        )
        self._inbound = Inbound(
            options,
            self._codec,
            self._secrets,
            self._requests,
            self._lifecycle,
            self._events,
            self._log,
            self._counters,
        )

    def __repr__(self) -> str:
        lifecycle = self._lifecycle
        parts = [lifecycle.state.value]
        dial = lifecycle.dial
        if dial is not None:
            parts.append(f"dial {dial.attempt} to {dial.place} {'open' if lifecycle.open else 'not open'}")
        if lifecycle.connection is not None:
            parts.append(f"connection {one_line(lifecycle.connection.id, 100)!r}")
        outbox, streams, invocations = self._outbox, self._streams, self._invocations
        to_send = len(self._control.messages) + len(outbox.queue) + len(outbox.repeats or ())
        waiting = {
            "requests": len(self._requests.pending),
            "streams": len(streams),
            "invocations": len(invocations.pending),
            "events": len(self._events),
            "messages to send": to_send + streams.to_send + invocations.to_send,
        }
        parts += [f"{count} {name}" for name, count in waiting.items() if count]
        if self.deadline != math.inf:
            parts.append(f"deadline {self.deadline:.3f}")
        return f"<Session {', '.join(parts)}>"

    # ---- Getters

    @property
    def state(self) -> State:
        """The current state."""
        return self._lifecycle.state

    @property
    def deadline(self) -> float:
        """The time of the next :meth:`wake`, in seconds of the clock of ``now``; ``math.inf``: nothing is due."""
        return self._timers.deadline

    @property
    def dial(self) -> Dial | None:
        """The one transport that is wanted, see :class:`Dial`; None: no transport."""
        return self._lifecycle.dial

    @property
    def reading(self) -> bool:
        """Whether the driver should read from the transport.

        False only while the consumer has asked for a pause (:meth:`reading_paused`) on an established connection, and
        nobody waits for an answer or for room to send (:meth:`sender_waits`). While it is False, the keepalive timeout
        does not run.
        """
        lifecycle = self._lifecycle
        return not lifecycle.paused or lifecycle.state is not CONNECTED or not lifecycle.stalled

    @property
    def publishing(self) -> bool:
        """Whether to publish without an ack now.

        False while so many publishes are outstanding that the service could drop the connection: it gives up on a
        connection with 1000 unacknowledged messages, and a client may receive its own publishes. A publish that is made
        nevertheless is sent. To wait for True, see :meth:`sender_waits`.
        """
        return not self._pacing.full

    @property
    def connection_id(self) -> str | None:
        """The id of the connection, also while it is recovered; None without a connection."""
        connection = self._lifecycle.connection
        return None if connection is None else connection.id

    @property
    def user_id(self) -> str | None:
        """The user id that the service gave the connection; None without a connection, or for an anonymous user."""
        connection = self._lifecycle.connection
        return None if connection is None else connection.user_id

    @property
    def groups(self) -> frozenset[str]:
        """The groups joined by this client, those to be joined again included."""
        return self._groups.listed()

    @property
    def stats(self) -> Stats:
        """Counters and gauges at this moment, see :class:`Stats`; they count from the making of the session on."""
        requests, invocations, counters = self._requests, self._invocations, self._counters
        waiting = tuple(requests.pending.values())
        return Stats(
            messages_in=counters.messages_in,
            bytes_in=counters.bytes_in,
            messages_out=counters.messages_out,
            bytes_out=counters.bytes_out,
            recoveries=counters.recoveries,
            reconnects=counters.reconnects,
            failed_attempts=counters.failed_attempts,
            missed=counters.missed,
            requests_pending=len(waiting) + len(invocations.pending),
            requests_unsent=sum(not request.tried for request in waiting) + len(invocations.unsent),
            acks_outstanding=self._outbox.in_flight,
            buffered=len(self._events),
            open_streams=len(self._streams),
            last_error=counters.last_error,
            connected_since=counters.connected_since,
        )

    def group_states(self, group: str) -> Mapping[str, GroupState]:
        """Return the states of ``group``, which must be subscribed: connection id to state, as they are now.

        The mapping cannot be changed, and does not change. From the end of a transport until the states have come
        anew they are those that were known last; :class:`GroupStatesChanged` tells each difference.

        Args:
            group: see :meth:`subscribe_group_states`.

        Raises:
            LocalProtocolError: the states of ``group`` are not subscribed.
            InvalidType, InvalidValue: ``group`` is no group name.
        """
        states = self._requests.group_states.states(group)
        if states is None:
            check_group(group)
            raise LocalProtocolError(
                f"the states of the group {one_line(repr(group), 100)} are not subscribed: subscribe_group_states asks "
                "for them"
            )
        return MappingProxyType(states)

    def presentable(self, text: str) -> str:
        """Return ``text``, which may quote the service or a URL, fit to be logged or shown.

        The result is one line of at most 300 characters, with escapes for control characters, without the tokens that
        this session knows and without text that looks like a token.
        """
        return one_line(text, secrets=self._secrets)

    def without_secrets(self, text: str) -> str:
        """Return ``text``, which may quote the service or a URL, as data: at most 1000 characters, not escaped.

        The result is without the tokens that this session knows and without text that looks like a token.
        """
        return without_secrets(text, secrets=self._secrets)

    # ---- Handlers

    @alone
    def start(self, now: float, *, timeout: float | None = None) -> None:
        """Connect. :attr:`dial` asks for a URL now; the answer is ``Connected``, or ``Stopped`` with an error.

        Args:
            now: the time, in seconds of the clock that all calls use.
            timeout: seconds, 0 or more, after which the session stops with :class:`ConnectTimeout` unless it is
                connected; None: as long as the options say.

        Raises:
            LocalProtocolError: the session is not stopped.
            InvalidType, InvalidValue: ``now`` is no finite number of seconds.
        """
        if now > _LATEST:
            raise InvalidValue(
                f"now must be in seconds, such as time.monotonic(); {now:g} looks like milliseconds or less"
            )
        if self.state is not STOPPED:
            raise LocalProtocolError(f"the client cannot be started: it is {self.state.value}")
        check_timeout(timeout)
        self._lifecycle.start(now, timeout)

    @alone
    def url_ready(self, url: str, now: float, *, fixed: bool = False) -> None:
        """Give the Client Access URL that the current :attr:`dial` asks for; next, open the transport.

        Args:
            url: see :func:`parse_url`; a URL that cannot be used counts as a failed attempt.
            fixed: there will never be another URL, so that a refusal is final.
        """
        lifecycle = self._lifecycle
        dial = lifecycle.dial
        if dial is None or dial.url is not None:
            return
        try:
            parse_url(url)
        except LocalProtocolError as error:
            lifecycle.attempt_failed(ConnectError(f"cannot connect: {one_line(str(error))}"), now, final=fixed)
        else:
            dial.url = url
            lifecycle.use_url(url, fixed=fixed)

    @alone
    def url_failed(self, error: BaseException, now: float) -> None:
        """Note that the application has no URL for the current :attr:`dial`; ``error`` says why."""
        if self.dial is not None and self.dial.url is None:
            self._lifecycle.attempt_failed(connect_error("no URL to connect to", error, self._secrets), now)

    def attach(self, dial: Dial) -> None:
        """Note that a :class:`Link` or :class:`Channel` is made for ``dial``; they call it themselves.

        Raises:
            InvalidType: ``dial`` is no :class:`Dial`.
            InvalidValue: ``dial`` belongs to another session.
        """
        if not isinstance(dial, Dial):  # pyright: ignore[reportUnnecessaryIsInstance]
            hint = "; while session.dial is None, no transport is wanted" if dial is None else ""
            raise InvalidType(f"dial must be the session's dial, not {type(dial).__name__}{hint}")
        if dial.wanted and dial is not self.dial:
            raise InvalidValue("dial belongs to another session: take the dial of the session that is given")

    def check_call(self, name: str, now: float) -> None:
        """Raise unless a call may be made at ``now``; a :class:`Link` asks before it takes bytes in.

        Args:
            name: the call, for the text of the error.
            now: the time.

        Raises:
            LocalProtocolError: another call of this session runs.
            InvalidType, InvalidValue: ``now`` is no finite number of seconds.
        """
        if self.running:
            raise reentered(self, name)
        check_seconds(now)

    @alone
    def connected(self, now: float) -> None:
        """Note that the transport for the current :attr:`dial` is open, and its WebSocket handshake done."""
        dial = self.dial
        if dial is not None and dial.url is not None and not self._lifecycle.open:
            self._lifecycle.transport_opened()

    @alone
    def dial_refused(self, error: ConnectError, now: float) -> None:
        """Note that the handshake for :attr:`dial` was refused, and the rest of the answer has not arrived yet.

        :meth:`dial_failed` follows with the reason, or the attempt fails with ``error`` soon.
        """
        if self._dialling:
            self._lifecycle.refused(error, now)

    @alone
    def dial_failed(
        self, error: BaseException, now: float, *, status: int | None = None, retry_after: float | None = None
    ) -> None:
        """Note that no transport could be opened for the current :attr:`dial`.

        Args:
            error: why; its text is shown to people.
            status: the HTTP status, where the handshake was refused with one.
            retry_after: seconds before which no further attempt is wanted, as the service said (``Retry-After``);
                None: those of ``error``, if that is a :class:`ConnectError` that has some. At most
                ``max_retry_after`` counts.
        """
        if self._dialling:
            self._lifecycle.dial_failed(error, now, status=status, retry_after=retry_after)

    @property
    def _dialling(self) -> bool:
        dial = self._lifecycle.dial
        return dial is not None and dial.url is not None and not self._lifecycle.open

    def receive_message(self, message: str | bytes, now: float) -> None:
        """Receive one whole text message, as str or as UTF-8. In a protobuf subprotocol it is a fault of the service's.

        Such a fault closes the transport with 1003.
        """
        if self.options.binary:
            self._receive_other_kind("receive_message", "a text message where binary belongs", now)
        else:
            encoded = message.encode(errors="surrogatepass") if isinstance(message, str) else message
            self.receive_messages([encoded], now)

    def receive_binary(self, message: bytes, now: float) -> None:
        """Receive one whole binary message. In a JSON subprotocol it is a fault of the service's.

        Such a fault closes the transport with 1003.
        """
        if self.options.binary:
            self.receive_messages([message], now)
        else:
            self._receive_other_kind("receive_binary", "a binary message where text belongs", now)

    def receive_messages(self, messages: Sequence[bytes], now: float) -> None:
        """Receive whole messages, in this order; for transports that have many at once.

        They come from text frames, as UTF-8, or from binary ones, as :attr:`Options.binary` says.
        """
        self._receive("receive_messages", messages, now, self._codec.decode)

    def receive_acks(self, acks: AckRun, now: float) -> None:
        """Receive the answers to many requests, in this order: a :class:`Link` calls it."""
        if self.running:
            raise reentered(self, "receive_acks")
        if now.__class__ is not float or now - now:
            check_seconds(now)
        lifecycle = self._lifecycle
        if lifecycle.state is not CONNECTED or frames_log.isEnabledFor(DEBUG):
            self.receive_messages(acks.texts(), now)
            return
        try:
            self.running = "receive_acks"
            self._liveness.heard = now
            self._counters.bytes_in += acks.size
            self._requests.acked_at_once(acks.ids, now)
            lifecycle.schedule_requests()
        finally:
            self.running = ""

    def receive_long_text(self, text: memoryview, now: float) -> bool:
        """Receive one whole text message of many bytes, which need not be UTF-8: a :class:`Link` calls it.

        Returns:
            True, or False if it is not UTF-8: nothing has changed then.
        """
        self.check_call("receive_long_text", now)
        incoming = decode_long(text)
        if incoming is None:
            return False
        if self.options.binary or self.state is not CONNECTED or frames_log.isEnabledFor(DEBUG):
            self.receive_message(bytes(text), now)
        else:
            self._receive("receive_long_text", (text,), now, lambda _: incoming)
        return True

    def _receive(
        self,
        name: str,
        messages: Sequence[bytes] | Sequence[memoryview],
        now: float,
        decode: Callable[[Any], Incoming],
    ) -> None:
        if self.running:
            raise reentered(self, name)
        if now.__class__ is not float or now - now:  # not 0: nan or inf
            check_seconds(now)
        sequenced = others = 0  # data messages with a sequence id; those without one, less those that are not new
        counters = self._counters
        try:
            self.running = name
            lifecycle = self._lifecycle
            if not lifecycle.open or not messages:
                return
            self._liveness.heard = now
            state = lifecycle.state
            if state is STOPPING:
                return
            size = len(messages[0]) if len(messages) == 1 else sum(map(len, messages))
            counters.bytes_in += size
            if frames_log.isEnabledFor(DEBUG):
                log_messages(self._log, "<", cast("Sequence[bytes]", messages), self._secrets, self._codec)
            if state is not CONNECTED:
                messages = self._inbound.receive_first(cast("Sequence[bytes]", messages), now)
                size = sum(map(len, messages))
            connection = lifecycle.connection
            if connection is None:
                return
            events = self._events
            reliable = self._reliable
            expected = connection.sequence_id + 1 if reliable else 0  # no message has the id 0
            for message in messages:
                incoming = decode(message)
                if type(incoming) is GroupMessage or type(incoming) is ServerMessage:
                    if incoming.sequence_id == expected:  # the ordinary case, in a few steps
                        connection.sequence_id = expected
                        expected += 1
                        sequenced += 1
                    elif reliable and (sequence_id := incoming.sequence_id) is not None:
                        sequenced += 1
                        if not self._inbound.admit(connection, sequence_id, now):
                            others -= 1
                            if not lifecycle.open:
                                return
                            continue
                        connection.sequence_id = sequence_id
                        expected = sequence_id + 1
                    else:
                        others += 1
                    events.append(incoming)
                elif type(incoming) is AckMessage:
                    self._requests.acked(incoming, now)
                else:
                    self._inbound.receive(incoming, now)
                    if not lifecycle.open:
                        return  # the service sends the messages that follow again on the next transport
                    expected = connection.sequence_id + 1 if reliable else 0  # one may have been skipped
            if sequenced and connection.sequence_id:  # 0: none of them had an id that could be acknowledged
                connection.unacked_messages += sequenced
                connection.unacked_bytes += size
                lifecycle.schedule_sequence_ack(connection, now)
            if sequenced + others != len(messages):
                lifecycle.schedule_requests()  # data alone makes nothing due
        finally:
            self.running = ""
            if sequenced or others:
                counters.messages_in += sequenced + others

    def _receive_other_kind(self, name: str, reason: str, now: float) -> None:
        if self.running:
            raise reentered(self, name)
        check_seconds(now)
        try:
            self.running = name
            if self._lifecycle.open and self.state is not STOPPING:
                self._liveness.heard = now
                self._inbound.broken(1003, reason, now)
        finally:
            self.running = ""

    def heard(self, now: float) -> None:
        """Note that the peer showed life without a whole message: some bytes, a WebSocket ping or pong."""
        if self.running:
            raise reentered(self, "heard")
        if now.__class__ is not float or now - now:
            check_seconds(now)
        self._liveness.heard = now

    def reading_paused(self, now: float) -> None:
        """Pause reading: the consumer is too slow. See :attr:`reading`."""
        self._lifecycle.paused = True

    def reading_resumed(self, now: float) -> None:
        """Resume reading: the consumer has caught up."""
        if now.__class__ is not float or now - now:
            check_seconds(now)
        if self._lifecycle.paused:
            self._lifecycle.expect_to_hear(now)
            self._lifecycle.paused = False

    def sender_waits(self, now: float) -> None:
        """Note that a sender waits for room: in the transport, or for :attr:`publishing`.

        Call :meth:`sender_goes_on` when the wait is over. Meanwhile :attr:`reading` is True even if the consumer is too
        slow, so that a dead peer can be told from a busy one.
        """
        if now.__class__ is not float or now - now:
            check_seconds(now)
        self._lifecycle.expect_to_hear(now)
        self._lifecycle.senders += 1

    def sender_goes_on(self) -> None:
        """Note that a sender no longer waits."""
        if self._lifecycle.senders:
            self._lifecycle.senders -= 1

    @alone
    def transport_broken(self, code: int, reason: str, now: float) -> None:
        """Handle a peer that broke the rules of WebSocket: the transport can only be closed.

        Args:
            code: the close code to send: 1002, 1007 or 1009.
            reason: what the peer did, for people.

        Raises:
            InvalidType: ``code`` is no int, or ``reason`` no str.
        """
        check_close(code, reason)
        if self._lifecycle.open and self.state is STOPPING:
            self._lifecycle.finish(None)
        elif self._lifecycle.open:
            self._inbound.broken(code, reason, now, can_skip=False)

    @alone
    def disconnected(self, now: float, *, code: int = NO_CLOSE_FRAME, reason: str = "") -> None:
        """Handle the end of the transport of the current :attr:`dial`.

        Args:
            code: the peer's close code; 1006 without a close frame.
            reason: the close reason, or the text of the error.

        Raises:
            InvalidType: ``code`` is no int, or ``reason`` no str.
        """
        check_close(code, reason)
        if self._lifecycle.open:
            reason = without_secrets(reason, secrets=self._secrets)
            self._lifecycle.transport_lost(code, reason, now)

    @alone
    def send_failed(self, now: float, *, reason: str = "") -> None:
        """Handle a send that failed on the transport of the current :attr:`dial`. Repeats do nothing.

        Nothing more is sent on it. The last messages and the close of the service may have arrived already: read on
        until the end, and report it with :meth:`disconnected`. A second later the session gives the transport up.

        Args:
            now: the time.
            reason: the text of the error, for people.

        Raises:
            InvalidType: ``reason`` is no str.
        """
        check_close(NO_CLOSE_FRAME, reason)
        self._lifecycle.send_failed(without_secrets(reason, secrets=self._secrets), now)

    def wake(self, now: float) -> None:
        """Do what is due. Call at :attr:`deadline`; a call that is early or repeated does nothing.

        A call that is more than two seconds late shows that the process stood still (SIGSTOP, a loop that was held up,
        a suspend): the peer is judged one second later, after a chance to read what has arrived meanwhile, and a
        connection is checked as by :meth:`check`.
        """
        if self.running:
            raise reentered(self, "wake")
        if now.__class__ is not float or now - now:
            check_seconds(now)
        try:
            self.running = "wake"
            self._lifecycle.wake(now)
        finally:
            self.running = ""

    @alone
    def check(self, now: float) -> None:
        """Look at once whether the connection is still there: the network may have changed.

        On an established connection a ping goes out, and silence for ``check_timeout`` is the end of the transport. An
        attempt that waits for its delay is made now, but at least ``recovery_interval`` after the one before, and not
        before the delay that a refusal asked for is over. Otherwise nothing happens.
        """
        self._lifecycle.check(now)

    def asleep(self, seconds: float, now: float) -> None:
        """Tell how long the machine was suspended in all; growth by more than two seconds is a reason to :meth:`check`.

        Call it before :meth:`start` and before each :meth:`wake`.

        Args:
            seconds: the reading of a clock that goes on in suspend minus that of one that does not; a constant in it
                does not matter.
            now: the time.
        """
        if self.running:
            raise reentered(self, "asleep")
        if now.__class__ is not float or now - now:
            check_seconds(now)
        if seconds.__class__ is not float or seconds - seconds:
            check_seconds(seconds, "seconds")
        try:
            self.running = "asleep"
            self._lifecycle.asleep(seconds, now)
        finally:
            self.running = ""

    # ---- Requests of the application

    @alone
    def join_group(
        self,
        group: str,
        now: float,
        *,
        ack_id: int | None = None,
        timeout: float | None = None,
        user_data: Any = None,
    ) -> int:
        """Ask to join ``group``; the answer is an :class:`Acked` with the returned ack id.

        Args:
            group: 1 to 1024 characters, not blank.
            ack_id: repeat an earlier request under its ack id; by default a fresh id.
            timeout: seconds, 0 or more, until it fails with :class:`SendTimeout`, in any state of the connection; None:
                ``request_timeout`` of the options. A request that could not be sent in that time is never sent.
            user_data: comes back with ``Acked``.

        Raises:
            ClientStopped: the session is not started.
            TooManyRequests: ``max_pending_requests`` are waiting.
            LocalProtocolError: an argument cannot be used, or ``ack_id`` is in use; the message names it.
        """
        key = self._reserve(ack_id, timeout=timeout)
        payload = self._codec.encode_join(group, key)
        return self._submit(new_request(key, JOIN, payload, user_data, now, group, timeout=timeout), now)

    @alone
    def leave_group(
        self,
        group: str,
        now: float,
        *,
        ack_id: int | None = None,
        timeout: float | None = None,
        user_data: Any = None,
    ) -> int:
        """Ask to leave ``group``. Arguments, result and errors are those of :meth:`join_group`."""
        key = self._reserve(ack_id, timeout=timeout)
        payload = self._codec.encode_leave(group, key)
        return self._submit(new_request(key, LEAVE, payload, user_data, now, group, timeout=timeout), now)

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
        metadata: Mapping[str, str] | None = None,
        ttl: float | None = None,
        timeout: float | None = None,
        user_data: Any = None,
    ) -> int | None:
        """Publish ``data`` to ``group``; needs no membership, only the permission to send.

        Args:
            group: 1 to 1024 characters, not blank.
            data: str is sent as ``text``, bytes as ``binary``, anything else as ``json``; with a protobuf subprotocol a
                protobuf message as ``protobuf``, packed into an ``Any``.
            data_type: overrides that: ``text``, ``json``, ``binary`` or ``protobuf``.
            no_echo: do not deliver it to this connection.
            ack: ask for an answer; without one, errors are silent and None is returned. See :attr:`publishing`.
            metadata: names and values that members get with the data. A name is an HTTP token of at most 256
                characters, a value has at most 1024 characters of ASCII, all together have at most 8192 (emulator).
            ttl: seconds, at most 300, in which the service may deliver the message; after that it drops what has not
                been delivered. The wire has whole seconds: fractions are rounded up. None or 0: it never expires.
            ack_id, timeout, user_data: as for :meth:`join_group`; both of the first need an ack.

        Raises:
            As :meth:`join_group`; also InvalidValue for a message above ``max_request_size``.
        """
        if self.running:
            raise reentered(self, "send_to_group")
        if now.__class__ is not float or now - now:
            check_seconds(now)
        try:
            self.running = "send_to_group"
            lifecycle, requests = self._lifecycle, self._requests
            if lifecycle.state is not CONNECTED:
                lifecycle.check_running(self.start_hint)
            if ack and ack_id is None and timeout is None and not lifecycle.paused:  # the ordinary case, in fewer steps
                ttl_seconds = None if ttl is None else whole_ttl(ttl)
                key = requests.publish(group, data, data_type, no_echo, ttl_seconds, metadata, user_data, now)
                if requests.wake_at < self._timers.slots[REQUESTS]:  # seldom, while others wait: their time comes first
                    lifecycle.schedule_requests()
                return key
            own = not ack and ack_id is None and self._pacing.asks_for_ack
            if timeout is not None:
                _check_timeout(timeout, ack)
            key = requests.reserve(ack_id, ack, own)
            payload = self._codec.encode_send(
                group,
                data,
                data_type,
                no_echo,
                key if key > 0 else None,
                self.options.max_request_size,
                None if ttl is None else whole_ttl(ttl),
                metadata,
            )
            if not ack:
                self._pacing.published()
            if lifecycle.paused:
                lifecycle.expect_to_hear(now)
            requests.submit(new_request(key, PUBLISH, payload, user_data, now, own=own, timeout=timeout), now)
            lifecycle.schedule_requests()
            return key if ack else None
        finally:
            self.running = ""

    @alone
    def send_event(
        self,
        event: str,
        data: Any,
        now: float,
        *,
        data_type: DataType | None = None,
        ack: bool = True,
        ack_id: int | None = None,
        metadata: Mapping[str, str] | None = None,
        timeout: float | None = None,
        user_data: Any = None,
    ) -> int | None:
        """Send ``event`` to the application server.

        The service calls an event handler, and again if that fails. What comes of it after that is not repeated here
        unless ``resend`` is ``"always"``: the handler may have done its work.

        Args:
            event: a letter, then at most 127 letters, digits, ``_``, ``.`` and ``-``.
            data, data_type, ack, ack_id, metadata, timeout, user_data: as for :meth:`send_to_group`.

        Raises:
            As :meth:`send_to_group`.
        """
        key = self._reserve(ack_id, ack, timeout=timeout)
        payload = self._codec.encode_event(
            event, data, data_type, key if ack else None, self.options.max_request_size, metadata
        )
        self._submit(new_request(key, PUBLISH, payload, user_data, now, event=True, timeout=timeout), now)
        return key if ack else None

    def prepare_send(
        self,
        group: str,
        data: Any,
        *,
        data_type: DataType | None = None,
        no_echo: bool = False,
        metadata: Mapping[str, str] | None = None,
        ttl: float | None = None,
    ) -> bytes | None:
        """Check and encode a publish without an ack, for :meth:`send_prepared`; changes nothing, in any thread.

        Returns:
            None for a large message: send it with :meth:`send_to_group`, which may add an ack id.

        Raises:
            InvalidType, InvalidValue: an argument cannot be used; the message names it.
        """
        limit = self.options.max_request_size
        ttl_seconds = None if ttl is None else whole_ttl(ttl)
        message = self._codec.encode_send(group, data, data_type, no_echo, None, limit, ttl_seconds, metadata)
        return message if len(message) + self._codec.ack_id_size <= limit else None

    def prepare_event(
        self,
        event: str,
        data: Any,
        *,
        data_type: DataType | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> bytes:
        """Check and encode an event without an ack, for :meth:`send_prepared`."""
        return self._codec.encode_event(event, data, data_type, None, self.options.max_request_size, metadata)

    @alone
    def send_prepared(self, message: bytes, now: float, *, publish: bool) -> None:
        """Send what :meth:`prepare_send` (``publish``) or :meth:`prepare_event` returned.

        Raises:
            ClientStopped, TooManyRequests: as :meth:`send_to_group`.
        """
        own = publish and self._pacing.asks_for_ack
        key = self._reserve(None, False, own)
        if publish:
            self._pacing.published()
        self._submit(
            Request(key, PUBLISH, self._codec.with_ack_id(message, key) if own else message, None, now, own=own), now
        )

    @alone
    def set_group_state(
        self,
        group: str,
        state: Mapping[str, str],
        now: float,
        *,
        timeout: float | None = None,
        user_data: Any = None,
    ) -> int:
        """Set the own state in ``group`` (js), which all who subscribe the states of the group see.

        The service forgets it when it is cleared, when the client leaves the group, and with the connection. On a new
        connection the session sets it again, as long as ``auto_restore_group_states`` and ``auto_rejoin_groups`` say
        so. A later call wins, also if the earlier one has to be repeated: it is sent when that is settled.

        Args:
            group: a group that the client is in; the service refuses others.
            state: names and values, all str, of at most 8192 bytes as UTF-8. It replaces the state before as a whole.
                A copy is made.
            now: the time.
            timeout, user_data: as for :meth:`join_group`.

        Raises:
            As :meth:`join_group`; also InvalidType and InvalidValue for ``state``.
        """
        key = self._reserve(None, timeout=timeout)
        state = check_group_state(state)
        payload = self._codec.encode_set_group_state(group, state, key)
        return self._submit(
            new_request(key, SET_STATE, payload, user_data, now, group, state=state, timeout=timeout), now
        )

    @alone
    def clear_group_state(self, group: str, now: float, *, timeout: float | None = None, user_data: Any = None) -> int:
        """Clear the own state in ``group`` (js). Arguments, result and errors are those of :meth:`join_group`."""
        key = self._reserve(None, timeout=timeout)
        payload = self._codec.encode_set_group_state(group, None, key)
        return self._submit(new_request(key, SET_STATE, payload, user_data, now, group, timeout=timeout), now)

    @alone
    def subscribe_group_states(
        self, group: str, now: float, *, timeout: float | None = None, user_data: Any = None
    ) -> int:
        """Ask for the states of all connections in ``group``, and for their changes (js).

        A :class:`GroupStatesChanged` behind the ``Acked`` brings all states, and later ones what changes;
        :meth:`group_states` has the whole. The service needs membership, or the permission to join. The session renews
        the subscription after each recovery, on each new connection, and after a leave of the group. It ends with
        :meth:`unsubscribe_group_states`, when the service refuses to renew it, and with the stop.

        Arguments, result and errors are those of :meth:`join_group`.
        """
        key = self._reserve(None, timeout=timeout)
        payload = self._codec.encode_subscribe_group_state(group, key)
        return self._submit(new_request(key, SUBSCRIBE, payload, user_data, now, group, timeout=timeout), now)

    @alone
    def unsubscribe_group_states(
        self, group: str, now: float, *, timeout: float | None = None, user_data: Any = None
    ) -> int:
        """End the subscription of the states of ``group`` (js), which removes them all.

        Arguments, result and errors are those of :meth:`join_group`.
        """
        key = self._reserve(None, timeout=timeout)
        payload = self._codec.encode_unsubscribe_group_state(group, key)
        return self._submit(new_request(key, UNSUBSCRIBE, payload, user_data, now, group, timeout=timeout), now)

    @alone
    def withdraw(self, ack_id: int, *, user_data: Any = ...) -> bool:
        """Take a request back that was never handed to a transport, without an ``Acked``.

        Args:
            user_data: as it was given with the request. A later request may have the same ack id, while the ``Acked``
                of the first waits to be handed on: it stays. ``...``: the request with this ack id, whichever it is.

        Returns:
            False where it is too late or the ack id is unknown: then everything goes on as before.
        """
        withdrawn = self._requests.withdraw(ack_id, user_data)
        self._lifecycle.schedule_requests()
        return withdrawn

    # ---- Streams of the application

    @alone
    def open_stream(
        self,
        group: str,
        now: float,
        *,
        stream_id: str | None = None,
        no_echo: bool = False,
        idle_timeout: float = 300.0,
        timeout: float | None = None,
        user_data: Any = None,
    ) -> str:
        """Begin a stream of fragments to ``group``; the answer is :class:`StreamOpened` or :class:`StreamClosed`.

        The start waits for a connection like a request. Fragments may be written before the answer; they are sent
        after it. Each arrives exactly once and in order, also over recoveries, or ``StreamClosed`` has an error. A
        stream ends with its connection (client-spec 3.6).

        Args:
            group: 1 to 1024 characters, not blank.
            now: the time.
            stream_id: 1 to 1024 characters, other than those of open streams; by default a fresh id. Readers tell
                streams apart by group and id alone. Do not use the id of a stream that has failed: a late answer to
                that would be taken for the new one's.
            no_echo: do not deliver the fragments to this connection.
            idle_timeout: seconds without a sign of the stream after which the service closes it, from 0.001. The
                session keeps a silent stream alive, at a third of that time.
            timeout: seconds, 0 or more, in which the service must accept the start; after that the stream is closed
                with :class:`StreamTimeout`. None: ``request_timeout`` of the options.
            user_data: comes back with all events of the stream.

        Returns:
            The stream's id.

        Raises:
            ClientStopped: the session is not started.
            TooManyRequests: ``max_streams`` streams are open.
            LocalProtocolError: an argument cannot be used, or ``stream_id`` is in use; the message names it.
        """
        self._lifecycle.check_running(self.start_hint)
        check_timeout(timeout)
        self._lifecycle.expect_to_hear(now)
        if self._streams is NO_STREAMS:
            self._begin_streams(now)
        stream_id = self._streams.open(group, now, stream_id, no_echo, idle_timeout, user_data, timeout)
        self._lifecycle.schedule(self._streams)
        return stream_id

    def _begin_streams(self, now: float) -> None:
        streams = Streams(self.options, self._draws, self._codec, self._secrets, self._events)
        self._streams = self._inbound.streams = streams
        self._lifecycle.add(streams, now)

    def write_stream(self, stream_id: str, data: Any, now: float, *, data_type: DataType | None = None) -> int:
        """Write one fragment; :class:`StreamProgress` tells when the service has it.

        Args:
            stream_id: the id that :meth:`open_stream` returned.
            data, data_type: as for :meth:`send_to_group`.
            now: the time.

        Returns:
            The number of the fragment, from 1.

        Raises:
            TooManyRequests: ``max_stream_unacked`` fragments or 1 MiB are not acknowledged; see
                :meth:`stream_has_room`.
            NoSuchStream: the stream is not open, or its ``StreamClosed`` is among the events.
            LocalProtocolError: an argument cannot be used, a fragment is above ``max_request_size``, or the stream was
                ended or aborted.
        """
        if self.running:
            raise reentered(self, "write_stream")
        if now.__class__ is not float or now - now:
            check_seconds(now)
        try:
            self.running = "write_stream"
            self._lifecycle.expect_to_hear(now)
            streams = self._streams
            wake_at = streams.wake_at
            number = streams.write(stream_id, data, now, data_type)
            if streams.wake_at < wake_at:
                self._lifecycle.schedule(streams)
            return number
        finally:
            self.running = ""

    def stream_has_room(self, stream_id: str) -> bool:
        """Return whether :meth:`write_stream` would take a fragment now; False for a stream that is not open.

        It changes with :class:`StreamProgress`.
        """
        return self._streams.has_room(stream_id)

    @alone
    def end_stream(self, stream_id: str, now: float) -> None:
        """End a stream behind all of its fragments; the answer is :class:`StreamClosed`.

        The end goes out when the fragments are acknowledged; or two seconds after the last acknowledgement, for a
        service that waits for more. A second end does nothing.

        Raises:
            NoSuchStream: the stream is not open.
        """
        self._end_stream(stream_id, now, None)

    @alone
    def abort_stream(self, stream_id: str, message: str, now: float, *, code: str | None = None) -> None:
        """End a stream with an error of the application's, behind all of its fragments.

        The answer is :class:`StreamClosed`: at once, if the start was never handed to a transport. It replaces an end
        that was not sent yet; otherwise a second end does nothing.

        Args:
            stream_id: the stream's id.
            message: an explanation for the readers, who get it in an error named ``UserError``.
            now: the time.
            code: the application's name or number of the error.

        Raises:
            NoSuchStream: the stream is not open.
            LocalProtocolError: an argument cannot be used; the message names it.
        """
        self._end_stream(stream_id, now, StreamEndError(message, code))

    def _end_stream(self, stream_id: str, now: float, error: StreamEndError | None) -> None:
        self._lifecycle.expect_to_hear(now)
        self._streams.end(stream_id, now, error)
        self._lifecycle.schedule(self._streams)

    # ---- Invocations

    @alone
    def invoke(
        self,
        event: str,
        data: Any,
        now: float,
        *,
        data_type: DataType | None = None,
        metadata: Mapping[str, str] | None = None,
        timeout: float | None = None,
        invocation_id: str | None = None,
        user_data: Any = None,
    ) -> str:
        """Call the event handler for ``event``; the answer is an :class:`Invoked` with the returned id (js).

        The invocation waits while there is no connection. Once it was handed to a transport it is never sent again,
        since the handler may have been called: the end of that transport settles it with the outcome ``unknown``.

        Args:
            event: a letter, then at most 127 letters, digits, ``_``, ``.`` and ``-``.
            data: as for :meth:`send_to_group`; None without ``data_type``: no data.
            data_type, metadata: as for :meth:`send_to_group`.
            timeout: seconds, 0 or more, from this call until it fails with :class:`InvocationTimeout` and is cancelled,
                in any state of the connection; None: ``request_timeout`` of the options.
            invocation_id: 1 to 128 characters that belong to no pending invocation; by default a fresh id. Do not use
                the id of one that was given up again: a late answer to that would be taken for the new one's.
            user_data: comes back with ``Invoked``.

        Raises:
            ClientStopped: the session is not started.
            TooManyRequests: ``max_pending_requests`` are waiting, requests included.
            LocalProtocolError: an argument cannot be used, or ``invocation_id`` is in use; the message names it.
        """
        lifecycle, invocations = self._lifecycle, self._invocations
        lifecycle.check_running(self.start_hint)
        self._requests.check_room()
        check_timeout(timeout)
        key = invocations.reserve(invocation_id)
        limit = self.options.max_request_size
        payload = self._codec.encode_invoke(key, event, data, data_type, limit, metadata)
        lifecycle.expect_to_hear(now)
        if invocations is NO_INVOCATIONS:
            invocations = self._begin_invocations(now)
        invocations.submit(key, payload, user_data, timeout, now)
        lifecycle.schedule(invocations)
        return key

    def _begin_invocations(self, now: float) -> Invocations:
        allowance, timeout = self._requests.allowance, self.options.request_timeout
        invocations = Invocations(self._codec, self._secrets, allowance, self._events, timeout)
        self._invocations = self._inbound.invocations = invocations
        self._lifecycle.add(invocations, now)
        return invocations

    @alone
    def cancel_invocation(self, invocation_id: str, now: float, *, user_data: Any = ...) -> Outcome | None:
        """Give up an invocation, without an ``Invoked``; a late answer is ignored.

        If it was handed to a transport, a message asks the service to cancel it (js).

        Args:
            user_data: as for :meth:`withdraw`.

        Returns:
            ``"unsent"``: it was never handed to a transport; ``"unknown"``: the event handler may have been called;
            None: it is settled, or there is none of this id, and everything goes on as before.
        """
        return self._invocations.cancel(invocation_id, user_data)

    # ---- The end

    @alone
    def stop(self, now: float) -> None:
        """Stop, in whatever state; the answer is ``Stopped``, at the latest after ``close_timeout``.

        What waits for an answer fails: ``unsent`` if it was never handed to a transport, else ``unknown``.
        """
        if self.state is not STOPPED and self.state is not STOPPING:
            self._lifecycle.stop(now)

    def check_running(self) -> None:
        """Raise ClientStopped, with the reason, before the start and from the stop on."""
        self._lifecycle.check_running(self.start_hint)

    def _reserve(self, ack_id: int | None, ack: bool = True, own: bool = False, timeout: float | None = None) -> int:
        self._lifecycle.check_running(self.start_hint)
        if timeout is not None:
            _check_timeout(timeout, ack)
        return self._requests.reserve(ack_id, ack, own)

    def _submit(self, request: Request, now: float) -> int:
        self._lifecycle.expect_to_hear(now)
        self._requests.submit(request, now)
        self._lifecycle.schedule_requests()
        return request.key

    # ---- Outputs

    def events(self) -> list[Event]:
        """Return the events since the last call, in order. The lines of the log are written before that."""
        if self.running:
            raise reentered(self, "events")
        if self._log.lines:
            self._log.write()
        events = self._events
        if not events:
            return []
        taken = events.copy()
        events.clear()
        return taken

    def messages_to_send(self) -> list[bytes]:
        """Return the messages to send now, in order; call it only when the transport can take them.

        From here on they count as sent: only acks tell whether the service has seen them.
        """
        if self.running:
            raise reentered(self, "messages_to_send")
        if not self._lifecycle.writable:
            return []
        outbox, control = self._outbox, self._control.messages
        requests = outbox.queue or outbox.repeats
        if not (requests or control or self._streams.sending or self._invocations.sending):
            return []
        try:
            self.running = "messages_to_send"
            messages = self._requests.take() if requests else []
            if self._streams.sending:
                messages += self._streams.take()
            if self._invocations.sending:
                messages += self._invocations.take()
            if not messages and not control:
                return messages
            counters = self._counters
            counters.messages_out += len(messages)
            if control:
                messages[:0] = control
                control.clear()
            counters.bytes_out += len(messages[0]) if len(messages) == 1 else sum(map(len, messages))
            if frames_log.isEnabledFor(DEBUG):
                log_messages(self._log, ">", messages, self._secrets, self._codec)
            return messages
        finally:
            self.running = ""


def _check_timeout(timeout: float, ack: bool) -> None:
    check_timeout(timeout)
    if not ack:
        raise InvalidValue("timeout has no meaning with ack=False")


def attach(session: Session, dial: Dial) -> None:
    """Call :meth:`Session.attach`; raise InvalidType unless ``session`` is a :class:`Session`."""
    if not isinstance(session, Session):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidType(f"session must be a Session, not {type(session).__name__}")
    session.attach(dial)
