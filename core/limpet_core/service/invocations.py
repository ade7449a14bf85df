"""The invocations of clients: calls of event handlers whose replies go to the caller alone."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from heapq import heappop, heappush
from typing import Final, TypeAlias

from limpet_core.protocol.close import Close
from limpet_core.protocol.names import is_event_name
from limpet_core.service.application_server import ApplicationServer, InvocationCall, Invoked
from limpet_core.service.connections.connection import Attachment, Connection
from limpet_core.service.connections.observers import Observers
from limpet_core.service.connections.registry import Registry
from limpet_core.service.webhooks.answers import Answer, Outcome
from limpet_core.service.webhooks.cloud_events import ClientEvent, no_handler, not_delivered, refusal_text
from limpet_core.service.webhooks.handlers import HandlerCall
from limpet_core.service.wire import chat, to_client
from limpet_core.service.wire.requests import Invoke
from limpet_core.text import one_line

MAX_ID: Final = 1024
"""Characters of the id of an invocation."""

Fault: TypeAlias = Callable[[Connection, str], float | None]
"""Returns the seconds (``math.inf``: for ever) for which the answer to an invocation of a connection, with an id, is
held back; ``None``: not at all."""


class Invocations:
    """The running invocations of all connections (js).

    An invocation waits for nothing that the client has sent before, and nothing waits for it. Its answer belongs to the
    attachment that it came through: if that is gone, the handler is not disturbed, but nobody is told.

    Attributes:
        faults: for tests: each is asked about every invocation that is accepted; the first that answers decides.
    """

    def __init__(self, registry: Registry, application: ApplicationServer, observers: Observers) -> None:
        self.faults: list[Fault] = []
        self._registry = registry
        self._application = application
        self._observers = observers
        self._held: list[tuple[float, int, Invoked]] = []
        self._serial = itertools.count()
        registry.listen(self)

    # ---- Snapshots

    def save(self) -> list[tuple[float, HandlerCall, Invoked]]:
        """Return the answers that are held back, each with its time and its call, in their order."""
        held = [(due, self._call_of(invoked), invoked) for due, _, invoked in sorted(self._held)]
        return [(due, call, invoked) for due, call, invoked in held if call is not None]

    def restore(self, held: Iterable[tuple[float, Invoked]]) -> None:
        """Hold back the answers of a snapshot, whose calls the connections have already."""
        # In order, so it is a heap.
        self._held = [(due, next(self._serial), invoked) for due, invoked in held]

    # ---- What clients say

    def invoke(self, connection: Connection, attachment: Attachment, message: Invoke, size: int) -> None:
        """Call the handler of an event, or answer with an error. ``size`` is that of the whole message, in bytes."""
        error = self._refusal(connection, attachment, message, size)
        if error is None:
            error = self._call(connection, attachment, message, size)
        if error is not None:
            self._fail(connection, attachment, message.invocation_id, error)

    def cancel(self, connection: Connection, attachment: Attachment, invocation_id: str) -> None:
        """Give up an invocation, without an answer. Does nothing for unknown ids."""
        call = connection.invocations.get((attachment, invocation_id))
        if call is not None:
            purpose = call.purpose
            assert isinstance(purpose, InvocationCall)
            self._forget(purpose)
            self._application.calls.cancel(call)
            self._observers.invocation_cancelled(connection, invocation_id)

    def _refusal(
        self, connection: Connection, attachment: Attachment, message: Invoke, size: int
    ) -> tuple[str, str] | None:
        limits, running = self._registry.limits, connection.invocations
        if not 0 < len(message.invocation_id) <= MAX_ID:
            return ("BadRequest", f"The id of an invocation has 1 to {MAX_ID} characters.")
        if (attachment, message.invocation_id) in running:
            return ("BadRequest", "An invocation with this id is running already.")
        if message.target != "event":
            return ("BadRequest", f"The target is 'event', not '{one_line(message.target)}'.")
        if not is_event_name(message.event):
            return ("BadRequest", "The event of an invocation is missing, or is no name of an event.")
        if len(running) >= limits.invocations or connection.invocation_bytes + size > limits.invocation_bytes:
            return ("BadRequest", f"The client has {len(running)} running invocations, and no room for another.")
        return None

    def _call(
        self, connection: Connection, attachment: Attachment, message: Invoke, size: int
    ) -> tuple[str, str] | None:
        self._observers.invoked(connection, message)
        name, context = message.event, connection.context
        if name.lower() in chat.INVOCATIONS and not (context and self._application.names_event(context.hub, name)):
            # Where chat is enabled, handlers are not asked. One of all events would give an answer that is none.
            hint = "To stand in for it, name the event in the user events of a handler."
            return ("NotImplemented", f"{chat.not_implemented('The event ' + one_line(name))} {hint}")
        if context is not None:
            invocation_id = message.invocation_id
            event = ClientEvent.from_message(message)
            delays = [fault(connection, invocation_id) for fault in self.faults.copy()]
            delay = next((delay for delay in delays if delay is not None), 0.0)
            purpose = InvocationCall(connection, context, event, attachment, invocation_id, size, delay)
            call = self._application.submit_invocation(purpose)
            if call is not None:
                connection.invocations[attachment, invocation_id] = call
                connection.invocation_bytes += size
                return None
        return no_handler(name)

    # ---- What comes of it

    @property
    def deadline(self) -> float:
        """When to call :meth:`wake`, in monotonic seconds; ``math.inf``: no answer is held back."""
        return self._held[0][0] if self._held else math.inf

    def wake(self, now: float) -> None:
        """Answer the invocations whose delay is over."""
        while self._held and self._held[0][0] <= now:
            self._answer(heappop(self._held)[2])

    def ended(self, invoked: Invoked, now: float) -> None:
        """Answer an invocation whose call has ended, now or after its delay."""
        if invoked.invocation.delay:
            heappush(self._held, (now + invoked.invocation.delay, next(self._serial), invoked))
        else:
            self._answer(invoked)

    def opened(self, connection: Connection) -> None:
        """Handle a new connection, which has no invocations."""

    def closed(self, connection: Connection, close: Close, *, by_client: bool) -> None:
        """Handle the end of a connection: give up its invocations."""
        for attachment, invocation_id in list(connection.invocations):
            self.cancel(connection, attachment, invocation_id)

    def _answer(self, invoked: Invoked) -> None:
        invocation = invoked.invocation
        connection, attachment, invocation_id = invocation.connection, invocation.attachment, invocation.invocation_id
        if self._call_of(invoked) is None:
            return  # given up while the answer was held back
        self._forget(invocation)
        reply = invoked.reply
        if isinstance(reply, str):
            self._fail(connection, attachment, invocation_id, _error(invoked.outcome, invoked.delivered, reply))
            return
        data_type, data = None, b""
        if reply is not None and reply.payload:
            data_type, data = reply.data_type, reply.data()
        self._observers.invocation_answered(connection, invocation_id, data_type, data)
        self._send(connection, attachment, to_client.invocation_result(invocation_id, data_type, data))

    @staticmethod
    def _call_of(invoked: Invoked) -> HandlerCall | None:
        """Return the call of an invocation that has ended; ``None`` if the invocation was given up."""
        invocation = invoked.invocation
        call = invocation.connection.invocations.get((invocation.attachment, invocation.invocation_id))
        return None if call is None or call.purpose is not invocation else call

    def _fail(self, connection: Connection, attachment: Attachment, invocation_id: str, error: tuple[str, str]) -> None:
        self._observers.invocation_failed(connection, invocation_id, error)
        self._send(connection, attachment, to_client.invocation_error(invocation_id, *error))

    def _send(self, connection: Connection, attachment: Attachment, message: bytes) -> None:
        # On another attachment the client may use the same id for something else.
        if connection.attachment is attachment:
            self._registry.send(connection, message)

    def _forget(self, invocation: InvocationCall) -> None:
        connection = invocation.connection
        del connection.invocations[invocation.attachment, invocation.invocation_id]
        connection.invocation_bytes -= invocation.size


def _error(outcome: Outcome, delivered: bool, text: str) -> tuple[str, str]:
    """Return the name and the text of the error that a failed call is."""
    if not delivered:
        return not_delivered(text)
    if isinstance(outcome, Answer):
        if 400 <= outcome.status < 500:
            return ("BadRequest", refusal_text(outcome) or text)
    elif outcome.kind == "timeout":
        return ("Timeout", text)
    return ("InternalServerError", text)
