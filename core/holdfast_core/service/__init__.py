"""The local service's brain: hubs, connections, permissions and messages, without IO, clock or chance."""

from __future__ import annotations

from .connection import ABNORMAL, Close, Connection, Limits, Transport
from .core import ServiceCore
from .downstream import Binary, Publication, group_publication, server_publication
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
from .patterns import GroupPattern, InvalidPattern
from .permissions import GroupRules, Permissions
from .raw import InvalidQuery, RawMode
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
    "Binary",
    "ClientGrant",
    "Close",
    "Connection",
    "ConnectionString",
    "GroupPattern",
    "GroupRules",
    "Hub",
    "InvalidClaims",
    "InvalidMetadata",
    "InvalidPattern",
    "InvalidQuery",
    "Limits",
    "Permissions",
    "ProtocolViolation",
    "Publication",
    "RawMode",
    "ServiceCore",
    "Transport",
    "audience_matches",
    "client_audience",
    "client_claims",
    "client_endpoint",
    "encode_metadata",
    "group_publication",
    "is_event_name",
    "is_group_name",
    "is_hub_name",
    "metadata_from_headers",
    "select_subprotocol",
    "server_publication",
]
