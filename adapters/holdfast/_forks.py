"""What becomes of clients with threads when the process forks: the child has their memory, but not their threads."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Any
from weakref import WeakKeyDictionary, WeakMethod

Lock = AbstractContextManager[Any]


class Forks:
    """Forks happen with all locks held, so that no thread is amid something that the child would wait for in vain."""

    def __init__(self) -> None:
        self._gate = threading.RLock()
        self._watched: WeakKeyDictionary[object, tuple[Lock, WeakMethod[Callable[[], None]]]] = WeakKeyDictionary()
        self._held = ExitStack()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(
                before=self._before, after_in_parent=self._after_in_parent, after_in_child=self._after_in_child
            )

    def watch(self, client: object, lock: Lock, forked: Callable[[], None]) -> None:
        """As long as ``client`` lives, forks wait for ``lock``; in a child, its method ``forked`` is called."""
        with self._gate:
            self._watched[client] = lock, WeakMethod(forked)

    def _before(self) -> None:
        self._gate.acquire()
        for lock, _ in list(self._watched.values()):
            self._held.enter_context(lock)

    def _after_in_parent(self) -> None:
        self._held.close()
        self._gate.release()

    def _after_in_child(self) -> None:
        for _, method in list(self._watched.values()):
            forked = method()
            if forked is not None:
                forked()
        self._after_in_parent()


FORKS = Forks()
"""Of this process."""
