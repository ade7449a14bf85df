"""Listening on TCP, with or without TLS, also while the process is out of file descriptors.

``loop.create_server`` does not do: out of file descriptors it calls the loop's exception handler as many times as its
backlog is long, each second (CPython 3.11 to 3.13); a peer that keeps still in its TLS handshake cannot be dropped
before the time-out; and its ``close()`` loses a connection that was accepted one turn of the event loop before.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from limpet.service._descriptors import file_limit
from limpet.service._ports import in_use
from limpet_core.text import one_line

# Connections in the queue of the system, before they are accepted.
_BACKLOG = 2048

# Connections accepted before it is the other tasks' turn.
_ACCEPTS_PER_TURN = 64

# Seconds without an attempt to accept after one that failed.
_PAUSE = 1.0

# Seconds without a failure after which the next one is worth another line in the log.
_QUIET = 60.0

# Seconds in which a peer may answer the end of TLS.
_TLS_SHUTDOWN_TIMEOUT = 5.0

# Attempts to find one free port on all addresses of a name.
_ATTEMPTS = 10

# Errors of an address that this machine lacks, such as ::1 of ``localhost`` where IPv6 is switched off.
_LACKING = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)

_LOGGER = logging.getLogger("limpet.service")


class Listener:
    """A TCP port that gives each connection a protocol, in the current event loop.

    Args:
        make_protocol: called for each connection.
        tls: the certificate; ``None``: TCP without TLS.
        handshake_timeout: seconds for the handshake of TLS; ``None``: the default of asyncio.
    """

    def __init__(
        self,
        make_protocol: Callable[[], asyncio.Protocol],
        *,
        tls: ssl.SSLContext | None = None,
        handshake_timeout: float | None = None,
    ) -> None:
        self._make_protocol = make_protocol
        self._tls = tls
        self._handshake_timeout = handshake_timeout
        self._sockets: list[socket.socket] = []
        self._accepting: list[asyncio.Task[None]] = []
        self._opening: set[asyncio.Task[None]] = set()
        self._closing = False
        self._failed_at = -_QUIET

    async def open(self, host: str, port: int) -> int:
        """Listen, at all addresses of ``host`` that this machine has; return the port.

        Raises:
            OSError: if the port is taken or the address is not one of this machine.
        """
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        families = {address[:2]: family for family, _, _, _, address in found}
        self._sockets = _bind([(family, str(name)) for (name, _), family in families.items()], host, port)
        self._closing = False
        self._accepting = [loop.create_task(self._accept(one)) for one in self._sockets]
        return int(self._sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening. Connections in a TLS handshake are dropped; others have their protocol when this returns."""
        loop = asyncio.get_running_loop()
        self._closing = True
        with suppress(NotImplementedError):  # event loops of Windows have no readers
            for one in self._sockets:
                loop.remove_reader(one.fileno())
        # What was accepted already arrives at its task, which begins: cancelling before would leave a socket open.
        for _ in range(5):
            await asyncio.sleep(0)
        tasks = [*self._accepting, *self._opening]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for one in self._sockets:
            one.close()
        self._sockets, self._accepting = [], []

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            for _ in range(_ACCEPTS_PER_TURN):
                if self._closing:
                    return
                try:
                    connection, _ = await loop.sock_accept(listening)
                except ConnectionAbortedError:
                    continue  # the peer has left the queue
                except OSError as error:
                    self._report(error)
                    await asyncio.sleep(_PAUSE)
                    continue
                task = loop.create_task(self._open(connection))
                self._opening.add(task)
                task.add_done_callback(self._opening.discard)
            await asyncio.sleep(0)

    async def _open(self, connection: socket.socket) -> None:
        tls = self._tls is not None
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                self._make_protocol,
                connection,
                ssl=self._tls,
                ssl_handshake_timeout=self._handshake_timeout if tls else None,
                ssl_shutdown_timeout=_TLS_SHUTDOWN_TIMEOUT if tls else None,
            )
        except OSError as error:
            _LOGGER.debug("a client failed in its TLS handshake: %s", one_line(str(error)))

    def _report(self, error: OSError) -> None:
        """Log that no client can be accepted, in one line as long as it lasts."""
        now = time.monotonic()
        if now - self._failed_at >= _QUIET:
            reason = error.strerror or str(error)
            if error.errno == errno.EMFILE:
                limit = file_limit()
                of_this_process = "" if limit is None else f" (this process may have {limit} open at a time)"
                reason = f"out of file descriptors{of_this_process}"
            _LOGGER.warning(
                "no new client can be accepted: %s. New clients wait until others leave; connected clients are not "
                "affected. Raise the limit (ulimit -n), or let fewer clients in (max_connections).",
                reason,
            )
        self._failed_at = now


def _bind(addresses: Sequence[tuple[int, str]], host: str, port: int) -> list[socket.socket]:
    """Return sockets that listen at one port of all addresses that this machine has; port 0 is a free one."""
    for attempt in range(_ATTEMPTS):
        sockets: list[socket.socket] = []
        chosen = port
        lacking: OSError | None = None
        try:
            for family, address in addresses:
                try:
                    one = socket.create_server((address, chosen), family=family, backlog=_BACKLOG)
                except OSError as error:
                    if error.errno not in _LACKING:
                        raise
                    lacking = error
                    continue
                one.setblocking(False)
                sockets.append(one)
                chosen = int(one.getsockname()[1])
            if lacking is not None and not sockets:
                raise lacking
        except OSError as error:
            for one in sockets:
                one.close()
            if error.errno != errno.EADDRINUSE:
                raise
            if port == 0 and attempt < _ATTEMPTS - 1:
                continue  # the free port of one address is taken at another
            raise in_use(host, port) from error
        else:
            return sockets
    raise AssertionError("the last attempt returns or raises")
