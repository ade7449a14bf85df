"""Taking events out of a buffer, as the streams of the clients do."""

from __future__ import annotations

from typing import Any

from limpet._clients.buffers import Buffer


def take(buffer: Buffer) -> Any:
    """Remove and return the oldest event."""
    item = buffer.items.popleft()
    if buffer.full and len(buffer.items) <= buffer.half:
        buffer.relax()
    return item
