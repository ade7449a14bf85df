"""Recovery: a connection whose transport is lost is taken up again on another one, while the service keeps it."""

from __future__ import annotations

from limpet_core.client.attempts import Attempts
from limpet_core.client.connection import Connection
from limpet_core.client.events import Event, Recovering
from limpet_core.client.headers import Headers
from limpet_core.client.log_lines import LogLines
from limpet_core.client.options import Options
from limpet_core.client.outages import Outages
from limpet_core.client.states import Dial
from limpet_core.client.timers import Timer, Timers
from limpet_core.client.url import recovery_url
from limpet_core.errors import ConnectError
from limpet_core.protocol.close import describe_close
from limpet_core.text import one_line


class Recovery:
    """The rules for recovering a connection: whether, until when, how often; and what is noted and told of it.

    :class:`Lifecycle` changes the state and the transports by them. Nothing is kept here: a session makes these rules
    anew for each step of a recovery.

    The service keeps a connection for 30 s after its transport is lost (client-spec 1.4). A recovery is a handshake
    with the connection id and the reconnection token in its URL. It ends with the first sign of life of the peer on the
    new transport; with another connection, which the service makes in place of one that it has forgotten; or with the
    window (``recovery_timeout``), after which a new connection is made.

    Args:
        options: of the client.
        headers: of the handshakes.
        attempts: numbers and times of attempts, shared with those that make new connections.
        outages: what is told of the time without a transport.
        timers: of the session.
        events: takes what is to be told to the application.
        lines: takes what is to be logged.
    """

    __slots__ = ("_attempts", "_events", "_headers", "_log", "_options", "_outages", "_timers")

    def __init__(
        self,
        options: Options,
        headers: Headers,
        attempts: Attempts,
        outages: Outages,
        timers: Timers,
        events: list[Event],
        lines: LogLines,
    ) -> None:
        self._options = options
        self._headers = headers
        self._attempts = attempts
        self._outages = outages
        self._timers = timers
        self._events = events
        self._log = lines

    def is_possible(self, connection: Connection, code: int, *, dismissed: bool) -> bool:
        """Return whether the service may have kept a connection whose transport ended with the close code ``code``.

        Args:
            connection: the connection.
            code: 1008: the service has ended the connection. 1000: it has if it said so before.
            dismissed: whether the service has said so, by a ``disconnected`` message.
        """
        ended = code == 1008 or (code == 1000 and dismissed)
        return not ended and self._options.reliable and bool(connection.token)

    def begin(self, connection: Connection, code: int, reason: str, now: float) -> None:
        """Open the window: the transport was lost with ``code`` and ``reason``."""
        why = describe_close(code, reason)
        self._outages.begin(now, connection.id, why)
        self._log.info("recovering %s: %s", one_line(connection.id), why)
        self._timers.set(Timer.WINDOW, now + self._options.recovery_timeout)
        self._events.append(Recovering(connection.id, code, reason))

    def next_attempt(self, now: float, *, progress: bool, failed: ConnectError | None) -> float:
        """Return the time of the next attempt, in seconds.

        Args:
            now: the time.
            progress: see :meth:`Attempts.next_recovery`.
            failed: why the attempt before has failed; None: there was none.
        """
        at = self._attempts.next_recovery(now, progress=progress)
        if failed is not None:
            self._outages.attempt_failed(failed, at, now)
        return at

    def attempt(self, connection: Connection, url: str, now: float) -> Dial:
        """Begin an attempt with a Client Access URL, and return its dial."""
        recovering = recovery_url(url, connection.id, connection.token)
        number = self._attempts.recovery_began(now)
        # Several attempts must fit into the window even if one of them hangs.
        limit = min(self._options.connect_timeout, self._options.recovery_timeout / 3)
        self._timers.set(Timer.CONNECT, now + limit)
        return Dial(number, self._options.protocol, recovery=True, url=recovering, headers=self._headers)

    def succeeded(self, connection: Connection, now: float) -> None:
        """Note that the peer has shown life on the new transport."""
        self._attempts.recovered(now)
        self._outages.end(connection, now, recovered=True)
