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
from limpet_core.service.access.audiences import audience_matches, is_endpoint, parse_host, request_audience_matches
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
from limpet_core.service.application_server import PendingConnect
from limpet_core.service.connections.connection import Connection, Limits, Transport
from limpet_core.service.connections.hub import Hub
from limpet_core.service.connections.observers import Observers
from limpet_core.service.connections.snapshot import ConnectionState, HubState, Snapshot, snapshot
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
    HandshakeRefused,
    Joined,
    Left,
    Observer,
    Published,
    RecoveryRefused,
    Refused,
    SequenceAcked,
    ShutDown,
    TraceEvent,
)
from limpet_core.service.webhooks.cloud_events import ConnectRequest, Rejection
from limpet_core.service.webhooks.handler_context import HandlerContext
from limpet_core.service.webhooks.handlers import (
    MAX_ANSWER,
    SYSTEM_EVENTS,
    Answer,
    EventHandler,
    EventSettings,
    Failure,
    FailureKind,
    HandlerCall,
    Headers,
    index_by_hub,
)
from limpet_core.service.wire.from_client import DataType, ProtocolViolation
from limpet_core.service.wire.metadata import InvalidMetadata, encode_metadata, metadata_from_headers
from limpet_core.service.wire.raw import InvalidQuery, RawMode
from limpet_core.service.wire.subprotocols import select_subprotocol
from limpet_core.service.wire.to_client import Binary, Publication, group_publication, server_publication

__all__ = [
    "JSON",
    "MAX_ANSWER",
    "NO_CLOSE_FRAME",
    "RELIABLE_JSON",
    "SUBPROTOCOLS",
    "SYSTEM_EVENTS",
    "Acked",
    "Answer",
    "Binary",
    "ClientGrant",
    "Close",
    "ConnectRequest",
    "Connection",
    "ConnectionClosed",
    "ConnectionDropped",
    "ConnectionOpened",
    "ConnectionRecovered",
    "ConnectionState",
    "ConnectionString",
    "DataType",
    "EventHandler",
    "EventRaised",
    "EventSettings",
    "Failure",
    "FailureKind",
    "Filter",
    "GroupPattern",
    "GroupRules",
    "HandlerCall",
    "HandlerContext",
    "HandshakeRefused",
    "Headers",
    "Hub",
    "HubState",
    "InvalidClaims",
    "InvalidFilter",
    "InvalidMetadata",
    "InvalidPattern",
    "InvalidQuery",
    "Joined",
    "Left",
    "Limits",
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
    "is_event_name",
    "is_group_name",
    "is_hub_name",
    "metadata_from_headers",
    "parse_host",
    "request_audience_matches",
    "select_subprotocol",
    "server_publication",
    "snapshot",
]
