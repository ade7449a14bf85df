"""The local service's brain: hubs, connections, permissions and messages, without IO, clock or chance."""

from __future__ import annotations

from .connection import ABNORMAL, Close, Connection, Limits, Transport
from .core import ServiceCore
from .downstream import Publication, group_publication, server_publication
from .hub import Hub
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
from .snapshot import ConnectionState, HubState, Snapshot, snapshot
from .tokens import (
    ClientGrant,
    ConnectionString,
    InvalidClaims,
    audience_matches,
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
from .upstream import ProtocolViolation

__all__ = [
    "ABNORMAL",
    "JSON",
    "JSON_RELIABLE",
    "SUBPROTOCOLS",
    "Acked",
    "ClientGrant",
    "Close",
    "Connection",
    "ConnectionClosed",
    "ConnectionDropped",
    "ConnectionOpened",
    "ConnectionRecovered",
    "ConnectionState",
    "ConnectionString",
    "EventRaised",
    "GroupPattern",
    "GroupRules",
    "HandshakeRefused",
    "Hub",
    "HubState",
    "InvalidClaims",
    "InvalidPattern",
    "Joined",
    "Left",
    "Limits",
    "Observer",
    "Observers",
    "Permissions",
    "ProtocolViolation",
    "Publication",
    "Published",
    "RecoveryRefused",
    "Refused",
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
    "group_publication",
    "is_event_name",
    "is_group_name",
    "is_hub_name",
    "select_subprotocol",
    "server_publication",
    "snapshot",
]
