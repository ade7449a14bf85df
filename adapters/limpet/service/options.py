"""The options of the local service."""

from __future__ import annotations

import unicodedata
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from socket import gethostname
from types import MappingProxyType

from limpet.service.cluster.log import Log, OnCongested
from limpet_core.service import EventHandler, EventListener, Limits, is_hub_name

MIN_ACCESS_KEY_BYTES = 32


@dataclass(frozen=True, kw_only=True)
class HubOptions:
    """The options of one hub.

    Attributes:
        anonymous: accept clients without a token; they get no roles.
        event_handlers: endpoints of the application server; the first that gets an event is called.
        event_listeners: event hubs of Azure Event Hubs; all that hear of an event get it. They need
            ``pip install 'limpet[eventhubs]'``.
    """

    anonymous: bool = False
    event_handlers: tuple[EventHandler, ...] = ()
    event_listeners: tuple[EventListener, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ClusterOptions:
    """The place of a node in a cluster of services that share one log.

    Attributes:
        url: of Redis or Valkey: ``redis://[user:password@]host[:port][,host...][/database]``, ``rediss://`` for TLS, or
            ``redis+sentinel://[user:password@]host[:port][,host...]/name[/database]``. Left out of the repr.
        open_log: in place of ``url``: a coroutine function that opens another log. Its argument is to be called with
            ``True`` when too much waits there to be read back, and with ``False`` when that is over.
        name: of the node, for people; by default that of the machine. No two nodes that live may have the same.
        cell: the name of the cluster: several ones can share an engine.
        strict: serve nobody while no replica follows the primary of the engine, since what only one server has may be
            lost with it.

    Raises:
        ValueError: for an illegal value.
    """

    url: str = field(default="", repr=False)
    open_log: Callable[[OnCongested], Awaitable[Log]] | None = field(default=None, repr=False)
    name: str = field(default_factory=gethostname)
    cell: str = "0"
    strict: bool = False

    def __post_init__(self) -> None:
        if bool(self.url) is (self.open_log is not None):
            raise ValueError("a cluster needs the url of its log, such as redis://localhost, or open_log")
        if not 0 < len(self.name) <= 100 or not self.name.isprintable():
            raise ValueError("the name of a node has 1 to 100 printable characters")


_NO_HUBS: Mapping[str, HubOptions] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class ServiceOptions:
    """The options of the local service.

    Attributes:
        access_key: signs tokens; at least 32 bytes of UTF-8 without semicolons. ``None``: a random key for each start.
        secondary_access_key: a second key, whose tokens are accepted as well, so that keys can be rotated.
        anonymous: accept clients without a token at every hub; they get no roles.
        hubs: options of single hubs, by name in any case. A hub exists without options, too.
        negotiate: offer ``/negotiate``, which gives any client a token for joining and sending to all groups;
            ``None``: only to clients on this machine.
        trace: offer the trace page at ``/``, which shows all trace events of the service, and ``/metrics`` for
            Prometheus to anyone who can reach them; ``None``: only to browsers and programs on this machine.
        unvalidated_entra_tokens: accept, for the REST API and from programs on this machine only, tokens with the
            audience of Microsoft Entra (``https://webpubsub.azure.com``), so that server SDKs can be tried with a
            ``TokenCredential``. Their times are checked, and nothing else: anyone on this machine can make such a
            token, and may do everything with it.
        max_connections: connections at all hubs together; further clients are answered with HTTP 429. ``None``: any
            number.
        recovery_window: seconds that a dropped reliable connection is kept; clients rely on at least 30.
        retained_messages: unacknowledged or unsent messages per connection; one more ends the connection.
        retained_bytes: the same in bytes.
        max_message_size: bytes of one message from a client.
        connected_after_recovery: send a connected message, with a fresh reconnection token, first after a recovery;
            switch it off to behave like Microsoft's emulator.
        protobuf_json_as_text: send JSON to protobuf clients as ``text_data``: the published schema has no
            ``json_data``.
        keepalive_interval: seconds between WebSocket pings to a client; a client that sends nothing for another
            interval is dropped. ``None``: no pings. For :class:`Service`; other servers have an option of their own.
        request_timeout: seconds for the arrival of a request: of the head, from its first byte or, on a new TCP
            connection, from the beginning, and of the body; of a handshake likewise. A slower request is answered with
            HTTP 408 and ended. ``None``: no limit. Under other servers than :class:`Service` only for bodies; for
            heads, servers have an option of their own.

    Raises:
        ValueError: for an illegal value.
    """

    access_key: str | None = field(default=None, repr=False)
    secondary_access_key: str | None = field(default=None, repr=False)
    anonymous: bool = False
    hubs: Mapping[str, HubOptions] = field(default_factory=lambda: _NO_HUBS)
    negotiate: bool | None = None
    trace: bool | None = None
    unvalidated_entra_tokens: bool = False
    max_connections: int | None = None
    recovery_window: float = 30.0
    retained_messages: int = 1000
    retained_bytes: int = 16 * 1024 * 1024
    max_message_size: int = 1024 * 1024
    connected_after_recovery: bool = True
    protobuf_json_as_text: bool = False
    keepalive_interval: float | None = 20.0
    request_timeout: float | None = 30.0

    def __post_init__(self) -> None:
        for name in ("access_key", "secondary_access_key"):
            _check_key(name, getattr(self, name))
        if self.secondary_access_key is not None and self.access_key is None:
            raise ValueError("secondary_access_key needs an access_key beside it")
        for hub in self.hubs:
            if not is_hub_name(hub):
                raise ValueError(f"not a hub name: {hub!r}")
        if len({hub.lower() for hub in self.hubs}) < len(self.hubs):
            raise ValueError("a hub is named twice: case does not matter in hub names")
        if self.max_connections is not None and self.max_connections < 1:
            raise ValueError("max_connections must be at least 1, or None")
        for name in ("keepalive_interval", "request_timeout"):
            seconds = getattr(self, name)
            if seconds is not None and not seconds > 0:
                raise ValueError(f"{name} is a positive number of seconds or None")
        self.limits()

    def hub(self, name: str) -> HubOptions:
        """Return the options of a hub, by name in any case."""
        identity = name.lower()
        return next((options for hub, options in self.hubs.items() if hub.lower() == identity), _DEFAULT)

    def limits(self) -> Limits:
        """Return the limits of the service's logic."""
        return Limits(
            recovery_window=self.recovery_window,
            retained_messages=self.retained_messages,
            retained_bytes=self.retained_bytes,
            max_message_size=self.max_message_size,
            connected_after_recovery=self.connected_after_recovery,
            protobuf_json_as_text=self.protobuf_json_as_text,
        )


_DEFAULT = HubOptions()


def _check_key(name: str, key: str | None) -> None:
    if key is None:
        return
    if len(key.encode()) < MIN_ACCESS_KEY_BYTES:
        raise ValueError(
            f"{name} must have at least {MIN_ACCESS_KEY_BYTES} bytes: it signs tokens, and is not the name of a file"
        )
    if ";" in key or key != key.strip() or any(unicodedata.category(character) == "Cc" for character in key):
        raise ValueError(f"{name} must not hold semicolons or control characters, or begin or end with white space")
