"""What an official client told the application, in order, to look at and to wait for."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any

from tests.helpers.waiting import LIMIT


@dataclass(frozen=True)
class Message:
    """A message from a group, or from the server if ``group`` is None; ``data`` of binary types is bytes."""

    group: str | None
    data_type: str
    data: Any
    from_user_id: str | None = None
    sequence_id: int | None = None


class Events:
    """All events of one client: ``connected``, ``disconnected``, ``stopped``, ``message``, ``rejoin-failed``."""

    def __init__(self) -> None:
        self._all: list[tuple[str, Any]] = []
        self._news = threading.Condition()

    def add(self, kind: str, value: Any) -> None:
        """Note an event; from any thread."""
        with self._news:
            self._all.append((kind, value))
            self._news.notify_all()

    def of(self, kind: str) -> list[Any]:
        """Everything of one kind so far."""
        with self._news:
            return [value for each, value in self._all if each == kind]

    def wait(self, kind: str, count: int = 1) -> list[Any]:
        """Wait for that many events of a kind; the result is everything of that kind so far."""
        end = time.monotonic() + LIMIT
        with self._news:
            while len(found := [value for each, value in self._all if each == kind]) < count:
                if not self._news.wait(end - time.monotonic()):
                    raise AssertionError(f"{len(found)} of {count} times {kind!r}: {self._all}")
            return found
