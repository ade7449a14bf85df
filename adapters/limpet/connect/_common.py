"""What the ready-made connectors have in common."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Final

from limpet import ConnectError, Dial, InvalidValue, Options, parse_url
from limpet._transports.explain import explain
from limpet._version import __version__
from limpet_core.errors import refused as refused  # what each of them raises for a refused handshake
from limpet_core.text import LONGEST_REASON, one_line

USER_AGENT: Final = f"limpet/{__version__}"

MAX_MESSAGE_SIZE: Final = Options().max_message_size

FAREWELL: Final = 0.5
"""Seconds that a peer may take to answer our close, before its connection is dropped without an answer."""

BODY: Final = 4096
"""Bytes of the answer to a refused handshake that are worth reading."""


def exact_url(dial: Dial) -> str:
    """Where to connect, in ASCII and quoted, so that there is nothing left for a library to change."""
    assert dial.url is not None
    endpoint = parse_url(dial.url)
    return f"{'wss' if endpoint.secure else 'ws'}://{endpoint.authority}{endpoint.target}"


def check_loop(library: str) -> None:
    """Raise ConnectError unless asyncio runs here."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise ConnectError(
            f"limpet.connect.{library} is for asyncio: limpet.asyncio.Client, or limpet.anyio.Client on asyncio"
        ) from None


def failed(error: Exception) -> ConnectError:
    """``error`` of a library, without what looks like a token; the session hides those that it knows."""
    if isinstance(error, OSError):
        return explain(error)
    return ConnectError(one_line(str(error), LONGEST_REASON) or type(error).__name__)


def check_subprotocol(dial: Dial, accepted: str | None) -> None:
    """Raise ConnectError unless the service selected the subprotocol that was offered."""
    if accepted != dial.protocol:
        raise ConnectError(f"the service did not accept the subprotocol {dial.protocol}")


def check_options(options: dict[str, Any], ours: Iterable[str]) -> None:
    """Raise InvalidValue if ``options`` has what only we can know."""
    for name in ours:
        if name in options:
            raise InvalidValue(f"{name} cannot be chosen: it comes from the client")


def cut(sock: socket.socket | None) -> None:
    """End a TCP connection whose transport is out of reach; the transport notices and closes."""
    if sock is not None:
        with suppress(OSError):  # it is gone already
            sock.shutdown(socket.SHUT_RDWR)
