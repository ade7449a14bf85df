"""The threads that open transports: URL, name look-up, connecting and handshakes, which may block."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import Protocol, TypeAlias

from limpet import Dial, State
from limpet._transports.dial_blocking import dial as dial_tcp
from limpet._transports.messages import MessageConnection
from limpet._transports.pipeline import Pipeline
from limpet._transports.route import Route
from limpet.sync._messages import MessageOwner, MessageThreads
from limpet.sync._tcp import TcpConnection
from limpet.sync._waits import wait

Transport: TypeAlias = TcpConnection | MessageThreads

_OPENING = (State.CONNECTING, State.RECOVERING)
"""The states of a session whose transport is being opened, or has not shown yet that it works."""

_OPENING_INTERVAL = 0.1
"""Seconds between two looks whether a transport is still wanted, in the thread that opens it."""


class DialOwner(MessageOwner, Protocol):
    """The driver, whose methods are called with its lock held.

    Attributes:
        alive: whether a start has acquired resources that are not released yet.
    """

    alive: bool

    def now(self) -> float:
        """Return the session's time."""
        ...

    def adopt(self, transport: Transport) -> None:
        """Have a transport, which is being opened."""
        ...

    def has(self, transport: Transport) -> bool:
        """Return whether the driver has this transport, and has not given it up."""
        ...

    def request_turn(self) -> None:
        """Wake the driver's thread, if it sleeps."""
        ...


class Dialer:
    """Opens the transports of a driver, each in a thread of its own.

    Args:
        route: the way to the service.
        owner: the driver.
    """

    __slots__ = ("_first_dial", "_owner", "_prepared", "_route")

    def __init__(self, route: Route, owner: DialOwner) -> None:
        self._route = route
        self._owner = owner
        self._prepared = False  # a thread waits for the first dial
        self._first_dial: Dial | None = None

    # ---- For the driver's thread (lock held)

    def prepare(self) -> None:
        """Have a thread wait for the lock, and then for the first dial; without one the driver's thread dials later."""
        self._prepared = False
        with suppress(RuntimeError):
            self._owner.worker.spawn("limpet-dial", self._open_first)
            self._prepared = True

    def takes(self, dial: Dial | None) -> bool:
        """Return whether a thread waits for the first dial of a start; it opens the transport for ``dial``."""
        if self._prepared:
            self._first_dial = dial
        return self._prepared

    def dial(self, dial: Dial) -> None:
        """Open the transport for ``dial``.

        Raises:
            RuntimeError: the system has no threads left.
        """
        self._owner.worker.spawn("limpet-dial", self._open, dial)

    # ---- The threads

    def _open_first(self) -> None:
        """Open the transport for the first dial of a start, if there is one."""
        with self._owner.worker.lock:
            dial, self._first_dial, self._prepared = self._first_dial, None, False
        if dial is not None:
            self._open(dial)

    def _open(self, dial: Dial) -> None:
        """Open the transport for ``dial``; in a thread of its own."""
        owner, route = self._owner, self._route
        if dial.url is None and dial.wanted:
            answer = route.ask_blocking()
            with owner.worker.lock:
                route.tell(owner.session, dial, answer, owner.now())
        with owner.worker.lock:
            if not dial.wanted or dial.url is None:
                owner.request_turn()
                return
            if (open_messages := route.blocking_connect) is None:
                opening = partial(self._open_tcp, dial, route.pipeline(owner.session, dial))
            else:
                threads = MessageThreads(MessageConnection(owner.session, dial, owner.now), owner)
                owner.adopt(threads)
                opening = partial(threads.run, open_messages)
        opening()

    def _open_tcp(self, dial: Dial, pipeline: Pipeline) -> None:
        owner = self._owner
        try:
            sock = dial_tcp(*pipeline.address(), lambda: dial.wanted)
        except Exception as error:  # noqa: BLE001 - a look-up or socket of the application's may raise anything
            with owner.worker.lock:
                pipeline.failed(error, owner.now())
                owner.request_turn()
            return
        with owner.worker.lock:
            if not (dial.wanted and owner.alive):
                sock.close()
                return
            transport = TcpConnection(pipeline, sock)
            owner.adopt(transport)
        while (fd := self._open_further(dial, transport)) >= 0:
            # If the driver's thread closes the socket now, its number may soon be that of another file. To wait for
            # that is harmless: what comes of it is a look.
            _, ready = wait(_OPENING_INTERVAL, -1, fd, transport.events())
            with owner.worker.lock:
                if ready and owner.has(transport):
                    transport.receive()

    def _open_further(self, dial: Dial, transport: TcpConnection) -> int:
        """Drive a transport until the session is connected; return the socket to wait for, -1 at the end.

        Handshakes go deeper than all that comes later, and what a stack was once used for stays in memory as long as
        its thread: 4 KiB of an idle client, and more with TLS.
        """
        owner = self._owner
        with owner.worker.lock:
            if owner.has(transport) and dial.wanted and owner.session.state in _OPENING:
                owner.drain()
                return transport.fileno()
            transport.opening = False
            owner.request_turn()
            return -1
