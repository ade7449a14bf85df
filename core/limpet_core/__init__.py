"""The pure core of Limpet: no IO, no clock, no randomness, no event loop. Users import it as ``limpet``."""

from limpet_core.client.backoff import Backoff
from limpet_core.client.channel import Channel
from limpet_core.client.events import (
    Ack,
    Acked,
    Connected,
    Disconnected,
    Event,
    Message,
    MessagesMissed,
    Recovered,
    Recovering,
    RejoinGroupFailed,
    Stopped,
)
from limpet_core.client.http_connect import Proxy, Tunnel, parse_proxy
from limpet_core.client.link import Link
from limpet_core.client.options import Options
from limpet_core.client.session import Session
from limpet_core.client.states import Dial, State
from limpet_core.client.url import Endpoint, parse_url, recovery_url
from limpet_core.errors import (
    ClientStopped,
    ConnectError,
    InvalidType,
    InvalidValue,
    LimpetError,
    LocalProtocolError,
    Outcome,
    SendError,
    TooManyRequests,
)
from limpet_core.protocol.close import Close
from limpet_core.protocol.messages import GroupMessage, ServerMessage
from limpet_core.protocol.names import JSON, RELIABLE_JSON
from limpet_core.protocol.rules import DataType
from limpet_core.redaction import redact

__all__ = [
    "JSON",
    "RELIABLE_JSON",
    "Ack",
    "Acked",
    "Backoff",
    "Channel",
    "ClientStopped",
    "Close",
    "ConnectError",
    "Connected",
    "DataType",
    "Dial",
    "Disconnected",
    "Endpoint",
    "Event",
    "GroupMessage",
    "InvalidType",
    "InvalidValue",
    "LimpetError",
    "Link",
    "LocalProtocolError",
    "Message",
    "MessagesMissed",
    "Options",
    "Outcome",
    "Proxy",
    "Recovered",
    "Recovering",
    "RejoinGroupFailed",
    "SendError",
    "ServerMessage",
    "Session",
    "State",
    "Stopped",
    "TooManyRequests",
    "Tunnel",
    "parse_proxy",
    "parse_url",
    "recovery_url",
    "redact",
]
