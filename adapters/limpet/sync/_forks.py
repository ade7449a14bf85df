"""What becomes of clients with threads when the process forks: the child has their memory, but not their threads."""

from __future__ import annotations

import os
from collections.abc import Callable
from weakref import WeakKeyDictionary, WeakMethod


class Forks:
    """Tells clients that they are in a forked child.

    A fork waits for nothing, and may come amid anything that a client's thread does: a hook that took locks before it
    could be interrupted (Ctrl-C) and keep them. So a child uses nothing of what such a thread may have left half done.
    """

    def __init__(self) -> None:
        self._watched: WeakKeyDictionary[object, WeakMethod[Callable[[], None]]] = WeakKeyDictionary()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._after_in_child)

    def watch(self, client: object, forked: Callable[[], None]) -> None:
        """As long as ``client`` lives, its method ``forked`` is called in a child."""
        self._watched[client] = WeakMethod(forked)

    def _after_in_child(self) -> None:
        for method in list(self._watched.values()):
            forked = method()
            if forked is not None:
                forked()


FORKS = Forks()
"""Of this process."""
