"""Clients with threads in a forked child, which has their memory but not their threads.

A check of the process id at each use of a client would not do. A child that never uses the client would keep its copy
of the socket: the connection of a parent that has died, or that closes it without an answer, would stay open for the
service as long as the child lives.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from weakref import WeakKeyDictionary, WeakMethod

_watched: WeakKeyDictionary[object, WeakMethod[Callable[[], None]]] = WeakKeyDictionary()


def watch(client: object, after_fork: Callable[[], None]) -> None:
    """Call ``after_fork``, a method of ``client``, in every forked child, as long as ``client`` lives.

    A fork waits for nothing, and may come amid any step of another thread: the method must use no lock, and nothing
    that such a thread may have left half changed. There is no hook before the fork that would take locks, since
    Ctrl-C can interrupt it and leave them locked.
    """
    _watched[client] = WeakMethod(after_fork)


def _after_in_child() -> None:
    for reference in list(_watched.values()):
        after_fork = reference()
        if after_fork is not None:
            after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_in_child)
