"""Profiles of hypothesis, chosen by the environment variable HOLDFAST_PROFILE: quick (the default), ci, long.

Quick and CI runs have the same examples each time; a long one draws others, and may take as long as it likes. A test
that names its own number of examples does so through ``tests.helpers.profiles``, so that it grows with the profile.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

PROFILE = os.environ.get("HOLDFAST_PROFILE", "quick")
SLOW = list(HealthCheck)

settings.register_profile("quick", max_examples=100, deadline=None, derandomize=True, suppress_health_check=SLOW)
settings.register_profile("ci", settings.get_profile("quick"), max_examples=300, print_blob=True)
settings.register_profile("long", settings.get_profile("ci"), max_examples=10_000, derandomize=False)
settings.load_profile(PROFILE)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if PROFILE == "long":
        for item in items:
            item.add_marker(pytest.mark.timeout(0), append=False)
