"""Options: the limits, intervals and policies of a client."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from limpet_core.client.backoff import Backoff
from limpet_core.client.settings import read_settings
from limpet_core.errors import InvalidType, InvalidValue
from limpet_core.protocol.codec import codec_for
from limpet_core.protocol.names import PROTOBUF_SUBPROTOCOLS, RELIABLE_JSON, RELIABLE_SUBPROTOCOLS
from limpet_core.protocol.rules import check_integer, check_number, check_positive
from limpet_core.text import short_repr


class Options(msgspec.Struct, frozen=True, kw_only=True, repr_omit_defaults=True):
    """The settings of a client. All times are in seconds, all sizes in bytes.

    Attributes:
        protocol: the subprotocol: :data:`RELIABLE_JSON` (default), :data:`JSON`, or with the package ``protobuf``
            :data:`RELIABLE_PROTOBUF` or :data:`PROTOBUF`, which have no invocations and no group states.
        auto_reconnect: make a new connection when the connection is lost for good; otherwise the client stops.
        auto_rejoin_groups: join the groups of the old connection again on a new one.
        reconnect: delays before new connections; by default without a limit and with full jitter.
        first_connection: delays between attempts to make the first connection of a start, for a daemon that may start
            before its service: ``start()`` waits until one succeeds. The first attempt is made at once, and counts in
            ``limit``. None: if the first attempt fails, the start fails. A refusal that cannot change (401, 403, 404 to
            a fixed URL) always fails it.
        max_retry_after: the longest delay that a refusal can ask for, in seconds (``Retry-After`` of a 429 or 503, by
            the service or a proxy): no attempt is made before it is over, and ``reconnect`` adds its own; 0: ignored.
        retry: repeats of a request after ``InternalServerError`` or a missing ack, always under the same ack id. An
            event with ``resend="safe"`` is not repeated, since the service repeats calls of event handlers itself; the
            event fails when the time for its repeats is over (with the default ``ack_timeout``, after two minutes).
        resend: ``"safe"``: a send or event whose outcome is unknown fails with ``SendError(outcome="unknown")``;
            ``"always"``: the request is sent again on the new connection (at least once instead of at most once), and
            an event also after ``InternalServerError``.
        connect_timeout: seconds for each attempt, from the request for the URL to the first message.
        ack_timeout: seconds until a request without an answer is repeated, or fails after the last repeat; None: never.
        request_timeout: seconds until a request or an invocation fails, or a stream whose start was not accepted, in
            any state of the connection; None: never. The ``timeout`` of a call comes first. A request without an ack
            cannot fail: it waits until it can be sent.
        close_timeout: seconds that ``stop()`` waits for the service to answer the close; before the client is connected
            it does not wait.
        recovery_timeout: seconds in which to try to recover a dropped connection (client-spec 1.4: 30 s).
        recovery_interval: least seconds between two attempts to recover; jitter adds up to a quarter. After a
            connection that has brought a new message or an answer the next attempt is made at once. A connection that
            drops again and again has ten such attempts, and one more for each quarter of the interval that it was up.
        keepalive_interval: seconds between two pings; 0 or None: no pings.
        keepalive_timeout: seconds of silence of the service after which a connection counts as dead; 0 or None: never.
        check_timeout: seconds of silence after a check (``client.check()``, a suspend of the machine, a process that
            stood still) after which a connection counts as dead.
        sequence_ack_interval: most seconds until a received message is acknowledged (client-spec 3.2.3).
        sequence_ack_messages: acknowledge at the latest after this many messages.
        sequence_ack_bytes: acknowledge at the latest after this many bytes of messages.
        max_message_size: largest message that is accepted; a larger message closes the connection with 1009.
        max_request_size: largest request, as encoded; the service closes the connection after a request above 1 MiB.
        max_pending_requests: requests that may be unanswered or waiting at a time; a further request raises
            :class:`TooManyRequests`.
        max_streams: streams that may be open at a time; a further one raises :class:`TooManyRequests`. Each may hold
            1 MiB of unacknowledged fragments.
        max_stream_unacked: fragments of one stream that may be unacknowledged, with at most 1 MiB, before a
            writer waits.
        auto_restore_group_states: set the client's own group states again on a new connection.
        max_buffered_messages: messages that may wait for a slow consumer before reading is paused.

    Raises:
        InvalidValue, InvalidType: an option cannot be used; the message names the option.
    """

    protocol: str = RELIABLE_JSON
    auto_reconnect: bool = True
    auto_rejoin_groups: bool = True
    reconnect: Backoff = Backoff()
    first_connection: Backoff | None = None
    max_retry_after: float = 120.0
    retry: Backoff = Backoff(multiplier=1.0, jitter=0.0, limit=3)
    resend: Literal["safe", "always"] = "safe"
    connect_timeout: float = 30.0
    ack_timeout: float | None = 30.0
    request_timeout: float | None = None
    close_timeout: float = 5.0
    recovery_timeout: float = 30.0
    recovery_interval: float = 1.0
    keepalive_interval: float | None = 20.0
    keepalive_timeout: float | None = 120.0
    check_timeout: float = 5.0
    sequence_ack_interval: float = 1.0
    sequence_ack_messages: int = 100
    sequence_ack_bytes: int = 1 << 20
    max_message_size: int = 32 << 20
    max_request_size: int = 1 << 20
    max_pending_requests: int = 10_000
    max_buffered_messages: int = 1_000
    max_streams: int = 100
    max_stream_unacked: int = 64
    auto_restore_group_states: bool = True

    def __post_init__(self) -> None:
        codec_for(self.protocol)
        if self.resend not in ("safe", "always"):
            raise InvalidValue(f"resend must be 'safe' or 'always', not {short_repr(self.resend)}")
        for name in ("auto_reconnect", "auto_rejoin_groups", "auto_restore_group_states"):
            if not isinstance(getattr(self, name), bool):
                raise InvalidType(f"{name} must be a bool, not {type(getattr(self, name)).__name__}")
        for name in ("reconnect", "retry", "first_connection"):
            value = getattr(self, name)
            if not isinstance(value, Backoff) and (value is not None or name != "first_connection"):
                raise InvalidType(f"{name} must be a Backoff, not {type(value).__name__}")
        for name in ("connect_timeout", "close_timeout", "check_timeout"):
            check_positive(name, getattr(self, name))
        for name in ("ack_timeout", "request_timeout"):
            if getattr(self, name) is not None:
                check_positive(name, getattr(self, name), ", or None for never")
        for name in ("recovery_timeout", "recovery_interval", "sequence_ack_interval", "max_retry_after"):
            check_number(name, getattr(self, name), minimum=0.0)
        for name in ("keepalive_interval", "keepalive_timeout"):
            if getattr(self, name) is not None:
                check_number(name, getattr(self, name), minimum=0.0)
        # The service gives up at 1000 unacknowledged messages or 16 MB (client-spec 3.2.2).
        check_integer("sequence_ack_messages", self.sequence_ack_messages, minimum=1, maximum=1000)
        check_integer("sequence_ack_bytes", self.sequence_ack_bytes, minimum=1, maximum=16_000_000)
        for name in (
            "max_message_size",
            "max_request_size",
            "max_pending_requests",
            "max_buffered_messages",
            "max_streams",
            "max_stream_unacked",
        ):
            check_integer(name, getattr(self, name), minimum=1)

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any], *, prefix: str = "") -> Options:
        """Return the options in ``mapping``, as it comes from a TOML or JSON file, or from the environment.

        ``reconnect``, ``first_connection`` and ``retry`` are mappings as well. The text ``none`` stands for None, where
        an option may be None: TOML has nothing else for it.

        Args:
            mapping: names of options and their values; those that are not in it have their defaults.
            prefix: for ``os.environ``: what the names begin with, such as ``LIMPET_``. Names are in upper case then,
                ``LIMPET_RECONNECT__INITIAL`` is ``initial`` of ``reconnect``, values are converted from text, and
                variables without the prefix are passed over.

        Raises:
            InvalidValue: names are unknown, or values cannot be used; the message names each key, and what is allowed.
            InvalidType: ``mapping`` is no mapping, ``prefix`` or the name of a variable is no str.
        """
        return read_settings(cls, mapping, prefix)

    @property
    def reliable(self) -> bool:
        """Whether the subprotocol has recovery and sequence ids."""
        return self.protocol in RELIABLE_SUBPROTOCOLS

    @property
    def binary(self) -> bool:
        """Whether the subprotocol's messages are in binary frames; else they are in text frames."""
        return self.protocol in PROTOBUF_SUBPROTOCOLS
