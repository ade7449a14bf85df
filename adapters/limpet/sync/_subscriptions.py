"""Streams that join a group and leave it, or subscribe the states of a group and unsubscribe them."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Generic, TypeVar

from limpet._clients.misuse import OnlyBlocking
from limpet._clients.streams import Subscription
from limpet._clients.typed import Decoder
from limpet.sync._portal import Portal
from limpet.sync._streams import EventStream, TypedIteration

T_co = TypeVar("T_co", covariant=True)


class Subscriptions:
    """The open subscriptions of a client, all of messages or all of states.

    Args:
        leave: makes the request to leave a group, or to unsubscribe its states; called in the driver's thread.
    """

    __slots__ = (
        "_leave",
        "_to_leave",
        "open",
    )

    def __init__(self, leave: Callable[[str], None]) -> None:
        self.open: dict[Subscription, None] = {}  # empty sets would take more
        self._leave = leave
        self._to_leave: dict[str, None] = {}

    def end(self, subscription: Subscription) -> None:
        """Close a subscription, in the driver's thread; the last one of a group leaves it, or unsubscribes its states.

        Repeats do nothing.
        """
        if subscription not in self.open:
            return
        self.open.pop(subscription, None)
        group = subscription.group
        if subscription.joined:
            self._to_leave[group] = None
        if group in self._to_leave and not any(other.group == group for other in self.open.copy()):
            self._to_leave.pop(group, None)
            self._leave(group)


class SubscriptionStream(EventStream[T_co]):
    """The events of one ``subscribe()`` or ``watch_group_states()`` of a group."""

    def __init__(self, subscription: Subscription, subscriptions: Subscriptions, portal: Portal) -> None:
        self.subscription: Subscription = subscription
        self._subscriptions = subscriptions
        super().__init__(subscription.buffer, portal)

    def _open(self) -> None:
        self._subscriptions.open[self.subscription] = None
        super()._open()

    def _closing(self, *threads: int) -> Callable[[], None]:
        close_buffer, portal = super()._closing(), self._portal
        subscription, subscriptions = self.subscription, self._subscriptions

        def close() -> None:
            close_buffer()
            if portal.running:
                portal.post(lambda: subscriptions.end(subscription))
            else:
                subscriptions.open.pop(subscription, None)

        return close


class TypedSubscriptionStream(TypedIteration, SubscriptionStream[T_co]):
    """The messages of one ``subscribe()`` of a group, whose data is decoded."""

    def __init__(
        self, decoder: Decoder, subscription: Subscription, subscriptions: Subscriptions, portal: Portal
    ) -> None:
        self.decoder = decoder
        super().__init__(subscription, subscriptions, portal)


class Subscribing(OnlyBlocking, Generic[T_co]):
    """The context manager that ``client.subscribe(group)`` returns.

    No generator: Python closes a generator that is interrupted before it goes on, and an exception of that is lost.
    """

    def __init__(self, make: Callable[[], SubscriptionStream[T_co]], join: Callable[[], object]) -> None:
        self._make = make
        self._join = join
        self._stream: SubscriptionStream[T_co] | None = None

    if not TYPE_CHECKING:  # type checkers refuse it by themselves

        def __iter__(self):
            raise TypeError("use `with ... as messages`, and in this block `for` over messages")

    def __enter__(self) -> EventStream[T_co]:
        self._stream = stream = self._make()
        try:
            with stream.subscription.joining():
                self._join()
            return stream
        except BaseException:
            stream.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None
