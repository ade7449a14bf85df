"""How the service closes connections: the codes, and the texts for the client and for the event handler.

The sentences are those of the cloud (emulator), so that what reads them meets them here, too. A hint may follow.
"""

from __future__ import annotations

from typing import Final

from limpet_core.protocol.close import NO_CLOSE_FRAME, Close
from limpet_core.text import one_line

# ---- The end of a connection

TOO_SLOW: Final = Close(1008, "The outbound message queue is full. Make a new connection.")
"""The messages for the client are written too slowly."""

UNACKNOWLEDGED: Final = Close(1008, "The reliable message buffer is full. Make a new connection.")
"""The client acknowledges too few messages (client-spec 3.2.2)."""

OVERRUN: Final = Close(1008, "Too many messages wait for the event handler. Make a new connection.")

RAW_FAILURE: Final = Close(1011, "Internal server error")
"""The event of a raw client failed: there is no other answer."""

SHUT_DOWN: Final = Close(1001, "The service is shutting down.")

FORGOTTEN: Final = Close(1008, "The service has lost messages. Make a new connection.")
"""The log of a cluster no longer has what the client was told."""

FAILED: Final = Close(1011, "Internal server error. Make a new connection.")
"""A command of the client has failed by a fault of the service, which may have carried out half of it: nobody can say
whether to repeat it."""

DROPPED: Final = Close(NO_CLOSE_FRAME, "Dropped.")

# ---- The end of a transport alone

REFUSED: Final = Close(1008, "The connection could not be recovered.")

REPLACED: Final = Close(NO_CLOSE_FRAME, "Replaced by a newer transport.")

NODE_GONE: Final = Close(1001, "This node of the service is going away. Come back to another one.")
"""The connection goes on: a client recovers it at another node of the cluster."""

# ---- What an event handler learns of a connection that the client or the network ended

ENDED: Final = "The connection ended."
"""There was no close frame, or one that says nothing."""

EXPIRED: Final = Close(NO_CLOSE_FRAME, "The connection recovery timeout expired.")

CLIENT_CLOSED: Final = "The client closed the connection."
"""For the trace, where the client gave no reason."""

_CLOSED_BY_APPLICATION: Final = "Application server closed the connection."

# The protobuf subprotocols have one name in these texts; the JSON ones are called JSON.
_PROTOBUF: Final = "protobuf.webpubsub.azure.v1"


def by_application(reason: str) -> str:
    """Return the text of a close that the application server asked for; ``reason`` may be empty."""
    readable = reason.encode("utf-8", "replace").decode()
    return f"{_CLOSED_BY_APPLICATION} Reason: {readable}" if reason else _CLOSED_BY_APPLICATION


def not_authorized(hint: str) -> Close:
    """Return the close for a message of a raw client to a group that it must not send to."""
    return _with_hint(1008, "The connection is not authorized for raw sendToGroup mode.", hint)


def too_large(most: int) -> Close:
    """Return the close for a message with more bytes than ``most``."""
    return _with_hint(1009, "The client message is too large.", f"it may have {most} bytes")


def wrong_frame() -> Close:
    """Return the close for a text frame where protobuf belongs."""
    return Close(1003, f"The {_PROTOBUF} subprotocol requires binary messages.")


def not_valid(hint: str, *, binary: bool, raw: bool) -> Close:
    """Return the close for a message that breaks the protocol of its client; ``hint`` says how."""
    if raw:
        return _with_hint(1007, "The client message is not valid.", hint)
    name = _PROTOBUF if binary else "JSON"
    return _with_hint(1007, f"The client message is not a valid {name} protocol message.", hint)


def broken_frame(code: int) -> str:
    """Return why a connection ended whose WebSocket the driver closed with ``code``."""
    return "The client message is too large." if code == 1009 else "The client frame is invalid."


def _with_hint(code: int, sentence: str, hint: str) -> Close:
    # The hint may quote the client.
    shown = one_line(hint)
    return Close(code, f"{sentence} {shown[:1].upper()}{shown[1:].rstrip('.')}.")
