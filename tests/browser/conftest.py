"""The browser ends with the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.browser.browsing import SHARED


@pytest.fixture(scope="package", autouse=True)
def _browser_ends() -> Iterator[None]:
    yield
    SHARED.close()
