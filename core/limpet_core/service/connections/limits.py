"""The limits of a service: sizes, counts and times."""

from __future__ import annotations

import math

import msgspec


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes, counts and times of the service.

    Attributes:
        recovery_window: seconds that a dropped reliable connection is kept (client-spec 1.4: at least 30).
        retained_messages: of one connection, the most messages that are kept until acknowledged, that are queued
            for a slow client, and that wait for a slow event handler; one more ends the connection
            (client-spec 3.2.2).
        retained_bytes: the same in bytes of encoded messages.
        max_message_size: bytes of one message from a client (Azure docs).
        remembered_acks: ack ids of successful requests remembered per connection, the newest ones (emulator).
        streams: open streams of one connection.
        stream_idle_timeout: seconds without a fragment or keepalive after which a stream ends, unless its publisher
            has chosen otherwise (client-spec 3.6.1).
        invocations: of one connection, the most that run at the same time.
        invocation_bytes: the same in bytes of their messages.
        group_states: groups in which one connection has a state, and groups whose states it watches.
        group_state_bytes: bytes of one state: all names and values together, in UTF-8.
        connected_after_recovery: send a connected message first after a recovery (client-spec 1.2.4 leaves
            this to the service; Microsoft's emulator sends none).
        protobuf_json_as_text: send JSON to protobuf clients as ``text_data``, as the docs of Azure have it, and not as
            ``json_data``, which the published schema lacks (emulator).
    """

    recovery_window: float = 30.0
    retained_messages: int = 1000
    retained_bytes: int = 16 * 1024 * 1024
    max_message_size: int = 1024 * 1024
    remembered_acks: int = 1000
    streams: int = 1000
    stream_idle_timeout: float = 300.0
    invocations: int = 1000
    invocation_bytes: int = 16 * 1024 * 1024
    group_states: int = 1000
    group_state_bytes: int = 8192
    connected_after_recovery: bool = True
    protobuf_json_as_text: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.recovery_window < math.inf:
            raise ValueError("recovery_window is a number of seconds, at least 0")
        if not 0 < self.stream_idle_timeout < math.inf:
            raise ValueError("stream_idle_timeout is a positive number of seconds")
        for name in (
            "retained_messages",
            "retained_bytes",
            "max_message_size",
            "remembered_acks",
            "streams",
            "invocations",
            "invocation_bytes",
            "group_states",
            "group_state_bytes",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
