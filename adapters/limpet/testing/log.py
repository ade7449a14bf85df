"""What happened in a service, to look at and to wait for."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import TypeVar

from limpet.testing._kinds import check_kind_of_service, names
from limpet_core.service import Connection, ServiceCore
from limpet_core.service.trace import Acked, InvocationAnswered, InvocationFailed, TraceEvent
from limpet_core.text import one_line

__all__ = ["EventLog", "delay_invocation", "lose_ack", "lose_invocation"]

E = TypeVar("E")

_Answer = Acked | InvocationAnswered | InvocationFailed

CAPACITY = 10_000
"""Events that are kept; the oldest ones make room."""

_SHOWN = 20

_LONGEST = 1000
"""Characters of an event that are shown."""


class EventLog:
    """The newest 10,000 events of a service, oldest first: the structs of ``limpet.testing.trace``.

    They come from the service's thread; everything here may be called from any.
    """

    def __init__(self) -> None:
        self._events: deque[TraceEvent] = deque(maxlen=CAPACITY)
        self._changed = threading.Condition()

    def note(self, event: TraceEvent) -> None:
        """Add an event: an observer of the service."""
        with self._changed:
            self._events.append(event)
            self._changed.notify_all()

    def __iter__(self) -> Iterator[TraceEvent]:
        with self._changed:
            return iter(tuple(self._events))

    def __len__(self) -> int:
        return len(self._events)

    def of(self, kind: type[E], where: Callable[[E], bool] | None = None) -> list[E]:
        """Return the events of one type, or those of them for which ``where`` is true.

        Raises TypeError for what is no type of ``limpet.testing.trace``, such as an event of a client.
        """
        check_kind_of_service(kind)
        return [event for event in self if isinstance(event, kind) and (where is None or where(event))]

    def wait(
        self, kind: type[E], where: Callable[[E], bool] | None = None, *, count: int = 1, timeout: float = 10.0
    ) -> E:
        """Wait until there are ``count`` such events, old ones included, and return the last of these.

        It blocks: in an event loop call it in a thread, ``await asyncio.to_thread(log.wait, trace.Joined)``. Raises
        TimeoutError, with the newest events in its text, after ``timeout`` seconds; TypeError as :meth:`of` does. For
        the next one of a kind that has come before, :meth:`clear` the log first, or count.
        """
        if count < 1:
            raise ValueError(f"count must be at least 1, not {count}")
        found: list[E] = []

        def enough() -> bool:
            found[:] = self.of(kind, where)
            return len(found) >= count

        with self._changed:
            if self._changed.wait_for(enough, timeout):
                return found[count - 1]
        raise TimeoutError(f"{len(found)} of {count} {names(kind)} within {timeout:g} s; the service saw\n{self}")

    def clear(self) -> None:
        """Forget everything so far."""
        with self._changed:
            self._events.clear()

    def __str__(self) -> str:
        events = list(self)
        left_out = [f"  ({len(events) - _SHOWN} older events)"] if len(events) > _SHOWN else []
        return (
            "\n".join([*left_out, *(f"  {one_line(str(event), _LONGEST)}" for event in events[-_SHOWN:])])
            or "  nothing"
        )


def lose_ack(core: ServiceCore, connection_id: str | None) -> Callable[[], None]:
    """Let the next request of a client (``None``: of any) be carried out, and cut its transport before the answer.

    The function that is returned takes that back; once it has happened, it does nothing.
    """
    return _cut_at(core, connection_id, Acked)


def lose_invocation(core: ServiceCore, connection_id: str | None) -> Callable[[], None]:
    """Let the next invocation of a client (``None``: of any) end, and cut its transport before the answer.

    The function that is returned is as that of :func:`lose_ack`.
    """
    return _cut_at(core, connection_id, InvocationAnswered, InvocationFailed)


def delay_invocation(core: ServiceCore, seconds: float, connection_id: str | None) -> Callable[[], None]:
    """Hold back the answer to the next invocation of a client (``None``: of any) that has a handler.

    The function that is returned is as that of :func:`lose_ack`.
    """
    if not seconds >= 0:
        raise ValueError(f"seconds must be at least 0, not {seconds}")
    faults = core.invocations.faults

    def fault(connection: Connection, invocation_id: str) -> float | None:
        if connection_id not in (None, connection.connection_id):
            return None
        faults.remove(fault)
        return seconds

    def undo() -> None:
        if fault in faults:
            faults.remove(fault)

    faults.append(fault)
    return undo


def _cut_at(core: ServiceCore, connection_id: str | None, *kinds: type[_Answer]) -> Callable[[], None]:
    def observer(event: TraceEvent) -> None:
        if isinstance(event, kinds) and connection_id in (None, event.connection_id):
            core.observers.remove(observer)
            core.drop(event.connection_id)

    def undo() -> None:
        if observer in core.observers:
            core.observers.remove(observer)

    core.observers.append(observer)
    return undo
