"""Each test gets services and official clients by way of `stage`; what it opened is closed behind it."""

from __future__ import annotations

import gc
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.interop.backend import Background
from tests.interop.node import Node, install
from tests.interop.stage import Programs, Stage

from holdfast.service import ServiceOptions

# The blocking Python client (websocket-client) leaves the socket of a lost connection to the garbage collector.
_FORGOTTEN_SOCKETS = (
    "ignore:unclosed <socket:ResourceWarning",
    "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        # The tests that run next may be those that find it.
        if {here, here.parent / "security"} & set(item.path.parents):
            for warning in _FORGOTTEN_SOCKETS:
                item.add_marker(pytest.mark.filterwarnings(warning))


@pytest.fixture(scope="package", autouse=True)
def no_sockets_left_to_other_tests() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    # A thread of that client holds its socket until it notices the end.
    for thread in set(threading.enumerate()) - before:
        thread.join(5.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


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
