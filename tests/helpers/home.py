"""The driver of a delivery, as far as the delivery knows it."""

from __future__ import annotations

from collections.abc import Callable, Collection

from limpet import Acked, Connected, Event, Invoked, Stopped
from limpet._clients.delivery import Delivery


class Home:
    """Takes what a delivery tells its driver.

    Args:
        ready: called with whether consumers are ready; None: nobody asks.

    Attributes:
        settled: the ends of requests and invocations, in order.
    """

    def __init__(self, ready: Callable[[bool], object] | None = None) -> None:
        self._ready = ready
        self.settled: list[Acked | Invoked] = []

    def consumers_ready(self, ready: bool) -> None:
        if self._ready is not None:
            self._ready(ready)

    def settle(self, event: Connected | Stopped) -> None: ...

    def settle_requests(self, events: Collection[Acked]) -> None:
        self.settled += events

    def settle_invocation(self, event: Invoked) -> None:
        self.settled.append(event)

    def raise_later(self, error: BaseException) -> None:
        raise error


def instead_of_deliver(delivery: Delivery, deliver: Callable[[Collection[Event]], None]) -> None:
    """Have ``deliver`` called with the events of one client in place of the method of its delivery."""

    class Replaced(type(delivery)):  # type: ignore[misc]
        __slots__ = ()

        def deliver(self, events: Collection[Event]) -> None:
            deliver(events)

    delivery.__class__ = Replaced
