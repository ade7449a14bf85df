"""The decorator that makes a function a check of the conformance of drivers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from limpet.testing.conformance.bench import Bench
from limpet.testing.conformance.driver import Need

Check = Callable[[Bench], None]

REGISTERED: Final[dict[Check, frozenset[Need]]] = {}
"""The needs of every check, in the order of definition."""


def check(*needs: Need) -> Callable[[Check], Check]:
    """Register a function of one :class:`Bench` as a check; its name says what holds."""

    def register(function: Check) -> Check:
        REGISTERED[function] = frozenset(needs)
        return function

    return register


def needs_of(check: Check) -> frozenset[Need]:
    """Return what a check needs of a driver; nothing for a check that is not registered."""
    return REGISTERED.get(check, frozenset())
