"""The local service behind a network that can be broken, in a thread of its own."""

from __future__ import annotations

import asyncio
import concurrent.futures
import random
import ssl
import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Literal, TypeVar

from limpet.service import Service, ServiceOptions, client_url
from limpet.testing._answers import Answers, Function
from limpet.testing._stream_faults import close_stream, lose_stream_ack, nack_stream
from limpet.testing._verbs import ROLES, publications
from limpet.testing.log import EventLog, delay_invocation, lose_ack, lose_invocation
from limpet.testing.network import ChaosProxy

T = TypeVar("T")

_BOUND = 10.0
"""Seconds within which the thread of the service must answer, start and end; else TimeoutError."""


class BackgroundService:
    """The local service behind a :class:`~limpet.testing.network.ChaosProxy`: ``with BackgroundService() as service:``.

    The service has a thread and an event loop of its own, so that tests on any event loop, and tests that block, can
    use it; every method does its work before it returns, in a millisecond or so.

    Args:
        options: of the service.
        tls: the certificate for ``wss`` URLs; None: ``ws``. The proxy cuts what is below TLS.

    Attributes:
        log: what has happened in the service.
    """

    def __init__(self, options: ServiceOptions | None = None, *, tls: ssl.SSLContext | None = None) -> None:
        self.log: EventLog = EventLog()
        self._options = options
        self._tls = tls
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._service: Service | None = None
        self._proxy: ChaosProxy | None = None
        self._over: asyncio.Event | None = None
        self._failure: BaseException | None = None
        self._answers: Answers = Answers({})
        self._undo: list[Callable[[], None]] = []

    # ---- Life

    def start(self) -> None:
        """Start to listen; raise the error that prevents it, or RuntimeError if the service is running."""
        if self._thread is not None:
            raise RuntimeError("the service is running already")
        ready: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._thread = threading.Thread(target=self._run, args=(ready,), name="limpet-service", daemon=True)
        self._thread.start()
        try:
            ready.result(_BOUND)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Cut what is open and end the thread. Repeats do nothing.

        Raises:
            RuntimeError: the service has failed since it was started; the cause says how.
            TimeoutError: it does not end.
        """
        thread, self._thread = self._thread, None
        if thread is None:
            return
        if self._loop is not None and self._over is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._over.set)
        thread.join(_BOUND)
        if thread.is_alive():
            raise TimeoutError(f"the service did not stop within {_BOUND:g} s")
        failure, self._failure = self._failure, None
        if failure is not None:
            raise RuntimeError(f"the service has failed: {failure!r}") from failure

    def __enter__(self) -> BackgroundService:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self, ready: concurrent.futures.Future[None]) -> None:
        with asyncio.Runner() as runner:
            self._loop = runner.get_loop()
            try:
                runner.run(self._serve(ready))
            except BaseException as error:  # noqa: BLE001 - raised by start() or stop()
                if ready.done():
                    self._failure = error
                else:
                    ready.set_exception(error)

    async def _serve(self, ready: concurrent.futures.Future[None]) -> None:
        self._over = over = asyncio.Event()
        async with (
            Service(self._options, ssl=self._tls) as service,
            ChaosProxy("127.0.0.1", service.port) as proxy,
        ):
            service.core.observers.append(self.log.note)
            self._answers = Answers(service.core.events.handlers)
            service.core.events.handlers = self._answers
            self._service, self._proxy = service, proxy
            ready.set_result(None)
            await over.wait()

    # ---- URLs

    def url(
        self,
        user_id: str | None = "ann",
        *,
        roles: Iterable[str] = ROLES,
        groups: Iterable[str] = (),
        hub: str = "chat",
    ) -> str:
        """Return a URL with a token for a client, through the proxy."""
        return client_url(self.connection_string, hub, user_id=user_id, roles=roles, groups=groups)

    def direct_url(
        self,
        user_id: str | None = "bob",
        *,
        roles: Iterable[str] = ROLES,
        groups: Iterable[str] = (),
        hub: str = "chat",
    ) -> str:
        """Return a URL as :meth:`url` does, but past the proxy: nothing disturbs that client."""
        return client_url(self.direct_connection_string, hub, user_id=user_id, roles=roles, groups=groups)

    @property
    def connection_string(self) -> str:
        """The connection string for an application server; requests and clients go through the proxy."""
        return self.call(
            lambda service, proxy: service.connection_string.replace(f":{service.port};", f":{proxy.port};", 1)
        )

    @property
    def direct_connection_string(self) -> str:
        """The connection string for an application server; requests and clients go past the proxy."""
        return self.call(lambda service, _: service.connection_string)

    # ---- The network

    @property
    def connections(self) -> int:
        """The number of TCP connections that the proxy has accepted."""
        return self.call(lambda _, proxy: proxy.connections)

    @property
    def cuts(self) -> int:
        """The number of connections that the proxy has cut."""
        return self.call(lambda _, proxy: proxy.cuts)

    def cut(self, reset: bool = True) -> int:
        """Cut every connection of the proxy, with RST or with FIN; return how many there were."""
        return self.call(lambda _, proxy: proxy.cut(reset=reset))

    def cut_after(
        self, n_bytes: int, direction: Literal["to_client", "to_service"] = "to_client", reset: bool = True
    ) -> None:
        """Let ``n_bytes`` more pass in ``direction``, then cut the connection that carries the next one."""
        self.call(lambda _, proxy: proxy.cut_after(n_bytes, direction, reset=reset))

    def stall(self, direction: Literal["to_client", "to_service"] | None = None) -> None:
        """Hold back all bytes in ``direction`` (None: both): a black hole."""
        self.call(lambda _, proxy: proxy.stall(direction))

    def resume(self) -> None:
        """Undo :meth:`stall`."""
        self.call(lambda _, proxy: proxy.resume())

    def refuse(self) -> None:
        """Reset every new connection at once, until :meth:`accept`."""
        self.call(lambda _, proxy: proxy.refuse())

    def accept(self) -> None:
        """Undo :meth:`refuse`."""
        self.call(lambda _, proxy: proxy.accept())

    def slow_down(self, delay: float = 0.0, segment: int | None = None) -> None:
        """Hold bytes back for ``delay`` seconds, pass them on in pieces of ``segment`` bytes; ``slow_down()``: undo."""

        def slow_down(_: Service, proxy: ChaosProxy) -> None:
            proxy.delay, proxy.segment = delay, segment

        self.call(slow_down)

    def heal(self) -> None:
        """Undo :meth:`stall`, :meth:`refuse`, :meth:`slow_down`, and faults that wait, such as :meth:`cut_after`."""

        def heal(_: Service, proxy: ChaosProxy) -> None:
            proxy.heal()
            while self._undo:
                self._undo.pop()()

        self.call(heal)

    @contextmanager
    def disturbed(self, seed: int, shortest: float = 0.01, longest: float = 0.05) -> Generator[None]:
        """Within the block, cut in every way there is, ``shortest`` to ``longest`` seconds apart.

        The same seed gives the same schedule.
        """

        def begin(_: Service, proxy: ChaosProxy) -> asyncio.Task[None]:
            return asyncio.get_running_loop().create_task(proxy.disturb(random.Random(seed), shortest, longest))

        task = self.call(begin)
        try:
            yield
        finally:
            self.call(lambda service, proxy: task.cancel())
            self.heal()

    # ---- The service

    def drop(self, connection_id: str, *, for_good: bool = False) -> bool:
        """Abort a client's TCP connection at the service; return False if the client is not connected.

        The client can recover; with ``for_good`` its recovery is refused.
        """
        return self.call(lambda service, _: service.drop(connection_id, for_good=for_good))

    def end(self, connection_id: str, reason: str = "ended by the service") -> None:
        """Close a client's connection as application servers do: politely, and for good."""
        self.call(lambda service, _: service.core.close_connection(connection_id, reason))

    def lose_ack(self, connection_id: str | None = None) -> None:
        """Carry out the next request of a client (None: of any), and abort its TCP connection before the answer.

        The fault waits for the next request; :meth:`heal` cancels it.
        """
        self.call(lambda service, _: self._undo.append(lose_ack(service.core, connection_id)))

    def lose_stream_ack(self, connection_id: str | None = None) -> None:
        """Publish the next fragments of a client (None: of any), and abort its TCP connection before their ack.

        The fault waits for the next ack of fragments; :meth:`heal` cancels it.
        """
        self.call(lambda service, _: self._undo.append(lose_stream_ack(service.core, connection_id)))

    def nack_stream(self, stream_id: str | None = None, *, times: int = 1) -> None:
        """Refuse the next ``times`` fragments of a stream (None: of any) with a nack: its client sends them again.

        The name of the nack is ``TransientError``. The fault waits for the fragments; :meth:`heal` cancels it. Raises
        ValueError if ``times`` is less than 1.
        """
        self.call(lambda service, _: self._undo.append(nack_stream(service.core, stream_id, times)))

    def close_stream(self, stream_id: str, name: str = "InternalServerError") -> bool:
        """End a stream of a client with an error; return False if it is not open.

        The client is told ``name``: ``InternalServerError``, ``IdleTimeout``, ``Forbidden`` or any other.
        """
        return self.call(lambda service, _: close_stream(service.core, stream_id, name))

    def lose_invocation(self, connection_id: str | None = None) -> None:
        """Call the handler of the next invocation of a client (None: of any), and abort its TCP connection then.

        No answer arrives. The fault waits for the next invocation; :meth:`heal` cancels it.
        """
        self.call(lambda service, _: self._undo.append(lose_invocation(service.core, connection_id)))

    def delay_invocation(self, seconds: float, connection_id: str | None = None) -> None:
        """Hold back the answer to the next invocation of a client (None: of any), for ever if that is ``math.inf``.

        The handler is called at once. The fault waits for the next invocation that has a handler; :meth:`heal` cancels
        it, but does not hurry an answer that is held back. Raises ValueError for less than 0 seconds.
        """
        self.call(lambda service, _: self._undo.append(delay_invocation(service.core, seconds, connection_id)))

    def group_states(self, group: str, *, hub: str = "chat") -> dict[str, dict[str, str]]:
        """Return the states of the members of a group, by connection id; members without a state are left out."""

        def states(service: Service, _: ChaosProxy) -> dict[str, dict[str, str]]:
            return {name: dict(state) for name, state in service.core.group_states(hub, group).items()}

        return self.call(states)

    def answer(self, event: str, function: Function) -> None:
        """Answer an event of clients, at any hub, by a function of the test instead of an HTTP server.

        It gets an :class:`AnsweredCall`, for events and for invocations. What it returns is the reply: a str (text),
        bytes (binary), None (no reply), an ``Answer`` (any HTTP response, as of a handler that refuses), or else what
        becomes JSON. An exception is logged, and is status 500 to the client.

        The function runs in the service's thread: it must be quick, and must not call this object. A new function for
        the same event, whose case does not matter, replaces it. Raises ValueError for what is no name of an event,
        TypeError for what is no function, or a coroutine function.
        """
        self.call(lambda service, _: self._answers.add(event, function))

    @contextmanager
    def own_answers(self) -> Generator[None]:
        """Forget, behind the block, the functions that :meth:`answer` was given within it; earlier ones are back."""
        before = self._answers.functions
        try:
            yield
        finally:
            self._answers.functions = before

    def publish(self, group: str, messages: Iterable[Any], *, hub: str = "chat") -> None:
        """Publish each item of a list as JSON to a group, in order and at once.

        Raises TypeError for a single message in place of a list, InvalidType or InvalidValue for data that is not JSON
        and for a group that no client can be in.
        """
        batch = publications(group, messages)

        def publish(service: Service, _: ChaosProxy) -> None:
            for publication in batch:
                service.core.send_to_group(hub, group, publication)

        self.call(publish)

    def members(self, group: str, *, hub: str = "chat") -> set[str]:
        """Return the connection ids in a group."""

        def members(service: Service, _: ChaosProxy) -> set[str]:
            return {connection.connection_id for connection in service.hub(hub).members(group)}

        return self.call(members)

    def retained(self, connection_id: str) -> int | None:
        """Return the number of messages that the client has not acknowledged; None: the connection has ended."""

        def retained(service: Service, _: ChaosProxy) -> int | None:
            connection = service.core.connection(connection_id)
            return None if connection is None else connection.retained

        return self.call(retained)

    def call(self, function: Callable[[Service, ChaosProxy], T]) -> T:
        """Call ``function(service, proxy)`` in the service's thread, send what comes of it, return its result."""
        loop, service, proxy = self._loop, self._service, self._proxy
        if self._thread is None or loop is None or service is None or proxy is None:
            raise RuntimeError("the service is not running")
        future: concurrent.futures.Future[T] = concurrent.futures.Future()

        def run() -> None:
            try:
                service.flush()  # what clients have caused before
                result = function(service, proxy)
                service.flush()
            except BaseException as error:  # noqa: BLE001 - raised where it was asked for
                future.set_exception(error)
            else:
                future.set_result(result)

        loop.call_soon_threadsafe(run)
        return future.result(_BOUND)
