"""Outbox: requests on their way to the open transport, and in flight on it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from limpet_core.client.request import HANDED, NEW_PUBLISH, ORDINARY, QUEUED, SENT, SENT_PUBLISH, Request

_WINDOW: Final = 500
"""The most requests in flight at a time.

The service remembers the last 1000 ack ids that it executed (client-spec 3.1.2): with more in flight, a repeat after a
recovery could be executed again. The service also drops a connection with 1000 unacknowledged messages: those that a
burst of publishes to the client's own group brings back must be acknowledged before more are published.
"""

_GAPS: Final = 32
"""Settled requests that may stay in the queue before it is cleared of them."""


class Outbox:
    """A queue of requests for the open transport, with a window for the requests that wait for their answer.

    Attributes:
        queue: the requests to send, in order.
        in_flight: how many requests the open transport has whose answer is awaited.
        repeats: repeats of requests in flight, to send first; the window does not hold them up. None: there are none.
    """

    __slots__ = ("_gaps", "in_flight", "queue", "repeats")

    def __init__(self) -> None:
        # Lists: a deque takes 0.7 KiB, even empty.
        self.queue: list[Request] = []
        self.repeats: list[Request] | None = None
        self.in_flight: int = 0
        self._gaps = 0  # requests of the queue that were settled before they could be sent

    @property
    def full(self) -> bool:
        """Whether the window is full."""
        return self.in_flight >= _WINDOW

    def put(self, request: Request) -> None:
        """Queue a request. Repeats do nothing."""
        if not request.queued:
            request.queued = True
            if not request.in_flight:
                self.queue.append(request)
            elif self.repeats is None:
                self.repeats = [request]
            else:
                self.repeats.append(request)

    def take(self) -> tuple[list[bytes], list[Request]]:
        """Return the payloads to send now, in order; from here on their requests count as handed to the transport.

        Returns:
            The payloads, and those of their requests that no answer is awaited for.
        """
        payloads: list[bytes] = []
        append = payloads.append
        untracked: list[Request] = []
        if self.repeats is not None:
            for request in self.repeats:
                if request.in_flight:  # else answered since
                    request.queued = False
                    request.copies = True
                    append(request.payload)
            self.repeats = None
        done, room = 0, _WINDOW - self.in_flight
        for request in self.queue:
            if request.flags == NEW_PUBLISH:  # what nearly all are, in fewer steps
                if room <= 0:
                    break
                room -= 1
                request.flags = SENT_PUBLISH
                append(request.payload)
            elif request.flags & QUEUED:  # and not in flight: such a request is in `repeats`
                if request.key <= 0:
                    untracked.append(request)
                    request.flags = HANDED
                elif room > 0:
                    room -= 1
                    request.flags = request.flags & ORDINARY | SENT
                else:
                    break
                append(request.payload)
            done += 1
        self.in_flight = _WINDOW - room
        del self.queue[:done]
        return payloads, untracked

    def remove(self, request: Request) -> None:
        """Remove a request that is answered or settled."""
        if request.in_flight:
            self.in_flight -= 1
        elif request.queued:
            self._gaps += 1
            if 2 * self._gaps > len(self.queue) + _GAPS:
                self.queue = [waiting for waiting in self.queue if waiting.queued and waiting is not request]
                self._gaps = 0
        request.queued = request.in_flight = False

    def transport_lost(self, requests: Iterable[Request]) -> None:
        """Forget the queue, and that ``requests`` were in it or in flight: the transport is lost."""
        for request in requests:
            request.queued = request.in_flight = request.copies = False
            request.carried = request.handed
        self.queue.clear()
        self.repeats = None
        self.in_flight = self._gaps = 0
