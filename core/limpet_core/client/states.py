"""The states of a session, and the data from which the documentation draws them."""

from __future__ import annotations

import enum
from typing import Final

import msgspec

from limpet_core.client.headers import Headers
from limpet_core.client.url import Endpoint, parse_url, place
from limpet_core.errors import ConnectError, InvalidValue
from limpet_core.protocol.close import Close
from limpet_core.redaction import HIDDEN, redact_url


class State(enum.Enum):
    """A state of a client, or of a :class:`~limpet.Session`.

    Attributes:
        STOPPED: no transport is open and nothing is due, until ``start()``.
        CONNECTING: a new connection is being made: URL, transport, handshake, first message. Requests wait.
        CONNECTED: the connection is established and messages flow.
        RECOVERING: the transport was lost; the service still keeps the connection. Requests wait.
        WAITING: the connection is gone; the next attempt waits for its backoff. Requests wait.
        STOPPING: the client has sent its close and waits for the service's close.
    """

    STOPPED = "stopped"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    RECOVERING = "recovering"
    WAITING = "waiting"
    STOPPING = "stopping"


# On Python 3.11, the look-up of an enum's member costs as much as a tenth of a message. The members that every message
# or request needs have names of their own: here, and in the same way next to other enums.
CONNECTED: Final = State.CONNECTED
STOPPED: Final = State.STOPPED
STOPPING: Final = State.STOPPING


# Why each transition happens. Lifecycle._go() refuses all others, so this table cannot drift from the code;
# docs/make_diagram.py draws docs/reference/states.md from it.
#
# CONNECTED is left for RECOVERING as long as the service may still keep the connection, and for WAITING only when the
# connection is certainly gone. Requests and sequence ids survive RECOVERING; WAITING settles requests and forgets the
# sequence ids.
TRANSITIONS: Final[dict[tuple[State, State], str]] = {
    (State.STOPPED, State.CONNECTING): "start()",
    (State.CONNECTING, State.CONNECTED): "connected message",
    (State.CONNECTING, State.WAITING): "attempt failed, another follows",
    (State.CONNECTING, State.STOPPED): "first attempt failed, gave up, stop()",
    (State.CONNECTED, State.RECOVERING): "transport lost",
    (State.CONNECTED, State.WAITING): "transport lost, cannot be recovered",
    (State.CONNECTED, State.STOPPED): "lost for good without auto_reconnect",
    (State.CONNECTED, State.STOPPING): "stop()",
    (State.RECOVERING, State.CONNECTED): "the peer showed life",
    (State.RECOVERING, State.WAITING): "close code 1008, 30 s over",
    (State.RECOVERING, State.STOPPED): "stop(), lost for good without auto_reconnect",
    (State.RECOVERING, State.STOPPING): "stop() with an open transport",
    (State.WAITING, State.CONNECTING): "backoff over",
    (State.WAITING, State.STOPPED): "stop(), attempts used up",
    (State.STOPPING, State.STOPPED): "close answered, or close_timeout",
}


class Dial(msgspec.Struct, eq=False):
    """A transport that a session wants, from the attempt to open the transport to its end.

    :attr:`Session.dial` is the one wanted transport. When :attr:`wanted` becomes False, stop opening the transport; if
    it is open, send the close frame of :attr:`close`, if there is one, and drop it.

    Attributes:
        attempt: the number of this attempt since a connection was last established or recovered, from 1.
        protocol: the WebSocket subprotocol to offer.
        recovery: whether this transport is to recover a connection, instead of making a new one.
        url: the URL to connect to. None: ask the application for a Client Access URL, then call
            ``session.url_ready(url, now)``, which fills it in, or ``session.url_failed(error, now)``.
        headers: the application's headers for the handshake, as pairs of name and value, checked; besides the
            WebSocket's own. They may hold credentials, and are not for proxies.
        close: not None: close this transport with that code and reason, behind the messages handed out before.
        waits_for: the peer that is to answer now, for the text of a timeout, if that is not the service but, say, a
            proxy.
        through: the proxy through which the transport is opened, for the text of :meth:`Session.dial_failed`.
        refusal: the error of a handshake that was refused, while the rest of the answer is awaited.
        wanted: whether the session still wants this transport. Once False, it stays False.
    """

    attempt: int
    protocol: str
    recovery: bool
    url: str | None = None
    headers: Headers = ()
    close: Close | None = None
    waits_for: str | None = None
    through: str | None = None
    refusal: ConnectError | None = None
    wanted: bool = True

    @property
    def endpoint(self) -> Endpoint:
        """Where to connect for :attr:`url`. Raises InvalidValue if it is None or no WebSocket URL."""
        if self.url is None:
            raise InvalidValue("the dial has no URL yet: call session.url_ready(url, now) first")
        return parse_url(self.url)

    @property
    def place(self) -> str:
        """Where to connect, for people: host and port, without the secrets of the URL."""
        return "no URL yet" if self.url is None else place(self.url)

    def __repr__(self) -> str:
        headers = tuple((name, HIDDEN) for name, _ in self.headers)
        shown = msgspec.structs.replace(self, url=self.url and redact_url(self.url), headers=headers)
        return msgspec.Struct.__repr__(shown)
