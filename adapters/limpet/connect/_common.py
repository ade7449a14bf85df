"""Helpers of all connectors."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Final

from limpet import ConnectError, Dial, InvalidValue, Options, parse_url
from limpet._transports.explain import explain
from limpet._version import __version__
from limpet_core.client.headers import with_defaults as with_defaults
from limpet_core.client.refusals import LONGEST_BODY as LONGEST_BODY
from limpet_core.client.refusals import refused as refused  # raised for a refused handshake
from limpet_core.text import LONGEST_REASON, one_line, reason_of

USER_AGENT: Final = f"limpet/{__version__}"

MAX_MESSAGE_SIZE: Final = Options().max_message_size

CLOSE_TIMEOUT: Final = 0.3
"""Seconds that a peer may take to answer a close, before its connection is dropped."""

NOTHING: Final = logging.CRITICAL + 1
"""The level of a library's logger that is to say nothing: what it would say is the error, or the reason of an end, that
the client tells."""


def exact_url(dial: Dial) -> str:
    """Return the URL in ASCII and quoted, so that no library changes it."""
    assert dial.url is not None
    endpoint = parse_url(dial.url)
    return f"{'wss' if endpoint.secure else 'ws'}://{endpoint.authority}{endpoint.target}"


def check_loop(library: str) -> None:
    """Raise ConnectError unless an asyncio loop runs."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise ConnectError(
            f"limpet.connect.{library} is for asyncio: limpet.asyncio.Client, or limpet.anyio.Client on asyncio"
        ) from None


def failed(error: Exception) -> ConnectError:
    """Return a library's error as a ConnectError in one line."""
    if isinstance(error, OSError):
        return explain(error)
    return ConnectError(one_line(reason_of(error), LONGEST_REASON))


def check_subprotocol(dial: Dial, accepted: str | None) -> None:
    """Raise ConnectError unless the service selected the subprotocol that was offered."""
    if accepted != dial.protocol:
        raise ConnectError(f"the service did not accept the subprotocol {dial.protocol}")


def check_options(options: dict[str, Any], reserved: Iterable[str]) -> None:
    """Raise InvalidValue if ``options`` contains one of ``reserved``, which the client sets."""
    for name in reserved:
        if name in options:
            raise InvalidValue(f"{name} cannot be chosen: it comes from the client")


def cut(sock: socket.socket | None) -> None:
    """Shut down a TCP connection whose transport object is out of reach; that notices, and closes."""
    if sock is not None:
        with suppress(OSError):  # closed already
            sock.shutdown(socket.SHUT_RDWR)
