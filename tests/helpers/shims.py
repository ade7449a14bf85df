"""Limpet's own clients as drivers: their session and their drain, without the methods that wait."""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

import anyio
import anyio.from_thread
import anyio.lowlevel
from tests.helpers.home import instead_of_deliver
from tests.helpers.waiting import LIMIT

from limpet import Event, LocalProtocolError, Options, State
from limpet.sync._calls import Call
from limpet.testing.conformance import Candidate, Url


class Shim:
    """A client whose driver is called directly; the subclasses know where a start runs, and how to drain."""

    def __init__(self, client: Any, handle: Callable[[Event], None]) -> None:
        self.client = client
        self.inner = client._driver
        self.session = self.inner.session
        self.lock: Any = nullcontext()
        self._closed = False
        deliver = self.inner.delivery.deliver

        def tap(events: Any) -> None:
            for event in events:
                if not self._closed:
                    handle(event)
            deliver(events)

        instead_of_deliver(self.inner.delivery, tap)

    # ---- Differences

    def _run(self) -> None:
        raise NotImplementedError

    def _drain(self) -> None:
        raise NotImplementedError

    # ---- The driver

    @property
    def state(self) -> State:
        return self.session.state

    def start(self) -> None:
        if self.state is not State.STOPPED:
            raise LocalProtocolError(f"it is {self.state.value}")
        self._run()

    def stop(self) -> None:
        with self.lock:
            self.session.stop(self.inner.now())
            self._drain()

    def _request(self, method: str, *args: Any, **named: Any) -> Any:
        with self.lock:
            result = getattr(self.session, method)(*args, self.inner.now(), **named)
            self._drain()
            return result

    def join_group(self, group: str) -> int:
        return self._request("join_group", group)

    def leave_group(self, group: str) -> int:
        return self._request("leave_group", group)

    def send_to_group(self, group: str, data: Any, *, ack: bool = True) -> int | None:
        return self._request("send_to_group", group, data, ack=ack)

    def send_event(self, event: str, data: Any, *, ack: bool = True) -> int | None:
        return self._request("send_event", event, data, ack=ack)

    def pause(self) -> None:
        with self.lock:
            self.inner.delivery.hold()

    def resume(self) -> None:
        with self.lock:
            self.inner.delivery.release()

    def close(self) -> None:
        with self.lock:
            self._closed = True
            self.session.stop(self.inner.now())
            self.session.disconnected(self.inner.now())
            self._drain()


class Async(Shim):
    """A client on an event loop, in whose thread it is called."""

    def __init__(self, client: Any, handle: Callable[[Event], None], spawn: Callable[..., object]) -> None:
        super().__init__(client, handle)
        self._spawn = spawn

    def _run(self) -> None:
        self._spawn(self._live)

    async def _live(self) -> None:
        with suppress(Exception):  # told by Stopped
            await (self.client.run() if hasattr(self.client, "run") else self.client.start())

    def _drain(self) -> None:
        self.inner.drain()


class Blocking(Shim):
    """The blocking client, called by any thread."""

    def __init__(self, client: Any, handle: Callable[[Event], None]) -> None:
        super().__init__(client, handle)
        self.lock = self.inner.lock

    def _run(self) -> None:
        def start() -> None:
            with suppress(Exception):  # told by Stopped
                self.client.start()

        thread = threading.Thread(target=start, name="limpet-shim", daemon=True)
        thread.start()
        while not self.inner.worker.inside() and self.state is State.STOPPED and thread.is_alive():
            time.sleep(0.001)

    def stop(self) -> None:
        with self.lock:
            self.inner.stop(None, Call())
            self._drain()

    def _drain(self) -> None:
        self.inner.called()


def make_client(name: str, url: Url, options: Options) -> Any:
    return importlib.import_module(f"limpet.{name}").Client(url, options, proxy=False)


def blocking() -> Candidate:
    return Candidate("sync", lambda url, options, handle: Blocking(make_client("sync", url, options), handle))


@contextmanager
def in_a_loop(name: str, backend: str) -> Iterator[Candidate]:
    """A client on an event loop that runs in a thread of its own, within the block."""
    with anyio.from_thread.start_blocking_portal(backend) as portal:

        async def hold() -> None:
            nonlocal tasks
            async with anyio.create_task_group() as tasks:
                ready.set()
                await over.wait()
                tasks.cancel_scope.cancel()

        async def make_event() -> anyio.Event:
            return anyio.Event()

        tasks: Any = None
        ready = threading.Event()
        over = portal.call(make_event)
        held = portal.start_task_soon(hold)
        assert ready.wait(LIMIT)

        def make(url: Url, options: Options, handle: Callable[[Event], None]) -> Async:
            return Async(make_client(name, url, options), handle, tasks.start_soon)

        async def run(function: Callable[[], Any]) -> Any:
            try:
                return function()
            finally:
                await anyio.lowlevel.checkpoint()  # a task that was spawned has begun

        try:
            yield Candidate(name, make, lambda function: portal.call(run, function))
        finally:
            portal.call(over.set)
            held.result(LIMIT)
