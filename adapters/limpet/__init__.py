"""Limpet: a Web PubSub client that holds on.

``from limpet.asyncio import Client`` is the way in for applications. Here are the names that all clients share,
and :class:`Session` and :class:`Link` for those who bring their own event loop or transport.
"""

from typing import TYPE_CHECKING, Any, get_type_hints

from limpet._version import __version__
from limpet_core import (
    JSON,
    RELIABLE_JSON,
    Ack,
    Acked,
    Backoff,
    ClientStopped,
    Close,
    Connected,
    ConnectError,
    DataType,
    Dial,
    Disconnected,
    Endpoint,
    Event,
    GroupMessage,
    InvalidType,
    InvalidValue,
    LimpetError,
    Link,
    LocalProtocolError,
    Message,
    MessagesMissed,
    Options,
    Outcome,
    Proxy,
    Recovered,
    Recovering,
    RejoinGroupFailed,
    SendError,
    ServerMessage,
    Session,
    State,
    Stopped,
    TooManyRequests,
    Tunnel,
    parse_proxy,
    parse_url,
    recovery_url,
    redact,
)

__all__ = [
    "JSON",
    "RELIABLE_JSON",
    "Ack",
    "Acked",
    "Backoff",
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
    "__version__",
    "parse_proxy",
    "parse_url",
    "recovery_url",
    "redact",
]

if not TYPE_CHECKING:  # a type checker would take every name for one of this module's

    def __getattr__(name: str) -> Any:
        if name == "Client":  # an AttributeError would be told as a name that cannot be imported, without our text
            raise ImportError(
                "limpet has a Client for each event loop: from limpet.asyncio import Client, or limpet.trio, "
                "limpet.anyio, or limpet.sync without a loop"
            )
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _claim_names() -> None:
    """Tracebacks, reprs and pickles name the package that users import."""
    for name in __all__:
        public = globals()[name]
        if getattr(public, "__module__", "").startswith("limpet_core"):
            if isinstance(public, type):  # what its annotations name can be looked up in its own module only
                own = vars(public).get("__annotations__", {})
                hints = get_type_hints(public, include_extras=True)
                public.__annotations__ = {attribute: hints[attribute] for attribute in own}
            public.__module__ = __name__


_claim_names()
