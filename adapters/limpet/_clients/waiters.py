"""Waiters: what callers wait for, a result or room, and how they get it."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Any, Protocol, TypeVar

from limpet import Ack, Acked, Event, Invoked, Reply, SendTimeout, Stopped

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)


class Waiter(Protocol[T_contra]):
    """One result, for one caller that waits for it; for example a ``Future``."""

    def done(self) -> bool: ...
    def set_result(self, result: T_contra, /) -> None: ...
    def set_exception(self, exception: BaseException, /) -> None: ...


class AsyncWaiter(Waiter[T], Protocol[T]):
    """A waiter to be awaited, once."""

    def __await__(self) -> Generator[Any, Any, T]: ...


def no_room(timeout: float | None) -> SendTimeout:
    """Return the error of a message without an ack for which there was no room in time."""
    text = f"the service is too far behind, and there was no room within timeout ({timeout or 0:g} s)"
    return SendTimeout(0, "Timeout", text, "unsent")


def settle_request(event: Acked, waiter: Waiter[Ack] | None) -> None:
    """Give the end of a request to its waiter."""
    if waiter is not None and not waiter.done():
        if event.error is None:
            waiter.set_result(Ack(event.ack_id, event.duplicate))
        else:
            waiter.set_exception(event.error)


def settle_invocation(event: Invoked) -> None:
    """Give the end of an invocation to its waiter."""
    waiter: Waiter[Reply] | None = event.user_data
    if waiter is not None and not waiter.done():
        if event.error is not None:
            waiter.set_exception(event.error)
        else:
            waiter.set_result(event.reply or Reply())


def answers(events: Iterable[Event]) -> list[Event]:
    """Return the events that calls wait for: each must arrive, whatever else was lost."""
    return [event for event in events if type(event) is Acked or type(event) is Invoked or type(event) is Stopped]
