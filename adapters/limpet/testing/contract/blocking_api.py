"""The methods that the contract calls on a blocking client: what a blocking client of your own must have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from limpet import Ack, DataType, GroupMessage, GroupState, GroupStatesChanged, Reply, StreamChunk
from limpet.testing.contract.api import ClientState, Submit

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class BlockingAnswer(Protocol):
    """The future of a request of a blocking client, as :class:`Answer`."""

    def done(self) -> bool:
        """As :meth:`Answer.done`."""
        ...

    def cancel(self) -> bool:
        """As :meth:`Answer.cancel`."""
        ...

    def result(self) -> Ack:
        """Wait for the answer; raise the error."""
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


class BlockingGroupStates(Protocol):
    """The states of a group, as a live mapping, and a stream of their changes. A need: "group states"."""

    @property
    def changes(self) -> BlockingEventStream[GroupStatesChanged]:
        """The changes since the subscription."""
        ...

    def __getitem__(self, connection_id: str, /) -> GroupState: ...

    def __iter__(self) -> Iterator[str]: ...

    def __len__(self) -> int: ...


class BlockingIncomingStream(BlockingEventStream[StreamChunk], Protocol):
    """A stream that a blocking client reads, as :class:`IncomingStream`."""

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


class BlockingOutgoingStream(Protocol):
    """A stream that a blocking client writes, as :class:`OutgoingStream`; it is open from the start."""

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

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> object: ...

    def write(self, data: Any, /, *, data_type: DataType | None = None, timeout: float | None = None) -> None:
        """Write a fragment as soon as there is room; one that raises TimeoutError has written nothing."""
        ...

    def flush(self, *, timeout: float | None = None) -> None:
        """Wait until the service has all that was written."""
        ...

    def end(self, *, timeout: float | None = None) -> None:
        """End it behind its fragments; return when the service has closed it."""
        ...

    def abort(self, message: str, code: str | None = None, *, timeout: float | None = None) -> None:
        """End it with an error for its readers; nothing happens if it is over."""
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

    @property
    def submit(self) -> Submit[BlockingAnswer]:
        """Requests with futures. A need: "submit"."""
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
        metadata: Mapping[str, str] | None = None,
        ttl: float | None = None,
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
    ) -> BlockingOutgoingStream:
        """Open a stream to write. A need: "write streams"."""
        ...

    def invoke(
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
        """Call the event handler, and return its reply; InvocationError. InvocationTimeout after ``timeout``.

        A need: "invocations".
        """
        ...

    def __iter__(self) -> BlockingEventStream[Any]:
        """Iterate over the messages that nothing else takes. A need: "streams"."""
        ...

    def events(self, *types: type[T]) -> BlockingEventStream[T]:
        """Return a stream of these types, which takes events from now on. A need: "streams"."""
        ...

    def streams(
        self, group: str | None = None, *, from_start_only: bool = False
    ) -> BlockingEventStream[BlockingIncomingStream]:
        """Iterate over the streams of a group, or of all, that begin from now on. A need: "read streams"."""
        ...

    def subscribe(
        self, group: str, /, *, timeout: float | None = None
    ) -> AbstractContextManager[BlockingEventStream[GroupMessage]]:
        """Join the group within a block, and stream its messages. A need: "streams"."""
        ...

    def set_group_state(self, group: str, state: Mapping[str, str], /, *, timeout: float | None = None) -> Ack:
        """``Session.set_group_state``. A need: "group states"."""
        ...

    def clear_group_state(self, group: str, /, *, timeout: float | None = None) -> Ack:
        """``Session.clear_group_state``. A need: "group states"."""
        ...

    def subscribe_group_states(self, group: str, /, *, timeout: float | None = None) -> Ack:
        """``Session.subscribe_group_states``. A need: "group states"."""
        ...

    def unsubscribe_group_states(self, group: str, /, *, timeout: float | None = None) -> Ack:
        """``Session.unsubscribe_group_states``. A need: "group states"."""
        ...

    def watch_group_states(
        self, group: str, /, *, timeout: float | None = None
    ) -> AbstractContextManager[BlockingGroupStates]:
        """Subscribe the states of the group within a block. Needs: "group states" and "streams"."""
        ...
