"""The local service's brain: hubs, connections, permissions and messages, without IO, clock or chance."""

from __future__ import annotations

from .application import PendingConnect
from .audiences import audience_matches, is_endpoint, parse_host, request_audience_matches
from .cloud_events import ConnectRequest, Rejection
from .connection import ABNORMAL, Close, Connection, Limits, Transport
from .conversation import Conversation, EventSettings
from .core import ServiceCore
from .downstream import Binary, Publication, group_publication, server_publication
from .filters import Filter, InvalidFilter
from .handlers import (
    MAX_ANSWER,
    SYSTEM_EVENTS,
    Answer,
    EventHandler,
    Failure,
    FailureKind,
    HandlerCall,
    Headers,
    index_by_hub,
)
from .hub import Hub
from .metadata import InvalidMetadata, encode_metadata, metadata_from_headers
from .names import (
    JSON,
    JSON_RELIABLE,
    SUBPROTOCOLS,
    is_event_name,
    is_group_name,
    is_hub_name,
    select_subprotocol,
)
from .observers import Observers
from .patterns import GroupPattern, InvalidPattern
from .permissions import GroupRules, Permissions
from .raw import InvalidQuery, RawMode
from .snapshot import ConnectionState, HubState, Snapshot, snapshot
from .tokens import (
    ClientGrant,
    ConnectionString,
    InvalidClaims,
    client_audience,
    client_claims,
    client_endpoint,
)
from .trace import (
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
from .upstream import DataType, ProtocolViolation

__all__ = [
    "ABNORMAL",
    "JSON",
    "JSON_RELIABLE",
    "MAX_ANSWER",
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
    "Conversation",
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
