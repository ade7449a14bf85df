"""Profiles of hypothesis, chosen by the environment variable HOLDFAST_PROFILE: quick (the default), ci, long.

Tests that name a number of examples of their own keep it.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

settings.register_profile("quick", max_examples=100, deadline=None)
settings.register_profile("ci", max_examples=500, deadline=None, derandomize=True, print_blob=True)
settings.register_profile("long", max_examples=10_000, deadline=None, suppress_health_check=list(HealthCheck))
settings.load_profile(os.environ.get("HOLDFAST_PROFILE", "quick"))
