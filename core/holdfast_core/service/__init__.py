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
from .patterns import GroupPattern, InvalidPattern
from .permissions import GroupRules, Permissions
from .tokens import (
    ClientGrant,
    ConnectionString,
    InvalidClaims,
    audience_matches,
    client_audience,
    client_claims,
    client_endpoint,
)
from .upstream import ProtocolViolation

__all__ = [
    "ABNORMAL",
    "JSON",
    "JSON_RELIABLE",
    "SUBPROTOCOLS",
    "ClientGrant",
    "Close",
    "Connection",
    "ConnectionString",
    "GroupPattern",
    "GroupRules",
    "Hub",
    "InvalidClaims",
    "InvalidPattern",
    "Limits",
    "Permissions",
    "ProtocolViolation",
    "Publication",
    "ServiceCore",
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
]
