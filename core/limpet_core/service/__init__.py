"""The logic of the local service: hubs, connections, permissions and messages, without IO, clock or randomness."""

from __future__ import annotations

from limpet_core.protocol.close import NO_CLOSE_FRAME, Close
from limpet_core.protocol.names import (
    JSON,
    RELIABLE_JSON,
    SUBPROTOCOLS,
    is_event_name,
    is_group_name,
    is_hub_name,
)
from limpet_core.service.access.audiences import (
    audience_matches,
    is_endpoint,
    is_entra_audience,
    parse_host,
    request_audience_matches,
)
from limpet_core.service.access.patterns import GroupPattern, InvalidPattern
from limpet_core.service.access.permissions import GroupRules, Permissions
from limpet_core.service.access.tokens import (
    ClientGrant,
    ConnectionString,
    InvalidClaims,
    client_audience,
    client_claims,
    client_endpoint,
)
from limpet_core.service.application_server import ClientCall, PendingConnect
from limpet_core.service.connections.connection import Attachment, Connection
from limpet_core.service.connections.hub import Hub
from limpet_core.service.connections.limits import Limits
from limpet_core.service.connections.observers import Observers
from limpet_core.service.connections.snapshot import (
    ConnectionList,
    ConnectionState,
    HubState,
    ListedConnection,
    Snapshot,
    list_connections,
    snapshot,
)
from limpet_core.service.connections.totals import HandlerTotals, Totals
from limpet_core.service.connections.transport import Transport
from limpet_core.service.core import ServiceCore
from limpet_core.service.odata.expressions import InvalidFilter
from limpet_core.service.odata.filters import Filter
from limpet_core.service.trace import (
    Acked,
    ConnectionClosed,
    ConnectionDropped,
    ConnectionOpened,
    ConnectionRecovered,
    EventRaised,
    GroupStateCleared,
    GroupStateSet,
    GroupStatesUnwatched,
    GroupStatesWatched,
    HandlerCalled,
    HandshakeRefused,
    InvocationAnswered,
    InvocationCancelled,
    InvocationFailed,
    Invoked,
    Joined,
    Left,
    Observer,
    Published,
    RecoveryRefused,
    Refused,
    SequenceAcked,
    ShutDown,
    StreamAcked,
    StreamEnded,
    StreamNacked,
    StreamRefused,
    StreamStarted,
    TraceEvent,
)
from limpet_core.service.webhooks.answers import MAX_ANSWER, Answer, Failure, FailureKind, Headers
from limpet_core.service.webhooks.cloud_events import ConnectRequest, Rejection
from limpet_core.service.webhooks.handler_context import HandlerContext
from limpet_core.service.webhooks.handlers import SYSTEM_EVENTS, EventHandler, EventSettings, HandlerCall, index_by_hub
from limpet_core.service.webhooks.listeners import EventListener, ListenerMessage
from limpet_core.service.wire.frames import Binary
from limpet_core.service.wire.from_client import ProtocolViolation
from limpet_core.service.wire.metadata import InvalidMetadata, encode_metadata, metadata_from_headers
from limpet_core.service.wire.raw import InvalidQuery, RawMode
from limpet_core.service.wire.requests import DataType
from limpet_core.service.wire.subprotocols import select_subprotocol
from limpet_core.service.wire.to_client import (
    Publication,
    StreamFault,
    StreamPlace,
    group_publication,
    server_publication,
)

__all__ = [
    "JSON",
    "MAX_ANSWER",
    "NO_CLOSE_FRAME",
    "RELIABLE_JSON",
    "SUBPROTOCOLS",
    "SYSTEM_EVENTS",
    "Acked",
    "Answer",
    "Attachment",
    "Binary",
    "ClientCall",
    "ClientGrant",
    "Close",
    "ConnectRequest",
    "Connection",
    "ConnectionClosed",
    "ConnectionDropped",
    "ConnectionList",
    "ConnectionOpened",
    "ConnectionRecovered",
    "ConnectionState",
    "ConnectionString",
    "DataType",
    "EventHandler",
    "EventListener",
    "EventRaised",
    "EventSettings",
    "Failure",
    "FailureKind",
    "Filter",
    "GroupPattern",
    "GroupRules",
    "GroupStateCleared",
    "GroupStateSet",
    "GroupStatesUnwatched",
    "GroupStatesWatched",
    "HandlerCall",
    "HandlerCalled",
    "HandlerContext",
    "HandlerTotals",
    "HandshakeRefused",
    "Headers",
    "Hub",
    "HubState",
    "InvalidClaims",
    "InvalidFilter",
    "InvalidMetadata",
    "InvalidPattern",
    "InvalidQuery",
    "InvocationAnswered",
    "InvocationCancelled",
    "InvocationFailed",
    "Invoked",
    "Joined",
    "Left",
    "Limits",
    "ListedConnection",
    "ListenerMessage",
    "Observer",
    "Observers",
    "PendingConnect",
    "Permissions",
    "ProtocolViolation",
    "Publication",
    "Published",
    "RawMode",
    "RecoveryRefused",
    "Refused",
    "Rejection",
    "SequenceAcked",
    "ServiceCore",
    "ShutDown",
    "Snapshot",
    "StreamAcked",
    "StreamEnded",
    "StreamFault",
    "StreamNacked",
    "StreamPlace",
    "StreamRefused",
    "StreamStarted",
    "Totals",
    "TraceEvent",
    "Transport",
    "audience_matches",
    "client_audience",
    "client_claims",
    "client_endpoint",
    "encode_metadata",
    "group_publication",
    "index_by_hub",
    "is_endpoint",
    "is_entra_audience",
    "is_event_name",
    "is_group_name",
    "is_hub_name",
    "list_connections",
    "metadata_from_headers",
    "parse_host",
    "request_audience_matches",
    "select_subprotocol",
    "server_publication",
    "snapshot",
]
