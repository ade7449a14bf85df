"""Streams that a client reads, for the clients whose methods are async."""

from __future__ import annotations

from types import TracebackType
from typing import Generic, Self

from limpet import StreamChunk
from limpet._clients.misuse import OnlyAsync
from limpet._clients.streams import EventStream
from limpet_core.client.incoming_streams import FollowedStream
from limpet_core.protocol.typed_data import DataT


class IncomingStream(OnlyAsync, Generic[DataT]):
    """The fragments of one stream, to iterate over with ``async for``; made by ``client.streams()``.

    The iteration gives each fragment as a :class:`limpet.StreamChunk`, in order, without gaps and without duplicates.
    It ends when the publisher has ended the stream. Whatever else ends the stream raises :class:`limpet.StreamError`,
    whose ``acknowledged`` is the number of fragments before it.

    A stream that is not read holds up the connection when too much waits: read it, or close it when it is not needed
    any more (leaving an ``async with`` or dropping the last reference does that, too).

    Attributes:
        group: the group's name.
        stream_id: the stream's id.
        from_user_id: the publisher's user id; None for an anonymous one.
        from_start: False: the stream was under way already when its first fragment arrived here.
    """

    def __init__(self, stream: FollowedStream, chunks: EventStream[StreamChunk[DataT]]) -> None:
        self.group: str = stream.group
        self.stream_id: str = stream.stream_id
        self.from_user_id: str | None = stream.from_user_id
        self.from_start: bool = stream.from_start
        self._chunks = chunks

    def __repr__(self) -> str:
        return f"<IncomingStream {self.stream_id!r} in the group {self.group!r}>"

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> StreamChunk[DataT]:
        return await self._chunks.__anext__()

    def close(self) -> None:
        """Let go of the stream: take no more fragments, and drop those that wait. Repeats do nothing."""
        self._chunks.close()

    async def aclose(self) -> None:
        """Do what :meth:`close` does, for ``contextlib.aclosing``."""
        self._chunks.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._chunks.close()
