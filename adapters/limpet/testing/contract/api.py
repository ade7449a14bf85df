"""The methods that the contract calls on a client: what a client of your own must have."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from limpet import Ack, DataType, GroupMessage, State

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class ClientState(Protocol):
    """What every client tells of itself, and its callbacks."""

    @property
    def state(self) -> State:
        """``Session.state``."""
        ...

    @property
    def connection_id(self) -> str | None:
        """``Session.connection_id``."""
        ...

    @property
    def user_id(self) -> str | None:
        """``Session.user_id``."""
        ...

    @property
    def groups(self) -> frozenset[str]:
        """``Session.groups``."""
        ...

    def on(self, event_type: type[T], callback: Callable[[T], object], /) -> object:
        """Call ``callback`` with every event of that type, in order, one at a time, also before the first start.

        A need: "callbacks" (a callback of an async client may be an async function).

        Raises:
            InvalidType: ``callback`` cannot be called.
        """
        ...

    def off(self, event_type: type[Any], callback: Callable[[Any], object], /) -> None:
        """Undo ``on``. A need: "callbacks".

        Raises:
            LocalProtocolError: ``callback`` is not registered.
        """
        ...

    def check(self) -> None:
        """``Session.check``. A need: "check"."""
        ...


class EventStream(Protocol[T_co]):
    """A stream of events of an async client. A need: "streams"."""

    def __aiter__(self) -> AsyncIterator[T_co]: ...

    async def __anext__(self) -> T_co:
        """Return the next event; StopAsyncIteration after a stop, ConnectError when the client cannot go on."""
        ...

    def close(self) -> None:
        """Take no more events; from any thread."""
        ...


class AsyncClientApi(ClientState, Protocol):
    """A client for an event loop. Make one with ``make(url, options, ssl=...)``, see :class:`Adapter`.

    ``async with client:`` starts it, and stops it at the end. A start that fails raises
    :class:`limpet.ConnectError`, one that a stop has ended :class:`limpet.ClientStopped`.
    """

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> object: ...

    async def stop(self) -> None:
        """Stop, in any state; return when the connection is closed."""
        ...

    async def join_group(self, group: str, /, *, ack_id: int | None = None) -> Ack:
        """Join; SendError if the service refuses, ClientStopped where nothing can be sent."""
        ...

    async def leave_group(self, group: str, /, *, ack_id: int | None = None) -> Ack:
        """Leave."""
        ...

    async def send_to_group(
        self,
        group: str,
        data: Any,
        /,
        *,
        data_type: DataType | None = None,
        no_echo: bool = False,
        ack: Any = True,
        ack_id: int | None = None,
    ) -> Ack | None:
        """Send, and return the ack; None for ``ack=False``."""
        ...

    async def send_event(
        self,
        event: str,
        data: Any,
        /,
        *,
        data_type: DataType | None = None,
        ack: Any = True,
        ack_id: int | None = None,
    ) -> Ack | None:
        """Send, and return the ack; None for ``ack=False``."""
        ...

    def __aiter__(self) -> EventStream[Any]:
        """Iterate over the messages that nothing else takes. A need: "streams"."""
        ...

    def events(self, *types: type[T]) -> EventStream[T]:
        """Return a stream of these types, which takes events from now on. A need: "streams"."""
        ...

    def subscribe(self, group: str, /) -> AbstractAsyncContextManager[EventStream[GroupMessage]]:
        """Join the group within a block, and stream its messages. A need: "streams"."""
        ...


class BlockingEventStream(Protocol[T_co]):
    """A stream of events of a blocking client. A need: "streams"."""

    def __iter__(self) -> Iterator[T_co]: ...

    def next(self, timeout: float | None = None) -> T_co:
        """Return the next event. StopIteration and ConnectError as for the async ones; TimeoutError."""
        ...

    def close(self) -> None:
        """Take no more events; from any thread."""
        ...


class BlockingClientApi(ClientState, Protocol):
    """A client that blocks, for :class:`Blocking`: the same methods, to be called by any thread.

    A call with a ``timeout`` raises TimeoutError when that is over.
    """

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> object: ...

    def stop(self) -> None:
        """Stop, in any state; return when the connection is closed."""
        ...

    def join_group(self, group: str, /, *, ack_id: int | None = None, timeout: float | None = None) -> Ack:
        """Join; SendError if the service refuses, ClientStopped where nothing can be sent."""
        ...

    def leave_group(self, group: str, /, *, ack_id: int | None = None, timeout: float | None = None) -> Ack:
        """Leave."""
        ...

    def send_to_group(
        self,
        group: str,
        data: Any,
        /,
        *,
        data_type: DataType | None = None,
        no_echo: bool = False,
        ack: Any = True,
        ack_id: int | None = None,
        timeout: float | None = None,
    ) -> Ack | None:
        """Send, and return the ack; None for ``ack=False``."""
        ...

    def send_event(
        self,
        event: str,
        data: Any,
        /,
        *,
        data_type: DataType | None = None,
        ack: Any = True,
        ack_id: int | None = None,
        timeout: float | None = None,
    ) -> Ack | None:
        """Send, and return the ack; None for ``ack=False``."""
        ...

    def __iter__(self) -> BlockingEventStream[Any]:
        """Iterate over the messages that nothing else takes. A need: "streams"."""
        ...

    def events(self, *types: type[T]) -> BlockingEventStream[T]:
        """Return a stream of these types, which takes events from now on. A need: "streams"."""
        ...

    def subscribe(self, group: str, /) -> AbstractContextManager[BlockingEventStream[GroupMessage]]:
        """Join the group within a block, and stream its messages. A need: "streams"."""
        ...
