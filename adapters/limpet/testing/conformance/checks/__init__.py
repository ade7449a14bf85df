"""The checks, by topic."""

from limpet.testing.conformance.check import REGISTERED, Check
from limpet.testing.conformance.checks import events, faults, lifecycle, peers, recovery, requests, times

CHECKS: tuple[Check, ...] = tuple(REGISTERED)
"""All of them."""

__all__ = ["CHECKS", "events", "faults", "lifecycle", "peers", "recovery", "requests", "times"]
