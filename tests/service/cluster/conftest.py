from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.helpers.needs import needs
from tests.service.cluster.servers import Servers, running_servers


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    """Makes Redis servers that end with the test."""
    needs("redis-server")
    with running_servers(tmp_path) as made:
        yield made
