"""OutgoingStream: the fragments of one stream until the service has them."""

from __future__ import annotations

import math
from typing import Any, Final

import msgspec

KEEPALIVE: Final = b""
"""Stands for a keepalive in :meth:`OutgoingStream.take`; it is encoded only when it is sent."""


class OutgoingStream(msgspec.Struct, eq=False):
    """One stream that this client writes.

    Attributes:
        id: the stream's id.
        start: the encoded start.
        user_data: comes back with all events.
        keepalive: seconds without a fragment after which the stream is kept alive.
        tried: whether the start was ever handed to a transport, so that the service may know the stream.
        started: whether the start was handed to the open transport.
        opened: whether the service has accepted the start.
        fragments: the encoded fragments that are not acknowledged, by their numbers.
        size: bytes of these fragments.
        oldest: the number of the oldest of them; all before it are acknowledged.
        cursor: the number of the fragment to be sent next.
        handed: the number after the last fragment that was ever handed to a transport.
        next: the number of the next fragment to be written.
        ending: the encoded end; empty until the stream is ended.
        aborted: whether the end has an error.
        hurry: whether the end goes out although fragments are not acknowledged.
        end_sent: whether the end needs not be sent again.
        end_here: whether the end was handed to the open transport.
        end_tried: whether the end was ever handed to a transport.
        incomplete: whether the service has refused a fragment and read the end behind it.
        refused: the number of the fragment that was refused last, and sent again at once.
        backing_off: whether a repeat waits for its backoff; nothing new goes out before it.
        failures: repeats since the service has last taken anything.
        keepalive_due: whether a keepalive is to be sent.
        waits: whether an answer of the service is awaited, as counted by :class:`Streams`.
        due: when to repeat or give up what is not acknowledged, in seconds.
        limit: the name and the seconds of the timeout of its start, for people.
        number: see :class:`Deadlines`.
        end_due: when to send the end in a hurry, or all again that was refused before an end.
        quiet_at: when to keep the stream alive.
    """

    id: str
    start: bytes
    user_data: Any
    keepalive: float
    tried: bool = False
    started: bool = False
    opened: bool = False
    fragments: dict[int, bytes] = {}
    size: int = 0
    oldest: int = 1
    cursor: int = 1
    handed: int = 1
    next: int = 1
    ending: bytes = b""
    aborted: bool = False
    hurry: bool = False
    end_sent: bool = False
    end_here: bool = False
    end_tried: bool = False
    incomplete: bool = False
    refused: int = 0
    backing_off: bool = False
    failures: int = 0
    keepalive_due: bool = False
    waits: bool = False
    due: float = math.inf
    limit: str = ""
    number: int = 0
    end_due: float = math.inf
    quiet_at: float = math.inf

    @property
    def waits_for_answer(self) -> bool:
        """Whether the service owes an answer: to the start, to fragments or to the end."""
        return not self.opened or self.oldest < self.next or bool(self.ending)

    @property
    def to_send(self) -> int:
        """How many messages :meth:`take` would return one after the other."""
        if not self.opened:
            return not (self.started or self.backing_off)
        count = 0
        if not self.backing_off:
            end = self.ending and not self.end_sent and (self.hurry or not self.fragments)
            count = self.next - self.cursor + bool(end)
        return count or self.keepalive_due

    def acknowledge(self, expected: int) -> None:
        """Let go of the fragments before ``expected``."""
        pop, size = self.fragments.pop, self.size
        for number in range(self.oldest, expected):
            size -= len(pop(number))
        self.size = size
        self.oldest = expected
        self.cursor = max(self.cursor, expected)

    def resume(self) -> None:
        """Begin again on another transport, on which nothing was refused yet."""
        self.rewind()
        self.end_here = self.incomplete = False
        self.refused = 0

    def rewind(self) -> None:
        """Begin again: with the start, if it is not answered, else with the oldest fragment."""
        self.started = False
        self.cursor = self.oldest
        self.end_sent = self.hurry = self.backing_off = False

    def take_fragments(self) -> list[bytes]:
        """Return the fragments to send next, all at once; they count as handed out."""
        if self.backing_off or not self.cursor < self.next or not self.opened:
            return []
        fragments = self.fragments
        taken = [fragments[number] for number in range(self.cursor, self.next)]
        self._handed_out(self.next)
        return taken

    def _handed_out(self, cursor: int) -> None:
        """Note that the fragments before ``cursor`` are handed to the transport."""
        self.keepalive_due = False
        # A service that had read an end sent before would have closed the stream: it waits for what it refused.
        self.end_here = self.incomplete = False
        self.cursor = cursor
        if cursor > self.handed:
            self.handed = cursor

    def take(self) -> bytes | None:
        """Return the next message to send, which counts as handed out; None: there is none at the moment."""
        if not self.opened:
            if self.started or self.backing_off:
                return None
            self.started = self.tried = True
            return self.start
        if self.cursor < self.next and not self.backing_off:
            self._handed_out(self.cursor + 1)
            return self.fragments[self.cursor - 1]
        if self.ending and not self.end_sent and not self.backing_off and (self.hurry or not self.fragments):
            self.end_sent = self.end_here = self.end_tried = True
            self.keepalive_due = False
            return self.ending
        if self.keepalive_due:
            self.keepalive_due = False
            return KEEPALIVE
        return None

    def give_up(self, end: bytes) -> None:
        """Leave only ``end`` to send."""
        self.fragments.clear()
        self.opened = self.hurry = True
        self.backing_off = self.end_sent = self.keepalive_due = False
        self.oldest = self.cursor = self.next
        self.ending = end
