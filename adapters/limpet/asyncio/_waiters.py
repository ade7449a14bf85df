"""The waiters of requests on asyncio: tasks whose answers came in one read are woken by one step of the event loop.

A future calls each of its callbacks by a handle of its own: one step of the event loop for each task.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextvars import Context
from typing import Any

from limpet import Ack, Acked
from limpet._clients.waiters import AsyncWaiter

Callback = Callable[["Waiter"], object]

set_result = asyncio.Future[Any].set_result
"""The method that :class:`Waiter` overrides, for many at once: :func:`wake` is called then."""


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
        set_result(self, result)  # super() would cost as much again
        self.wake_soon()

    def set_exception(self, error: type[BaseException] | BaseException, /) -> None:
        super().set_exception(error)
        self.wake_soon()

    def cancel(self, msg: Any | None = None) -> bool:
        if super().cancel(msg):
            self.wake_soon()
            return True
        if self.callback is not None:
            # The result is here, and the wake is under way; if an interrupt came before that, it is not. So look later.
            self.get_loop().call_soon(self.wake_again)
        return False

    def wake_soon(self) -> None:
        """Call the callback, in the event loop."""
        callback = self.callback
        if callback is not None:
            self.get_loop().call_soon(callback, self, context=self.context)
            self.callback = None  # last: after an interrupt see wake_again()

    def wake_again(self) -> None:
        """Wake the task if its result is here, and it sleeps on: an interrupt came between the two.

        Call it behind all steps of the loop that may be there to wake it: a second wake would end another wait.
        """
        task = getattr(self.callback, "__self__", None)
        if self.done() and getattr(task, "_fut_waiter", None) is self:
            self.wake_soon()


def wake(loop: asyncio.AbstractEventLoop, waiters: Iterator[Waiter]) -> None:
    """Call the callbacks of all that have a result, in order; each wakes a task."""
    waiter: Waiter | None = None
    try:
        for waiter in waiters:
            callback = waiter.callback
            if callback is not None and waiter.done():
                waiter.callback = None
                waiter.context.run(callback, waiter)
    finally:
        rest = list(waiters)  # a task was interrupted, by Ctrl-C for example
        if waiter is not None and waiter.callback is not None:
            rest.insert(0, waiter)  # and that before it was woken
        if rest:
            loop.call_soon(wake, loop, iter(rest))


def settle(
    loop: asyncio.AbstractEventLoop,
    events: Iterable[Acked],
    waiting: dict[AsyncWaiter[Any], int | str],
    publishes: dict[int, AsyncWaiter[Ack]],
) -> None:
    """Give the ends of requests to their waiters, and wake the tasks together.

    Args:
        waiting, publishes: see :class:`limpet._clients.async_driver.AsyncDriver`; the waiters are taken out.
    """
    woken: list[Waiter] = []
    # First: an interrupt amid the rest leaves no task asleep whose result is set here. An error wakes its task itself.
    loop.call_soon(wake, loop, iter(woken))
    for event in events:
        ack_id = event.ack_id
        waiter: Any = event.user_data
        if waiter is not None:
            waiting.pop(waiter, None)
        elif (waiter := publishes.get(ack_id)) is None:
            continue
        if not waiter.done():
            if event.error is not None:
                waiter.set_exception(event.error)
            elif type(waiter) is Waiter:
                woken.append(waiter)
                set_result(waiter, Ack(ack_id, event.duplicate))
            else:
                waiter.set_result(Ack(ack_id, event.duplicate))
        if event.user_data is None:  # last: after an interrupt the answer is handed on again
            publishes.pop(ack_id, None)
