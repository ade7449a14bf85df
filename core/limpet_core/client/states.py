"""The states of a session, and the data from which the documentation draws them."""

from __future__ import annotations

import enum
from typing import Final

import msgspec

from limpet_core.protocol.close import Close
from limpet_core.redaction import redact_url


class State(enum.Enum):
    """Where a client, or a :class:`~limpet.Session`, is in its life.

    Attributes:
        STOPPED: nothing is open and nothing is due. ``start()`` leads out.
        CONNECTING: a new connection is being made: URL, transport, handshake, first message. Requests wait.
        CONNECTED: messages flow.
        RECOVERING: the transport was lost; the service still keeps the connection, and requests wait.
        WAITING: the connection is gone; the next attempt waits for its backoff, and requests wait for that.
        STOPPING: our close was sent; the service's answer is awaited.
    """

    STOPPED = "stopped"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    RECOVERING = "recovering"
    WAITING = "waiting"
    STOPPING = "stopping"


# On Python 3.11, to look up a member of an enum costs as much as a tenth of a message. The members that every message
# or request needs have names of their own: here, and in the same way next to other enums.
CONNECTED: Final = State.CONNECTED
STOPPED: Final = State.STOPPED
STOPPING: Final = State.STOPPING


# Why each transition happens. Session._go() refuses any other, so this table cannot drift from the code;
# docs/make_diagram.py draws docs/states.md from it.
#
# The one thing to know: CONNECTED is left for RECOVERING as long as the connection id may still be alive on
# the service, and for WAITING only when it is certainly gone. Requests and sequence ids survive the first
# and are settled by the second.
TRANSITIONS: Final[dict[tuple[State, State], str]] = {
    (State.STOPPED, State.CONNECTING): "start()",
    (State.CONNECTING, State.CONNECTED): "connected message",
    (State.CONNECTING, State.WAITING): "attempt failed, not the first",
    (State.CONNECTING, State.STOPPED): "first attempt failed, gave up, stop()",
    (State.CONNECTING, State.STOPPING): "stop() with an open transport",
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
    """A transport that a session wants, from the attempt to open it to its end.

    The session's :attr:`Session.dial` is the one wanted transport. As soon as ``session.dial`` is another object or
    None, this one is no longer :attr:`wanted`: give up opening it, or send the close that :attr:`close` asks for, if
    any, and drop it.

    Attributes:
        wanted: whether the session still wants this transport; it never does again once it does not.
        attempt: the number of this attempt since things last went well, from 1.
        protocol: the WebSocket subprotocol to offer.
        recovery: whether this recovers a connection instead of making a new one.
        url: where to connect. None: ask the application for a Client Access URL, then call
            ``session.url_ready(url, now)``, which fills it in, or ``session.url_failed(error, now)``.
        close: set: close this transport with that code; messages handed out before go first.
        waits_for: who is to answer now, for the text of a timeout, where that is not the service but, say, a proxy.
    """

    attempt: int
    protocol: str
    recovery: bool
    url: str | None = None
    close: Close | None = None
    waits_for: str | None = None
    wanted: bool = True

    def __repr__(self) -> str:
        shown = msgspec.structs.replace(self, url=self.url and redact_url(self.url))
        return msgspec.Struct.__repr__(shown)
