"""Clients with threads in a forked child, which has their memory but not their threads.

A check of the process id at each use of a client would not do. A child that never uses the client would keep its copy
of the socket: the connection of a parent that has died, or that closes it without an answer, would stay open for the
service as long as the child lives.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")

_watched: WeakKeyDictionary[Any, Callable[[Any], None]] = WeakKeyDictionary()


def watch(client: T, after_fork: Callable[[T], None]) -> None:
    """Call ``after_fork(client)`` in every forked child, as long as ``client`` lives.

    A fork waits for nothing, and may come amid any step of another thread: ``after_fork`` must use no lock, and nothing
    that such a thread may have left half changed. There is no hook before the fork that would take locks, since
    Ctrl-C can interrupt it and leave them locked.
    """
    _watched[client] = after_fork


def _after_in_child() -> None:
    for client, after_fork in list(_watched.items()):
        after_fork(client)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_in_child)
