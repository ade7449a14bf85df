"""From the state of a cluster to the values of a snapshot."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import Final

import msgspec

from limpet_core.service.application_server import ClientCall, ConnectedCall, EventCall, InvocationCall, Invoked
from limpet_core.service.cluster import records
from limpet_core.service.cluster.commands import CallEnded
from limpet_core.service.cluster.shared_state import SharedState
from limpet_core.service.connections.connection import Attachment, Connection
from limpet_core.service.connections.stream import Stream
from limpet_core.service.webhooks.answers import Answer
from limpet_core.service.webhooks.handler_context import HandlerContext
from limpet_core.service.webhooks.handlers import ORIGIN, HandlerCall
from limpet_core.service.wire.requests import ClientRequest, Event, SendToGroup
from limpet_core.service.wire.to_client import Publication

_SLICE: Final = 25
"""Connections, or publications, of one piece."""

_PIECE: Final = 1024 * 1024
"""Bytes of publications of one piece, unless one alone has more."""

_encode = msgspec.msgpack.Encoder().encode


class Saving:
    """The pieces of one snapshot: call the methods once each, in their order; the state must not change meanwhile.

    The state changes when the log is applied, and at no other time.
    """

    def __init__(self, shared: SharedState) -> None:
        self._shared = shared
        self._core = core = shared.core
        registry = core.registry
        self._living: int = len(registry.connections)
        over = {
            call.connection: None
            for pending in core.logged_calls.pending.values()
            if isinstance(call := pending.call.purpose, ConnectedCall | ClientCall)
            and not registry.is_alive(call.connection)
        }
        self._numbers: dict[Connection, int] = {
            connection: number for number, connection in enumerate(chain(registry.connections.values(), over))
        }
        self._groups: dict[str, dict[str, int]] = {
            hub.name: {group: number for number, group in enumerate(hub.groups)} for hub in registry.hubs
        }
        self._group_states = core.states.save()
        self._states: dict[tuple[str, str], Mapping[Connection, bytes]] = {
            (hub, group): states for hub, group, states, _ in self._group_states
        }
        self._texts: dict[str, int] = {}
        self._publications: dict[Publication, int] = {}

    # ---- The pieces

    def connections(self) -> Iterator[bytes]:
        """Return all connections, in slices."""
        every = iter(self._numbers)
        while some := list(map(self._connection, islice(every, _SLICE))):
            yield _encode(some)

    def publications(self) -> Iterator[bytes]:
        """Return the messages that they retain."""
        some: list[records.SavedPublication] = []
        size = 0
        for publication in self._publications:
            some.append(_publication(publication))
            size += publication.size
            if size >= _PIECE or len(some) >= _SLICE:
                yield _encode(some)
                some, size = [], 0
        if some:
            yield _encode(some)

    def state(self) -> bytes:
        """Return all the rest."""
        shared, core = self._shared, self._core
        members, registry, calls = shared.members, core.registry, core.logged_calls
        numbers = self._numbers
        saved_calls = [self._call(each.number, each.executor, each.call) for each in calls.pending.values()]
        held = [(due, self._call(0, "", call), _ended(invoked)) for due, call, invoked in core.invocations.save()]
        return _encode(
            records.SavedState(
                shared.position,
                core.now,
                shared.behaviour,
                shared.compared,
                shared.compared_at,
                shared.digests,
                shared.failures,
                list(members),
                list(members.gone),
                list(self._texts),
                self._living,
                [
                    records.SavedHub(
                        hub.name,
                        [self._first(connections) for connections in hub.users.values()],
                        [(group, self._all(members)) for group, members in hub.groups.items()],
                    )
                    for hub in registry.hubs
                ],
                [(numbers[connection], connection.deadline) for connection in registry.detached],
                [(due, numbers[connection], stream.stream_id) for due, connection, stream in core.streams.save()],
                [
                    records.SavedGroupStates(hub, group, self._all(states), self._all(watchers))
                    for hub, group, states, watchers in self._group_states
                ],
                calls.next_number,
                saved_calls,
                held,
            )
        )

    # ---- Connections

    def _connection(self, connection: Connection) -> records.SavedConnection:
        hub, text, attachment, context = connection.hub, self._text, connection.attachment, connection.context
        permissions = connection.permissions
        number = self._publications
        return records.SavedConnection(
            connection.connection_id,
            text(hub),
            None if connection.subprotocol is None else text(connection.subprotocol),
            connection.raw,
            connection.user_id,
            permissions.join_leave.save(),
            permissions.send.save(),
            [self._groups[hub][group] for group in connection.groups],
            None if attachment is None else self._place(attachment),
            connection.sequence_id,
            [number.setdefault(publication, len(number)) for publication in connection.retained_messages],
            connection.acks.save(),
            [_stream(stream) for stream in connection.streams.values()],
            [_stream(stream) for stream in connection.ended_streams.values()],
            {group: self._states[hub, group][connection] for group in connection.group_states},
            list(connection.watched_groups),
            connection.state_time,
            connection.warned_of_unknown,
            None if context is None else self._context(context),
        )

    def _context(self, context: HandlerContext) -> records.SavedContext:
        state, cookies = context.handed_over()
        queue = [(_request(request), size) for request, size in context.queue]
        subprotocol = self._text(context.subprotocol)
        return records.SavedContext(subprotocol, state, cookies, context.next_id, context.close_reason, queue)

    def _place(self, attachment: Attachment) -> records.Place:
        assert attachment.place is not None, "in a cluster each has one"
        node, number = attachment.place
        return self._text(node), number

    def _text(self, text: str) -> int:
        return self._texts.setdefault(text, len(self._texts))

    def _all(self, connections: Iterable[Connection]) -> list[int]:
        return [self._numbers[connection] for connection in connections]

    def _first(self, connections: Iterable[Connection]) -> int:
        return self._numbers[next(iter(connections))]

    # ---- Calls of event handlers

    def _call(self, number: int, executor: str, call: HandlerCall) -> records.SavedCall:
        headers = tuple((name, "" if name == ORIGIN else value) for name, value in call.headers)
        handler = self._core.events.handlers[call.about[0]].index(call.handler)
        purpose = self._purpose(call)
        # An event has the payload already.
        body = call.body if purpose is None or isinstance(purpose, records.OfConnected) else b""
        return records.SavedCall(number, self._text(executor), handler, call.event, headers, body, call.about, purpose)

    def _purpose(self, call: HandlerCall) -> records.OfConnected | records.OfEvent | records.OfInvocation | None:
        purpose = call.purpose
        if isinstance(purpose, ConnectedCall):
            return records.OfConnected(self._numbers[purpose.connection])
        if isinstance(purpose, EventCall):
            return records.OfEvent(self._numbers[purpose.connection], purpose.event)
        if isinstance(purpose, InvocationCall):
            return records.OfInvocation(
                self._numbers[purpose.connection],
                purpose.event,
                self._place(purpose.attachment),
                purpose.invocation_id,
                purpose.size,
                float(purpose.delay),
            )
        return None


def _ended(invoked: Invoked) -> CallEnded:
    # How often this node has tried to call is its own.
    outcome = invoked.outcome
    if isinstance(outcome, Answer):
        return CallEnded(0, invoked.delivered, 0, 0.0, outcome.status, outcome.headers, outcome.body)
    return CallEnded(0, invoked.delivered, 0, 0.0, kind=outcome.kind, text=outcome.text)


def _publication(publication: Publication) -> records.SavedPublication:
    return records.SavedPublication(
        publication.head,
        publication.group,
        publication.data_type,
        publication.data,
        publication.metadata,
        publication.expires,
        publication.stream,
    )


def _stream(stream: Stream) -> records.SavedStream:
    return records.SavedStream(
        stream.stream_id,
        stream.group,
        stream.no_echo,
        float(stream.idle_timeout),  # which the settings may have as an integer, and its encoding is another one
        stream.deadline,
        stream.expected,
        stream.fault,
        stream.refused,
    )


def _request(request: ClientRequest) -> records.QueuedRequest:
    # Their payloads are JSON as it came, which has no place among values.
    if isinstance(request, SendToGroup):
        return records.QueuedMessage(
            request.group,
            request.ack_id,
            request.no_echo,
            request.data_type,
            bytes(request.data),
            request.ttl_seconds,
            bytes(request.metadata),
        )
    if isinstance(request, Event):
        data, metadata = bytes(request.data), bytes(request.metadata)
        return records.QueuedEvent(request.event, request.ack_id, request.data_type, data, metadata)
    return request
