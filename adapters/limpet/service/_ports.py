"""A port that is in use: by which process, and which one is free instead."""

from __future__ import annotations

import errno
import socket
from contextlib import suppress
from pathlib import Path

from limpet_core.text import one_line

# Ports after one that is in use among which a free one is looked for.
_NEIGHBOURS = 20

# The state of a socket that listens, in /proc/net/tcp (Linux, include/net/tcp_states.h).
_LISTENS = "0A"


def in_use(host: str, port: int) -> OSError:
    """Return the error for a port that is in use: it names the process, if that can be found, and a free port."""
    if port == 0:
        return OSError(errno.EADDRINUSE, f"{host} has no free port")
    owner, free = _owner(port), _next_free(host, port)
    by = " by another program" if owner is None else f" by {owner}"
    other = "port 0 for any free one" if free is None else f"port {free}, which is free, or port 0 for any free one"
    return OSError(errno.EADDRINUSE, f"port {port} of {host} is in use{by}: stop it, or use {other}")


def _next_free(host: str, port: int) -> int | None:
    for candidate in range(port + 1, min(port + _NEIGHBOURS, 65535) + 1):
        with suppress(OSError), socket.create_server((host, candidate), family=_family(host)):
            return candidate
    return None


def _family(host: str) -> int:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _owner(port: int) -> str | None:
    """Return the process that listens at a port; ``None`` if it is another user's, or if this is not Linux."""
    with suppress(OSError, ValueError):
        links = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
        for process in Path("/proc").glob("[0-9]*"):
            # Processes end meanwhile, and those of others are closed to us.
            with suppress(OSError):
                if any(str(descriptor.readlink()) in links for descriptor in (process / "fd").iterdir()):
                    return f"process {process.name} ({one_line((process / 'comm').read_text().strip())})"
    return None


def _listening_inodes(port: int) -> set[str]:
    """Return the inodes of sockets that listen at a port, from Linux' tables of TCP."""
    found: set[str] = set()
    for table in ("tcp", "tcp6"):
        with suppress(FileNotFoundError):
            for line in Path("/proc/net", table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTENS and int(fields[1].rpartition(":")[2], 16) == port:
                    found.add(fields[9])
    return found
