"""Each test gets services and official clients by way of `stage`; what it opened is closed behind it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import websocket._core
from tests.helpers.waiting import LIMIT
from tests.interop.backend import Background
from tests.interop.node import Node, install
from tests.interop.own import OWN_KINDS
from tests.interop.pair import Pair, open_js
from tests.interop.stage import Programs, Stage

from limpet.service import ServiceOptions


@pytest.fixture(scope="package", autouse=True)
def blocking_clients_end() -> Iterator[None]:
    """Leave no thread and no socket of the blocking Python client to other tests.

    The library below it (websocket-client) forgets the socket of a connection that was lost. So all of them are
    remembered here, and closed when no thread uses them any more.
    """
    before = set(threading.enumerate())
    sockets: list[socket.socket] = []
    connect = websocket._core.connect

    def remembered(*arguments: Any) -> Any:
        connected = connect(*arguments)
        sockets.append(connected[0])
        return connected

    websocket._core.connect = remembered
    yield
    websocket._core.connect = connect
    end = time.monotonic() + LIMIT
    for thread in set(threading.enumerate()) - before:
        thread.join(max(end - time.monotonic(), 0.0))
        assert not thread.is_alive(), thread
    for one in sockets:
        one.close()


@pytest.fixture(scope="package")
def background() -> Iterator[Background]:
    background = Background()
    yield background
    background.stop()


@pytest.fixture(scope="package")
def programs() -> Iterator[Programs]:
    """The JavaScript programs, started when a test asks for one; needs node and npm only then."""
    running: dict[str, Node] = {}

    def program(name: str) -> Node:
        if name not in running or not running[name].running:
            install()
            running[name] = Node(name)
        return running[name]

    yield program
    for node in running.values():
        node.stop()


@pytest.fixture
def staged(background: Background, programs: Programs) -> Iterator[Callable[..., Stage]]:
    """Make a `Stage` with options of the service."""
    stages: list[Stage] = []

    def make(options: ServiceOptions | None = None) -> Stage:
        stages.append(Stage(background, programs, options))
        return stages[-1]

    yield make
    for stage in stages:
        stage.clear()


@pytest.fixture
def stage(staged: Callable[..., Stage]) -> Stage:
    """A service as it is by default."""
    return staged()


@pytest.fixture(params=OWN_KINDS)
def pair(request: pytest.FixtureRequest, stage: Stage) -> Iterator[Pair]:
    """One of Limpet's clients and a JavaScript client, both members of the group `room`."""
    own = stage.own(request.param)
    js = open_js(stage)
    own.join("room")
    js.join("room")
    pair = Pair(stage, own, js)
    yield pair
    pair.resume()
