"""Tasks that begin at once, as ``asyncio.eager_task_factory`` makes them from Python 3.12 on."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any


class _Rest:
    """A coroutine that has begun, and what it waits for."""

    def __init__(self, work: Coroutine[Any, Any, Any], awaited: Any) -> None:
        self._work = work
        self._awaited = awaited

    def __await__(self) -> Generator[Any, Any, Any]:
        awaited = self._awaited
        while True:
            try:
                sent = yield awaited
            except BaseException as error:  # noqa: BLE001 - it is for the coroutine
                step = lambda error=error: self._work.throw(error)  # noqa: E731
            else:
                step = lambda sent=sent: self._work.send(sent)  # noqa: E731
            try:
                awaited = step()
            except StopIteration as end:
                return end.value


def begun(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], **_: Any) -> asyncio.Future[Any]:
    """Begin ``work`` now; the rest is a task. For older Pythons: what is done at once is a future and no task."""
    try:
        awaited = work.send(None)
    except StopIteration as end:
        done = loop.create_future()
        done.set_result(end.value)
        return done

    async def rest() -> Any:
        return await _Rest(work, awaited)

    return asyncio.Task(rest(), loop=loop)


start_eagerly: Any = getattr(asyncio, "eager_task_factory", begun)
