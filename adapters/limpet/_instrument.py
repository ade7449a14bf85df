"""Instruments: what an application, or a library of metrics and traces, may watch a client with.

A client takes one with ``Client(url, instrument=...)``. Limpet has one for OpenTelemetry, ``limpet.opentelemetry``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import msgspec

from limpet_core import (
    Connected,
    ConnectionFailed,
    Dial,
    Disconnected,
    GroupMessage,
    MessagesMissed,
    Recovered,
    Recovering,
    RejoinGroupFailed,
    ServerMessage,
    Session,
    State,
    Stopped,
)
from limpet_core.client.url import Endpoint, parse_url

LifecycleEvent = (
    Connected | Recovering | ConnectionFailed | Recovered | Disconnected | Stopped | MessagesMissed | RejoinGroupFailed
)
"""The events that :meth:`Instrument.lifecycle` is called with."""

_WITH_METADATA = frozenset({"send_to_group", "send_event", "invoke"})


class ClientInfo:
    """What an instrument may know of a client; no token is in it. One object for each client, for all of its life."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._dial: Dial | None = None
        self._endpoint: Endpoint | None = None

    def __repr__(self) -> str:
        return f"<limpet.ClientInfo: {self._session!r}>"

    @property
    def state(self) -> State:
        """The client's state."""
        return self._session.state

    @property
    def connection_id(self) -> str | None:
        """The id of the connection, also while it is recovered; None without a connection."""
        return self._session.connection_id

    @property
    def server_address(self) -> str | None:
        """The host name or address of the service, as in the last URL; None before the first one is known."""
        endpoint = self._last()
        return None if endpoint is None else endpoint.host

    @property
    def server_port(self) -> int | None:
        """The port of the service; None before the first URL is known."""
        endpoint = self._last()
        return None if endpoint is None else endpoint.port

    def _last(self) -> Endpoint | None:
        dial = self._session.dial
        if dial is not None and dial is not self._dial and dial.url is not None:
            self._endpoint, self._dial = parse_url(dial.url), dial
        return self._endpoint


class OutgoingRequest:
    """A request of the application, before it is made.

    Attributes:
        operation: the name of the client's method: ``send_to_group``, ``send_event``, ``invoke``, ``join_group``,
            ``leave_group``, ``set_group_state``, ``clear_group_state``, ``subscribe_group_states`` or
            ``unsubscribe_group_states``.
        target: the name of the group, or of the event (``send_event`` and ``invoke``).
        takes_metadata: whether the request can carry metadata: messages, events and invocations can.
        added: what :meth:`add_metadata` has added so far.
    """

    def __init__(
        self, operation: str, target: str, data: Any = None, data_type: str | None = None, metadata: Any = None
    ) -> None:
        self.operation: str = operation
        self.target: str = target
        self.takes_metadata: bool = operation in _WITH_METADATA
        self.added: dict[str, str] = {}
        self._data = data
        self._data_type = data_type
        self._metadata = metadata

    def __repr__(self) -> str:
        return f"<limpet.OutgoingRequest: {self.operation} {self.target!r}>"

    @property
    def metadata(self) -> Mapping[str, str]:
        """The metadata that will be sent: the application's, and what was added."""
        return {**self.added, **(self._metadata or {})}

    @property
    def size(self) -> int | None:
        """The bytes of the data; None without data, or for data that cannot be sent.

        They are counted when this is asked for: JSON is encoded once more.
        """
        if not self.takes_metadata or self._data is None:
            return None
        if isinstance(self._data, str) and self._data_type != "json":
            return len(self._data.encode("utf-8", "replace"))
        if isinstance(self._data, bytes | bytearray):
            return len(self._data)
        try:
            byte_size: Callable[[], int] | None = getattr(self._data, "ByteSize", None)  # of a protobuf message
            return byte_size() if byte_size is not None else len(msgspec.json.encode(self._data))
        except Exception:  # noqa: BLE001 - the request says what is wrong with the data
            return None

    def add_metadata(self, metadata: Mapping[str, str]) -> None:
        """Send metadata along, for example the context of a trace; the receivers have it in ``message.metadata``.

        A name that the application uses stays the application's. What goes beyond the limits of the service is left
        out: a name or value that it does not take, or all of it if that makes the message too large. Without an
        effect on requests that take none.
        """
        self.added.update((str(name), str(value)) for name, value in metadata.items())


class Observation:
    """What an instrument notes of one request, or of one call of a callback. A subclass overrides what it needs."""

    def within(self) -> AbstractContextManager[object]:
        """Return a context manager that is entered around the code of a callback, for example to make a span current.

        It is entered for the call, and once more, in another task, for what an async callback awaits. Not called for
        requests.
        """
        return nullcontext()

    def ended(self, error: BaseException | None, seconds: float) -> None:
        """Note the end; called once, in the task or thread of the request or callback.

        Args:
            error: what the method or the callback raised, also a cancellation; None: it returned.
            seconds: the time since the beginning.
        """


class Instrument:
    """Watches clients; a subclass overrides what it needs. Give it as ``Client(url, instrument=...)``.

    One instrument may watch many clients: each method is told which. A client calls them in the middle of its own
    work, some from its own threads: they must be quick, must not block and must not call the client. An exception is
    logged, and holds up nothing.
    """

    def request(self, client: ClientInfo, request: OutgoingRequest) -> Observation | None:
        """Note that the application makes a request; it may be given more metadata.

        Returns:
            an observation, whose ``ended`` is called with the outcome; None: the outcome is not wanted.
        """
        return None

    def messages(self, client: ClientInfo, messages: Sequence[GroupMessage | ServerMessage]) -> None:
        """Note messages that have arrived, in order and without duplicates; once for each batch, before callbacks."""

    def callback(
        self, client: ClientInfo, message: GroupMessage | ServerMessage, callback: Callable[[Any], object]
    ) -> Observation | None:
        """Note that a callback is called with a message.

        Returns:
            an observation, whose ``within`` surrounds the callback and whose ``ended`` is called at its end, for an
            async callback when that has returned; None: neither is wanted.
        """
        return None

    def lifecycle(self, client: ClientInfo, event: LifecycleEvent) -> None:
        """Note what happens to the connection, before callbacks hear of it."""
