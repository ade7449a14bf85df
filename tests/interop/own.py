"""Limpet's own clients under one interface that blocks, beside the official ones."""

from __future__ import annotations

import abc
import asyncio
import base64
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

from tests.helpers.waiting import LIMIT
from tests.interop.backend import Background
from tests.interop.events import Events

import limpet.asyncio
import limpet.sync
from limpet import Connected, Disconnected, GroupStatesChanged, Options, Recovered, StreamChunk, StreamError

OWN_KINDS = ("asyncio", "blocking")
Fragment = tuple[str, Any]
"""Data type and data; binary data is bytes."""


class OwnClient(abc.ABC):
    """One of Limpet's clients.

    Its `events` are ``connected``, ``recovered``, ``disconnected``, ``states`` (of groups), and what it reads of
    streams: ``stream-begin``, ``fragment`` and ``stream-end``, the latter two as `JavaScriptClient` tells them.
    """

    client: Any

    def __init__(self) -> None:
        self.events = Events()

    @property
    def connection_id(self) -> str:
        """The id of the newest connection."""
        newest: str = self.events.wait("connected")[-1].connection_id
        return newest

    def begin(self, method: Callable[..., Any], *arguments: Any, **options: Any) -> Future[Any]:
        """Call a method of the client, or of one of its streams; the future has what comes of it."""
        return self._begin(lambda: method(*arguments, **options))

    def do(self, method: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Call a method and wait for its result."""
        return self.begin(method, *arguments, **options).result(LIMIT)

    def start(self) -> OwnClient:
        """Connect."""
        for event_type, name in (
            (Connected, "connected"),
            (Recovered, "recovered"),
            (Disconnected, "disconnected"),
            (GroupStatesChanged, "states"),
        ):
            self.client.on(event_type, partial(self.events.add, name))
        self.do(self.client.start)
        self._begin_reading()
        self.events.wait("connected")
        return self

    def begin_stop(self) -> None:
        """Stop; repeats do nothing."""
        self.do(self.client.stop)

    def join(self, group: str) -> None:
        self.do(self.client.join_group, group)

    def open_stream(self, group: str, **options: Any) -> Any:
        """Open a stream, whose methods are for `do` and `begin`."""
        return self.do(self.client.open_stream, group, **options)

    @abc.abstractmethod
    def begin_writing(self, stream: Any, fragments: Iterable[Fragment]) -> Future[Any]:
        """Write fragments; the future is done when they are taken over."""

    def write(self, stream: Any, *fragments: Fragment) -> None:
        """Write fragments, and wait until they are taken over, which takes no connection."""
        self.begin_writing(stream, fragments).result(LIMIT)

    # ---- Inside

    @abc.abstractmethod
    def _begin(self, call: Callable[[], Any]) -> Future[Any]: ...

    @abc.abstractmethod
    def _begin_reading(self) -> None:
        """Read all streams from now on, each beside the others."""

    def _begun(self, stream: Any) -> None:
        told = {**_about(stream), "fromStart": stream.from_start}
        self.events.add("stream-begin", told)

    def _fragment(self, stream: Any, chunk: StreamChunk) -> None:
        data = base64.b64encode(chunk.data).decode() if chunk.data_type == "binary" else chunk.data
        told = {"number": chunk.sequence_id, "dataType": chunk.data_type, "data": data}
        self.events.add("fragment", {**_about(stream), **told, "fromUserId": stream.from_user_id})

    def _ended(self, stream: Any, error: StreamError | None = None) -> None:
        fault = error and {"name": error.name, "message": error.message, "code": error.code}
        self.events.add("stream-end", {**_about(stream), "error": fault})


def _about(stream: Any) -> dict[str, Any]:
    return {"group": stream.group, "streamId": stream.stream_id}


class AsyncioClient(OwnClient):
    """The asyncio client, in the event loop of the background."""

    def __init__(self, url: str, background: Background, options: Options | None = None) -> None:
        super().__init__()
        self._background = background
        self._reading: list[Future[Any]] = []
        self.client = limpet.asyncio.Client(url, options)

    def begin_stop(self) -> None:
        super().begin_stop()
        for reading in self._reading:
            reading.result(LIMIT)

    def _begin_reading(self) -> None:
        async def read(stream: limpet.asyncio.IncomingStream) -> None:
            try:
                async for chunk in stream:
                    self._fragment(stream, chunk)
            except StreamError as error:
                self._ended(stream, error)
            else:
                self._ended(stream)

        async def read_all(streams: limpet.asyncio.EventStream[limpet.asyncio.IncomingStream]) -> None:
            async with asyncio.TaskGroup() as readers:
                async for stream in streams:
                    self._begun(stream)
                    readers.create_task(read(stream))

        async def begin() -> Future[Any]:
            return self._begin(partial(read_all, self.client.streams()))

        self._reading.append(self._begin(begin).result(LIMIT))

    def _begin(self, call: Callable[[], Any]) -> Future[Any]:
        async def run() -> Any:
            return await call()

        return asyncio.run_coroutine_threadsafe(run(), self._background.loop)

    def begin_writing(self, stream: Any, fragments: Iterable[Fragment]) -> Future[Any]:
        async def write() -> None:
            for data_type, data in fragments:
                await stream.write(data, data_type=data_type)

        return self._begin(write)


class BlockingClient(OwnClient):
    """The blocking client, with threads for calls."""

    def __init__(self, url: str, options: Options | None = None) -> None:
        super().__init__()
        self._threads = ThreadPoolExecutor(40)
        self._reading: list[Future[Any]] = []
        self.client = limpet.sync.Client(url, options)

    def begin_stop(self) -> None:
        self.client.stop()
        for reading in self._reading:  # which grows no more at the end of the first
            reading.result(LIMIT)
        self._threads.shutdown()

    def _begin_reading(self) -> None:
        def read(stream: limpet.sync.IncomingStream) -> None:
            try:
                for chunk in stream:
                    self._fragment(stream, chunk)
            except StreamError as error:
                self._ended(stream, error)
            else:
                self._ended(stream)

        def read_all(streams: limpet.sync.EventStream[limpet.sync.IncomingStream]) -> None:
            for stream in streams:
                self._begun(stream)
                self._reading.append(self._begin(partial(read, stream)))

        self._reading.append(self._begin(partial(read_all, self.client.streams())))

    def _begin(self, call: Callable[[], Any]) -> Future[Any]:
        return self._threads.submit(call)

    def begin_writing(self, stream: Any, fragments: Iterable[Fragment]) -> Future[Any]:
        def write() -> None:
            for data_type, data in fragments:
                stream.write(data, data_type=data_type)

        return self._begin(write)
