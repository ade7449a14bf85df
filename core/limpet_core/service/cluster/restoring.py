"""From the values of a snapshot to the state of a cluster."""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec

from limpet_core.service.access.tokens import ClientGrant
from limpet_core.service.application_server import ConnectedCall, EventCall, InvocationCall, Invoked
from limpet_core.service.cluster import records
from limpet_core.service.cluster.shared_state import SharedState
from limpet_core.service.connections.connection import Attachment, Connection
from limpet_core.service.connections.stream import Stream
from limpet_core.service.webhooks.cloud_events import read_reply
from limpet_core.service.webhooks.handler_context import HandlerContext
from limpet_core.service.webhooks.handlers import ORIGIN, HandlerCall
from limpet_core.service.wire.raw import RawMode
from limpet_core.service.wire.requests import ClientRequest, Event, SendToGroup
from limpet_core.service.wire.to_client import Publication, group_state_of

_EVENTS = RawMode()


def restore_nodes(shared: SharedState, state: records.SavedState) -> None:
    """Give a new shared state what a snapshot says of the nodes, and its place in the log."""
    shared.position = state.position
    shared.core.now = state.now
    shared.core.registry.behaviour = state.behaviour
    shared.compared, shared.compared_at = state.compared, state.compared_at
    shared.digests = dict(state.digests)
    shared.failures = state.failures
    shared.members.restore(state.members, state.gone)


class Restoring:
    """What a snapshot holds, made of new objects; :meth:`install` gives them to a new shared state.

    Raises:
        LookupError, ValueError: if the values do not fit together, or not to the settings.
    """

    def __init__(
        self,
        shared: SharedState,
        connections: Iterable[records.SavedConnection],
        publications: Iterable[records.SavedPublication],
        state: records.SavedState,
    ) -> None:
        self._shared = shared
        self._core = shared.core
        self._state = state
        self._publications = list(map(_publication, publications))
        self._groups = {hub.name: [group for group, _ in hub.groups] for hub in state.hubs}
        self._attachments: dict[tuple[Connection, tuple[str, int]], Attachment] = {}
        self._connections: list[Connection] = []
        self._items: list[dict[str, bytes]] = []
        for saved in connections:
            self._connections.append(self._connection(saved))
            self._items.append(saved.states)
        every = self._connections
        self._hubs = [
            (
                hub.name,
                [every[number].user_id or "" for number in hub.users],
                {group: self._all(members) for group, members in hub.groups},
            )
            for hub in state.hubs
        ]
        self._detached = self._all(number for number, _ in state.detached)
        for number, deadline in state.detached:
            every[number].deadline = deadline
        self._timers = [(due, every[number], every[number].streams[name]) for due, number, name in state.timers]
        self._states = [
            (
                saved.hub,
                saved.group,
                {every[number]: self._items[number][saved.group] for number in saved.members},
                self._all(saved.watchers),
            )
            for saved in state.states
        ]
        self._calls = [(saved.number, self._call(saved), self._text(saved.executor)) for saved in state.calls]
        self._held: list[tuple[float, Invoked]] = []
        for due, saved_call, ended in state.held:
            call = self._call(saved_call)
            assert isinstance(call.purpose, InvocationCall)
            invoked = Invoked(call.purpose, ended.outcome, read_reply(ended.outcome), ended.delivered)
            self._held.append((due, invoked))

    def install(self) -> None:
        """Give all to the shared state, which is a new one."""
        core, state = self._core, self._state
        restore_nodes(self._shared, state)
        registry, living = core.registry, self._connections[: state.living]
        by_hub: dict[str, list[Connection]] = {}
        for connection in living:
            by_hub.setdefault(connection.hub, []).append(connection)
        hubs = [registry.hub(name) for name, _, _ in self._hubs]
        for hub, (name, users, groups) in zip(hubs, self._hubs, strict=True):
            hub.restore(by_hub.get(name, ()), users, groups)
        registry.restore(hubs, living, self._detached)
        core.streams.restore(self._timers)
        core.states.restore(self._states)
        core.invocations.restore(self._held)
        core.logged_calls.next_number = state.next_call
        for number, call, executor in self._calls:
            core.logged_calls.restore(number, call, executor)

    # ---- Connections

    def _connection(self, saved: records.SavedConnection) -> Connection:
        hub = self._text(saved.hub)
        subprotocol = None if saved.subprotocol is None else self._text(saved.subprotocol)
        context = None
        if saved.context is not None:
            context = self._core.new_context(hub, saved.connection_id, saved.user_id)
            if context is None:
                raise ValueError("a hub has no event handlers or listeners here")
            self._fill(context, saved.context)
        connection = Connection(
            hub,
            saved.connection_id,
            subprotocol,
            ClientGrant(saved.user_id),
            saved.raw or _EVENTS,
            self._core.limits,
            context,
        )
        connection.permissions.join_leave.restore(saved.join_leave)
        connection.permissions.send.restore(saved.send)
        if saved.groups:
            groups = self._groups[hub]
            connection.groups = {groups[number]: None for number in saved.groups}
        if saved.place is not None:
            connection.attach(self._attachment(connection, saved.place))
        connection.retain([self._publications[number] for number in saved.retained], saved.sequence_id)
        connection.acks.restore(saved.acks)
        connection.streams = {stream.stream_id: _stream(stream, is_open=True) for stream in saved.streams}
        connection.ended_streams = {stream.stream_id: _stream(stream, is_open=False) for stream in saved.ended_streams}
        connection.group_states = {group: group_state_of(item) for group, item in saved.states.items()}
        connection.watched_groups = dict.fromkeys(saved.watched)
        connection.state_time = saved.state_time
        connection.warned_of_unknown = saved.warned_of_unknown
        return connection

    def _fill(self, context: HandlerContext, saved: records.SavedContext) -> None:
        context.subprotocol = self._text(saved.subprotocol)
        context.take_over(saved.state, saved.cookies)
        context.restore(saved.next_id, saved.close_reason, [(_request(queued), size) for queued, size in saved.queue])

    def _attachment(self, connection: Connection, saved: records.Place) -> Attachment:
        """Return the attachment of a place; a connection has one object for each."""
        place = (self._text(saved[0]), saved[1])
        attachment = self._attachments.get((connection, place))
        if attachment is None:
            attachment = self._attachments[connection, place] = Attachment(connection)
            attachment.place = place
        return attachment

    def _text(self, number: int) -> str:
        return self._state.texts[number]

    def _all(self, numbers: Iterable[int]) -> list[Connection]:
        return [self._connections[number] for number in numbers]

    # ---- Calls of event handlers

    def _call(self, saved: records.SavedCall) -> HandlerCall:
        hub = saved.about[0]
        events = self._core.events
        handler = events.handlers[hub][saved.handler]
        call = HandlerCall(
            "POST",
            handler.url_for(hub, saved.event),
            tuple((name, events.origin if name == ORIGIN else value) for name, value in saved.headers),
            saved.body,
            handler=handler,
            event=saved.event,
            validation_url=handler.url_for(hub, "validate"),
            about=saved.about,
        )
        if saved.purpose is not None:
            self._give_purpose(call, saved.purpose)
        return call

    def _give_purpose(
        self, call: HandlerCall, saved: records.OfConnected | records.OfEvent | records.OfInvocation
    ) -> None:
        connection = self._connections[saved.connection]
        context = connection.context
        if context is None:
            raise ValueError("a call of an event handler is of a client without one")
        if isinstance(saved, records.OfConnected):
            call.purpose = ConnectedCall(connection, context)
            context.connected_running = True
            return
        event = saved.event
        call.body = event.payload
        if isinstance(saved, records.OfEvent):
            call.purpose = EventCall(connection, context, event)
            context.event_running = call
        else:
            attachment = self._attachment(connection, saved.place)
            where = (attachment, saved.invocation_id)
            call.purpose = InvocationCall(connection, context, event, *where, saved.size, saved.delay)
            call.is_invocation = True
            connection.invocations[where] = call
            connection.invocation_bytes += saved.size


def _publication(saved: records.SavedPublication) -> Publication:
    return Publication(
        saved.head, saved.group, saved.data_type, saved.data, saved.metadata, saved.expires, saved.stream
    )


def _stream(saved: records.SavedStream, *, is_open: bool) -> Stream:
    stream = Stream(saved.stream_id, saved.group, saved.no_echo, saved.idle_timeout, -math.inf)
    stream.deadline = saved.deadline
    stream.expected = saved.expected
    stream.is_open = is_open
    stream.fault = saved.fault
    stream.refused = saved.refused
    return stream


def _request(saved: records.QueuedRequest) -> ClientRequest:
    if isinstance(saved, records.QueuedMessage):
        return SendToGroup(
            saved.group,
            saved.ack_id,
            saved.no_echo,
            saved.data_type,
            msgspec.Raw(saved.data),
            saved.ttl_seconds,
            msgspec.Raw(saved.metadata),
        )
    if isinstance(saved, records.QueuedEvent):
        data, metadata = msgspec.Raw(saved.data), msgspec.Raw(saved.metadata)
        return Event(saved.event, saved.ack_id, saved.data_type, data, metadata)
    return saved
