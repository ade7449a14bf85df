"""The machine inside a Session: its state, how connections are made, lost and recovered, what each timer does."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import ClassVar, Final

from limpet_core.client.attempts import Attempts
from limpet_core.client.events import (
    Acked,
    Connected,
    Disconnected,
    Event,
    Recovered,
    Recovering,
    RejoinGroupFailed,
    Stopped,
)
from limpet_core.client.options import Options
from limpet_core.client.pacing import Pacing
from limpet_core.client.request import LEAVE, PUBLISH, REJOIN, Kind, Request, Settled
from limpet_core.client.requests import Requests
from limpet_core.client.sequence import Sequence
from limpet_core.client.states import CONNECTED, STOPPED, STOPPING, TRANSITIONS, Dial, State
from limpet_core.client.timers import REQUESTS, SEQUENCE_ACK, Timer, Timers
from limpet_core.client.url import place, recovery_url
from limpet_core.errors import ClientStopped, ConnectError, InvalidType, LimpetError
from limpet_core.protocol.close import NO_CLOSE_FRAME, Close, describe_close
from limpet_core.protocol.json import PING, encode_join, sequence_ack
from limpet_core.protocol.messages import SystemMessage
from limpet_core.redaction import Secrets
from limpet_core.text import one_line, without_secrets

log: logging.Logger = logging.getLogger("limpet")

_CAUSE: Final = 500
"""Characters of a cause in the text of an error; it may quote others."""


class Machine:
    """The heart of a :class:`Session`. Nothing here is called from outside."""

    def __init__(self, options: Options | None = None, *, random: Callable[[], float]) -> None:
        if options is None:
            options = Options()
        elif not isinstance(options, Options):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidType(f"options must be an Options, not {type(options).__name__}")
        self.options = options
        self._state = State.STOPPED
        self._timers = Timers()
        self._secrets = Secrets()
        self._requests = Requests(options, random, self._secrets)
        self._attempts = Attempts(options, random)
        self._pacing = Pacing()
        self._sequence = Sequence()
        self._groups: dict[str, None] = {}
        self._parked: dict[str, None] = {}  # groups whose rejoin waits for the end of a leave
        self._events: list[Event] = []
        self._control: list[bytes] = []  # pings and sequence acks to send
        # The transport
        self._dial: Dial | None = None
        self._open = False
        self._paused = False
        self._senders = 0  # that wait for the transport
        self._heard = 0.0
        # The run, from start() on
        self._url = ""
        self._fixed_url = False
        self._stood = False
        self._failure: LimpetError | None = None  # why the last run ended, if not by stop()
        self._forget_connection()

    def _forget_connection(self) -> None:
        self._connection_id: str | None = None
        self._user_id: str | None = None
        self._token: str | None = None
        self._disconnected_message: str | None = None  # of the service, just before it closes
        self._progress = (0, 0)  # when it last stood, see _progress_so_far()
        self._broken_at: int | None = None  # the last sequence id before the peer sent something broken
        self._sequence.reset()
        self._parked.clear()

    # ---- Making, losing and recovering connections

    def _go(self, state: State) -> None:
        assert (self._state, state) in TRANSITIONS, f"bug: {self._state} -> {state}"
        self._state = state

    def _connect(self, now: float) -> None:
        self._go(State.CONNECTING)
        self._dial = Dial(self._attempts.began(), self.options.protocol, recovery=False)
        self._timers.set(Timer.CONNECT, now + self.options.connect_timeout)

    def _recover(self, now: float) -> None:
        assert self._connection_id is not None
        assert self._token is not None
        url = recovery_url(self._url, self._connection_id, self._token)
        self._dial = Dial(self._attempts.recovery_began(now), self.options.protocol, recovery=True, url=url)
        # Several attempts must fit into the window even if one of them hangs.
        limit = min(self.options.connect_timeout, self.options.recovery_timeout / 3)
        self._timers.set(Timer.CONNECT, now + limit)

    def _attempt_failed(self, error: ConnectError, now: float, *, final: bool = False) -> None:
        log.debug("attempt failed: %s", error)
        if self._state is State.RECOVERING:
            self._let_go()
            self._recover_later(now)
            return
        self._let_go(Close(1000))
        if final or not self._stood:
            self._finish(error)
        else:
            self._connect_later(error, now)

    def _connect_later(self, error: ConnectError, now: float) -> None:
        at = self._attempts.next_connection(now)
        if at is None:
            text = f"gave up after {self._attempts.number} attempts to connect again: {error}"
            failure = ConnectError(text, status=error.status, code=error.code)
            failure.__cause__ = error
            self._finish(failure)
        else:
            self._go(State.WAITING)
            self._timers.set(Timer.ATTEMPT, at)

    def _stands(self, message: SystemMessage, now: float) -> None:
        """A new connection stands: its connected message is here (client-spec 1.2)."""
        assert message.connection_id is not None
        self._connection_id, self._user_id = message.connection_id, message.user_id
        self._token = message.reconnection_token
        self._stood = True
        recovering = self._dial is not None and self._dial.recovery
        self._attempts.stands(now, after_recovery=recovering)
        self._events.append(Connected(message.connection_id, message.user_id))
        if not self.options.auto_rejoin_groups:
            self._groups.clear()
        leaving = self._requests.leaving()
        for group in self._groups:
            if group in leaving:
                self._parked[group] = None
            else:
                self._requests.send(self._rejoin(group, now), now)  # before anything else
        self._flow(now)

    def _rejoin(self, group: str, now: float) -> Request:
        """Ask for a group of the connection before."""
        key = self._requests.fresh_key()
        request = Request(key, Kind.REJOIN, encode_join(group, key), None, now, group)
        self._requests.add(request)
        return request

    def _recovered(self, now: float) -> None:
        assert self._connection_id is not None
        self._attempts.recovered(now)
        self._events.append(Recovered(self._connection_id))
        self._flow(now)

    def _flow(self, now: float) -> None:
        """Messages flow (again): what waits goes out first, in its original order."""
        self._go(State.CONNECTED)
        self._timers.stop(Timer.CONNECT, Timer.WINDOW)
        if self.options.keepalive_interval:
            self._timers.set(Timer.PING, now + self.options.keepalive_interval)
        if self.options.keepalive_timeout:
            self._timers.set(Timer.SILENCE, now + self.options.keepalive_timeout)
        self._progress = self._progress_so_far()
        self._requests.send_all(now)
        self._schedule_requests()

    def _progress_so_far(self) -> tuple[int, int]:
        """The last sequence id and the number of answers; either grows when the connection makes progress."""
        return self._sequence.last, self._requests.answered

    def _dropped(self, code: int, reason: str, now: float) -> None:
        """The transport is gone while the connection may live on: recover it, or give it up (client-spec 1.4)."""
        progress = self._state is CONNECTED and self._progress != self._progress_so_far()
        self._let_go()
        ended = code == 1008 or (code == 1000 and self._disconnected_message is not None)
        if ended or not self.options.reliable or self._token is None:
            self._lose(code, reason, now)
            return
        if self._state is State.CONNECTED:
            assert self._connection_id is not None
            log.debug("recovering %s: %s", one_line(self._connection_id), describe_close(code, reason))
            self._go(State.RECOVERING)
            self._timers.set(Timer.WINDOW, now + self.options.recovery_timeout)
            self._events.append(Recovering(self._connection_id, code, reason))
        self._recover_later(now, progress=progress)

    def _recover_later(self, now: float, *, progress: bool = False) -> None:
        at = self._attempts.next_recovery(now, progress=progress)
        if at <= now:
            self._recover(now)
        else:
            self._timers.set(Timer.ATTEMPT, at)

    def _lose(self, code: int, reason: str, now: float) -> None:
        """The connection is gone for good; make a new one."""
        if self._disconnected_message:
            reason = without_secrets(self._disconnected_message, secrets=self._secrets)
        self._let_go()
        self._timers.stop(Timer.WINDOW)
        self._attempts.lost(now)
        self._end_connection(code, reason)
        error = ConnectError(f"the connection was lost: {describe_close(code, reason)}", code=code)
        if self.options.auto_reconnect:
            log.warning("%s; so are the messages until the next one", error)
            self._connect_later(error, now)
        else:
            self._finish(error)

    def _end_connection(self, code: int, reason: str) -> None:
        assert self._connection_id is not None
        self._events.append(Disconnected(self._connection_id, code, reason))
        for settled in self._requests.lost():
            self._settled(settled)
        self._control.clear()
        self._forget_connection()

    def _let_go(self, close: Close | None = None) -> None:
        """The current transport, if any, is no longer wanted; an open one is closed with ``close``."""
        if self._dial is not None:
            self._dial.wanted = False
            if self._open:
                self._dial.close = close
        self._dial = None
        self._open = False
        self._control.clear()
        self._requests.dropped()
        self._timers.stop(Timer.CONNECT, Timer.PING, Timer.SILENCE, Timer.SEQUENCE_ACK)

    def _fail_requests(self) -> None:
        for settled in self._requests.stop():
            self._settled(settled)
        self._pacing.reset()  # whoever waits for it must not wait any longer

    def _finish(self, error: LimpetError | None) -> None:
        """Stopped: nothing is open and nothing is due."""
        self._let_go()
        self._fail_requests()
        self._requests.clear()
        self._timers.stop(*Timer)
        self._groups.clear()
        if self._connection_id is not None:
            self._events.append(Disconnected(self._connection_id, 1000, "stopped"))
            self._forget_connection()
        self._go(State.STOPPED)
        self._failure = error
        if error is not None and self._stood:
            log.error("the client has stopped: %s", error)  # there is no call that would raise it
        self._events.append(Stopped(error))

    # ---- Requests

    def _settled(self, settled: Settled) -> None:
        request, error = settled.request, settled.error
        kind = request.kind
        if kind is REJOIN:
            if error is not None:
                if error.outcome == "rejected":  # an answer that never came changes nothing
                    self._groups.pop(request.group, None)
                self._events.append(RejoinGroupFailed(request.group, error))
            return
        if request.own:
            self._pacing.answered()
            return
        if kind is not PUBLISH and error is None and not request.overtaken:
            if kind is LEAVE:
                self._groups.pop(request.group, None)
            else:
                self._groups[request.group] = None
        if kind is LEAVE:
            if error is None:
                self._parked.pop(request.group, None)
            else:
                self._unpark(request.group)
                if request.undone and error.name == "Superseded":
                    self._groups[request.group] = None
        elif request.undone and settled.duplicate:
            self._parked[request.group] = None
            self._unpark(request.group)
        self._events.append(Acked(request.key, request.user_data, settled.duplicate, error))

    def check_running(self) -> None:
        """Raise ClientStopped, which says why, while no requests can be made: before the start and from the stop on."""
        if self._state is STOPPED or self._state is STOPPING:
            if self._failure is None:
                hint = "; `async with client:` or `with client:` starts it" if self._state is STOPPED else ""
                raise ClientStopped(f"the client is {self._state.value}{hint}")
            raise ClientStopped(f"the client has stopped: {self._failure}") from self._failure

    def _reserve(self, ack_id: int | None, ack: bool = True, own: bool = False) -> int:
        self.check_running()
        return self._requests.reserve(ack_id, ack, own)

    def _unpark(self, group: str) -> None:
        """A leave has failed, or undone a join: make the rejoin of its group as soon as no leave is pending."""
        if group in self._parked:
            self._timers.set(REQUESTS, self._heard)

    def _submit(self, request: Request, now: float) -> int:
        if request.kind is LEAVE and self._requests.forget_rejoin(request.group):
            self._parked[request.group] = None
        self._hear_from(now)
        for settled in self._requests.add(request):
            self._settled(settled)
        if self._state is CONNECTED:
            self._requests.send(request, now)
        self._schedule_requests()
        return request.key

    @property
    def _deaf(self) -> bool:
        """Whether nothing is read from a connection that stands: the consumer is too slow, and nobody waits."""
        return self._paused and not self._requests.pending and not self._senders

    def _hear_from(self, now: float) -> None:
        """Somebody is about to wait for the service: the silence before that meant nothing."""
        if self._deaf:
            self._heard = now

    # ---- What is due

    def _schedule_requests(self) -> None:
        if self._requests.wake_at < self._timers[REQUESTS]:
            self._timers.set(REQUESTS, self._requests.wake_at)

    def _schedule_sequence_ack(self, now: float) -> None:
        sequence, options = self._sequence, self.options
        if sequence.messages >= options.sequence_ack_messages or sequence.bytes >= options.sequence_ack_bytes:
            self._acknowledge()
        elif self._timers[SEQUENCE_ACK] > now + options.sequence_ack_interval:
            self._timers.set(SEQUENCE_ACK, now + options.sequence_ack_interval)

    def _connect_due(self, now: float) -> None:
        what = "recovery" if self._state is State.RECOVERING else "connection"
        dial = self._dial
        if dial is None or dial.url is None:
            text = "there was no URL in time"
        else:
            there = place(dial.url)
            text = f"{dial.waits_for or there} did not answer in time"
            what += f" to {there}" if dial.waits_for else ""
        self._attempt_failed(ConnectError(f"the {what} timed out: {text}"), now)

    def _window_due(self, now: float) -> None:
        self._lose(NO_CLOSE_FRAME, f"not recovered within {self.options.recovery_timeout:g} s", now)

    def _attempt_due(self, now: float) -> None:
        if self._state is State.RECOVERING:
            self._recover(now)
        else:
            self._connect(now)

    def _ping_due(self, now: float) -> None:
        assert self.options.keepalive_interval
        self._ping()
        self._timers.set(Timer.PING, now + self.options.keepalive_interval)

    def _silence_due(self, now: float) -> None:
        timeout = self.options.keepalive_timeout
        assert timeout
        # What is not read cannot be heard.
        heard = now if self._deaf else self._heard
        if heard + timeout > now:
            self._timers.set(Timer.SILENCE, heard + timeout)
        else:
            self._dropped(NO_CLOSE_FRAME, f"nothing was heard for {timeout:g} s", now)

    def _sequence_ack_due(self, now: float) -> None:
        if self._sequence.messages:
            self._acknowledge()

    def _acknowledge(self) -> None:
        """Tell the service what has arrived. The last one counts: they must not pile up where it reads nothing."""
        if self._control:
            self._control = [message for message in self._control if message is PING]
        self._control.append(sequence_ack(self._sequence.acknowledge()))

    def _ping(self) -> None:
        if PING not in self._control:
            self._control.append(PING)

    def _requests_due(self, now: float) -> None:
        for settled in self._requests.wake(now):
            self._settled(settled)
        if self._parked:
            leaving = self._requests.leaving()
            for group in [group for group in self._parked if group not in leaving]:
                del self._parked[group]
                request = self._rejoin(group, now)
                if self._state is CONNECTED:
                    self._requests.send(request, now)
        self._timers.set(REQUESTS, self._requests.wake_at)

    def _close_due(self, now: float) -> None:
        self._finish(None)

    _ON_TIMER: ClassVar[dict[Timer, Callable[[Machine, float], None]]] = {
        Timer.CONNECT: _connect_due,
        Timer.WINDOW: _window_due,
        Timer.ATTEMPT: _attempt_due,
        Timer.PING: _ping_due,
        Timer.SILENCE: _silence_due,
        Timer.SEQUENCE_ACK: _sequence_ack_due,
        Timer.REQUESTS: _requests_due,
        Timer.CLOSE: _close_due,
    }


def connect_error(what: str, cause: BaseException, secrets: Secrets, status: int | None = None) -> ConnectError:
    """A ConnectError that says what failed and why, and keeps the cause unless that says no more than it does."""
    text = one_line(f"KeyError: {cause}" if isinstance(cause, KeyError) else str(cause), _CAUSE, secrets)
    error = ConnectError(f"{what}: {text or type(cause).__name__}", status=status)
    error.__cause__ = cause.__cause__ if isinstance(cause, ConnectError) else cause
    return error
