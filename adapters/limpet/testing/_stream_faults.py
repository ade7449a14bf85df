"""What can go wrong with streams in the two services for tests."""

from __future__ import annotations

from collections.abc import Callable

from limpet_core.service import Connection, ServiceCore, StreamAcked
from limpet_core.service.trace import TraceEvent


def lose_stream_ack(core: ServiceCore, connection_id: str | None) -> Callable[[], None]:
    """Let the next fragments of a client (``None``: of any) be published, and cut its transport before their ack.

    The function that is returned takes that back; once it has happened, it does nothing.
    """

    def observer(event: TraceEvent) -> None:
        # A stream that is only started has nothing to lose: its client opens another one.
        if isinstance(event, StreamAcked) and event.expected > 1 and connection_id in (None, event.connection_id):
            core.observers.remove(observer)
            core.drop(event.connection_id)

    def undo() -> None:
        if observer in core.observers:
            core.observers.remove(observer)

    core.observers.append(observer)
    return undo


def nack_stream(core: ServiceCore, stream_id: str | None, times: int) -> Callable[[], None]:
    """Refuse the next ``times`` fragments of a stream (``None``: of any), as if they could not be published.

    The function that is returned takes that back; once it has happened, it does nothing.
    """
    if times < 1:
        raise ValueError(f"times must be at least 1, not {times}")
    left = times
    faults = core.streams.faults

    def refuse(connection: Connection, its_id: str, number: int) -> bool:
        nonlocal left
        if stream_id not in (None, its_id):
            return False
        left -= 1
        if not left:
            faults.remove(refuse)
        return True

    def undo() -> None:
        if refuse in faults:
            faults.remove(refuse)

    faults.append(refuse)
    return undo


def close_stream(core: ServiceCore, stream_id: str, name: str) -> bool:
    """End a stream, of whichever client, with an error; return whether it was open."""
    publishers = [
        connection.connection_id
        for hub in core.hubs
        for connection in hub.connections.values()
        if stream_id in connection.streams
    ]
    for connection_id in publishers:
        core.close_stream(connection_id, stream_id, name, "The test has closed the stream.")
    return bool(publishers)
