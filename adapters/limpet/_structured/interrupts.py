"""Protection of a client's own work from Ctrl-C on trio.

trio raises ``KeyboardInterrupt`` between any two bytecodes of the main thread, except in protected functions: for these
it waits for the main task's next checkpoint. The protection of a function covers all functions that it calls, except
callbacks: they are the application's, and are interrupted as its other code is.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from limpet._clients import streams
from limpet._clients.async_client import AsyncClient
from limpet._clients.async_requests import AsyncRequests
from limpet._clients.base import BaseClient
from limpet._clients.callbacks import Callback, CallbackQueue, CallbackWrapper
from limpet._clients.incoming import IncomingStream
from limpet._clients.outgoing import OutgoingStream
from limpet._clients.submit import AsyncSubmit, Submit
from limpet._clients.typed import TypedIteration
from limpet._structured.callbacks import CallbackTask
from limpet._structured.client import Batches, EventStream, StructuredClient
from limpet._structured.driver import StructuredDriver
from limpet._structured.submitted import Submitted
from limpet._structured.tasks import TransportTasks
from limpet._transports.held import Held

_STEPS: tuple[tuple[type[Any], str], ...] = (
    # In the client's tasks. CallbackQueue.run is missing: it awaits coroutines of the application.
    (StructuredDriver, "run _run stop"),
    (TransportTasks, "run _write"),
    (Held, "_run"),
    (CallbackTask, "_watch"),
    (CallbackQueue, "_next call resume drop look"),
    # In the application's tasks
    (StructuredClient, "run _run_for stop __aenter__ __aexit__"),
    (AsyncClient, "check _open streams"),
    (AsyncRequests, "join_group leave_group send_to_group send_event invoke"),
    (AsyncRequests, "set_group_state clear_group_state subscribe_group_states unsubscribe_group_states"),
    (Submit, "join_group leave_group send_to_group send_event"),
    (AsyncSubmit, "send_to_group"),
    (Submitted, "wait cancel"),
    (OutgoingStream, "_open write flush end abort __aenter__ __aexit__"),
    (streams.Subscriptions, "subscribed"),
    (EventStream, "__anext__"),
    (Batches, "__anext__"),
    (TypedIteration, "__anext__"),
    (IncomingStream, "__anext__ close aclose __aenter__ __aexit__"),
    (streams.EventStream, "close"),
    (BaseClient, "on off"),
)

_marked: set[type] = set()


class Unprotected(CallbackWrapper):
    """A callback that may be interrupted, though its caller is protected."""

    __slots__ = ()

    def __call__(self, event: Any) -> object:
        return self.__wrapped__(event)


def protect() -> Callable[[Callback], Callback] | None:
    """Protect the work of all clients, if trio is in use; return a wrapper for callbacks, or None."""
    trio: Any = sys.modules.get("trio")
    if trio is None:
        return None
    if Unprotected not in _marked:
        _marked.add(Unprotected)
        for owner, names in _STEPS:
            for name in names.split():
                step = getattr(owner, name)
                trio.lowlevel.enable_ki_protection(getattr(step, "__wrapped__", step))
        trio.lowlevel.disable_ki_protection(Unprotected.__call__)
    return Unprotected
