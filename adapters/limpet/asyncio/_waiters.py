"""The waiters of requests on asyncio: tasks whose answers came in one read are woken by one step of the event loop.

A future calls each of its callbacks by a handle of its own, which is a fifth of what it costs to wait and to be woken.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextvars import Context
from typing import Any

Callback = Callable[["Waiter"], object]


class Waiter(asyncio.Future[Any]):
    """The result of a request, for the one task that waits for it.

    Attributes:
        callback: to be called when the result is here; None: nobody waits, or it was called.
        context: the context to call it in.
    """

    __slots__ = ("callback", "context")

    callback: Callback | None
    context: Context

    def add_done_callback(self, fn: Callback, /, *, context: Context | None = None) -> None:
        if context is None or self.done() or self.callback is not None:
            super().add_done_callback(fn, context=context)
        else:  # a task, and nobody else
            self.callback, self.context = fn, context

    def remove_done_callback(self, fn: Callback, /) -> int:
        removed = super().remove_done_callback(fn)
        if self.callback is not None and self.callback == fn:
            self.callback = None
            removed += 1
        return removed

    def set_result(self, result: Any, /) -> None:
        super().set_result(result)
        self.wake_soon()

    def set_exception(self, error: type[BaseException] | BaseException, /) -> None:
        super().set_exception(error)
        self.wake_soon()

    def cancel(self, msg: Any | None = None) -> bool:
        if not super().cancel(msg):
            return False
        self.wake_soon()
        return True

    def wake_soon(self) -> None:
        """Call the callback, in the event loop."""
        callback, self.callback = self.callback, None
        if callback is not None:
            self.get_loop().call_soon(callback, self, context=self.context)


def wake(loop: asyncio.AbstractEventLoop, waiters: Iterator[Waiter]) -> None:
    """Call the callbacks of all that have a result, in order; each wakes a task."""
    try:
        for waiter in waiters:
            callback = waiter.callback
            if callback is not None and waiter.done():
                waiter.callback = None
                waiter.context.run(callback, waiter)
    finally:
        if rest := list(waiters):  # a task was interrupted, by Ctrl-C for example
            loop.call_soon(wake, loop, iter(rest))


# For many at once, in place of the methods above: somebody calls wake() then.
set_result = asyncio.Future[Any].set_result
