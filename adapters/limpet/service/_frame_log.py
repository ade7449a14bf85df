"""The log ``limpet.service.frames``: every message of every client, at level DEBUG and without tokens."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final

from limpet_core.protocol.codec import codec_for
from limpet_core.protocol.names import SUBPROTOCOLS
from limpet_core.service import Transport
from limpet_core.text import one_line

_LONGEST: Final = 1000

_LOGGER: Final = logging.getLogger("limpet.service.frames")


def frame_log() -> FrameLog | None:
    """Return the log if it is written; asked once for a service, so that no message costs a question."""
    return FrameLog() if _LOGGER.isEnabledFor(logging.DEBUG) else None


class FrameLog:
    """Writes messages with the connection id of their client: ``<`` was received from it, ``>`` is sent to it."""

    def received(self, transport: Transport, message: str | bytes) -> None:
        self._write(transport, "<", message)

    def sent(self, transport: Transport, messages: Iterable[bytes]) -> None:
        for message in messages:
            self._write(transport, ">", message)

    def _write(self, transport: Transport, direction: str, message: str | bytes) -> None:
        connection = transport.connection
        subprotocol = None if connection is None else connection.subprotocol
        who = "a refused recovery" if connection is None else connection.connection_id
        shown = one_line(_text(message, subprotocol, from_client=direction == "<"), _LONGEST)
        _LOGGER.debug("%s %s %s", who, direction, shown)


def _text(message: str | bytes, subprotocol: str | None, *, from_client: bool) -> str:
    if isinstance(message, str):
        return message
    if subprotocol in SUBPROTOCOLS:
        return codec_for(subprotocol).show(message, received=not from_client)
    try:
        return message.decode()
    except UnicodeDecodeError:
        return f"{len(message)} bytes"
