"""A stream of a connection: what the service remembers of it, while it is open and for a while after that."""

from __future__ import annotations


class Stream:
    """A stream from one connection to one group (client-spec 3.6). Compared by identity.

    Attributes:
        stream_id: chosen by the client; unique among the open streams of its connection.
        group: the group that gets the fragments.
        no_echo: do not deliver the fragments to the connection itself.
        idle_timeout: seconds without a fragment or keepalive after which the stream ends.
        deadline: when that is, in monotonic seconds.
        expected: the sequence id of the next fragment.
        is_open: whether the stream has not ended yet.
        fault: the name and the text of the error that the client was told when it ended; None: none.
        ack_is_due: whether the client is to be told ``expected``.
        refused: the sequence id of the last fragment refused since the newest nack; 0: none since the last fragment
            that was accepted.
    """

    __slots__ = (
        "ack_is_due",
        "deadline",
        "expected",
        "fault",
        "group",
        "idle_timeout",
        "is_open",
        "no_echo",
        "refused",
        "stream_id",
    )

    def __init__(self, stream_id: str, group: str, no_echo: bool, idle_timeout: float, now: float) -> None:
        self.stream_id: str = stream_id
        self.group: str = group
        self.no_echo: bool = no_echo
        self.idle_timeout: float = idle_timeout
        self.deadline: float = now + idle_timeout
        self.expected: int = 1
        self.is_open: bool = True
        self.fault: tuple[str, str] | None = None
        self.ack_is_due: bool = False
        self.refused: int = 0
