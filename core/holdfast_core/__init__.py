"""The pure core of Holdfast: no IO, no clock, no randomness, no event loop. Users import it as ``holdfast``."""

from holdfast_core._backoff import Backoff
from holdfast_core._states import Dial, HangUp, State
from holdfast_core.errors import (
    ClientStopped,
    ConnectError,
    HoldfastError,
    InvalidType,
    InvalidValue,
    LocalProtocolError,
    Outcome,
    SendError,
    TooManyRequests,
)
from holdfast_core.events import (
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
from holdfast_core.link import Link
from holdfast_core.messages import DataType
from holdfast_core.options import JSON, RELIABLE_JSON, Options
from holdfast_core.proxy import Proxy, Tunnel, parse_proxy
from holdfast_core.session import Session
from holdfast_core.url import Endpoint, parse_url, recovery_url, redact

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
    "HoldfastError",
    "InvalidType",
    "InvalidValue",
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
