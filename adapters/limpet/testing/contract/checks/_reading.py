"""Readers of streams for the checks, and streams for them to read."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import anyio

from limpet import (
    StreamChunk,
    StreamError,
)
from limpet.testing.contract.harness import Harness
from limpet.testing.contract.subject import GROUP, Stream, Streams, Subject
from limpet_core.service import StreamPlace, group_publication

READ: Any = ("read streams", "write streams")
LIMIT = 4


@dataclass
class Read:
    """What a reader got of a stream."""

    stream_id: str
    from_start: bool
    data: list[Any] = field(default_factory=list[Any])
    over: bool = False
    error: StreamError | None = None


async def read(stream: Stream, seen: list[Read]) -> None:
    """Read a stream to its end."""
    read = Read(stream.stream.stream_id, stream.stream.from_start)
    seen.append(read)
    try:
        async for chunk in stream:
            assert type(chunk) is StreamChunk
            fragment: StreamChunk = chunk
            read.data.append(fragment.data)
    except StreamError as error:
        read.error = error
    read.over = True


async def read_all(streams: Streams, seen: list[Read]) -> None:
    """Read all streams, each in a task of its own, until the client stops."""
    async with anyio.create_task_group() as tasks:
        async for stream in streams:
            tasks.start_soon(read, stream, seen)
    streams.close()


async def write_stream(writer: Subject, *data: Any, group: str = GROUP) -> str:
    """Write a whole stream, and return its id."""
    async with writer.writing(group) as stream:
        for each in data:
            await stream.write(each)
    return stream.stream_id


def say_fragments(harness: Harness, *places: StreamPlace, expires: float = math.inf) -> None:
    """Have the service publish fragments that no client writes, with their numbers as data."""
    messages = [
        group_publication(GROUP, None, "json", b'""' if place.end_of_stream else number, stream=place, expires=expires)
        for place in places
        for number in [b"%d" % place.stream_sequence_id]
    ]

    def say(service: Any, _: Any) -> None:
        for message in messages:
            service.core.send_to_group("chat", GROUP, message)

    harness.service.call(say)
