"""A TCP proxy that does to connections what networks do: cut, stall, delay, split, refuse."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import sys
from collections import deque
from types import TracebackType
from typing import Literal, cast

from limpet.service._listening import Listener

Direction = Literal["to_client", "to_service"]
"""Which way bytes go."""

_DIRECTIONS: tuple[Direction, Direction] = ("to_client", "to_service")
_NO_LINGER = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
_QUEUE_LIMIT = 1 << 18  # bytes held back by a delay before the sender is held up, too


class ChaosProxy:
    """Stands in front of ``host``:``port`` and disturbs what passes: ``async with ChaosProxy(host, port) as proxy:``.

    Attributes:
        connections: how many were accepted and not refused.
        refused: how many were refused.
        cuts: how many were cut by this proxy.
        delay: seconds that bytes are held back, in both directions; their order stays.
        segment: pass bytes on in pieces of at most this size, one for each turn of the event loop; None: as they come.
    """

    def __init__(self, host: str, port: int) -> None:
        self.connections: int = 0
        self.refused: int = 0
        self.cuts: int = 0
        self.delay: float = 0.0
        self.segment: int | None = None
        self._target = host, port
        self._port: int | None = None
        self._listener: Listener | None = None
        self._ends: set[_End] = set()  # all TCP connections that are not closed yet
        self._dialling: set[asyncio.Task[None]] = set()
        self._stalled: set[Direction] = set()
        self._refusing = False
        self._accept_timer: asyncio.TimerHandle | None = None
        self._cut_after: dict[Direction, tuple[int, bool]] = {}
        self._changed: asyncio.Future[None] | None = None

    @property
    def port(self) -> int:
        """The loopback port it listens on; RuntimeError before the first start."""
        if self._port is None:
            raise RuntimeError("the proxy was not started yet")
        return self._port

    # ---- Life

    async def start(self) -> None:
        """Listen on a free port of 127.0.0.1. Raises RuntimeError if it does so already."""
        if self._listener is not None:
            raise RuntimeError("the proxy is running already")
        self._listener = Listener(lambda: _End(self, "to_service"))
        self._port = await self._listener.open("127.0.0.1", 0)

    async def stop(self) -> None:
        """Cut what is open and stop listening; nothing is left behind. Repeats do nothing."""
        listener, self._listener = self._listener, None
        if listener is None:
            return
        await listener.close()
        self.accept()
        tasks = tuple(self._dialling)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        while self._ends:
            for end in tuple(self._ends):
                end.cut(reset=True)
            self._changed = asyncio.get_running_loop().create_future()
            await self._changed

    async def __aenter__(self) -> ChaosProxy:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    # ---- What to do to connections

    def cut(self, *, reset: bool = True) -> int:
        """Cut every connection, both of its sides, and return how many there were.

        Args:
            reset: with RST, bytes on the way are lost; otherwise with FIN, after what was read already.
        """
        cut = sum(end.cut_pair(reset) for end in tuple(self._ends) if end.direction == "to_service")
        self.cuts += cut
        return cut

    def cut_after(self, n_bytes: int, direction: Direction = "to_client", *, reset: bool = True) -> None:
        """Let ``n_bytes`` (at least 0) more pass in ``direction``, then cut the connection that carries the next one.

        To the client: what the client asked for is done, but the answer does not arrive. Bytes of all connections
        count together. One order for each direction; a new one replaces it.
        """
        if n_bytes < 0:
            raise ValueError(f"n_bytes must be at least 0, not {n_bytes}")
        self._cut_after[direction] = n_bytes, reset

    def stall(self, direction: Direction | None = None) -> None:
        """Pass nothing on any more in ``direction`` (None: both), on new connections neither: a black hole."""
        self._stalled.update(_DIRECTIONS if direction is None else (direction,))
        self._refresh()

    def resume(self) -> None:
        """Undo :meth:`stall`: what was held up goes on its way."""
        self._stalled.clear()
        self._refresh()

    def refuse(self, seconds: float | None = None) -> None:
        """Reset every new connection at once, for ``seconds`` (None: until :meth:`accept`)."""
        self.accept()
        self._refusing = True
        if seconds is not None:
            self._accept_timer = asyncio.get_running_loop().call_later(seconds, self.accept)

    def accept(self) -> None:
        """Undo :meth:`refuse`."""
        self._refusing = False
        if self._accept_timer is not None:
            self._accept_timer.cancel()
            self._accept_timer = None

    def heal(self) -> None:
        """Undo :meth:`stall`, :meth:`refuse`, orders to cut that wait, ``delay`` and ``segment``."""
        self._cut_after.clear()
        self.delay, self.segment = 0.0, None
        self.resume()
        self.accept()

    async def disturb(self, chance: random.Random, shortest: float = 0.02, longest: float = 0.1) -> None:
        """Cut in every way there is, ``shortest`` to ``longest`` seconds apart, until cancelled.

        The same seed of ``chance`` gives the same schedule.
        """
        try:
            while True:
                await asyncio.sleep(chance.uniform(shortest, longest))
                match chance.randrange(6):
                    case 0 | 1 as reset:
                        self.cut(reset=bool(reset))
                    case 2 | 3 as way:
                        self.cut_after(chance.randrange(600), _DIRECTIONS[way - 2])
                    case 4:
                        self.cut()
                        self.refuse(chance.uniform(0, shortest))
                    case _:
                        self.stall(chance.choice((None, *_DIRECTIONS)))
                        await asyncio.sleep(chance.uniform(0, shortest))
                        self.cut()
                        self.resume()
        finally:
            self.heal()

    # ---- Called by the ends

    def accepted(self, end: _End) -> None:
        """A client is here: connect it with the service, or do not."""
        if self._refusing or self._listener is None:
            self.refused += 1
            end.cut(reset=True)
            return
        self.connections += 1
        task = asyncio.get_running_loop().create_task(self._dial(end))
        self._dialling.add(task)
        task.add_done_callback(self._dialling.discard)

    async def _dial(self, client: _End) -> None:
        try:
            await asyncio.get_running_loop().create_connection(lambda: _End(self, "to_client", client), *self._target)
        except OSError:
            client.cut(reset=True)

    def track(self, end: _End, is_open: bool) -> None:
        """A TCP connection was opened or closed."""
        if is_open:
            self._ends.add(end)
            return
        self._ends.discard(end)
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    def is_stalled(self, direction: Direction) -> bool:
        """Return whether nothing may pass in ``direction``."""
        return direction in self._stalled

    def allowance(self, direction: Direction, size: int) -> tuple[int, bool | None]:
        """How many of ``size`` bytes may pass, and whether to cut then: None, or with RST or not."""
        n_bytes, reset = self._cut_after.get(direction, (size + 1, True))
        if n_bytes >= size:
            if direction in self._cut_after:
                self._cut_after[direction] = n_bytes - size, reset
            return size, None
        del self._cut_after[direction]
        self.cuts += 1
        return n_bytes, reset

    def _refresh(self) -> None:
        for end in tuple(self._ends):
            end.refresh()


class _End(asyncio.Protocol):
    """One TCP connection; what it reads goes in ``direction``, to the other end of its pair."""

    def __init__(self, proxy: ChaosProxy, direction: Direction, other: _End | None = None) -> None:
        self.direction: Direction = direction
        self._proxy = proxy
        self._other = other
        self._transport: asyncio.Transport | None = None
        self._reading = True
        self._writable = True
        self._held: deque[tuple[float, bytes]] = deque()  # when to pass on what
        self._held_size = 0
        self._timer: asyncio.Handle | None = None
        self._ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._proxy.track(self, True)
        if self._other is None:
            self.refresh()
            self._proxy.accepted(self)
        elif self._other._ended:  # the client has gone in the meantime
            self.cut(reset=True)
        else:
            self._other._other = self
            self.refresh()
            self._other.refresh()

    def data_received(self, data: bytes) -> None:
        proxy = self._proxy
        if not proxy.delay and not proxy.segment and not self._held:
            self._pass_on(data)
            return
        due = asyncio.get_running_loop().time() + proxy.delay
        step = proxy.segment or len(data)
        self._held.extend((due, data[start : start + step]) for start in range(0, len(data), step))
        self._held_size += len(data)
        self._schedule()
        self.refresh()

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = True
        self._proxy.track(self, False)
        if exc is not None or not self._held:
            self._drop_held()
            if self._other is not None:
                self._other.cut(reset=exc is not None)

    def pause_writing(self) -> None:
        self._writable = False
        if self._other is not None:
            self._other.refresh()

    def resume_writing(self) -> None:
        self._writable = True
        if self._other is not None:
            self._other.refresh()

    def refresh(self) -> None:
        """Read, or do not, as things are now."""
        other, transport = self._other, self._transport
        free = other is not None and other._writable and self._held_size < _QUEUE_LIMIT
        wanted = free and not self._proxy.is_stalled(self.direction)
        if transport is not None and wanted is not self._reading and not transport.is_closing():
            self._reading = wanted
            if wanted:
                transport.resume_reading()
            else:
                transport.pause_reading()
        if self._held:
            self._schedule()

    def cut(self, reset: bool) -> None:
        """Close this TCP connection: with RST at once, or with FIN after what waits to be written."""
        self._drop_held()
        self._ended = True
        if self._transport is None:
            return
        if not reset:
            self._transport.close()
            return
        if not self._transport.is_closing():
            sock = cast(socket.socket, self._transport.get_extra_info("socket"))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self._transport.abort()

    def cut_pair(self, reset: bool) -> bool:
        """Cut both connections of the pair; return whether this one was open."""
        was_open = not self._ended
        if self._other is not None:
            self._other.cut(reset)
        self.cut(reset)
        return was_open

    def _pass_on(self, data: bytes) -> None:
        size, reset = self._proxy.allowance(self.direction, len(data))
        if size and self._other is not None and self._other._transport is not None and not self._other._ended:
            self._other._transport.write(data[:size])
        if reset is not None:
            self.cut_pair(reset)

    def _schedule(self) -> None:
        if self._timer is None and self._held and not self._proxy.is_stalled(self.direction):
            self._timer = asyncio.get_running_loop().call_at(self._held[0][0], self._pass_held)

    def _pass_held(self) -> None:
        self._timer = None
        if self._proxy.is_stalled(self.direction):
            return
        _, data = self._held.popleft()
        self._held_size -= len(data)
        self._pass_on(data)
        if self._held:
            self._schedule()
        elif self._ended and self._other is not None:
            self._other.cut(reset=False)
        self.refresh()

    def _drop_held(self) -> None:
        self._held.clear()
        self._held_size = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
