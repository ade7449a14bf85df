"""Options of the local service."""

from __future__ import annotations

from dataclasses import dataclass, field

from holdfast_core.service import Limits

__all__ = ["MIN_ACCESS_KEY_BYTES", "ServiceOptions"]

MIN_ACCESS_KEY_BYTES = 32


@dataclass(frozen=True, kw_only=True)
class ServiceOptions:
    """How the local service behaves; validated at construction (`ValueError`).

    Args:
        access_key: signs the tokens, at least 32 bytes of UTF-8 without semicolons; ``None``: a random one
            for each start.
        anonymous: accept clients without any token; they get no roles.
        negotiate: offer ``/negotiate``, which gives everybody who asks a token to join and send to all
            groups; ``None``: only to clients on this very machine.
        trace: offer the trace page at ``/``, which shows everything that happens in the service, to everybody
            who can reach it; ``None``: only to browsers on this very machine.
        recovery_window: seconds a dropped reliable connection is kept, for at least 30 clients rely on it.
        retained_messages: unacknowledged or unsent messages per connection; one more ends it.
        retained_bytes: the same in bytes.
        max_message_size: bytes of one message from a client.
        connected_after_recovery: the first message after a recovery says connected, with a fresh reconnection
            token; switch it off to behave like Microsoft's emulator.
        keepalive_interval: seconds between WebSocket pings to a client; one that stays silent for another
            interval is dropped. ``None``: no pings. For `Service`; other servers have their own option.
    """

    access_key: str | None = field(default=None, repr=False)
    anonymous: bool = False
    negotiate: bool | None = None
    trace: bool | None = None
    recovery_window: float = 30.0
    retained_messages: int = 1000
    retained_bytes: int = 16 * 1024 * 1024
    max_message_size: int = 1024 * 1024
    connected_after_recovery: bool = True
    keepalive_interval: float | None = 20.0

    def __post_init__(self) -> None:
        key = self.access_key
        if key is not None and len(key.encode()) < MIN_ACCESS_KEY_BYTES:
            raise ValueError(f"access_key must have at least {MIN_ACCESS_KEY_BYTES} bytes")
        if key is not None and (";" in key or key != key.strip()):
            raise ValueError("access_key must not hold semicolons or begin or end with white space")
        if self.keepalive_interval is not None and not self.keepalive_interval > 0:
            raise ValueError("keepalive_interval is a positive number of seconds or None")
        self.limits()

    def limits(self) -> Limits:
        """Return the part of the options that concerns the service's logic."""
        return Limits(
            recovery_window=self.recovery_window,
            retained_messages=self.retained_messages,
            retained_bytes=self.retained_bytes,
            max_message_size=self.max_message_size,
            connected_after_recovery=self.connected_after_recovery,
        )
