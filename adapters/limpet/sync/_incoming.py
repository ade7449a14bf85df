"""Streams that the blocking client reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic

from limpet import StreamChunk
from limpet._clients.incoming_buffers import Fragments, StreamsBuffer
from limpet._clients.typed import Decoder
from limpet.sync._portal import Portal
from limpet.sync._streams import EventStream, TypedIteration, wake_reader
from limpet_core.client.incoming_streams import FollowedStream
from limpet_core.protocol.typed_data import DataT


class IncomingStream(EventStream[StreamChunk[DataT]], Generic[DataT]):
    """The fragments of one stream, to iterate over with ``for``; made by ``client.streams()``.

    The iteration gives each fragment as a :class:`limpet.StreamChunk`, in order, without gaps and without duplicates.
    It ends when the publisher has ended the stream. Whatever else ends the stream raises :class:`limpet.StreamError`,
    whose ``acknowledged`` is the number of fragments before it.

    A stream that is not read holds up the connection when too much waits: read it, or close it when it is not needed
    any more (leaving a ``with`` or dropping the last reference does that, too).

    Attributes:
        group: the group's name.
        stream_id: the stream's id.
        from_user_id: the publisher's user id; None for an anonymous one.
        from_start: False: the stream was under way already when its first fragment arrived here.
    """

    def __init__(self, stream: FollowedStream, fragments: Fragments, portal: Portal) -> None:
        self.group: str = stream.group
        self.stream_id: str = stream.stream_id
        self.from_user_id: str | None = stream.from_user_id
        self.from_start: bool = stream.from_start
        super().__init__(fragments, portal)

    def __repr__(self) -> str:
        return f"<IncomingStream {self.stream_id!r} in the group {self.group!r}>"

    def _open(self) -> None:
        """Do nothing: the fragments come from a buffer that is open already."""


class TypedIncomingStream(TypedIteration, IncomingStream[DataT]):
    """The fragments of one stream, whose data is decoded."""

    def __init__(self, decoder: Decoder, stream: FollowedStream, fragments: Fragments, portal: Portal) -> None:
        self.decoder = decoder
        super().__init__(stream, fragments, portal)


class AllStreams(EventStream[IncomingStream[DataT]]):
    """The streams of one ``client.streams()``."""

    def __init__(self, streams: StreamsBuffer, portal: Portal) -> None:
        super().__init__(streams, portal)

    def _closing(self, *threads: int) -> Callable[[], None]:
        """Leave the buffer open for streams that are being read."""
        buffer, portal = self._buffer, self._portal

        def close() -> None:
            if portal.running or buffer.full:
                portal.post(close_in_thread)
            else:
                buffer.delivery.buffers.discard(buffer)
                buffer.items.clear()

        def close_in_thread() -> None:
            buffer.close()
            wake_reader(buffer)

        return close
