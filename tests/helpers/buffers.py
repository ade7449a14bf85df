"""Taking events out of a buffer, as the streams of the clients do."""

from __future__ import annotations

from typing import Any

import pytest

from limpet._clients.buffers import Buffer


def take(buffer: Buffer) -> Any:
    """Remove and return the oldest event."""
    item = buffer.items.popleft()
    if buffer.full and len(buffer.items) <= buffer.half:
        buffer.relax()
    return item


def note_releases(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return how many events wait each time when a buffer asks whether it may be released, from now on."""
    asked: list[int] = []
    relax = Buffer.relax

    def noted(buffer: Buffer) -> None:
        asked.append(len(buffer.items))
        relax(buffer)

    monkeypatch.setattr(Buffer, "relax", noted)
    return asked
