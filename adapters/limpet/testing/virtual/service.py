"""The service's logic and its clients in memory, under one virtual clock: no socket, no thread, no waiting."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar

from limpet import ConnectError, Dial, Options, Session
from limpet._transports.messages import MessageTransport
from limpet.testing._answers import Answers, Function
from limpet.testing._stream_faults import close_stream, lose_stream_ack, nack_stream
from limpet.testing._verbs import ROLES, publications
from limpet.testing.log import EventLog, delay_invocation, lose_ack, lose_invocation
from limpet.testing.virtual.client import VirtualClient
from limpet.testing.virtual.loop import VirtualLoop
from limpet.testing.virtual.network import VirtualNetwork
from limpet.testing.virtual.transport import MemoryTransport
from limpet_core.service import (
    ClientGrant,
    EventSettings,
    Limits,
    ServiceCore,
    client_endpoint,
)

__all__ = ["VirtualClient", "VirtualService"]

T = TypeVar("T")

_EPOCH = 1_769_860_800
"""What the service's calendar has when the clock is at 0: 2026-01-31T12:00:00Z, in seconds since 1970."""

_DAY = 24 * 3600.0

MONTH = 30 * _DAY
"""Seconds of virtual time that a scenario may take, unless it says how many."""

_ENDPOINT = "http://service.test"


class VirtualService(VirtualNetwork):
    """The local service's logic, a network in memory, and a clock that moves only when it is told to.

    It has the verbs of :class:`limpet.testing.BackgroundService`, and two kinds of clients::

        service = VirtualService()
        ann = service.client("ann")             # a Session, joined to the service
        ann.start()
        service.cut()
        service.advance(1.0)

        async def main() -> None:               # or whole clients of limpet.asyncio
            async with Client(service.url("ann"), connect=service.connect) as client:
                ...
        service.run(main())                     # in which an hour of asyncio.sleep takes no time

    Args:
        limits: of the service.
        events: its event handlers; the test answers their calls, see ``core.handler_calls``. :meth:`answer` is simpler.

    Attributes:
        now: the time, in seconds.
        core: the service's logic; call :meth:`settle` after changing something.
        log: what has happened in the service.
    """

    def __init__(self, limits: Limits | None = None, *, events: EventSettings | None = None) -> None:
        connections, tokens = itertools.count(1), itertools.count(1)
        self.log: EventLog = EventLog()
        core = ServiceCore(
            limits or Limits(),
            new_connection_id=lambda: f"c{next(connections)}",
            issue_reconnection_token=lambda connection_id: f"token-of-{connection_id}/{next(tokens)}",
            check_reconnection_token=lambda token, connection_id: token.startswith(f"token-of-{connection_id}/"),
            events=events,
            unix_time=lambda: _EPOCH + self.now,
        )
        super().__init__(core)
        self._answers: Answers = Answers(core.events.handlers)
        core.events.handlers = self._answers
        self.core.observers.append(self.log.note)
        self._undo: list[Callable[[], None]] = []
        self._connect_was_called: bool = False

    # ---- Clients

    def url(
        self,
        user_id: str | None = "ann",
        *,
        roles: Iterable[str] = ROLES,
        groups: Iterable[str] = (),
        hub: str = "chat",
    ) -> str:
        """Return a URL with a token for a client."""
        if isinstance(roles, str) or isinstance(groups, str):
            raise TypeError("roles and groups are lists of strings, not a single string")
        url = f"{client_endpoint(_ENDPOINT, hub)}?access_token=t{len(self._grants)}"
        self._grants[url] = ClientGrant(user_id, tuple(roles), tuple(groups))
        return url

    def client(
        self,
        user_id: str | None = "ann",
        *,
        roles: Iterable[str] = ROLES,
        groups: Iterable[str] = (),
        hub: str = "chat",
        options: Options | None = None,
        random: Callable[[], float] = lambda: 0.5,
    ) -> VirtualClient:
        """Return a session, not started yet, with a driver to this service; ``random`` is its randomness."""
        url = self.url(user_id, roles=roles, groups=groups, hub=hub)
        client = VirtualClient(self, url, Session(options, random=random))
        self._parties.append(client)
        return client

    async def connect(self, dial: Dial) -> MessageTransport:
        """Open a transport: for ``connect=`` of a client of :mod:`limpet.asyncio`, within :meth:`run`."""
        self._connect_was_called = True
        await self.let_through()
        line = self.dial(dial)
        self.settle()
        return MemoryTransport(self, line)

    def run(self, main: Coroutine[Any, Any, T], *, limit: float = MONTH) -> T:
        """Run a coroutine in an asyncio event loop whose time is :attr:`now`, and return its result.

        Whenever every task waits, the clock jumps to the next timer of a task, a session or the service: the loop has
        no other input, no socket and no thread.

        Args:
            main: what to run; its clients have ``connect=service.connect``.
            limit: the most virtual seconds that it may take. Keepalives of a client that waits in vain go on for ever.

        Raises:
            ConnectError: as ``main`` raises it; a note says if no client has called ``connect``.
            RuntimeError: every task waits, and there is nothing left to wait for.
            TimeoutError: the limit is over; the traceback shows where ``main`` waited.
        """

        async def limited(loop: VirtualLoop) -> T:
            scope = asyncio.timeout(None)  # no timer: that would always be something left to wait for
            loop.at_limit(self.now + limit, lambda: scope.reschedule(self.now))
            try:
                async with scope:
                    return await main
            except ConnectError as error:
                if not self._connect_was_called:
                    error.add_note("no client has called the service's connect: Client(url, connect=service.connect)")
                raise
            except TimeoutError as error:
                if scope.expired():
                    span = f"{limit:g} virtual seconds" if limit < _DAY else f"{limit / _DAY:g} virtual days"
                    raise TimeoutError(f"the coroutine did not end within {span}") from error.__cause__
                raise

        with asyncio.Runner(loop_factory=lambda: VirtualLoop(self)) as runner:
            loop = runner.get_loop()
            assert isinstance(loop, VirtualLoop)
            return runner.run(limited(loop))

    # ---- The service

    def heal(self) -> None:
        """Undo :meth:`stall` and :meth:`refuse`, and the faults that wait to happen, such as :meth:`lose_ack`."""
        while self._undo:
            self._undo.pop()()
        self.accept()
        self.resume()

    def drop(self, connection_id: str, *, for_good: bool = False) -> bool:
        """Cut a client's transport at the service; return False if it has none. ``for_good``: refuse its recovery."""
        dropped = self.core.drop(connection_id, for_good=for_good)
        self.settle()
        return dropped

    def end(self, connection_id: str, reason: str = "ended by the service") -> None:
        """Close a client's connection as application servers do: politely, and for good."""
        self.core.close_connection(connection_id, reason)
        self.settle()

    def lose_ack(self, connection_id: str | None = None) -> None:
        """Carry out the next request of a client (None: of any), and cut its transport before the answer.

        The fault waits for the next request; :meth:`heal` cancels it.
        """
        self._undo.append(lose_ack(self.core, connection_id))

    def lose_stream_ack(self, connection_id: str | None = None) -> None:
        """Publish the next fragments of a client (None: of any), and cut its transport before their ack.

        The fault waits for the next ack of fragments; :meth:`heal` cancels it.
        """
        self._undo.append(lose_stream_ack(self.core, connection_id))

    def nack_stream(self, stream_id: str | None = None, *, times: int = 1) -> None:
        """Refuse the next ``times`` fragments of a stream (None: of any) with a nack: its client sends them again.

        The name of the nack is ``TransientError``. The fault waits for the fragments; :meth:`heal` cancels it. Raises
        ValueError if ``times`` is less than 1.
        """
        self._undo.append(nack_stream(self.core, stream_id, times))

    def close_stream(self, stream_id: str, name: str = "InternalServerError") -> bool:
        """End a stream of a client with an error; return False if it is not open.

        The client is told ``name``: ``InternalServerError``, ``IdleTimeout``, ``Forbidden`` or any other.
        """
        closed = close_stream(self.core, stream_id, name)
        self.settle()
        return closed

    def lose_invocation(self, connection_id: str | None = None) -> None:
        """Call the handler of the next invocation of a client (None: of any), and cut its transport then.

        No answer arrives. The fault waits for the next invocation; :meth:`heal` cancels it.
        """
        self._undo.append(lose_invocation(self.core, connection_id))

    def delay_invocation(self, seconds: float, connection_id: str | None = None) -> None:
        """Hold back the answer to the next invocation of a client (None: of any), for ever if that is ``math.inf``.

        The handler is called at once. The fault waits for the next invocation that has a handler; :meth:`heal` cancels
        it, but does not hurry an answer that is held back. Raises ValueError for less than 0 seconds.
        """
        self._undo.append(delay_invocation(self.core, seconds, connection_id))

    def group_states(self, group: str, *, hub: str = "chat") -> dict[str, dict[str, str]]:
        """Return the states of the members of a group, by connection id; members without a state are left out."""
        return {name: dict(state) for name, state in self.core.group_states(hub, group).items()}

    def answer(self, event: str, function: Function) -> None:
        """Answer an event of clients, at any hub, by a function of the test instead of an HTTP server.

        It gets an :class:`AnsweredCall`, for events and for invocations. What it returns is the reply: a str (text),
        bytes (binary), None (no reply), an ``Answer`` (any HTTP response, as of a handler that refuses), or else what
        becomes JSON. An exception is logged, and is status 500 to the client. A new function for the same
        event, whose case does not matter, replaces it. Raises ValueError for what is no name of an event, TypeError for
        what is no function, or a coroutine function.
        """
        self._answers.add(event, function)

    def publish(self, group: str, messages: Iterable[Any], *, hub: str = "chat") -> None:
        """Publish each item of a list as JSON to a group, in order and at once.

        Raises TypeError for a single message in place of a list, InvalidType or InvalidValue for data that is not JSON
        and for a group that no client can be in.
        """
        for publication in publications(group, messages):
            self.core.send_to_group(hub, group, publication)
        self.settle()

    def members(self, group: str, *, hub: str = "chat") -> set[str]:
        """Return the connection ids in a group."""
        return {connection.connection_id for connection in self.core.hub(hub).members(group)}

    def retained(self, connection_id: str) -> int | None:
        """Return the number of messages that the client has not acknowledged; None: the connection has ended."""
        connection = self.core.connection(connection_id)
        return None if connection is None else connection.retained
