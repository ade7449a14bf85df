"""The decorator that makes an async function a check of the contract, with what the check needs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Literal, get_args

from limpet.testing.contract.harness import Harness
from limpet.testing.contract.needs import Need

Check = Callable[[Harness], Awaitable[None]]

Mark = Literal["transport", "tls"]
"""A reason to run a check more often.

``transport``: the check depends on the transport, and is worth a run for each; without it one transport for each kind
of client is enough. ``tls``: the check is worth a run over TLS, too.
"""

REGISTERED: Final[dict[Check, tuple[frozenset[Mark], frozenset[Need]]]] = {}
"""The marks and the needs of every check, in the order of definition."""


def check(*marks: Mark, needs: tuple[Need, ...] = ()) -> Callable[[Check], Check]:
    """Register an async function of one :class:`Harness` as a check; its name says what holds.

    Args:
        marks: reasons to run it more often.
        needs: what a client must be able to do for it; a check that asks a client for more fails.
    """
    assert set(needs) <= set(get_args(Need))

    def register(function: Check) -> Check:
        REGISTERED[function] = frozenset(marks), frozenset(needs)
        return function

    return register


def marks_of(check: Check) -> frozenset[Mark]:
    """Return the marks of a check; none for a check that is not registered."""
    registered = REGISTERED.get(check)
    return registered[0] if registered is not None else frozenset()


def needs_of(check: Check) -> frozenset[Need] | None:
    """Return what a check needs; None for a check that is not registered, which may use everything."""
    registered = REGISTERED.get(check)
    return registered[1] if registered is not None else None
