"""The pure core of Limpet: no IO, no clock, no randomness, no event loop. Users import it as ``limpet``."""

from limpet_core._backoff import Backoff
from limpet_core._states import Dial, HangUp, State
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
from limpet_core.events import (
    Ack,
    Acked,
    Connected,
    Disconnected,
    Event,
    GroupMessage,
    Message,
    MessagesMissed,
    Recovered,
    Recovering,
    RejoinGroupFailed,
    ServerMessage,
    Stopped,
)
from limpet_core.link import Link
from limpet_core.messages import DataType
from limpet_core.options import JSON, RELIABLE_JSON, Options
from limpet_core.proxy import Proxy, Tunnel, parse_proxy
from limpet_core.session import Session
from limpet_core.url import Endpoint, parse_url, recovery_url, redact

__all__ = [
    "JSON",
    "RELIABLE_JSON",
    "Ack",
    "Acked",
    "Backoff",
    "ClientStopped",
    "ConnectError",
    "Connected",
    "DataType",
    "Dial",
    "Disconnected",
    "Endpoint",
    "Event",
    "GroupMessage",
    "HangUp",
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
