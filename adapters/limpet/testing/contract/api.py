"""The methods that the contract calls on a client: what a client of your own must have."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from limpet import Ack, DataType, GroupMessage, GroupState, GroupStatesChanged, Reply, State, Stats, StreamChunk

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

    @property
    def stats(self) -> Stats:
        """``Session.stats``, with ``buffered``, ``dropped`` and ``connected_since`` as a client has them. A need."""
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

    def group_states(self, group: str, /) -> Mapping[str, GroupState]:
        """``Session.group_states``. A need: "group states"."""
        ...


class Answer(Protocol):
    """The future of a request of an async client. A need: "submit"."""

    def done(self) -> bool:
        """Return whether the answer is here, an error, or the request was given up."""
        ...

    def cancel(self) -> bool:
        """Give the request up, and take it back, if it was not sent; return False if it was done."""
        ...

    def __await__(self) -> Generator[Any, Any, Ack]: ...


class Submit(Protocol[T_co]):
    """Requests that are made at once, each with a future for its answer. A need: "submit"."""

    def join_group(self, group: str, /) -> T_co:
        """``Session.join_group``."""
        ...

    def leave_group(self, group: str, /) -> T_co:
        """``Session.leave_group``."""
        ...

    def send_to_group(
        self,
        group: str,
        data: Any,
        /,
        *,
        no_echo: bool = False,
        ack_id: int | None = None,
        timeout: float | None = None,
    ) -> T_co:
        """``Session.send_to_group``. TooManyRequests of the call itself."""
        ...

    def send_event(self, event: str, data: Any, /) -> T_co:
        """``Session.send_event``."""
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


class GroupStates(Protocol):
    """The states of a group, as a live mapping, and with ``async for`` their changes. A need: "group states"."""

    def __getitem__(self, connection_id: str, /) -> GroupState: ...

    def __iter__(self) -> Iterator[str]: ...

    def __len__(self) -> int: ...

    def __aiter__(self) -> AsyncIterator[GroupStatesChanged]: ...


class IncomingStream(EventStream[StreamChunk], Protocol):
    """A stream that an async client reads: the fragments in order, without gaps and duplicates. A need: "read streams".

    The publisher's end ends the iteration; StreamError for all else.
    """

    @property
    def group(self) -> str:
        """The group's name."""
        ...

    @property
    def stream_id(self) -> str:
        """The stream's id."""
        ...

    @property
    def from_user_id(self) -> str | None:
        """The publisher's user id."""
        ...

    @property
    def from_start(self) -> bool:
        """Whether its first fragment has arrived."""
        ...


class OutgoingStream(Protocol):
    """A stream that an async client writes. A need: "write streams".

    ``async with`` ends it, or aborts it with the text of the exception that leaves the block; an ``await`` opens it
    without a block. StreamError for all that the service or the loss of the connection does to it.
    """

    @property
    def stream_id(self) -> str:
        """The stream's id."""
        ...

    @property
    def acknowledged(self) -> int:
        """How many fragments the service has for certain."""
        ...

    @property
    def closed(self) -> bool:
        """Whether it is over."""
        ...

    def __await__(self) -> Generator[Any, Any, Self]: ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> object: ...

    async def write(self, data: Any, /, *, data_type: DataType | None = None, timeout: float | None = None) -> None:
        """Write a fragment as soon as there is room; one that is cancelled writes nothing."""
        ...

    async def flush(self, *, timeout: float | None = None) -> None:
        """Wait until the service has all that was written."""
        ...

    async def end(self, *, timeout: float | None = None) -> None:
        """End it behind its fragments; return when the service has closed it."""
        ...

    async def abort(self, message: str, code: str | None = None, *, timeout: float | None = None) -> None:
        """End it with an error for its readers; nothing happens if it is over."""
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

    @property
    def submit(self) -> Submit[Answer]:
        """Requests with futures. A need: "submit"."""
        ...

    async def join_group(self, group: str, /, *, ack_id: int | None = None, timeout: float | None = None) -> Ack:
        """Join; SendError if the service refuses, ClientStopped where nothing can be sent."""
        ...

    async def leave_group(self, group: str, /, *, ack_id: int | None = None, timeout: float | None = None) -> Ack:
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
        metadata: Mapping[str, str] | None = None,
        ttl: float | None = None,
        timeout: float | None = None,
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
        metadata: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Ack | None:
        """Send, and return the ack; None for ``ack=False``."""
        ...

    def open_stream(
        self,
        group: str,
        /,
        *,
        no_echo: bool = False,
        idle_timeout: float = 300.0,
        stream_id: str | None = None,
        timeout: float | None = None,
    ) -> OutgoingStream:
        """Return a stream to write, which is opened when it is awaited or entered. A need: "write streams"."""
        ...

    async def invoke(
        self,
        event: str,
        data: Any = None,
        /,
        *,
        data_type: DataType | None = None,
        metadata: Mapping[str, str] | None = None,
        timeout: float | None = None,
        invocation_id: str | None = None,
    ) -> Reply:
        """Call the event handler, and return its reply; InvocationError. A cancellation reaches the service.

        A need: "invocations".
        """
        ...

    def __aiter__(self) -> EventStream[Any]:
        """Iterate over the messages that nothing else takes. A need: "streams"."""
        ...

    def batches(self) -> EventStream[list[Any]]:
        """Iterate over the same, all messages that wait at a time. A need: "batches"."""
        ...

    def events(self, *types: type[T]) -> EventStream[T]:
        """Return a stream of these types, which takes events from now on. A need: "streams"."""
        ...

    def streams(self, group: str | None = None, *, from_start_only: bool = False) -> EventStream[IncomingStream]:
        """Iterate over the streams of a group, or of all, that begin from now on. A need: "read streams"."""
        ...

    def subscribe(
        self, group: str, /, *, timeout: float | None = None
    ) -> AbstractAsyncContextManager[EventStream[GroupMessage]]:
        """Join the group within a block, and stream its messages. A need: "streams"."""
        ...

    async def set_group_state(self, group: str, state: Mapping[str, str], /, *, timeout: float | None = None) -> Ack:
        """``Session.set_group_state``. A need: "group states"."""
        ...

    async def clear_group_state(self, group: str, /, *, timeout: float | None = None) -> Ack:
        """``Session.clear_group_state``. A need: "group states"."""
        ...

    async def subscribe_group_states(self, group: str, /, *, timeout: float | None = None) -> Ack:
        """``Session.subscribe_group_states``. A need: "group states"."""
        ...

    async def unsubscribe_group_states(self, group: str, /, *, timeout: float | None = None) -> Ack:
        """``Session.unsubscribe_group_states``. A need: "group states"."""
        ...

    def watch_group_states(
        self, group: str, /, *, timeout: float | None = None
    ) -> AbstractAsyncContextManager[GroupStates]:
        """Subscribe the states of the group within a block. Needs: "group states" and "streams"."""
        ...
