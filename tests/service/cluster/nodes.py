"""Nodes that append numbered entries and read the log, as those of a cluster do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from typing import Any

from tests.helpers.waiting import LIMIT

from limpet.service.cluster import START, Log, LogEntry, LogId
from limpet.service.cluster.redis import RedisLog

PATIENT = 10.0
"""Seconds for ``answer_timeout`` and ``wait``: a busy machine is no silent server."""


def run(
    scenario: Callable[[], Coroutine[Any, Any, None]],
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
    limit: float = 2 * LIMIT,
) -> None:
    async def bounded() -> None:
        try:
            async with asyncio.timeout(limit):
                await scenario()
        finally:
            while _OPENED:
                await _OPENED.pop().close()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(bounded())


_OPENED: list[RedisLog] = []


async def opened(url: str, **options: Any) -> RedisLog:
    """Open a log that is closed in the end, also if the test fails."""
    log = await RedisLog.open(url, **({"answer_timeout": PATIENT, "wait": LIMIT} | options))
    _OPENED.append(log)
    return log


class Node:
    """Appends ``name:number`` and reads everything; ``counted`` is what the rule of contiguous numbers leaves."""

    def __init__(self, log: Log, name: str) -> None:
        self.log = log
        self.name = name
        self.number = 0
        self.raw: list[LogEntry] = []
        self.counted: list[str] = []
        self.last: dict[str, int] = {}
        self.error: Exception | None = None
        self.task: asyncio.Task[None] | None = None

    def append(self, count: int = 1, size: int = 0) -> None:
        for _ in range(count):
            self.number += 1
            self.log.append(f"{self.name}:{self.number}:".encode() + b"." * size)

    def start(self, after: LogId = START) -> None:
        self.task = asyncio.create_task(self._read(after))

    async def _read(self, after: LogId) -> None:
        try:
            async with aclosing(self.log.read(after)) as pages:
                async for page in pages:
                    for entry in page:
                        self._take(entry)
        except Exception as error:  # noqa: BLE001 - the test looks at it
            self.error = error

    def _take(self, entry: LogEntry) -> None:
        if self.raw:
            assert entry.id > self.raw[-1].id
            assert entry.time >= self.raw[-1].time
        self.raw.append(entry)
        name, number, _ = entry.data.decode().split(":")
        if int(number) == self.last.get(name, 0) + 1:
            self.last[name] = int(number)
            self.counted.append(f"{name}:{number}")

    async def until_read(self, *nodes: Node) -> None:
        """Wait until all that these nodes have appended counts here."""
        await until(lambda: self.error or all(self.last.get(each.name, 0) == each.number for each in nodes or (self,)))
        assert self.error is None, self.error

    async def leave(self) -> None:
        if self.task is not None:
            self.task.cancel()
            await asyncio.wait([self.task])
        await self.log.close()


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(LIMIT):
        while not true():  # noqa: ASYNC110 - nothing tells when
            await asyncio.sleep(0.01)
