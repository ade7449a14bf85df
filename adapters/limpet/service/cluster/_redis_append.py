"""Appending to the primary: pipelined, and again in order whatever did not come back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from limpet.service.cluster._redis_answers import AnswerError, ConnectionLost
from limpet.service.cluster._redis_connection import Connection
from limpet.service.cluster._unread import Item, Unread
from limpet.service.cluster.log import LogId

_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 2.0
"""Seconds until an entry that was refused is tried again; the pause doubles in between."""


class Appender:
    """The connection to the primary, and the entries on it. Answers never change the order of the entries.

    Args:
        key: of the log.
        unread: takes the entries.
        on_trouble: is called when the connection is lost, and when entries begin or cease to be refused.

    Attributes:
        connection: ``None`` while there is none to append to.
        refusal: why entries are refused at the moment.
        repeated: how many entries were sent once more.
    """

    def __init__(self, key: str, unread: Unread, on_trouble: Callable[[], None]) -> None:
        self._key = key
        self._unread = unread
        self._on_trouble = on_trouble
        self._loop = asyncio.get_running_loop()
        self._flows = False  # entries are sent as they come
        self._round = 0  # answers of an earlier one say nothing any more
        self._pause = _FIRST_PAUSE
        self._retry: asyncio.TimerHandle | None = None
        self.connection: Connection | None = None
        self.refusal: AnswerError | None = None
        self.repeated = 0

    def append(self, data: bytes) -> None:
        """Append an entry, once it can be."""
        item = self._unread.append(data)
        if self._flows:
            self._post(item)

    def use(self, connection: Connection) -> None:
        """Append to this server from now on, first all that was not read back."""
        if self.connection is not None:
            self.connection.on_lost = None
            self.connection.abort()
        self.connection = connection
        connection.on_lost = self._lost
        self.repeat()

    def repeat(self) -> None:
        """Append again all that was not read back, in order."""
        self._start_round()
        self._flows = self.connection is not None
        if self._flows:
            for item in self._unread:
                self._post(item)

    def close(self) -> None:
        self._start_round()
        if self.connection is not None:
            self.connection.on_lost = None
            self.connection.abort()
            self.connection = None

    def _lost(self) -> None:
        self._start_round()
        self.connection = None
        self._on_trouble()

    def _start_round(self) -> None:
        self._round += 1
        self._flows = False
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

    def _post(self, item: Item) -> None:
        assert self.connection is not None
        self.repeated += item.was_sent
        item.was_sent = True
        item.stored = None
        self.connection.post(partial(self._answered, item, self._round), "XADD", self._key, "*", "e", item.data)

    def _answered(self, item: Item, round: int, answer: Any) -> None:
        if round != self._round:
            return
        if isinstance(answer, ConnectionLost):
            self._start_round()
        elif isinstance(answer, AnswerError):
            # What follows it on the way may be taken, but readers leave it out without the one before it.
            self._start_round()
            self.refusal = answer
            self._retry = self._loop.call_later(self._pause, self._try_again)
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)
            self._on_trouble()
        else:
            try:
                item.stored = LogId.parse(answer)
            except (ValueError, AttributeError):
                if self.connection is not None:
                    self.connection.abort("its answer to XADD is no id")
                return
            self._pause = _FIRST_PAUSE
            if self.refusal is not None:
                self.refusal = None
                self._on_trouble()
            if not self._flows:
                self.repeat()

    def _try_again(self) -> None:
        # The oldest entry alone: a full engine should not be sent all of them each time.
        self._retry = None
        oldest = next(iter(self._unread), None)
        if self.connection is None:
            return
        if oldest is None:
            self.repeat()
        else:
            self._post(oldest)
