"""Stats: how much a client has done, and what waits at the moment."""

from __future__ import annotations

import msgspec


class Stats(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Counters and gauges of a client or a :class:`Session`, as they were at one moment.

    ``client.stats`` returns a new one each time; it does not change. Counters only grow: they go on over reconnects,
    and over stops and starts of the same client. So the difference of two snapshots is what happened in between.

    Bytes and messages are those of the WebSocket: without frame headers, TLS and pings of the WebSocket protocol.

    Attributes:
        messages_in: counter: data messages (:class:`GroupMessage`, :class:`ServerMessage`) that were received, each
            once; repeats of the service are left out.
        bytes_in: counter: bytes of all messages that were received, those of acks, repeats and the like included.
        messages_out: counter: requests, fragments of streams and invocations that were handed to a transport, repeats
            included; pings and sequence acks are left out.
        bytes_out: counter: bytes of all messages that were handed to a transport, pings and sequence acks included.
        recoveries: counter: how often a connection was recovered, as :class:`Recovered` tells.
        reconnects: counter: how often a new connection replaced one that was lost; the first connection of each start
            is none of these.
        failed_attempts: counter: failed attempts to connect, reconnect or recover, as :class:`ConnectionFailed` tells.
        missed: counter: messages that are known to be lost, as :class:`MessagesMissed` tells. Those of the time between
            two connections are not known.
        dropped: counter: messages that the client dropped because nobody reads messages; see ``max_buffered_messages``.
            0 for a session.
        requests_pending: gauge: requests and invocations that are not settled, those that the client makes by itself
            (to join groups again, for example) included.
        requests_unsent: gauge: those of ``requests_pending`` that were never handed to a transport.
        acks_outstanding: gauge: requests that the open transport has, and the service has not answered yet.
        buffered: gauge: events that wait for a callback or an iterator; one that waits for several counts for each.
            For a session: events that :meth:`Session.events` has not returned yet.
        open_streams: gauge: streams that the client writes and that are not over.
        last_error: why the connection was last lost, or an attempt last failed: a text without tokens. It stays when
            the client is connected again; None: there was no error yet.
        connected_since: when the connection was made, also while it is recovered, in seconds since 1970
            (``time.time()``); None without a connection. For a session: in seconds of the clock of ``now``.
    """

    messages_in: int = 0
    bytes_in: int = 0
    messages_out: int = 0
    bytes_out: int = 0
    recoveries: int = 0
    reconnects: int = 0
    failed_attempts: int = 0
    missed: int = 0
    dropped: int = 0
    requests_pending: int = 0
    requests_unsent: int = 0
    acks_outstanding: int = 0
    buffered: int = 0
    open_streams: int = 0
    last_error: str | None = None
    connected_since: float | None = None


class Counters:
    """What the parts of a session count for :class:`Stats`, from the making of the session on.

    Another thread may read at any time: each counter is written in one step, and never set back.

    Attributes:
        messages_in, bytes_in, messages_out, bytes_out, recoveries, reconnects, failed_attempts, missed: see
            :class:`Stats`.
        last_error, connected_since: see :class:`Stats`.
    """

    __slots__ = (
        "bytes_in",
        "bytes_out",
        "connected_since",
        "failed_attempts",
        "last_error",
        "messages_in",
        "messages_out",
        "missed",
        "reconnects",
        "recoveries",
    )

    def __init__(self) -> None:
        self.messages_in: int = 0
        self.bytes_in: int = 0
        self.messages_out: int = 0
        self.bytes_out: int = 0
        self.recoveries: int = 0
        self.reconnects: int = 0
        self.failed_attempts: int = 0
        self.missed: int = 0
        self.last_error: str | None = None
        self.connected_since: float | None = None
