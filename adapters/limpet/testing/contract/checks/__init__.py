"""The checks of the contract, by topic."""

from limpet.testing.contract.check import REGISTERED, Check
from limpet.testing.contract.checks import (
    callbacks,
    event_handlers,
    failed_streams,
    faults,
    group_states,
    hostile,
    instruments,
    invocations,
    iteration,
    lifecycle,
    names,
    operation,
    recovery,
    request_outcomes,
    requests,
    stream_readers,
    streams,
    submit,
    suspends,
    timeouts,
    typed_data,
)

CHECKS: tuple[Check, ...] = tuple(REGISTERED)
"""All of them."""

__all__ = [
    "CHECKS",
    "callbacks",
    "event_handlers",
    "failed_streams",
    "faults",
    "group_states",
    "hostile",
    "instruments",
    "invocations",
    "iteration",
    "lifecycle",
    "names",
    "operation",
    "recovery",
    "request_outcomes",
    "requests",
    "stream_readers",
    "streams",
    "submit",
    "suspends",
    "timeouts",
    "typed_data",
]
