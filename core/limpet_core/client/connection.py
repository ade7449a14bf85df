"""Connection: what the client knows about one connection of the service, and forgets when its id is gone."""

from __future__ import annotations


class Connection:
    """One connection id of the service, over any number of transports.

    Attributes:
        id: the connection id.
        user_id: the user id from the service; None for an anonymous user.
        token: the reconnection token; empty: the connection cannot be recovered.
        sequence_id: the largest sequence id received; 0: none yet (client-spec 3.2).
        unacked_messages: messages received since the last sequence ack, duplicates included.
        unacked_bytes: their size in bytes.
        faults: how many messages of the service could not be used.
        broken_at: ``sequence_id`` when the peer last broke the protocol; None: never.
    """

    __slots__ = (
        "_answers",
        "_up_to",
        "broken_at",
        "faults",
        "id",
        "sequence_id",
        "token",
        "unacked_bytes",
        "unacked_messages",
        "user_id",
    )

    _up_to: int  # `sequence_id` when the connection was last established or recovered
    _answers: int  # the number of answers at that time

    def __init__(self, id: str, user_id: str | None, token: str) -> None:
        self.id: str = id
        self.user_id: str | None = user_id
        self.token: str = token
        self.sequence_id: int = 0
        self.unacked_messages: int = 0
        self.unacked_bytes: int = 0
        self.faults: int = 0
        self.broken_at: int | None = None

    def acknowledge(self) -> int:
        """Return the sequence id to acknowledge, which covers all messages received; count from 0 again."""
        self.unacked_messages = self.unacked_bytes = 0
        return self.sequence_id

    def opened(self, answers: int) -> None:
        """Note that the connection is established or recovered; ``answers``: how many the service has given so far."""
        self._up_to, self._answers = self.sequence_id, answers

    def made_progress(self, answers: int) -> bool:
        """Return whether a new message or an answer has come since :meth:`opened`."""
        return self.sequence_id != self._up_to or answers != self._answers
