"""A network in memory under a virtual clock: lines between clients and the service, and their faults."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Literal, Protocol
from urllib.parse import parse_qs, urlsplit

from limpet import Close, ConnectError, Dial, Session
from limpet_core.service import NO_CLOSE_FRAME, ClientGrant, ServiceCore, Transport

Direction = Literal["to_client", "to_service"]


class Party(Protocol):
    """A session with its driver."""

    @property
    def session(self) -> Session:
        """The session."""
        ...

    def exchange(self) -> bool:
        """Do what the session wants done; return whether there was anything."""
        ...


class Line:
    """One transport, with what is on its way in both directions.

    Attributes:
        transport: the service's end.
        arrived: what has arrived at the client; :class:`Close` is the last.
        over: nothing more will arrive at either end.
        on_arrival: called when something has arrived at the client.
    """

    def __init__(self, network: VirtualNetwork, transport: Transport) -> None:
        self.transport: Transport = transport
        self.arrived: deque[bytes | Close] = deque()
        self.over: bool = False
        self.on_arrival: Callable[[], None] = lambda: None
        self._network = network
        self._on_the_way: deque[str | bytes | Close] = deque()

    def send(self, message: str | bytes) -> None:
        """Send a message to the service. Raises ConnectionError after the end."""
        if self.over:
            raise ConnectionError("the connection was cut")
        self._on_the_way.append(message)

    def close(self, code: int, reason: str = "") -> None:
        """Close with a code, or abort with 1006."""
        if not self.over:
            self._on_the_way.append(Close(code, reason))

    def break_off(self) -> None:
        """Cut the line: both ends notice, and messages on their way are lost."""
        self._on_the_way.clear()
        self._end(Close(NO_CLOSE_FRAME, "cut"))

    def push(self) -> bool:
        """Give the service what the client has sent; return whether there was anything."""
        core, now = self._network.core, self._network.now
        busy = bool(self._on_the_way)
        while self._on_the_way:
            item = self._on_the_way.popleft()
            if isinstance(item, Close):
                self._end(item)
            else:
                core.receive(self.transport, item, now)
        return busy

    def pull(self) -> bool:
        """Take what the service has for the client; return whether there was anything."""
        if self.over:
            return False
        self.arrived.extend(self.transport.messages_to_send(self._network.now))
        close = self.transport.close
        if close is not None:
            self._end(Close(close.code, close.reason))
        self.on_arrival()
        return True

    def _end(self, closed: Close) -> None:
        self.over = True
        self.arrived.append(closed)
        self._network.core.disconnected(self.transport, closed.code, self._network.now, closed.reason)
        self.on_arrival()


class VirtualNetwork:
    """The clock, the lines and their faults.

    Attributes:
        now: the time, in seconds.
        core: the logic of the service; call :meth:`settle` after changing something.
    """

    def __init__(self, core: ServiceCore) -> None:
        self.now: float = 100.0
        self.core: ServiceCore = core
        self._grants: dict[str, ClientGrant] = {}  # by URL
        self._parties: list[Party] = []
        self._lines: dict[Transport, Line] = {}
        self._stalled: set[Direction] = set()
        self._held_up: list[asyncio.Future[None]] = []
        self._refusing = False
        self._settling = False

    # ---- Time

    @property
    def deadline(self) -> float:
        """The next deadline of the service or of a session; ``math.inf``: none."""
        return min([self.core.deadline, *(party.session.deadline for party in self._parties)])

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass, and wake the service and the sessions at their deadlines on the way."""
        self.advance_to(self.now + seconds)

    def advance_to(self, now: float) -> None:
        """Let time pass up to ``now``, as :meth:`advance` does; a time that has passed changes nothing."""
        while (due := self.deadline) <= now:
            self.now = max(self.now, due)
            if self.core.deadline <= self.now:
                self.core.wake(self.now)
            for party in self._parties:
                if party.session.deadline <= self.now:
                    party.session.wake(self.now)
            self.settle()
        self.now = max(self.now, now)

    def settle(self) -> None:
        """Carry messages both ways until there are none. Every verb of this class does so."""
        if self._settling:
            return
        self._settling = True
        try:
            busy = True
            while busy:
                busy = self._deliver()
                for party in self._parties:
                    busy |= party.exchange()
        finally:
            self._settling = False

    # ---- The network

    def cut(self) -> int:
        """Cut every transport; messages on their way are lost. Return how many transports there were."""
        lines = list(self._lines.values())
        for line in lines:
            line.break_off()
        self.settle()
        return len(lines)

    def stall(self, direction: Direction | None = None) -> None:
        """Hold back all messages in ``direction`` (None: both), and open no transport: a black hole."""
        self._stalled.update(("to_client", "to_service") if direction is None else (direction,))

    def resume(self) -> None:
        """Undo :meth:`stall`: what was held up arrives."""
        self._stalled.clear()
        for waiting in self._held_up:
            if not waiting.done():
                waiting.set_result(None)
        self._held_up.clear()
        self.settle()

    async def let_through(self) -> None:
        """Wait until nothing is stalled any more."""
        while self._stalled:
            self._held_up.append(asyncio.get_running_loop().create_future())
            await self._held_up[-1]

    def refuse(self) -> None:
        """Refuse every new transport, until :meth:`accept`."""
        self._refusing = True

    def accept(self) -> None:
        """Undo :meth:`refuse`."""
        self._refusing = False

    def is_stalled(self, direction: Direction | None = None) -> bool:
        """Return whether nothing passes in ``direction`` (None: in one of them)."""
        return direction in self._stalled if direction is not None else bool(self._stalled)

    # ---- Transports

    def dial(self, dial: Dial) -> Line:
        """Open a line; raise ConnectError, with a ``status`` if the service refused."""
        if self._refusing:
            raise ConnectError("the network refuses connections")
        # A recovery has the same URL, with more in its query.
        wanted = dial.url or ""
        grant = self._grants.get(wanted.partition("&")[0])
        if grant is None:
            raise ConnectError("the URL is not one of this service: make it with url()", status=401)
        url = urlsplit(wanted)
        hub = url.path.rpartition("/")[2]
        if dial.recovery:
            query = parse_qs(url.query)
            (connection_id,), (token,) = query["awps_connection_id"], query["awps_reconnection_token"]
            transport = self.core.recover(hub, connection_id, token, self.now)
        else:
            transport = self.core.connect(hub, dial.protocol, grant, self.now)
        line = self._lines[transport] = Line(self, transport)
        return line

    def _deliver(self) -> bool:
        """Carry what waits on either side to the other; return whether there was anything."""
        busy = False
        if not self.is_stalled("to_service"):
            for line in list(self._lines.values()):
                busy |= line.push()
        if not self.is_stalled("to_client"):
            for transport in self.core.transports_with_output():
                if transport in self._lines:
                    busy |= self._lines[transport].pull()
        for transport in [transport for transport, line in self._lines.items() if line.over]:
            del self._lines[transport]
        return busy
