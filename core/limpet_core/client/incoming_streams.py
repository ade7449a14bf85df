"""Incoming streams: the group messages that are fragments of streams, sorted by stream (client-spec 3.6.5)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from limpet_core.errors import StreamError
from limpet_core.protocol.messages import GroupMessage, StreamFault, StreamInfo
from limpet_core.protocol.typed_data import DataT, WithData

MAX_STREAMS: Final = 1024
"""Streams under way that are remembered at a time, and as many that have ended."""

MAX_KEY: Final = 4096
"""Characters of a group's name and a stream's id together. A longer one is not followed: remembered names take room."""

_MEANINGS: Final = {
    "UserError": "the publisher ended the stream with an error",
    "IdleTimeout": "the service has not heard of the stream for too long",
    "Cancelled": "the publisher has lost its connection",
    "Forbidden": "the publisher may not publish to the group any more",
    "InternalServerError": "the service has failed",
}
"""What the names of errors mean, where the service says nothing."""


class StreamChunk(WithData[DataT], msgspec.Struct, frozen=True, gc=False):
    """A fragment of a stream, as its reader gets it.

    Attributes:
        data: str for ``text``, bytes for ``binary`` and ``protobuf``, the JSON value for ``json``; for a data type of
            the future whatever JSON value was sent.
        data_type: ``text``, ``json``, ``binary``, ``protobuf``, or a name of the future.
        sequence_id: the position in the stream, from 1.
    """

    data: DataT
    data_type: str
    sequence_id: int


class FollowedStream:
    """A stream, as far as this client has seen it.

    Attributes:
        group: the group's name.
        stream_id: the stream's id.
        from_user_id: the publisher's user id, or None.
        from_start: whether its first fragment was seen.
        next_id: the sequence id that continues it.
        chunks: how many fragments were seen.
        over: no more fragments are wanted: it has ended or failed.
        missed: how many messages had been missed when the last fragment came.
        user_data: the caller's.
    """

    __slots__ = ("chunks", "from_start", "from_user_id", "group", "missed", "next_id", "over", "stream_id", "user_data")

    def __init__(self, message: GroupMessage, info: StreamInfo) -> None:
        self.group: str = message.group
        self.stream_id: str = info.stream_id
        self.from_user_id: str | None = message.from_user_id
        self.from_start: bool = info.sequence_id == 1
        self.next_id: int = info.sequence_id
        self.chunks: int = 0
        self.over: bool = False
        self.missed: int = 0
        self.user_data: Any = None


class Begun(msgspec.Struct, frozen=True):
    """A stream is seen for the first time; its first fragment or its end follows."""

    stream: FollowedStream


class Extended(msgspec.Struct, frozen=True):
    """The next fragment of a stream."""

    stream: FollowedStream
    chunk: StreamChunk


class Over(msgspec.Struct, frozen=True):
    """The end of a stream, once for each that has begun; ``error`` is None if its publisher simply ended it."""

    stream: FollowedStream
    error: StreamError | None


News = Begun | Extended | Over


class IncomingStreams:
    """Sorts the fragments that a client receives by group and stream id; never raises.

    A fragment of an unknown stream begins it. The next sequence id continues it; a smaller one is a duplicate, and is
    dropped; a greater one, or an end that is not the next, is a gap: the stream fails, and the rest of it is skipped.
    So what a reader gets of a stream has no gap and no duplicate.

    Where messages were missed, the end of a stream may be among them, and the beginning of another one under its id. So
    a stream fails at the number n, too, if at least n messages were missed since its last fragment: its end and the
    fragments before n.

    After the end of a stream, sequence id 1 begins another one under the same id, since publishers may use an id again;
    all else is dropped. One stream too many fails the one that was silent for longest, with ``TooManyStreams``, and its
    rest is skipped. Of as many that have ended or failed so, the first one is forgotten.

    Args:
        from_start_only: leave out streams whose first fragment was not seen.
        quote: prepares a text of the service for an error.
        most: how many streams under way to remember, and how many that have ended.
    """

    __slots__ = ("_ended", "_from_start_only", "_missed", "_most", "_quote", "_under_way")

    def __init__(
        self, *, from_start_only: bool = False, quote: Callable[[str], str] = str, most: int = MAX_STREAMS
    ) -> None:
        self._from_start_only = from_start_only
        self._quote = quote
        self._most = most
        self._missed = 0  # messages, so far
        self._under_way: dict[tuple[str, str], FollowedStream] = {}  # in the order of their last fragments
        self._ended: dict[tuple[str, str], None] = {}  # in the order of their ends

    def __len__(self) -> int:
        """How many streams are remembered."""
        return len(self._under_way) + len(self._ended)

    def receive(self, message: GroupMessage) -> list[News]:
        """Take in the next group message, in the order of events; return what is new of which streams."""
        news: list[News] = []
        info = message.stream
        if info is None:
            return news
        key = (message.group, info.stream_id)
        stream = self._under_way.pop(key, None)
        if stream is not None and self._missed - stream.missed >= info.sequence_id:
            if not stream.over:
                why = "messages were missed, and the end of the stream may be among them; the rest of it is skipped"
                news.append(_fail(stream, "Gap", why))
            if info.sequence_id == 1:
                stream = None
        if stream is None:
            stream = self._begin(key, message, info, news)
            if stream is None:
                return news
        if stream.over:
            stream.missed = self._missed  # it goes on, though nobody reads it
        else:
            self._extend(stream, message, info, news)
        if info.end:
            self._remember_end(key)
        else:
            self._under_way[key] = stream
        return news

    def missed(self, count: int) -> None:
        """Note that so many messages were missed, see :class:`limpet.MessagesMissed`."""
        self._missed += count

    def disconnected(self, reason: str = "") -> list[News]:
        """Note that the connection is lost for good: all streams fail, and are forgotten."""
        why = f"the connection was lost: {reason}" if reason else "the connection was lost"
        failed: list[News] = [_fail(each, "Disconnected", why) for each in self._under_way.values() if not each.over]
        self._under_way.clear()
        self._ended.clear()
        return failed

    def _begin(
        self, key: tuple[str, str], message: GroupMessage, info: StreamInfo, news: list[News]
    ) -> FollowedStream | None:
        """Return a new stream, if the message begins one."""
        if info.sequence_id != 1 and (self._from_start_only or key in self._ended):
            return None
        if len(message.group) + len(info.stream_id) > MAX_KEY:
            return None
        self._ended.pop(key, None)
        if len(self._under_way) >= self._most:
            self._skip_quietest(news)
        stream = FollowedStream(message, info)
        news.append(Begun(stream))
        return stream

    def _remember_end(self, key: tuple[str, str]) -> None:
        self._ended[key] = None
        if len(self._ended) > self._most:
            del self._ended[next(iter(self._ended))]

    def _skip_quietest(self, news: list[News]) -> None:
        key = next(iter(self._under_way))
        quietest = self._under_way.pop(key)
        self._remember_end(key)  # else its next fragment would begin it anew, and fail the next one
        if not quietest.over:
            why = f"no more than {self._most} streams are followed at a time, and this one was silent for longest"
            news.append(_fail(quietest, "TooManyStreams", why))

    def _extend(self, stream: FollowedStream, message: GroupMessage, info: StreamInfo, news: list[News]) -> None:
        sequence_id, expected = info.sequence_id, stream.next_id
        if sequence_id < expected and not info.end:
            return
        stream.missed = self._missed
        if sequence_id != expected:
            what = "the end" if info.end else "the fragment"
            why = f"{what} has the number {sequence_id} in place of {expected}; the rest of the stream is skipped"
            news.append(_fail(stream, "Gap", why))
            return
        if not info.end or message.data:  # the end has empty data, unless a service of the future fills it
            stream.chunks += 1
            news.append(Extended(stream, StreamChunk(message.data, message.data_type, sequence_id)))
        stream.next_id = sequence_id + 1
        if info.end:
            stream.over = True
            news.append(Over(stream, None if info.error is None else self._error(info.error, stream.chunks)))

    def _error(self, fault: StreamFault, chunks: int) -> StreamError:
        name, code = self._quote(fault.name), fault.user_error_code
        message = self._quote(fault.message) or _MEANINGS.get(name, "the service gave no reason")
        return StreamError(name, message, chunks, None if code is None else self._quote(code))


def _fail(stream: FollowedStream, name: str, why: str) -> Over:
    stream.over = True
    return Over(stream, StreamError(name, why, stream.chunks))
