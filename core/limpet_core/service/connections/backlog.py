"""Messages to a group, kept once for all members whose clients are connected to other nodes of a cluster."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, Generic, Protocol, TypeVar

from limpet_core.service.wire.to_client import Publication


class Sharer(Protocol):
    """A member that may take its messages from a backlog."""

    def join_backlog(self, backlog: Backlog[Any], /) -> bool:
        """Take all messages that are there, and share later ones; return False if that cannot be."""
        ...


_S = TypeVar("_S", bound=Sharer)


class Backlog(Generic[_S]):
    """The messages of a group for its *sharers*, to whom nothing has to be written here.

    A message costs the same for any number of sharers. Each takes its messages when something else happens to it: it
    acknowledges, comes back, leaves, or gets a message by another way. What a sharer has is always that of a member
    that gets each message by itself; so nodes agree, though they have other sharers.

    Attributes:
        sharers: the members that share, as keys.
        others: the members that do not; right while :attr:`is_current`.
        is_current: whether no member has come, gone or changed since they were looked through.
    """

    __slots__ = (
        "_behind",
        "_bytes",
        "_first",
        "_messages",
        "_room",
        "_room_bytes",
        "_totals",
        "is_current",
        "others",
        "sharers",
    )

    def __init__(self) -> None:
        self.sharers: dict[_S, None] = {}
        self.others: list[_S] = []
        self.is_current: bool = False
        self._messages: list[Publication] = []
        self._totals: list[int] = []  # the bytes before each message
        self._bytes = 0
        self._first = 0  # the number of the first message
        self._behind = 0  # sharers that have not taken all
        # What all sharers have room for: each adds its own limits.
        self._room = self._room_bytes = 0

    @property
    def end(self) -> int:
        """The number of the next message."""
        return self._first + len(self._messages)

    def changed(self) -> None:
        """Handle that a member has come, gone or changed. Nobody is held here who may be gone."""
        self.is_current = False
        self.others = []

    def receivers(self, members: Iterable[_S], publication: Publication) -> Iterable[_S]:
        """Keep a message for the sharers, and return those of the members who must get it by themselves."""
        if not self.is_current:
            self._renew(members)
        if not self.sharers or self._add(publication):
            return self.others
        self._renew(members)
        return self.others if self._add(publication) else members  # one has no room, and has to end

    def bound(self, room: int, room_bytes: int) -> None:
        """Tell what a sharer has room for."""
        self._room = min(self._room, room)
        self._room_bytes = min(self._room_bytes, room_bytes)

    def take(self, number: int) -> tuple[list[Publication], int]:
        """Return the messages from a number on, which is before :attr:`end`, and their bytes, for one sharer."""
        start = number - self._first
        found = self._messages[start:], self._bytes - self._totals[start]
        self._behind -= 1
        if not self._behind:  # all have them
            self._first = self.end
            self._messages.clear()
            self._totals.clear()
            self._bytes = 0
        return found

    def _add(self, publication: Publication) -> bool:
        size = publication.size
        if self._room < 1 or self._room_bytes < size:
            return False
        self._room -= 1
        self._room_bytes -= size
        self._messages.append(publication)
        self._totals.append(self._bytes)
        self._bytes += size
        self._behind = len(self.sharers)
        return True

    def _renew(self, members: Iterable[_S]) -> None:
        self._room = self._room_bytes = sys.maxsize
        self.others = [member for member in members if not member.join_backlog(self)]
        self.is_current = True
