"""Fixtures for pytest: ``pytest_plugins = ["limpet.testing.plugin"]`` in the ``conftest.py`` beside your tests' root.

``limpet_service``
    A :class:`limpet.testing.BackgroundService` of its own for each test: client URLs, a connection string, a network
    that can be cut, faults of the service, and a log of what happened in it, which is shown when the test fails.
``limpet_module_service``, ``limpet_session_service``
    One such service for all tests of a module, or of the whole run. After each test its network is healed, its log is
    emptied, and the functions that answer events are those from before it; connections, groups and messages stay.
``limpet_options``, ``limpet_module_options``, ``limpet_session_options``
    The :class:`limpet.service.ServiceOptions` of these services; override them, or parametrize a test with them.
``limpet_sync_client``, ``limpet_asyncio_client``, ``limpet_trio_client``, ``limpet_anyio_client``
    A started client, which is stopped after the test. Those for event loops need pytest-asyncio, pytest-trio, or the
    plugin of anyio, which run the test.
``limpet_client_url``, ``limpet_client_options``
    The URL and the :class:`limpet.Options` of these clients; override them, or parametrize a test with them.
``limpet_virtual``
    A :class:`limpet.testing.VirtualService`, in memory and under a virtual clock.
"""

from __future__ import annotations

import importlib
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from limpet import Options
from limpet.service import ServiceOptions
from limpet.testing import BackgroundService, VirtualService

if TYPE_CHECKING:
    import limpet.anyio
    import limpet.asyncio
    import limpet.sync
    import limpet.trio

__all__ = [
    "limpet_anyio_client",
    "limpet_asyncio_client",
    "limpet_client_options",
    "limpet_client_url",
    "limpet_module_options",
    "limpet_module_service",
    "limpet_options",
    "limpet_service",
    "limpet_session_options",
    "limpet_session_service",
    "limpet_sync_client",
    "limpet_trio_client",
    "limpet_virtual",
]

_SHARED: pytest.StashKey[list[BackgroundService]] = pytest.StashKey()
_TITLE = "Limpet's service saw"


# ---- Services


@pytest.fixture
def limpet_options() -> ServiceOptions:
    """How the service of ``limpet_service`` behaves; by default as ``limpet serve`` does."""
    return ServiceOptions()


@pytest.fixture(scope="module")
def limpet_module_options() -> ServiceOptions:
    """How the service of ``limpet_module_service`` behaves; by default as ``limpet serve`` does."""
    return ServiceOptions()


@pytest.fixture(scope="session")
def limpet_session_options() -> ServiceOptions:
    """How the service of ``limpet_session_service`` behaves; by default as ``limpet serve`` does."""
    return ServiceOptions()


@pytest.fixture
def limpet_service(limpet_options: ServiceOptions, request: pytest.FixtureRequest) -> Generator[BackgroundService]:
    """The local service on a free port, behind a network that can be broken."""
    service = BackgroundService(limpet_options)
    try:
        with service:
            yield service
    finally:  # also where it was the service that failed
        request.node.add_report_section("teardown", _TITLE, str(service.log))


@contextmanager
def _shared(options: ServiceOptions, config: pytest.Config) -> Generator[BackgroundService]:
    running = config.stash.setdefault(_SHARED, [])
    with BackgroundService(options) as service:
        running.append(service)
        try:
            yield service
        finally:
            running.remove(service)


@pytest.fixture(scope="module")
def limpet_module_service(
    limpet_module_options: ServiceOptions, request: pytest.FixtureRequest
) -> Generator[BackgroundService]:
    """The local service as ``limpet_service``, one for all tests of a module; healed after each of them."""
    with _shared(limpet_module_options, request.config) as service:
        yield service


@pytest.fixture(scope="session")
def limpet_session_service(
    limpet_session_options: ServiceOptions, request: pytest.FixtureRequest
) -> Generator[BackgroundService]:
    """The local service as ``limpet_service``, one for all tests of a run; healed after each of them."""
    with _shared(limpet_session_options, request.config) as service:
        yield service


@pytest.fixture(autouse=True)
def _limpet_shared_services(request: pytest.FixtureRequest) -> Generator[None]:  # pyright: ignore[reportUnusedFunction]
    """Leave no fault and no event of one test to the next. As an autouse fixture it ends after all others of a test."""
    shared = request.config.stash.setdefault(_SHARED, [])
    with ExitStack() as answers:
        for service in shared:
            answers.enter_context(service.own_answers())
        yield
    for service in shared:
        request.node.add_report_section("teardown", _TITLE, str(service.log))
        service.heal()
        service.log.clear()


@pytest.fixture
def limpet_virtual() -> VirtualService:
    """The local service's logic in memory, under a clock that moves only when it is told to."""
    return VirtualService()


# ---- Clients


@pytest.fixture
def limpet_client_url(limpet_service: BackgroundService) -> str:
    """The URL that the clients of the fixtures connect to: user ``ann`` of ``limpet_service``, in no group."""
    return limpet_service.url("ann")


@pytest.fixture
def limpet_client_options() -> Options:
    """The options of the clients of the fixtures; by default those of every client."""
    return Options()


@pytest.fixture
def limpet_sync_client(limpet_client_url: str, limpet_client_options: Options) -> Generator[limpet.sync.Client]:
    """A started client of ``limpet.sync``."""
    from limpet.sync import Client

    with Client(limpet_client_url, limpet_client_options) as client:
        yield client


def _for_pytest_asyncio(function: Callable[..., Any]) -> Any:
    """Make a fixture that pytest-asyncio runs in both of its modes; without it, an ordinary one, for other plugins."""
    try:
        decorate = importlib.import_module("pytest_asyncio").fixture
    except ImportError:
        decorate = pytest.fixture
    return decorate(function)


async def _asyncio_client(
    limpet_client_url: str, limpet_client_options: Options
) -> AsyncGenerator[limpet.asyncio.Client]:
    """A started client of ``limpet.asyncio``, for tests that pytest-asyncio runs."""
    from limpet.asyncio import Client

    async with Client(limpet_client_url, limpet_client_options) as client:
        yield client


limpet_asyncio_client: Any = _for_pytest_asyncio(_asyncio_client)


@pytest.fixture
async def limpet_trio_client(
    limpet_client_url: str, limpet_client_options: Options
) -> AsyncGenerator[limpet.trio.Client]:
    """A started client of ``limpet.trio``, for tests that pytest-trio runs, or anyio's plugin on trio."""
    from limpet.trio import Client

    async with Client(limpet_client_url, limpet_client_options) as client:
        yield client


@pytest.fixture
async def limpet_anyio_client(
    limpet_client_url: str, limpet_client_options: Options
) -> AsyncGenerator[limpet.anyio.Client]:
    """A started client of ``limpet.anyio``, for tests that anyio's plugin runs."""
    from limpet.anyio import Client

    async with Client(limpet_client_url, limpet_client_options) as client:
        yield client
