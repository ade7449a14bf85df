"""Fixtures for pytest: ``pytest_plugins = ["limpet.testing.plugin"]`` in the ``conftest.py`` beside your tests' root.

``limpet_service``
    A :class:`limpet.testing.BackgroundService` of its own for each test: client URLs, a connection string, a network
    that can be cut, faults of the service, and a log of what happened in it, which is shown when the test fails.
``limpet_options``
    The :class:`limpet.service.ServiceOptions` of that service; override it, or parametrize a test with it.
``limpet_virtual``
    A :class:`limpet.testing.VirtualService`, in memory and under a virtual clock.
"""

from __future__ import annotations

from collections.abc import Generator

import pytest

from limpet.service import ServiceOptions
from limpet.testing import BackgroundService, VirtualService

__all__ = ["limpet_options", "limpet_service", "limpet_virtual"]


@pytest.fixture
def limpet_options() -> ServiceOptions:
    """How the service of ``limpet_service`` behaves; by default as ``limpet serve`` does."""
    return ServiceOptions()


@pytest.fixture
def limpet_service(limpet_options: ServiceOptions, request: pytest.FixtureRequest) -> Generator[BackgroundService]:
    """The local service on a free port, behind a network that can be broken."""
    service = BackgroundService(limpet_options)
    try:
        with service:
            yield service
    finally:  # also where it was the service that failed
        request.node.add_report_section("teardown", "Limpet's service saw", str(service.log))


@pytest.fixture
def limpet_virtual() -> VirtualService:
    """The local service's logic in memory, under a clock that moves only when it is told to."""
    return VirtualService()
