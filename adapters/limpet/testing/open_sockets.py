"""The open sockets of this process, to see what a check has left behind."""

from __future__ import annotations

import os
import socket
from contextlib import suppress


def open_sockets() -> dict[object, str]:
    """Return the open sockets of this process, each with its addresses; none where the system does not tell."""
    try:
        names = os.listdir("/proc/self/fd")
    except OSError:
        return {}
    found: dict[object, str] = {}
    for name in names:
        with suppress(OSError):  # the descriptor that listed them
            link = os.readlink(f"/proc/self/fd/{name}")
            if link.startswith("socket:"):  # event loops keep other kinds for the next of them
                found[link] = _addresses(int(name))
    return found


def _addresses(number: int) -> str:
    try:
        with socket.socket(fileno=os.dup(number)) as sock:
            try:
                peer = f" to {sock.getpeername()}"
            except OSError:
                peer = ""
            return f"socket {number} of {sock.getsockname()}{peer}"
    except OSError:
        return f"socket {number}"
