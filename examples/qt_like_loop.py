"""An event loop like Qt's over `selectors`, as small as can be, for examples/qt_like_client.py.

There is nothing to run: python examples/qt_like_loop.py shows this text.
"""

from __future__ import annotations

import heapq
import itertools
import math
import selectors
import socket
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any

now = time.monotonic


class EventLoop:
    """What Qt would bring along: `exec`, `quit`, timers, notifiers, and `post` for other threads."""

    def __init__(self) -> None:
        self.notifiers: dict[tuple[Any, int], Notifier] = {}
        self.timers: list[Any] = []
        self.order = itertools.count()
        self.posted: deque[Callable[[], object]] = deque()
        self.running = True
        self.waker, self.woken = socket.socketpair()

    def exec(self) -> None:
        with self.waker, self.woken:
            while self.running:
                due = self.timers[0][0] if self.timers else math.inf
                self.wait(None if due == math.inf else max(0.0, due - now()))
                while self.posted:
                    self.posted.popleft()()
                while self.timers and self.timers[0][0] <= now():
                    timer = heapq.heappop(self.timers)[2]
                    timer.fire()

    def wait(self, timeout: float | None) -> None:
        with selectors.DefaultSelector() as selector:
            events: dict[Any, int] = {self.woken: selectors.EVENT_READ}
            for sock, event in self.notifiers:
                events[sock] = events.get(sock, 0) | event
            for sock, mask in events.items():
                selector.register(sock, mask)
            ready = [(key.fileobj, event) for key, mask in selector.select(timeout) for event in (1, 2) if mask & event]
        if (self.woken, selectors.EVENT_READ) in ready:
            self.woken.recv(4096)
        for which in ready:
            if which in self.notifiers:
                self.notifiers[which].activated()

    def post(self, function: Callable[[], object]) -> None:
        self.posted.append(function)
        self.waker.send(b"x")

    def quit(self) -> None:
        self.running = False


class Notifier:
    """As QSocketNotifier: calls `activated` when the socket is ready, while it is enabled."""

    def __init__(self, loop: EventLoop, sock: socket.socket, event: int, activated: Callable[[], None]) -> None:
        self.loop, self.which, self.activated = loop, (sock, event), activated

    def set_enabled(self, enabled: bool) -> None:
        if enabled:
            self.loop.notifiers[self.which] = self
        else:
            self.loop.notifiers.pop(self.which, None)


class Timer:
    """As QTimer.singleShot, which can be stopped."""

    def __init__(self, loop: EventLoop, seconds: float, timeout: Callable[[], None]) -> None:
        self.timeout: Callable[[], None] | None = timeout
        heapq.heappush(loop.timers, (now() + seconds, next(loop.order), self))

    def stop(self) -> None:
        self.timeout = None

    def fire(self) -> None:
        if self.timeout is not None:
            self.timeout()


if __name__ == "__main__":
    sys.exit(__doc__)
