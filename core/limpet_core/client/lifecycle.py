"""Lifecycle: connecting, reconnecting, recovering (by the rules of :class:`Recovery`), stopping, and all timers.

The verbs for "it is over". Each drops the transport, if there is one:

====================  ==============  =============================  =============================  ====================
verb                  called in       connection id, groups          requests                       next state
====================  ==============  =============================  =============================  ====================
``drop_transport``    any state       kept                           wait for the next transport    the same
``transport_lost``    CONNECTED       kept, if it can be recovered;  wait for the next transport    RECOVERING; else as
                                      else as ``connection_lost``                                   ``connection_lost``
..                    RECOVERING      kept                           wait for the next transport    the same
..                    CONNECTING      as ``attempt_failed``
..                    STOPPING        as ``finish``
``attempt_failed``    RECOVERING      kept                           wait for the next transport    the same
..                    CONNECTING      groups kept, to be rejoined    wait for the next connection   WAITING; STOPPED in
                                                                                                    the first attempt
``connection_lost``   CONNECTED,      id gone; groups kept, to be    publishes handed out fail,     WAITING; STOPPED
                      RECOVERING      rejoined                       the rest waits                 without reconnect
``finish``            any state       gone                           fail                           STOPPED
====================  ==============  =============================  =============================  ====================

``stop`` is the polite one: STOPPING, with a close frame, until the service has answered; then ``finish``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar, Final

from limpet_core.client.attempts import Attempts, connect_error
from limpet_core.client.connection import Connection
from limpet_core.client.control import Control
from limpet_core.client.events import Disconnected, Event, Stopped
from limpet_core.client.headers import Headers
from limpet_core.client.liveness import JUDGING, LATE, Liveness
from limpet_core.client.log_lines import LogLines
from limpet_core.client.options import Options
from limpet_core.client.outages import Outages
from limpet_core.client.parts import Part
from limpet_core.client.recovery import Recovery
from limpet_core.client.requests import Requests
from limpet_core.client.states import CONNECTED, STOPPED, STOPPING, TRANSITIONS, Dial, State
from limpet_core.client.stats import Counters
from limpet_core.client.timers import REQUESTS, SEQUENCE_ACK, Timer, Timers
from limpet_core.client.url import place
from limpet_core.errors import ClientStopped, ConnectError, ConnectTimeout, LimpetError
from limpet_core.protocol.close import NO_CLOSE_FRAME, Close, describe_close
from limpet_core.redaction import Secrets
from limpet_core.text import without_secrets

_UNREAD: Final = 1.0
"""Seconds after a failed send in which to read what has arrived before the transport is given up."""

_REFUSAL_PATIENCE: Final = 2.0
"""Seconds that the rest of a refusal may take: it only says more about the reason."""


class Lifecycle:
    """The life of a session, from ``start()`` to ``Stopped`` and again.

    Attributes:
        state: the current state.
        dial: the one transport that is wanted; None: no transport.
        open: whether the transport of ``dial`` is open.
        connection: the connection that is established or recovered; None: there is none.
        control: pings and sequence acks to send.
        liveness: whether the peer is still there.
        paused: whether the consumer has asked for a pause.
        senders: how many senders wait for room.
        disconnected_message: the text of the service's ``disconnected`` message on this transport; None: none came.
        writable: whether the transport of ``dial`` is open and no send has failed.
    """

    __slots__ = (
        "_attempts",
        "_events",
        "_failure",
        "_fixed_url",
        "_headers",
        "_last_error",
        "_log",
        "_options",
        "_outages",
        "_parts",
        "_requests",
        "_secrets",
        "_send_error",
        "_start_timeout",
        "_timers",
        "_url",
        "_was_established",
        "connection",
        "control",
        "dial",
        "disconnected_message",
        "liveness",
        "open",
        "paused",
        "senders",
        "state",
        "writable",
    )

    def __init__(
        self,
        options: Options,
        random: Callable[[], float],
        headers: Headers,
        secrets: Secrets,
        requests: Requests,
        control: Control,
        liveness: Liveness,
        timers: Timers,
        events: list[Event],
        lines: LogLines,
        counters: Counters,
    ) -> None:
        self._options = options
        self._headers = headers
        self._secrets = secrets
        self._requests = requests
        self._parts: tuple[Part, ...] = ()  # told in this order, after the requests
        self._timers = timers
        self._events = events
        self._log = lines
        self._outages = Outages(options, counters, events, lines)
        self._attempts = Attempts(options, random)
        self.state: State = State.STOPPED
        self.connection: Connection | None = None
        # The transport
        self.dial: Dial | None = None
        self.open: bool = False
        self.writable: bool = False
        self._send_error = ""
        self.control: Control = control
        self.liveness: Liveness = liveness
        self.paused: bool = False
        self.senders: int = 0
        self.disconnected_message: str | None = None
        # The run, from start() on
        self._url = ""
        self._fixed_url = False
        self._was_established = False  # whether a connection was established in this run
        self._failure: LimpetError | None = None  # why the last run ended, if not by stop()
        self._last_error: ConnectError | None = None  # of the attempts before the first connection
        self._start_timeout = 0.0  # of the last start that had one

    def _go(self, state: State) -> None:
        assert (self.state, state) in TRANSITIONS, f"bug: {self.state} -> {state}"
        self.state = state

    def add(self, part: Part, now: float) -> None:
        """Tell a part, which is new, of all that happens from now on."""
        self._parts = tuple(sorted((*self._parts, part), key=lambda part: part.timer))
        if self.state is CONNECTED:
            part.connected(now)

    def check_running(self, start_hint: str) -> None:
        """Raise ClientStopped, with the reason, before the start and from the stop on."""
        if self.state is STOPPED or self.state is STOPPING:
            if self._failure is None:
                hint = f"; {start_hint} starts it" if self.state is STOPPED else ""
                raise ClientStopped(f"the client is {self.state.value}{hint}")
            raise ClientStopped(f"the client has stopped: {self._failure}") from self._failure

    # ---- Start and stop

    def start(self, now: float, timeout: float | None) -> None:
        """Begin to connect, after ``start()``; give up after ``timeout`` seconds."""
        self._was_established, self._failure, self._last_error = False, None, None
        self._attempts.reset()
        self._outages.begin(now)
        if timeout is not None:
            self._start_timeout = timeout
            self._timers.set(Timer.START, now + timeout)
        self._connect(now)

    def stop(self, now: float) -> None:
        """Close the transport; wait for the answer until ``close_timeout`` where there is a connection to end.

        Before the service's connected message there is none: the close frame is sent, and nobody waits for an answer.
        """
        if self.connection is None:
            self.drop_transport(Close(1000))
        if not self.open or self.dial is None:
            self.finish(None)
            return
        self._requests.stop(None)
        for part in self._parts:
            part.stop(None)
        self._sequence_ack_due(now)
        # 1000 makes the service end the connection at once; with any other code it would wait for a recovery.
        self.dial.close = Close(1000)
        self._go(STOPPING)
        self._timers.stop(*Timer)
        self._timers.set(Timer.CLOSE, now + self._options.close_timeout)

    def finish(self, error: LimpetError | None) -> None:
        """Stop at once: nothing is open and nothing is due."""
        self.drop_transport()
        self._requests.stop(error)
        self._requests.clear()
        for part in self._parts:
            part.stop(error)
            part.wake_at = math.inf  # in the next run it would be a time long gone
        self._timers.stop(*Timer)
        if self.connection is not None:
            self._events.append(Disconnected(self.connection.id, 1000, "stopped"))
            self.connection = None
        self._outages.stop(error)
        self._go(STOPPED)
        self._failure = error
        if error is not None and self._was_established:
            self._log.error("the client has stopped: %s", error)  # there is no call that would raise it
        self._events.append(Stopped(error))

    # ---- Attempts

    def _connect(self, now: float) -> None:
        self._go(State.CONNECTING)
        self.dial = Dial(self._attempts.began(now), self._options.protocol, recovery=False, headers=self._headers)
        self._timers.set(Timer.CONNECT, now + self._options.connect_timeout)

    def _next_connection(self, now: float) -> float | None:
        return self._attempts.next_connection(now, first=not self._was_established)

    def _connect_later(self, error: ConnectError, at: float | None) -> None:
        """Connect at ``at``; None: there is no attempt left, so stop because of ``error``."""
        number = self._attempts.number
        if at is None and not self._was_established and number == 1:
            self.finish(error)
        elif at is None:
            again = " again" if self._was_established else ""
            text = f"gave up after {number} attempt{'' if number == 1 else 's'} to connect{again}: {error}"
            failure = ConnectError(text, status=error.status, code=error.code, retry_after=error.retry_after)
            failure.__cause__ = error.__cause__  # the text has the rest of it
            self.finish(failure)
        else:
            self._go(State.WAITING)
            self._timers.set(Timer.ATTEMPT, at)

    def _recovery(self) -> Recovery:
        """Return the rules for recovering, which keep nothing themselves; a session without an outage needs none."""
        return Recovery(
            self._options, self._headers, self._attempts, self._outages, self._timers, self._events, self._log
        )

    def _recover(self, connection: Connection, now: float) -> None:
        self.dial = self._recovery().attempt(connection, self._url, now)

    def _recover_later(
        self, connection: Connection, now: float, *, progress: bool = False, failed: ConnectError | None = None
    ) -> None:
        """Recover, at once or later; ``failed``: why the attempt before has failed."""
        at = self._recovery().next_attempt(now, progress=progress, failed=failed)
        if at <= now:
            self._recover(connection, now)
        else:
            self._timers.set(Timer.ATTEMPT, at)

    def transport_opened(self) -> None:
        """Note that the transport is open, and its WebSocket handshake done."""
        self.open = self.writable = True
        connection = self.connection
        if connection is not None:
            # The service need not say anything after a recovery: a pong will show that it took the client back.
            if connection.sequence_id:
                self.acknowledge(connection)
            self.control.ping()

    def use_url(self, url: str, *, fixed: bool) -> None:
        """Connect to ``url``; ``fixed``: there will never be another one."""
        self._fixed_url = fixed
        self._url = url
        self._secrets.learn_url(url)

    def is_final(self, status: int | None) -> bool:
        """Whether no further attempt can succeed after a handshake that was refused with ``status``."""
        return self._fixed_url and status in (401, 403, 404)

    def refused(self, error: ConnectError, now: float) -> None:
        """Note that the handshake is refused for ``error``; the rest of the answer may add to it, if it comes soon."""
        assert self.dial is not None, "bug: nothing was dialled"
        self.dial.refusal = error
        self._timers.set(Timer.CONNECT, min(self._timers[Timer.CONNECT], now + _REFUSAL_PATIENCE))

    def dial_failed(
        self, error: BaseException, now: float, *, status: int | None = None, retry_after: float | None = None
    ) -> None:
        """Note that no transport could be opened for the current dial, whose URL is known."""
        assert self.dial is not None, "bug: nothing was dialled"
        failed = f"cannot connect to {place(self.dial.url or '')}"
        if self.dial.through is not None:
            failed += f" through {self.dial.through}"
        error = connect_error(failed, error, self._secrets, status=status, retry_after=retry_after)
        self.attempt_failed(error, now, final=self.is_final(status))

    def attempt_failed(self, error: ConnectError, now: float, *, final: bool = False) -> None:
        """End the current attempt; try again later, or stop if ``final`` or if no attempt is left.

        In a recovery nothing is final: its window is the end.
        """
        if not self._was_established:
            self._last_error = error
        if error.retry_after is not None:
            self._attempts.put_off(error.retry_after, now)
        connection = self.connection
        if connection is not None:
            self.drop_transport()
            self._recover_later(connection, now, failed=error)
            return
        self.drop_transport(Close(1000))
        at = None if final else self._next_connection(now)
        self._outages.attempt_failed(error, at, now)
        if final:
            self.finish(error)
        else:
            self._connect_later(error, at)

    # ---- Connections

    def connected(self, connection: Connection, now: float) -> None:
        """Establish a new connection: the service's connected message is here (client-spec 1.2)."""
        if self.connection is not None:
            self._end_connection(self.connection, NO_CLOSE_FRAME, "the service replaced the connection by another")
        self.connection = connection
        self._was_established, self._last_error = True, None
        self._timers.stop(Timer.START)
        self._attempts.established(now, after_recovery=self.dial is not None and self.dial.recovery)
        self._outages.end(connection, now, recovered=False)
        self._requests.connected(connection.id, now)
        for part in self._parts:
            part.connected(now)
        self._flow(connection, now)

    def recovered(self, connection: Connection, now: float) -> None:
        """Go on with the connection: the peer has shown life on the transport of a recovery."""
        self._recovery().succeeded(connection, now)
        self._requests.recovered(now)
        for part in self._parts:
            part.recovered(now)
        self._flow(connection, now)

    def _flow(self, connection: Connection, now: float) -> None:
        """Enter CONNECTED."""
        self._go(CONNECTED)
        self._timers.stop(Timer.CONNECT, Timer.WINDOW)
        self.liveness.begin(now)
        connection.opened(self._requests.answered)
        self.schedule_requests()
        for part in self._parts:
            self.schedule(part)

    def transport_lost(self, code: int, reason: str, now: float) -> None:
        """Handle the end of the open transport: recover the connection if that may be possible."""
        connection = self.connection
        if self.state is STOPPING:
            self.finish(None)
        elif connection is None:
            text = f"the connection was closed before it was established: {describe_close(code, reason)}"
            self.attempt_failed(ConnectError(text, code=code), now)
        else:
            self._recover_or_lose(connection, code, reason, now)

    def _recover_or_lose(self, connection: Connection, code: int, reason: str, now: float) -> None:
        """Recover a connection whose transport is gone, or give it up (client-spec 1.4)."""
        progress = self.state is CONNECTED and connection.made_progress(self._requests.answered)
        recovery = self._recovery()
        if not recovery.is_possible(connection, code, dismissed=self.disconnected_message is not None):
            self.connection_lost(code, reason, now)
            return
        self.drop_transport()
        failed = None
        if self.state is CONNECTED:
            self._go(State.RECOVERING)
            recovery.begin(connection, code, reason, now)
        else:
            text = f"the connection was closed before it was recovered: {describe_close(code, reason)}"
            failed = ConnectError(text, code=code)
        self._recover_later(connection, now, progress=progress, failed=failed)

    def connection_lost(self, code: int, reason: str, now: float, *, attempted: bool = True) -> None:
        """Give the connection up for good: make a new one, or stop without ``auto_reconnect``.

        Args:
            code, reason: why.
            now: the time.
            attempted: while it is recovered: whether an attempt fails thereby.
        """
        if self.disconnected_message:
            reason = without_secrets(self.disconnected_message, secrets=self._secrets)
        self.drop_transport()
        self._timers.stop(Timer.WINDOW)
        self._attempts.lost(now)
        assert self.connection is not None, "bug: there is no connection to lose"
        error = ConnectError(f"the connection was lost: {describe_close(code, reason)}", code=code)
        at = self._next_connection(now) if self._options.auto_reconnect else None
        if not self._outages.under_way:
            self._outages.begin(now, self.connection.id, str(error))
        elif attempted:
            self._outages.attempt_failed(error, at, now)
        self._end_connection(self.connection, code, reason)
        if self._options.auto_reconnect:
            self._log.warning("%s; messages are lost until a new connection is made", error)
            self._connect_later(error, at)
        else:
            self.finish(error)

    def _end_connection(self, connection: Connection, code: int, reason: str) -> None:
        self._events.append(Disconnected(connection.id, code, reason))
        self._requests.connection_lost()
        for part in self._parts:
            part.connection_lost()
        self.control.messages.clear()
        self.connection = None
        self._outages.connection_gone()

    def drop_transport(self, close: Close | None = None) -> None:
        """Let go of the current transport, if there is one; it is closed with ``close``, also if it opens too late."""
        if self.dial is None:
            return
        self.dial.wanted = False
        self.dial.close = close
        self.dial = None
        self.open = self.writable = False
        self.disconnected_message = None
        self.control.messages.clear()
        self._requests.transport_lost()
        for part in self._parts:
            part.transport_lost()
        self._timers.stop(Timer.CONNECT, Timer.PING, Timer.SILENCE, Timer.SEQUENCE_ACK, Timer.CHECK, Timer.SEND_FAILED)

    def send_failed(self, reason: str, now: float) -> None:
        """Send nothing more on the open transport, and read on until its end, for a second at most."""
        if self.writable:
            self.writable = False
            self._send_error = reason
            self._timers.set(Timer.SEND_FAILED, now + _UNREAD)

    def answered(self) -> None:
        """Count an answer of the service that is no ack: it shows that the connection makes progress."""
        self._requests.answered += 1

    # ---- Reading

    @property
    def stalled(self) -> bool:
        """Whether reading pauses on an established connection: the consumer is too slow, and nobody waits for an
        answer, for room to send, or for a sign of life.
        """
        if not self.paused:
            return False
        waits = self._requests.pending or self.senders or self.liveness.unanswered
        return not (waits or any(part.waits for part in self._parts))

    def expect_to_hear(self, now: float) -> None:
        """Note that a request or sender is about to wait: after a pause of reading, silence counts from now on."""
        if self.paused and self.stalled:  # the first is asked twice: it saves a call in each request
            self.liveness.heard = now

    # ---- Checks

    def check(self, now: float, *, anew: bool = False) -> None:
        """Look whether the connection is alive, or make the next attempt soon: the network may have changed.

        Args:
            now: the time.
            anew: give the peer the whole time, even if it has not answered an earlier check yet.
        """
        if self.state is CONNECTED:
            self.liveness.check(now, anew=anew)
        elif self._timers[Timer.ATTEMPT] < math.inf:
            self._timers.set(Timer.ATTEMPT, min(self._timers[Timer.ATTEMPT], self._attempts.soonest(now)))

    def asleep(self, seconds: float, now: float) -> None:
        """Check if the machine was suspended: ``seconds`` grow by the time of each suspend."""
        if self.liveness.was_suspended(seconds):
            self.check(now, anew=True)

    def _overslept(self, now: float) -> None:
        """Have patience, once in a silence: the process stood still, and what the peer has sent may not be read yet."""
        if self.liveness.was_patient(self.dial):
            return
        self.check(now, anew=True)
        if self.dial is not None:  # else nothing can have arrived
            self.liveness.have_patience(self.dial, now)

    # ---- Timers

    def wake(self, now: float) -> None:
        """Do what is due."""
        if now - self._timers.deadline > LATE:
            self._overslept(now)
        slots = self._timers.slots
        for timer in self._timers.expired(now):
            if slots[timer] <= now:  # else one before it has moved or stopped it
                if now < self.liveness.patient_until and timer in JUDGING:
                    self._timers.set(timer, self.liveness.patient_until)
                else:
                    self._timers.stop(timer)
                    action = self._ON_TIMER.get(timer)
                    if action is not None:
                        action(self, now)
                    else:
                        (part,) = [part for part in self._parts if part.timer == timer]
                        part.wake(now)
                        self._timers.set(timer, part.wake_at)

    def schedule_requests(self) -> None:
        """Wake up for requests that are due."""
        if self._requests.wake_at < self._timers.slots[REQUESTS]:
            self._timers.set(REQUESTS, max(self._requests.wake_at, self.liveness.patient_until))

    def schedule(self, part: Part) -> None:
        """Wake up for what a part has to do."""
        if part.wake_at < self._timers[part.timer]:
            self._timers.set(part.timer, max(part.wake_at, self.liveness.patient_until))

    def schedule_sequence_ack(self, connection: Connection, now: float) -> None:
        """Send a sequence ack at once if enough has arrived, else soon."""
        options = self._options
        if (
            connection.unacked_messages >= options.sequence_ack_messages
            or connection.unacked_bytes >= options.sequence_ack_bytes
        ):
            self.acknowledge(connection)
        elif self._timers.slots[SEQUENCE_ACK] > now + options.sequence_ack_interval:
            self._timers.set(SEQUENCE_ACK, now + options.sequence_ack_interval)

    def acknowledge(self, connection: Connection) -> None:
        """Send a sequence ack."""
        self.control.acknowledge(connection.acknowledge())

    def _connect_due(self, now: float) -> None:
        attempt = "connection" if self.connection is None else "recovery"
        dial = self.dial
        if dial is not None and dial.refusal is not None:
            self.dial_failed(dial.refusal, now, status=dial.refusal.status)
            return
        if dial is None or dial.url is None:
            text = "there was no URL in time"
        else:
            there = place(dial.url)
            text = f"{dial.waits_for or there} did not answer in time"
            attempt += f" to {there}" if dial.waits_for else ""
        self.attempt_failed(ConnectError(f"the {attempt} timed out: {text}"), now)

    def _start_due(self, now: float) -> None:
        self.drop_transport(Close(1000))
        error = self._last_error
        last = "" if error is None else f"; the last attempt: {error}"
        failure = ConnectTimeout(f"there was no connection within timeout ({self._start_timeout:g} s){last}")
        failure.__cause__ = error
        self.finish(failure)

    def _window_due(self, now: float) -> None:
        reason = f"not recovered within {self._options.recovery_timeout:g} s"
        self.connection_lost(NO_CLOSE_FRAME, reason, now, attempted=self.dial is not None)

    def _attempt_due(self, now: float) -> None:
        if self.connection is None:
            self._connect(now)
        else:
            self._recover(self.connection, now)

    def _ping_due(self, now: float) -> None:
        self.liveness.ping(now)

    def _silence_due(self, now: float) -> None:
        reason = self.liveness.judge_silence(now, stalled=self.stalled)
        if reason is not None:
            self.transport_lost(NO_CLOSE_FRAME, reason, now)

    def _check_due(self, now: float) -> None:
        reason = self.liveness.judge_check()
        if reason is not None:
            self.transport_lost(NO_CLOSE_FRAME, reason, now)

    def _sequence_ack_due(self, now: float) -> None:
        if self.connection is not None and self.connection.unacked_messages:
            self.acknowledge(self.connection)

    def _requests_due(self, now: float) -> None:
        self._requests.wake(now)
        self._timers.set(REQUESTS, self._requests.wake_at)

    def _close_due(self, now: float) -> None:
        self.finish(None)

    def _send_failed_due(self, now: float) -> None:
        self.transport_lost(NO_CLOSE_FRAME, self._send_error, now)

    _ON_TIMER: ClassVar[dict[int, Callable[[Lifecycle, float], None]]] = {
        Timer.CONNECT: _connect_due,
        Timer.WINDOW: _window_due,
        Timer.ATTEMPT: _attempt_due,
        Timer.PING: _ping_due,
        Timer.SILENCE: _silence_due,
        Timer.SEQUENCE_ACK: _sequence_ack_due,
        Timer.REQUESTS: _requests_due,
        Timer.CLOSE: _close_due,
        Timer.CHECK: _check_due,
        Timer.START: _start_due,
        Timer.SEND_FAILED: _send_failed_due,
    }
