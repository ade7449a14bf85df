"""The decorator that makes an async function a check of the contract."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Literal

from limpet.testing.contract.harness import Harness

Check = Callable[[Harness], Awaitable[None]]

Mark = Literal["transport", "tls", "size limit"]
"""A property of a check.

``transport``: the check depends on the transport, and is worth a run for each; without it one transport for each kind
of client is enough. ``tls``: the check is worth a run over TLS, too. ``size limit``: the client must keep its own limit
of the size of messages, which is not so where a WebSocket library has one.
"""

REGISTERED: Final[dict[Check, frozenset[Mark]]] = {}
"""The marks of every check, in the order of definition."""


def check(*marks: Mark) -> Callable[[Check], Check]:
    """Register an async function of one :class:`Harness` as a check; its name says what holds."""

    def register(function: Check) -> Check:
        REGISTERED[function] = frozenset(marks)
        return function

    return register


def marks_of(check: Check) -> frozenset[Mark]:
    """Return the marks of a check; none for a check that is not registered."""
    return REGISTERED.get(check, frozenset())
