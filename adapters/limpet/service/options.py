"""Options of the local service."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from limpet_core.service import EventHandler, Limits, is_hub_name

__all__ = ["MIN_ACCESS_KEY_BYTES", "HubOptions", "ServiceOptions"]

MIN_ACCESS_KEY_BYTES = 32


@dataclass(frozen=True, kw_only=True)
class HubOptions:
    """What is special about one hub.

    Args:
        anonymous: accept clients without any token; they get no roles.
        event_handlers: the application server's endpoints; the first that gets an event is called.
    """

    anonymous: bool = False
    event_handlers: tuple[EventHandler, ...] = ()


_NO_HUBS: Mapping[str, HubOptions] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class ServiceOptions:
    """How the local service behaves; validated at construction (`ValueError`).

    Args:
        access_key: signs the tokens, at least 32 bytes of UTF-8 without semicolons; ``None``: a random one
            for each start.
        secondary_access_key: a second key, whose tokens are as good, so that keys can be changed one by one.
        anonymous: accept clients without any token at every hub; they get no roles.
        hubs: what is special about single hubs, by name in any case. Hubs need not be named here to exist.
        negotiate: offer ``/negotiate``, which gives everybody who asks a token to join and send to all
            groups; ``None``: only to clients on this very machine.
        trace: offer the trace page at ``/``, which shows everything that happens in the service, to everybody
            who can reach it; ``None``: only to browsers on this very machine.
        max_connections: connections at all hubs together; further clients are answered with HTTP 429. ``None``: any
            number.
        recovery_window: seconds a dropped reliable connection is kept, for at least 30 clients rely on it.
        retained_messages: unacknowledged or unsent messages per connection; one more ends it.
        retained_bytes: the same in bytes.
        max_message_size: bytes of one message from a client.
        connected_after_recovery: the first message after a recovery says connected, with a fresh reconnection
            token; switch it off to behave like Microsoft's emulator.
        keepalive_interval: seconds between WebSocket pings to a client; one that stays silent for another
            interval is dropped. ``None``: no pings. For `Service`; other servers have their own option.
        request_timeout: seconds in which a request has to arrive: its head, counted from the first byte or, on a new
            TCP connection, from its beginning, and then its body; a handshake likewise. What takes longer is answered
            with HTTP 408 and ended. ``None``: no limit. Under other servers than `Service` only for bodies that are
            read; the head is the server's own matter.
    """

    access_key: str | None = field(default=None, repr=False)
    secondary_access_key: str | None = field(default=None, repr=False)
    anonymous: bool = False
    hubs: Mapping[str, HubOptions] = field(default_factory=lambda: _NO_HUBS)
    negotiate: bool | None = None
    trace: bool | None = None
    max_connections: int | None = None
    recovery_window: float = 30.0
    retained_messages: int = 1000
    retained_bytes: int = 16 * 1024 * 1024
    max_message_size: int = 1024 * 1024
    connected_after_recovery: bool = True
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
        """Return what is special about a hub; case does not matter."""
        identity = name.lower()
        return next((options for hub, options in self.hubs.items() if hub.lower() == identity), _ORDINARY)

    def limits(self) -> Limits:
        """Return the part of the options that concerns the service's logic."""
        return Limits(
            recovery_window=self.recovery_window,
            retained_messages=self.retained_messages,
            retained_bytes=self.retained_bytes,
            max_message_size=self.max_message_size,
            connected_after_recovery=self.connected_after_recovery,
        )


_ORDINARY = HubOptions()


def _check_key(name: str, key: str | None) -> None:
    if key is None:
        return
    if len(key.encode()) < MIN_ACCESS_KEY_BYTES:
        raise ValueError(f"{name} must have at least {MIN_ACCESS_KEY_BYTES} bytes")
    if ";" in key or key != key.strip():
        raise ValueError(f"{name} must not hold semicolons or begin or end with white space")
