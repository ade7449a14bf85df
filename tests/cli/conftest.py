"""A service that was started by ``limpet serve``."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.helpers.command_line import running


@pytest.fixture(scope="module")
def service() -> Iterator[dict[str, str]]:
    """A service started by ``limpet serve``; what it prints is what the tests use."""
    with running("serve", "--port", "0") as process:
        assert process.stdout is not None
        printed: list[str] = []
        while sum("ws://" in line for line in printed) < 2:
            line = process.stdout.readline()
            assert line, process.communicate()
            printed.append(line.strip())
        yield {
            "connection_string": next(line for line in printed if line.startswith("Endpoint=")),
            "url": next(line for line in printed if line.startswith("ws://")),
        }
