from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.service.cluster.servers import Servers, engine_program, running_servers


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    """Makes Redis servers that end with the test."""
    engine_program()
    with running_servers(tmp_path) as made:
        yield made
