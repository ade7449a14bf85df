"""Fixtures for pytest: ``pytest_plugins = ["holdfast.testing.plugin"]`` in the ``conftest.py`` beside your tests' root.

`holdfast_service`
    A :class:`holdfast.testing.BackgroundService` of its own for each test: client URLs, a connection string, a network
    that can be cut, faults of the service, and a log of what happened in it, which is shown when the test fails.
`holdfast_options`
    The :class:`holdfast.service.ServiceOptions` of that service; override it, or parametrize a test with it.
`holdfast_virtual`
    A :class:`holdfast.testing.VirtualService`, in memory and under a virtual clock.
"""

from __future__ import annotations

from collections.abc import Generator

import pytest

from holdfast.service import ServiceOptions
from holdfast.testing import BackgroundService, VirtualService

__all__ = ["holdfast_options", "holdfast_service", "holdfast_virtual"]


@pytest.fixture
def holdfast_options() -> ServiceOptions:
    """How the service of `holdfast_service` behaves; by default as ``holdfast serve`` does."""
    return ServiceOptions()


@pytest.fixture
def holdfast_service(holdfast_options: ServiceOptions, request: pytest.FixtureRequest) -> Generator[BackgroundService]:
    """The local service on a free port, behind a network that can be broken."""
    service = BackgroundService(holdfast_options)
    try:
        with service:
            yield service
    finally:  # also where it was the service that failed
        request.node.add_report_section("teardown", "Holdfast's service saw", str(service.log))


@pytest.fixture
def holdfast_virtual() -> VirtualService:
    """The local service's logic in memory, under a clock that moves only when it is told to."""
    return VirtualService()
