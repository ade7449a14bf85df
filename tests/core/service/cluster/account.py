"""What a snapshot does with each attribute of the service's classes, and a picture of a state to compare with another.

The picture is made without the format of snapshots, by the attributes alone: it shows what that format forgets.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from limpet_core.service import EventHandler, Limits
from limpet_core.service.access.patterns import GroupPattern
from limpet_core.service.access.permissions import GroupRules, Permissions
from limpet_core.service.application_server import (
    ApplicationServer,
    ConnectedCall,
    EventCall,
    InvocationCall,
    Invoked,
)
from limpet_core.service.cluster.logged_calls import LoggedCalls, PendingCall
from limpet_core.service.cluster.members import Member, Members
from limpet_core.service.cluster.replicated_core import ReplicatedCore
from limpet_core.service.cluster.shared_state import SharedState
from limpet_core.service.connections.connection import Attachment, Connection
from limpet_core.service.connections.hub import Hub
from limpet_core.service.connections.registry import Registry
from limpet_core.service.connections.remembered_acks import RememberedAcks
from limpet_core.service.connections.stream import Stream
from limpet_core.service.connections.transport import Transport
from limpet_core.service.dispatch import Dispatcher
from limpet_core.service.group_states import GroupStates, _Group  # pyright: ignore[reportPrivateUsage]
from limpet_core.service.invocations import Invocations
from limpet_core.service.streams import Streams
from limpet_core.service.webhooks.cloud_events import ClientEvent
from limpet_core.service.webhooks.handler_context import HandlerContext
from limpet_core.service.webhooks.handlers import HandlerCall
from limpet_core.service.wire.raw import RawMode
from limpet_core.service.wire.requests import (
    Event,
    JoinGroup,
    LeaveGroup,
    SendToGroup,
    SetGroupState,
    SubscribeGroupState,
    UnsubscribeGroupState,
)
from limpet_core.service.wire.to_client import Publication, StreamFault, StreamPlace


def in_order(timers: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Return the entries of a heap that still count, without the numbers, of which only the order matters."""
    assert all(timers[(place - 1) // 2][:2] < timers[place][:2] for place in range(1, len(timers))), "no heap"
    return [(due, *rest) for due, _, *rest in sorted(timers) if not isinstance(rest[-1], Stream) or rest[-1].is_open]


def awaited(held: list[tuple[float, int, Invoked]]) -> list[tuple[Any, ...]]:
    """Return the answers that are held back, without those of invocations that were given up."""
    return [entry for entry in in_order(held) if _is_running(entry[-1].invocation)]


def _is_running(invocation: InvocationCall) -> bool:
    call = invocation.connection.invocations.get((invocation.attachment, invocation.invocation_id))
    return call is not None and call.purpose is invocation


SAME: Any = "same"
"""The attribute is in the snapshot, or follows from what is there: it is the same at all nodes."""

LOCAL: Any = "local"
"""A node has it for itself, or it is a part that others hold, too, and that is looked at there."""

SETTINGS: Any = "settings"
"""It is in the settings, which are the same at all nodes, or a part without a state of its own."""

CACHE: Any = "cache"
"""It follows from the rest, and is computed when it is needed."""

EMPTY: Any = "empty"
"""Between two entries of the log there is nothing in it."""

Kind = str | Callable[[Any], Any]
"""A function returns the part of the attribute that is the same at all nodes."""


def _all(kind: Kind, names: str) -> dict[str, Kind]:
    return dict.fromkeys(names.split(), kind)


ACCOUNT: dict[type, dict[str, Kind]] = {
    SharedState: {
        **_all(SAME, "core members settings position compared compared_at digests failures"),
        **_all(SETTINGS, "own_settings"),
        **_all(LOCAL, "is_foreign _node _local"),
    },
    Members: _all(SAME, "_members _gone"),
    Member: _all(SAME, "node counter seen oldest newest name"),
    ReplicatedCore: {
        **_all(SAME, "now logged_calls streams invocations _registry _states"),
        **_all(SETTINGS, "node_limits limits events _new_connection_id _check_token _dispatcher"),
        **_all(LOCAL, "attempts _own_calls _admission observers _application _told _given_up"),
        **_all(EMPTY, "_decided"),
    },
    LoggedCalls: {
        **_all(SAME, "pending next_number _numbers"),
        # Each entry of the log sets it at its beginning.
        **_all(LOCAL, "executor _node _attempts"),
        **_all(EMPTY, "_settled"),
    },
    PendingCall: _all(SAME, "number call executor"),
    ApplicationServer: {
        **_all(SETTINGS, "settings"),
        **_all(LOCAL, "_observers calls listener_messages"),
        **_all(EMPTY, "_undecided"),
    },
    Dispatcher: _all(LOCAL, "_registry _application _streams _states _observers"),
    Registry: {
        **_all(SAME, "connections behaviour window_deadline _hubs _detached"),
        **_all(SETTINGS, "limits outbox_limits backlogs_from _issue_token _on_leave _listeners"),
        **_all(LOCAL, "_observers _named _ready"),
    },
    Hub: {**_all(SAME, "name connections _groups _users"), **_all(LOCAL, "_backlogs")},
    Connection: {
        **_all(
            SAME,
            "connection_id hub subprotocol raw reliable user_id permissions groups attachment context deadline "
            "_sequence_id streams ended_streams group_states watched_groups state_time invocation_bytes "
            "warned_of_unknown acks _retained _retained_bytes _counts_released",
        ),
        # Their order is seen in nothing.
        "invocations": lambda invocations: sorted(
            ((attachment.place, name, call) for (attachment, name), call in invocations.items()),
            key=lambda entry: entry[:2],
        ),
        **_all(SETTINGS, "_limits"),
        "codec": lambda codec: type(codec).__name__,
        # Which connections of a node share a backlog is its own affair.
        **_all(LOCAL, "transport _backlog _taken _keeps_apart"),
    },
    RememberedAcks: {**_all(SAME, "_failed succeeded _order"), **_all(SETTINGS, "_limit")},
    Attachment: _all(SAME, "connection place"),
    Permissions: _all(SAME, "join_leave send"),
    GroupRules: _all(SAME, "_all _literals _patterns"),
    GroupPattern: {
        **_all(SAME, "text literal matches_everything"),
        **_all(CACHE, "_any _count _exact _not_dot _one _stars"),
    },
    Stream: {
        **_all(SAME, "stream_id group no_echo idle_timeout deadline expected is_open fault refused"),
        # That of an ended stream says nothing.
        **_all(LOCAL, "ack_is_due"),
    },
    Streams: {
        "_timers": in_order,
        **_all(SAME, "_open"),
        **_all(LOCAL, "_registry _observers faults _numbers"),
        **_all(EMPTY, "_with_ack _cancelled _cancelling"),
    },
    GroupStates: {
        **_all(SAME, "_groups"),
        **_all(LOCAL, "_registry _observers _unix_time"),
        **_all(EMPTY, "_with_news"),
    },
    _Group: {**_all(SAME, "hub name states size watchers"), **_all(EMPTY, "changed fresh")},
    Invocations: {"_held": awaited, **_all(LOCAL, "faults _registry _application _observers _serial")},
    HandlerContext: {
        **_all(
            SAME,
            "hub connection_id user_id subprotocol state event_running connected_running close_reason queue "
            "queued_bytes _next_id _cookies _signature",
        ),
        **_all(SETTINGS, "_settings"),
        **_all(LOCAL, "_listener_messages"),
    },
    HandlerCall: {
        **_all(SAME, "method url body handler event purpose validation_url timeout is_invocation about"),
        # The origin is a node's own.
        "headers": lambda headers: [pair for pair in headers if pair[0] != "WebHook-Request-Origin"],
        # The attempts; when a call has ended, the log says of them.
        **_all(LOCAL, "deadline attempts delivered cancelled duration"),
    },
    ConnectedCall: _all(SAME, "connection context"),
    EventCall: _all(SAME, "connection context event"),
    InvocationCall: _all(SAME, "connection context event attachment invocation_id size delay"),
    Invoked: _all(SAME, "invocation outcome reply delivered"),
    Publication: {
        **_all(SAME, "_tail size expires group data_type data metadata stream"),
        **_all(CACHE, "_after_id _first_id _frame _last_id _payload_frame _template protobuf"),
    },
    SendToGroup: {
        **_all(SAME, "group ack_id no_echo data_type data ttl_seconds metadata"),
        # With a stream it is a StartStream, which does not wait.
        **_all(EMPTY, "stream"),
    },
    Event: _all(SAME, "event ack_id data_type data metadata"),
}

VALUES = (
    ClientEvent, RawMode, JoinGroup, LeaveGroup, SetGroupState, SubscribeGroupState, UnsubscribeGroupState, StreamPlace,
    StreamFault, EventHandler, Limits,
)  # fmt: skip
"""Classes of values that are encoded as a whole, or belong to the settings."""


def picture(shared: SharedState) -> Any:
    """Return all that is the same at all nodes, as plain values; an object that comes again is a number."""
    return _Painter().of(shared)


class _Painter:
    def __init__(self) -> None:
        self._seen: dict[int, int] = {}
        self._kept: list[object] = []

    def of(self, value: Any) -> Any:
        if value is None or isinstance(value, bool | int | float | str | bytes):
            return value
        if isinstance(value, msgspec.Raw):
            return bytes(value)
        if isinstance(value, Mapping):
            return [type(value) is OrderedDict, *((self.of(key), self.of(each)) for key, each in value.items())]
        if isinstance(value, set):
            return sorted(value)
        if isinstance(value, list | tuple | deque):
            return [self.of(each) for each in value]
        account = ACCOUNT.get(Attachment if isinstance(value, Transport) else type(value))
        if account is None:
            assert isinstance(value, msgspec.Struct), value
            return (type(value).__name__, value)
        known = self._seen.get(id(value))
        if known is not None:
            return f"number {known}"
        self._seen[id(value)] = len(self._seen)
        self._kept.append(value)
        return (type(value).__name__.replace("Transport", "Attachment"), self._attributes(value, account))

    def _attributes(self, value: object, account: dict[str, Kind]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if isinstance(value, Connection):
            assert value.retained_bytes >= 0  # it takes its messages from a backlog, and counts anew
        for name, kind in account.items():
            if kind == EMPTY:
                held = getattr(value, name)
                assert not held, f"{type(value).__name__}.{name} is {held!r} between two entries"
            elif kind == SAME or callable(kind):
                held = getattr(value, name)
                found[name] = self.of(kind(held) if callable(kind) else held)
        return found
