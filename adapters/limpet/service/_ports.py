"""A port that is in use: by which process, and which one is free instead."""

from __future__ import annotations

import errno
import ipaddress
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeAlias

from limpet_core.text import one_line

_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

NO_SUCH_ADDRESS: Final = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
"""The errors of an address that this machine does not have: a name may have one of a family that is switched off."""

# Ports after one that is in use among which a free one is looked for.
_NEIGHBOURS = 20

# The state of a socket that listens, in /proc/net/tcp (Linux, include/net/tcp_states.h).
_LISTENS = "0A"


def in_use(host: str, port: int, address: str, addresses: Sequence[tuple[int, Any]]) -> OSError:
    """Return the error for a port that is in use: it names the process, if that can be found, and a free port.

    Args:
        address: the one of the host at which the port is in use.
        addresses: all of the host, each with its family, as a socket takes them.
    """
    if port == 0:
        return OSError(errno.EADDRINUSE, f"{host} has no free port")
    owner, free = _owner(address, port), _next_free(addresses, port)
    by = " by another program" if owner is None else f" by {owner}"
    other = "port 0 for any free one" if free is None else f"port {free}, which is free, or port 0 for any free one"
    return OSError(errno.EADDRINUSE, f"port {port} of {host} is in use{by}: stop it, or use {other}")


def _next_free(addresses: Sequence[tuple[int, Any]], port: int) -> int | None:
    for candidate in range(port + 1, min(port + _NEIGHBOURS, 65535) + 1):
        if all(_is_free(family, (address[0], candidate, *address[2:])) for family, address in addresses):
            return candidate
    return None


def _is_free(family: int, address: Any) -> bool:
    try:
        with socket.create_server(address, family=family):
            return True
    except OSError as error:
        return error.errno in NO_SUCH_ADDRESS


def _owner(address: str, port: int) -> str | None:
    """Return the process that listens at a port; ``None`` if it is another user's, or if this is not Linux."""
    with suppress(OSError, ValueError):
        links = {f"socket:[{inode}]" for inode in _listening_inodes(ipaddress.ip_address(address), port)}
        for process in Path("/proc").glob("[0-9]*"):
            # Processes end meanwhile, and those of others are closed to us.
            with suppress(OSError):
                if any(str(descriptor.readlink()) in links for descriptor in (process / "fd").iterdir()):
                    return f"process {process.name} ({one_line((process / 'comm').read_text().strip())})"
    return None


def _listening_inodes(wanted: _Address, port: int) -> set[str]:
    """Return the inodes of sockets that keep others from listening at an address, from Linux' tables of TCP.

    Those that listen at the very address, if there are any, else those for which one address stands for all.
    """
    same: set[str] = set()
    wider: set[str] = set()
    for table in ("tcp", "tcp6"):
        with suppress(FileNotFoundError):
            for line in Path("/proc/net", table).read_text().splitlines()[1:]:
                fields = line.split()
                address, _, number = fields[1].rpartition(":")
                if fields[3] != _LISTENS or int(number, 16) != port:
                    continue
                found = _decoded(address)
                if found == wanted:
                    same.add(fields[9])
                elif found.is_unspecified or wanted.is_unspecified:
                    wider.add(fields[9])
    return same or wider


def _decoded(text: str) -> _Address:
    """Return an address of the tables: 32-bit words in the byte order of this machine."""
    words = bytes.fromhex(text)
    if sys.byteorder == "little":
        words = b"".join(words[at : at + 4][::-1] for at in range(0, len(words), 4))
    found = ipaddress.ip_address(words)
    return (isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped) or found
