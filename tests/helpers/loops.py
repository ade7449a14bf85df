"""Event loops of others, each in a thread of its own, with the drivers of the examples as candidates."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

from tests.helpers.browser import modules
from tests.helpers.waiting import LIMIT

from limpet.testing.conformance import Candidate, Need

EXAMPLES = Path(__file__).parents[2] / "examples"
BROWSER_LACKS: frozenset[Need] = frozenset(("pause", "status", "close codes", "size limit"))


def example(name: str) -> ModuleType:
    """Import an example."""
    spec = importlib.util.spec_from_file_location(f"examples_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    with mock.patch.object(sys, "path", [str(EXAMPLES), *sys.path]):  # as for a script
        spec.loader.exec_module(module)
    return module


def caller(post: Callable[[Callable[[], None]], object]) -> Callable[[Callable[[], Any]], Any]:
    """Return a function that calls another one in an event loop, and waits; ``post`` has the loop call it soon."""

    def call(function: Callable[[], Any]) -> Any:
        future: Future[Any] = Future()

        def run() -> None:
            try:
                future.set_result(function())
            except BaseException as error:  # noqa: BLE001 - raised where it was asked for
                future.set_exception(error)

        post(run)
        return future.result(LIMIT)

    return call


@contextmanager
def thread(run: Callable[[], object], end: Callable[[], object]) -> Iterator[None]:
    """Run an event loop within the block."""
    running = threading.Thread(target=run, name="limpet-loop", daemon=True)
    running.start()
    try:
        yield
    finally:
        end()
        running.join(LIMIT)
        assert not running.is_alive()


@contextmanager
def twisted() -> Iterator[Candidate]:
    """Once in a process: a reactor cannot be started again."""
    module = example("twisted_client")
    reactor = module.reactor
    with thread(lambda: reactor.run(installSignalHandlers=False), lambda: reactor.callFromThread(reactor.stop)):
        yield Candidate("twisted", module.Client, caller(reactor.callFromThread))


@contextmanager
def gevent() -> Iterator[Candidate]:
    """A hub; each call has a greenlet of its own."""
    import gevent as library
    from gevent.event import Event

    module = example("gevent_client")
    ready = threading.Event()
    posted: deque[Callable[[], None]] = deque()
    over: Any = None
    watcher: Any = None

    def run() -> None:
        nonlocal over, watcher
        hub = library.get_hub()
        over, watcher = Event(), hub.loop.async_()
        watcher.start(lambda: [library.spawn(posted.popleft()) for _ in range(len(posted))])
        ready.set()
        over.wait()
        watcher.close()
        hub.destroy(destroy_loop=True)

    def post(function: Callable[[], None]) -> None:
        assert ready.wait(LIMIT)
        posted.append(function)
        watcher.send()

    with thread(run, lambda: post(over.set)):
        yield Candidate("gevent", module.Client, caller(post))


@contextmanager
def tornado() -> Iterator[Candidate]:
    """An IOLoop."""
    from tornado.ioloop import IOLoop
    from tornado.websocket import WebSocketClientConnection

    module = example("tornado_client")
    # Its warning comes for every handshake that fails, too, long after that. Open sockets are counted all the same.
    quiet = mock.patch.object(WebSocketClientConnection, "__del__", lambda _: None)  # noqa: PT008
    with quiet, asyncio_loop(IOLoop.current) as loop:
        yield Candidate("tornado", module.Client, caller(loop.add_callback))


@contextmanager
def browser() -> Iterator[Candidate]:
    """A page with Pyodide."""
    with mock.patch.dict(sys.modules, modules()):
        module = example("browser_client")
    with asyncio_loop(asyncio.get_running_loop) as loop:
        yield Candidate("browser", module.Client, caller(loop.call_soon_threadsafe), BROWSER_LACKS)


@contextmanager
def asyncio_loop(current: Callable[[], Any]) -> Iterator[Any]:
    """An event loop of asyncio, as ``current()`` names it."""
    made: Future[tuple[Any, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        over = asyncio.Event()
        made.set_result((current(), asyncio.get_running_loop(), over))
        await over.wait()

    def end() -> None:
        _, loop, over = made.result(LIMIT)
        loop.call_soon_threadsafe(over.set)

    with thread(lambda: asyncio.run(serve()), end):
        yield made.result(LIMIT)[0]


@contextmanager
def qt_like() -> Iterator[Candidate]:
    """The small event loop of the example."""
    module = example("qt_like_client")
    loop = module.EventLoop()
    with thread(loop.exec, lambda: loop.post(loop.quit)):
        yield Candidate("qt-like", partial(module.Client, loop), caller(loop.post))
