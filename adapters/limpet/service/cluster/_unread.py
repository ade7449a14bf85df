"""The entries that a node appended and has not read back."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from limpet.service.cluster.log import LogId, OnCongested


class Unread:
    """Entries in the order of their appending, and whether there are too many of them.

    Args:
        max_entries, max_bytes: with more of them the log is congested, until there are half as many.
        on_congested: is called when that changes.
        clock: returns monotonic seconds.

    Attributes:
        size: bytes of all entries.
        congested: whether there are too many.
    """

    def __init__(
        self, max_entries: int, max_bytes: int, on_congested: OnCongested | None, clock: Callable[[], float]
    ) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._on_congested = on_congested
        self._clock = clock
        self._items: deque[Item] = deque()
        self._last_lag = 0.0
        self.size: int = 0
        self.congested: bool = False

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Item]:
        return iter(self._items)

    def append(self, data: bytes) -> Item:
        item = Item(data, self._clock())
        self._items.append(item)
        self.size += len(data)
        if not self.congested and (len(self._items) > self._max_entries or self.size > self._max_bytes):
            self._tell(True)
        return item

    def take(self, data: bytes) -> bool:
        """Note that an entry was read; return whether it was the oldest unread one.

        Only the oldest one counts. A later one that comes without those before is one that readers ignore by its
        number, and that has to be repeated behind them.
        """
        if not self._items or self._items[0].data != data:
            return False
        item = self._items.popleft()
        self.size -= len(data)
        self._last_lag = self._clock() - item.since
        if self.congested and 2 * len(self._items) <= self._max_entries and 2 * self.size <= self._max_bytes:
            self._tell(False)
        return True

    def missed(self, position: LogId) -> bool:
        """Return whether the oldest entry should have been read by now: it was stored at or before this position."""
        return bool(self._items) and (stored := self._items[0].stored) is not None and stored <= position

    def age(self) -> float:
        """Return for how many seconds the oldest entry has been unread; 0 if there is none."""
        return self._clock() - self._items[0].since if self._items else 0.0

    def lag(self) -> float:
        """Return the seconds from append to read: of the entry read last, or of the oldest unread one, if more."""
        return round(max(self._last_lag, self.age()), 6)

    def clear(self) -> None:
        self._items.clear()
        self.size = 0

    def _tell(self, congested: bool) -> None:
        self.congested = congested
        if self._on_congested is not None:
            self._on_congested(congested)


class Item:
    """An entry, when it was appended first, and the id under which it was stored last, once that is known."""

    __slots__ = ("data", "since", "stored", "was_sent")

    def __init__(self, data: bytes, since: float) -> None:
        self.data: bytes = data
        self.since: float = since
        self.stored: LogId | None = None
        self.was_sent: bool = False
