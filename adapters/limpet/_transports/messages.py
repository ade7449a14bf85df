"""Message transports, which ``connect=`` opens, and their connection to a session. No event loop in here."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, cast

from limpet import Channel, Close, Dial, InvalidType, Session
from limpet._transports.cancellation import is_failure
from limpet._transports.explain import explain
from limpet._transports.held import Held, Home
from limpet_core.text import reason_of

log: logging.Logger = logging.getLogger("limpet")


class MessageTransport(Protocol):
    """A WebSocket connection, opened by the application's ``connect``, that sends and receives whole messages.

    ``receive`` and ``send`` are called at the same time, each by one task. Both are cancelled when the transport is not
    wanted any more, and ``close`` is called then. ``close`` may also be called while ``receive`` waits, which need not
    return then. ``close`` is cancelled only when it has taken ``close_timeout``.
    """

    async def send(self, message: str | bytes) -> None:
        """Send a message, a str in a text frame, bytes in a binary one.

        Any exception: nothing more is sent, and ``receive`` is called for a second at most, until the end.
        """
        ...

    async def receive(self) -> str | bytes | Close:
        """Return the next message: str for text, bytes for binary; :class:`Close` or any exception at the end."""
        ...

    async def close(self, code: int, reason: str) -> None:
        """Close with ``code``; called once, and maybe when the transport is broken already. Cancelled, it aborts."""
        ...


class BlockingTransport(Protocol):
    """A WebSocket connection whose methods block, for the blocking client.

    ``receive`` and ``send`` are called at the same time, each by one thread. ``close`` is called by one of these or by
    a third, and ends a ``receive`` and a ``send`` that wait.
    """

    def send(self, message: str | bytes) -> None:
        """Send a message, a str in a text frame, bytes in a binary one.

        Any exception: nothing more is sent, and ``receive`` is called for a second at most, until the end.
        """
        ...

    def receive(self) -> str | bytes | Close:
        """Return the next message: str for text, bytes for binary; :class:`Close` or any exception at the end."""
        ...

    def close(self, code: int, reason: str) -> None:
        """Close with ``code``. Must be quick, and may be called when the transport is broken already."""
        ...


Connect = Callable[[Dial], Awaitable[MessageTransport]]
"""Opens a transport to ``dial.url`` that offers the subprotocol ``dial.protocol``; raises an exception if that fails.

An attribute ``status`` of the exception is the HTTP status of a refused handshake, and ``retry_after`` the seconds that
the answer asks to wait for.
"""

ConnectManager = Callable[[Dial], AbstractAsyncContextManager[MessageTransport]]
"""A :data:`Connect` whose transport needs a nursery, a task group or a cancel scope: an async context manager.

One task enters it, holds it open until the transport's ``close`` has returned, and leaves it.
"""

BlockingConnect = Callable[[Dial], BlockingTransport]
"""A :data:`Connect` for the blocking client: a plain function, called in a thread of its own."""


class MessageConnection:
    """A message transport and its channel: tells the channel what the transport's methods return and raise."""

    def __init__(self, session: Session, dial: Dial, now: Callable[[], float]) -> None:
        self.session: Session = session
        self.dial: Dial = dial
        self.channel: Channel = Channel(session, dial)
        self._now = now

    def failed(self, error: BaseException) -> None:
        """Tell the session that ``connect`` raised ``error``."""
        status, retry_after = getattr(error, "status", None), getattr(error, "retry_after", None)
        if isinstance(error, OSError):
            error = explain(error)
        status = int(status) if isinstance(status, int) else None  # no HTTPStatus, whose repr() is another
        retry_after = retry_after if isinstance(retry_after, int | float) else None
        self.channel.failed(error, self._now(), status=status, retry_after=retry_after)

    def opened(self) -> None:
        """Tell the session that the transport is open."""
        self.channel.opened(self._now())

    def received(self, message: object) -> None:
        """Pass on ``message``, which ``receive`` returned or raised."""
        channel, now = self.channel, self._now()
        if isinstance(message, str):
            channel.message(message, now)
        elif isinstance(message, bytes | bytearray | memoryview):
            channel.binary(bytes(cast("bytes", message)), now)
        elif isinstance(message, Close):
            channel.closed(now, code=int(message.code), reason=message.reason)  # no IntEnum
        elif isinstance(message, BaseException):
            channel.failed(message, now)
        else:
            text = f"receive must return a str, bytes or Close, not {type(message).__name__}"
            channel.failed(InvalidType(text), now)

    def lost(self, error: BaseException) -> None:
        """Tell the session that the transport is broken by ``error``."""
        self.channel.failed(error, self._now())

    def send_failed(self, error: BaseException) -> None:
        """Tell the session that ``send`` raised ``error``; ``receive`` is called until the end."""
        self.channel.send_failed(error, self._now())

    def take(self) -> tuple[list[str | bytes], Close | None]:
        """Return the messages to send, and the close to send behind them, if any."""
        return self.channel.to_send(), self.channel.close if self.dial.wanted else None

    @property
    def final_close(self) -> Close:
        """How to close a transport that is not wanted any more."""
        close = self.channel.close
        assert close is not None, "bug: the transport is wanted"
        return close

    def closed(self, close: Close) -> None:
        """Tell the session that the transport was closed as the session asked."""
        self.channel.closed(self._now(), code=close.code)


class AsyncMessageConnection(MessageConnection):
    """A message connection that opens, uses and closes its transport; the driver runs a task for each direction.

    Args:
        session: the session.
        dial: the dial that the transport is for.
        now: returns the session's time.
        connect: the application's function.
        home: runs tasks.
        drain: drains the session.
    """

    def __init__(
        self,
        session: Session,
        dial: Dial,
        now: Callable[[], float],
        connect: Connect | ConnectManager,
        home: Home,
        drain: Callable[[], object],
    ) -> None:
        super().__init__(session, dial, now)
        self._connect = connect
        self._home = home
        self._drain = drain
        self._transport: MessageTransport | None = None
        self._closing = False
        self._held: Held | None = None

    async def open(self) -> bool:
        """Open the transport; return whether it is open and wanted."""
        try:
            self._transport = check_transport(await self._opened(self._connect(self.dial)))
        except BaseException as error:
            if not is_failure(error):
                raise
            self.failed(error)  # whatever was raised, there is no transport
            if self._held is not None:
                await self._home.finish(self._held.leave)
            return False
        self.opened()
        return self.dial.wanted

    async def _opened(self, opening: Any) -> object:
        if inspect.isawaitable(opening):
            return await opening
        if hasattr(opening, "__aenter__"):
            self._held = Held(opening, self._home, self._ended)
            return await self._held.enter()
        raise InvalidType(
            "connect must be an async function, or return an async context manager; "
            f"it returned {type(opening).__name__} at once"
        )

    def _ended(self, error: BaseException) -> None:
        self.lost(error)
        self._drain()

    async def receive(self) -> None:
        """Receive one message, or the end."""
        assert self._transport is not None
        message: object
        try:
            message = await self._transport.receive()
        except BaseException as error:
            if not is_failure(error):
                raise
            message = error  # whatever was raised, the transport is broken
        self.received(message)

    async def send(self) -> bool:
        """Send the messages that are to be sent; return whether there were any."""
        assert self._transport is not None
        messages, close = self.take()
        try:
            for message in messages:
                await self._transport.send(message)
        except BaseException as error:
            if not is_failure(error):
                raise
            self.send_failed(error)
            self._drain()  # the session's deadline is another now
        if close is not None and self.dial.wanted:
            await self._close(close)
            self.closed(close)
        return bool(messages)

    async def close(self) -> None:
        """Close the transport, which is not wanted any more."""
        await self._close(self.final_close)

    async def _close(self, close: Close) -> None:
        # The transport stays: what arrives while it is being closed is read on until its end.
        transport, closing, self._closing = self._transport, self._closing, True
        if transport is not None and not closing:
            await self._home.finish(lambda: self._finish(transport, close))

    async def _finish(self, transport: MessageTransport, close: Close) -> None:
        try:
            await transport.close(close.code, close.reason)
        except BaseException as error:
            if not is_failure(error):
                if self._held is not None:
                    self._held.cancel()
                raise
            log.debug("closing a transport failed: %s", self.session.presentable(reason_of(error)))
        if self._held is not None:
            await self._held.leave()


def check_connect(connect: object) -> None:
    """Raise InvalidType unless ``connect`` is None or a function."""
    _check_called(connect)
    if connect is not None and not callable(connect):
        raise InvalidType(f"connect must be an async function that opens a transport, not {type(connect).__name__}")


def check_blocking_connect(connect: object) -> None:
    """Raise InvalidType unless ``connect`` is None or a plain function."""
    _check_called(connect)
    if connect is not None and (not callable(connect) or inspect.iscoroutinefunction(connect)):
        kind = "an async function" if callable(connect) else type(connect).__name__
        raise InvalidType(f"connect must be a plain function that returns a BlockingTransport, not {kind}")


def _check_called(connect: object) -> None:
    name = getattr(connect, "__name__", "")
    if getattr(connect, "__module__", "").startswith("limpet.connect.") and name.endswith("connector"):
        raise InvalidType(f"connect is what {name} makes: call it, connect={name}()")


def check_transport(transport: object) -> MessageTransport:
    """Raise InvalidType unless ``transport`` has the methods of a MessageTransport."""
    for name in ("send", "receive", "close"):
        if not callable(getattr(transport, name, None)):
            raise InvalidType(
                f"connect must return a MessageTransport, not {type(transport).__name__}: it has no method {name}"
            )
    return transport  # type: ignore[return-value]


def check_blocking_transport(transport: object) -> BlockingTransport:
    """Raise InvalidType unless ``transport`` has the methods of a BlockingTransport."""
    if inspect.iscoroutine(transport):
        transport.close()
        raise InvalidType("connect is async; this client needs a plain function that returns a BlockingTransport")
    for name in ("send", "receive", "close"):
        method = getattr(transport, name, None)
        if not callable(method) or inspect.iscoroutinefunction(method):
            what = f"its {name} is async" if callable(method) else f"it has no method {name}"
            raise InvalidType(f"connect must return a BlockingTransport, not {type(transport).__name__}: {what}")
    return transport  # type: ignore[return-value]
