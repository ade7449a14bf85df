"""The local service on a TCP port, in the current event loop."""

from __future__ import annotations

import asyncio
import gc
import ssl
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from types import TracebackType
from typing import Any, cast

import uvicorn
from uvicorn.server import ServerState

from limpet.service._access import is_loopback
from limpet.service._cluster_gateway import ClusterGateway
from limpet.service._descriptors import raise_file_limit
from limpet.service._gateway import Gateway
from limpet.service._http import HttpProtocol
from limpet.service._joining import ClusterRefused
from limpet.service._listening import Listener
from limpet.service._signals import told_to_end
from limpet.service._websocket import WebSocketProtocol
from limpet.service.app import build_app
from limpet.service.cluster.view import ClusterView
from limpet.service.options import ClusterOptions, ServiceOptions
from limpet.service.tokens import client_url
from limpet_core.service import Hub, ServiceCore

# Seconds in which clients may answer the close frame when the service stops.
_STOP_TIMEOUT = 1.0

_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}


class Service:
    """The local service: ``async with Service() as service: ... service.client_url()``.

    Runs in the event loop that starts it, installs no signal handlers, and keeps all state in memory.

    Args:
        options: how the service behaves.
        host: the address to listen on.
        port: the TCP port; 0 picks a free one.
        ssl: the certificate, for https and wss; :class:`limpet.service.LocalCertificate` makes one. ``None``: http and
            ws.
        cluster: the service is a node of this cluster, which shares its clients and groups with the other nodes.
            ``None``: it is alone.

    Raises:
        ValueError: if ``host`` is not a loopback address, or there is a cluster, and no ``options.access_key``.
        TypeError: if ``options`` or ``cluster`` is something else, such as a URL.
    """

    def __init__(
        self,
        options: ServiceOptions | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        ssl: ssl.SSLContext | None = None,
        cluster: ClusterOptions | None = None,
    ) -> None:
        for name, value, kind in (("options", options, ServiceOptions), ("cluster", cluster, ClusterOptions)):
            if value is not None and not isinstance(value, kind):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise TypeError(f"{name} must be {kind.__name__}(...), not {type(value).__name__}")
        self.host = host
        options = options or ServiceOptions()
        if not is_loopback(host) and options.access_key is None:
            raise ValueError(
                f"others can reach {host!r}: listening there needs an access key of your own "
                "(ServiceOptions.access_key, or --key on the command line)"
            )
        self._wanted_port = port
        self._ssl = ssl
        self._port: int | None = None
        self._gateway = _gateway(options, cluster)
        self._state = ServerState()
        self._listener: Listener | None = None
        self._starts = False

    # ---- State

    @property
    def options(self) -> ServiceOptions:
        """The options of the service, as they are now (see :meth:`reload`)."""
        return self._gateway.options

    @property
    def port(self) -> int:
        """The TCP port of the service; :exc:`RuntimeError` before the first start."""
        if self._port is None:
            raise RuntimeError("the service was not started yet")
        return self._port

    @property
    def endpoint(self) -> str:
        """The URL of the service, such as ``http://127.0.0.1:8080``."""
        host = _ANY_ADDRESS.get(self.host, self.host)
        scheme = "http" if self._ssl is None else "https"
        return f"{scheme}://[{host}]:{self.port}" if ":" in host else f"{scheme}://{host}:{self.port}"

    @property
    def trace_url(self) -> str | None:
        """The URL of the trace page; ``None`` if the options, or the address to listen on, make it inaccessible."""
        shown = self.options.trace
        if shown is None:
            shown = is_loopback(_ANY_ADDRESS.get(self.host, self.host))
        return f"{self.endpoint}/" if shown else None

    @property
    def connection_string(self) -> str:
        """The connection string, with the access key, for server SDKs and :func:`limpet.service.client_url`."""
        return self._gateway.identity.connection_string(self.endpoint).build()

    @property
    def core(self) -> ServiceCore:
        """The service's logic, to inspect or change: call :meth:`flush` after a change.

        At a node of a cluster only inspect it: methods that change something raise RuntimeError there, for a change is
        for the log of the cluster, which the REST API writes into.
        """
        return self._gateway.inspected_core

    @property
    def cluster(self) -> ClusterView | None:
        """What this node knows of its cluster at the moment; ``None``: the service is alone."""
        return self._gateway.cluster_view()

    def hub(self, name: str = "chat") -> Hub:
        """Return the state of a hub."""
        return self.core.hub(name)

    def client_url(
        self,
        hub: str = "chat",
        *,
        user_id: str | None = None,
        roles: Iterable[str] = (),
        groups: Iterable[str] = (),
        expires_in: float = 3600.0,
    ) -> str:
        """Return the URL for a client, with a token; arguments and errors of :func:`mint_client_token`."""
        return client_url(
            self._gateway.identity.connection_string(self.endpoint),
            hub,
            user_id=user_id,
            roles=roles,
            groups=groups,
            expires_in=expires_in,
        )

    # ---- Start and stop

    async def start(self) -> None:
        """Listen.

        While the process is out of file descriptors, new clients wait in the system's queue; one line in the log says
        so.

        A node of a cluster reads the log of the cluster first. With other settings than those of a cluster whose nodes
        were killed it waits, for 30 seconds at most, whether one of them still lives.

        Raises:
            OSError: if the port is taken; the message names a free one.
            RuntimeError: if the service is running or starting already, or was a node of a cluster that has left.
            LogError: if the log of the cluster cannot be used (:mod:`limpet.service.cluster`).
            ClusterRefused: if the cluster does not take this node in, such as for other settings.
        """
        if self._listener is not None or self._starts:
            raise RuntimeError(f"the service is {'starting' if self._starts else 'running'} already")
        http = HttpProtocol.bound_to(self.options.request_timeout)
        config = uvicorn.Config(
            build_app(self._gateway),
            http=http,
            ws=WebSocketProtocol.bound_to(self._gateway),
            lifespan="off",
            log_config=None,
            server_header=False,
            date_header=False,
            proxy_headers=False,
        )
        config.load()
        loop = asyncio.get_running_loop()

        def accept() -> asyncio.Protocol:
            return http(config=config, server_state=self._state, app_state={}, _loop=loop)

        listener = Listener(accept, tls=self._ssl, handshake_timeout=self.options.request_timeout)
        self._starts = True
        try:
            await self._gateway.open()
            self._port = await listener.open(self.host, self._wanted_port)
        except BaseException:
            await self._gateway.close()
            raise
        finally:
            self._starts = False
        self._listener = listener
        self._gateway.listens_on(self.endpoint)

    async def stop(self) -> None:
        """Close all clients with 1001 and stop listening; no socket or task is left. Repeats do nothing.

        Waits for the clients' answers to the close, at most a second. Running calls of event handlers are given up, and
        no disconnected events are sent.
        """
        listener = self._listener
        if listener is None:
            return
        self._listener = None
        await listener.close()
        self._gateway.shut_down()
        try:
            async with asyncio.timeout(_STOP_TIMEOUT):
                await self._wait_for_clients()
        except TimeoutError:
            self._gateway.give_up()
            for connection in list(self._connections()):
                if connection.transport is not None:
                    connection.transport.abort()
            await self._wait_for_clients()
        await self._gateway.close()

    def _connections(self) -> set[Any]:
        return cast("set[Any]", self._state.connections)

    async def _wait_for_clients(self) -> None:
        for connection in list(self._connections()):
            if isinstance(connection, HttpProtocol):
                connection.shutdown()
        # uvicorn has sets to poll, not events, and asyncio needs some turns of the loop to close sockets.
        while self._connections() or self._state.tasks:  # noqa: ASYNC110
            await asyncio.sleep(0.002)

    async def __aenter__(self) -> Service:
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    def reload(self, options: ServiceOptions) -> tuple[str, ...]:
        """Take other options while the service runs; clients stay connected.

        ``hubs`` with their event handlers, ``anonymous``, ``negotiate`` and ``max_connections`` count from now on. The
        events of clients that are connected go to the new handlers; an event that a handler works on stays with it.
        Every event handler is asked anew whether it allows calls. :func:`follow_options` calls this when a file
        changes.

        Returns:
            The names of the other options that differ. They keep their values: start a new service for these.

        Raises:
            MissingExtra: for event listeners without the package that they need; nothing has changed then.
        """
        return self._gateway.reload(options)

    async def expelled(self) -> str:
        """Wait until this node can no longer be one of its cluster, and return why; alone, a service waits for ever.

        Its clients are sent to the other nodes. Stop the service, and start a new one, in a new process.
        """
        gateway = self._gateway
        if not isinstance(gateway, ClusterGateway):
            await asyncio.Event().wait()
            raise AssertionError("nobody sets that event")
        return await gateway.wait_until_fenced()

    # ---- For tests

    def flush(self) -> None:
        """Send the output of calls to :attr:`core`."""
        self._gateway.flush()

    def drop(self, connection_id: str, *, for_good: bool = False) -> bool:
        """Abort the TCP connection of a client without a close frame; return whether there was one.

        ``for_good``: end the connection as well, so that its recovery is refused.

        Raises:
            RuntimeError: for good at a node of a cluster, whose connections end when its log says so. Close the
                connection over the REST API.
        """
        if for_good and isinstance(self._gateway, ClusterGateway):
            raise RuntimeError("a node of a cluster cannot end a connection by itself: close it over the REST API")
        self.flush()  # what was sent to the client before
        dropped = self._gateway.core.drop(connection_id, for_good=for_good)
        self.flush()
        return dropped


def serve(
    options: ServiceOptions | None = None,
    host: str = "127.0.0.1",
    port: int = 8080,
    *,
    ssl: ssl.SSLContext | None = None,
    on_start: Callable[[Service], None] | None = None,
    until: Callable[[], Awaitable[object]] | None = None,
    cluster: ClusterOptions | None = None,
) -> None:
    """Run the service until Ctrl-C, SIGTERM or SIGHUP, and say goodbye to its clients: they are closed with 1001.

    A SIGTERM or SIGHUP that comes a second or more after the first ends the process at once. One that is ignored
    (``nohup``) stays ignored, and one that the application has a handler for is left to that.

    Raises the limit of open files of this process as far as it may; a warning in the log says if it stays low.

    Args:
        options: how the service behaves.
        host: the address to listen on.
        port: the TCP port; 0 picks a free one.
        ssl: the certificate, as for :class:`Service`.
        on_start: called when the service listens, for example to print ``service.client_url()``.
        until: awaited then; the service also ends when this is done.
        cluster: as for :class:`Service`.

    Raises:
        ClusterRefused: if the cluster does not take this node in, or goes on without it. Start a new process then.
        LogError: if the log of the cluster cannot be used.
        ValueError: as :class:`Service` does.
        OSError: if the port is taken; the message names a free one.
    """

    async def run() -> None:
        stopped, loop = asyncio.Event(), asyncio.get_running_loop()
        # Ctrl-C is left to asyncio.run, which cancels this task.
        with told_to_end(loop, lambda _: loop.call_soon_threadsafe(stopped.set)):
            service = Service(options, host, port, ssl=ssl, cluster=cluster)
            others: list[asyncio.Future[object]] = []
            frozen_before = gc.get_freeze_count()
            try:
                if not await _start(service, stopped):
                    return
                # A full collection of garbage looks through all that is not frozen, and serves nobody meanwhile: the
                # modules alone take some 20 ms.
                gc.collect()
                gc.freeze()
                if on_start is not None:
                    on_start(service)
                others.append(asyncio.ensure_future(_until_expelled(service)))
                if until is not None:
                    others.append(asyncio.ensure_future(until()))
                for other in others:
                    other.add_done_callback(lambda _: stopped.set())
                await stopped.wait()
                for other in others:
                    if other.done():
                        other.result()
            finally:
                if not frozen_before:  # else what the application has frozen would be thawed
                    gc.unfreeze()
                for other in others:
                    other.cancel()
                await service.stop()

    raise_file_limit(None if options is None else options.max_connections)
    with suppress(KeyboardInterrupt):
        asyncio.run(run())


async def _start(service: Service, stopped: asyncio.Event) -> bool:
    """Start a service; return False if it is told to end before: a node may wait long for the log of its cluster."""
    starting, told = asyncio.ensure_future(service.start()), asyncio.ensure_future(stopped.wait())
    try:
        await asyncio.wait((starting, told), return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            return False
        starting.result()
        return True
    finally:
        starting.cancel()
        told.cancel()
        await asyncio.wait((starting, told))


async def _until_expelled(service: Service) -> object:
    raise ClusterRefused(f"{await service.expelled()}. Start this node again")


def _gateway(options: ServiceOptions, cluster: ClusterOptions | None) -> Gateway:
    return Gateway(options, None) if cluster is None else ClusterGateway(options, None, cluster)
