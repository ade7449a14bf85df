"""The pure core of Limpet: no IO, no clock, no randomness, no event loop. Users import it as ``limpet``."""

from limpet_core.client.backoff import Backoff
from limpet_core.client.channel import Channel
from limpet_core.client.events import (
    Ack,
    Acked,
    Connected,
    ConnectionFailed,
    Disconnected,
    Event,
    GroupStatesChanged,
    Invoked,
    Message,
    MessagesMissed,
    Recovered,
    Recovering,
    RejoinGroupFailed,
    Reply,
    Stopped,
    StreamClosed,
    StreamOpened,
    StreamProgress,
)
from limpet_core.client.http_connect import Proxy, Tunnel, parse_proxy
from limpet_core.client.incoming_streams import StreamChunk
from limpet_core.client.link import Link
from limpet_core.client.options import Options
from limpet_core.client.session import Session
from limpet_core.client.states import Dial, State
from limpet_core.client.stats import Stats
from limpet_core.client.url import Endpoint, parse_url, recovery_url
from limpet_core.errors import (
    ClientStopped,
    ConnectError,
    ConnectTimeout,
    InvalidData,
    InvalidType,
    InvalidValue,
    InvocationError,
    InvocationTimeout,
    LimpetError,
    LocalProtocolError,
    NoSuchStream,
    Outcome,
    SendError,
    SendTimeout,
    StreamError,
    StreamTimeout,
    TooManyRequests,
)
from limpet_core.protocol.any_data import unpack
from limpet_core.protocol.close import Close
from limpet_core.protocol.messages import GroupMessage, GroupState, ServerMessage, StreamFault, StreamInfo
from limpet_core.protocol.names import JSON, PROTOBUF, RELIABLE_JSON, RELIABLE_PROTOBUF
from limpet_core.protocol.rules import DataType
from limpet_core.redaction import redact

__all__ = [
    "JSON",
    "PROTOBUF",
    "RELIABLE_JSON",
    "RELIABLE_PROTOBUF",
    "Ack",
    "Acked",
    "Backoff",
    "Channel",
    "ClientStopped",
    "Close",
    "ConnectError",
    "ConnectTimeout",
    "Connected",
    "ConnectionFailed",
    "DataType",
    "Dial",
    "Disconnected",
    "Endpoint",
    "Event",
    "GroupMessage",
    "GroupState",
    "GroupStatesChanged",
    "InvalidData",
    "InvalidType",
    "InvalidValue",
    "InvocationError",
    "InvocationTimeout",
    "Invoked",
    "LimpetError",
    "Link",
    "LocalProtocolError",
    "Message",
    "MessagesMissed",
    "NoSuchStream",
    "Options",
    "Outcome",
    "Proxy",
    "Recovered",
    "Recovering",
    "RejoinGroupFailed",
    "Reply",
    "SendError",
    "SendTimeout",
    "ServerMessage",
    "Session",
    "State",
    "Stats",
    "Stopped",
    "StreamChunk",
    "StreamClosed",
    "StreamError",
    "StreamFault",
    "StreamInfo",
    "StreamOpened",
    "StreamProgress",
    "StreamTimeout",
    "TooManyRequests",
    "Tunnel",
    "parse_proxy",
    "parse_url",
    "recovery_url",
    "redact",
    "unpack",
]
