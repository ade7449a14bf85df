"""The checks of the contract, by topic."""

from limpet.testing.contract.check import REGISTERED, Check
from limpet.testing.contract.checks import (
    callbacks,
    event_handlers,
    faults,
    hostile,
    iteration,
    lifecycle,
    names,
    recovery,
    requests,
    suspends,
)

CHECKS: tuple[Check, ...] = tuple(REGISTERED)
"""All of them."""

__all__ = [
    "CHECKS",
    "callbacks",
    "event_handlers",
    "faults",
    "hostile",
    "iteration",
    "lifecycle",
    "names",
    "recovery",
    "requests",
    "suspends",
]
