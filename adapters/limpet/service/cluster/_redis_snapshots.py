"""Snapshots in the engine: chunks under names of their own, then the pointer to them and the trimming in one step."""

from __future__ import annotations

import asyncio
import secrets
import zlib
from contextlib import suppress
from typing import Any, Final, NamedTuple

from limpet.service.cluster._redis_answers import AnswerError
from limpet.service.cluster._redis_connection import Connection
from limpet.service.cluster.errors import EntryForgotten, SnapshotBroken
from limpet.service.cluster.log import MAX_SNAPSHOT, LogId, Snapshot

_CHUNK: Final = 1024 * 1024
"""Bytes of a chunk."""

_AHEAD: Final = 8
"""Chunks that are on their way at the same time."""

_UNFINISHED: Final = 3600
"""Seconds after which the chunks of a snapshot that was never finished vanish: its node died."""

_REPLACED: Final = 600
"""Seconds that the snapshot before stays, for nodes that are loading it."""

_TRIES: Final = 5
"""How often a snapshot is stored, or loaded, that another node replaces meanwhile."""


class _Pointer(NamedTuple):
    """What the pointer key says: which snapshot is the newest complete one."""

    at: LogId
    tag: str
    chunks: int
    size: int
    checksum: int

    def __str__(self) -> str:
        return f"{self.at} {self.tag} {self.chunks} {self.size} {self.checksum:08x}"


def _parse(raw: Any) -> _Pointer | None:
    if raw is None:
        return None
    try:
        at, tag, chunks, size, checksum = raw.decode("ascii").split(" ")
        pointer = _Pointer(LogId.parse(at), tag, int(chunks), int(size), int(checksum, 16))
    except (ValueError, AttributeError):
        pointer = None
    # The number of chunks is what is asked for: no more than a snapshot may have.
    sized = pointer is not None and 0 <= pointer.size <= MAX_SNAPSHOT
    if pointer is None or not sized or pointer.chunks != max(1, -(-pointer.size // _CHUNK)):
        raise SnapshotBroken("the name of the newest snapshot in the engine is not one that Limpet wrote")
    return pointer


def snapshot_id(raw: Any) -> LogId | None:
    """Return the entry of the newest snapshot, by the pointer key's value; None if there is none.

    Raises:
        SnapshotBroken: the value is not of Limpet.
    """
    pointer = _parse(raw)
    return None if pointer is None else pointer.at


class StoredSnapshots:
    """The snapshots of a cell. Each call uses a connection of its own to the primary."""

    def __init__(self, log: str, pointer: str) -> None:
        self._log = log
        self._pointer = pointer

    def _chunk(self, pointer: _Pointer, number: int) -> str:
        return f"{self._pointer}:{pointer.at}:{pointer.tag}:{number}"

    async def save(self, connection: Connection, at: LogId, data: bytes, kept: LogId) -> bool:
        """Store a snapshot, unless there is one of this entry or a later one, and trim the log before ``kept``.

        Raises:
            EntryForgotten: the log does not have this entry, and there is no later snapshot.
        """
        if not self._is_newer(await connection.ask("GET", self._pointer), at):
            return False
        chunks = [data[start : start + _CHUNK] for start in range(0, len(data), _CHUNK)] or [b""]
        pointer = _Pointer(at, secrets.token_hex(6), len(chunks), len(data), zlib.crc32(data))
        names = [self._chunk(pointer, number) for number in range(len(chunks))]
        try:
            for first in range(0, len(chunks), _AHEAD):
                pairs = zip(names[first : first + _AHEAD], chunks[first : first + _AHEAD], strict=True)
                sent = [connection.ask("SET", name, chunk, "EX", _UNFINISHED) for name, chunk in pairs]
                for each in sent:
                    await each
            if await self._point(connection, pointer, names, kept):
                return True
        except (AnswerError, EntryForgotten):
            # A full engine has no room for them until they vanish by themselves. One that has refused a part of the
            # last step may point to them.
            with suppress(AnswerError):
                if await connection.ask("GET", self._pointer) != str(pointer).encode():
                    await asyncio.wait([connection.ask("UNLINK", *names)])
            raise
        await asyncio.wait([connection.ask("UNLINK", *names)])
        return False

    async def _point(self, connection: Connection, pointer: _Pointer, names: list[str], kept: LogId) -> bool:
        # Another node may do the same: who sees the pointer change begins again, and the greater id stays.
        for _ in range(_TRIES):
            connection.ask("WATCH", self._pointer)
            # Before the pointer, with which the log may be trimmed. Without its entry nobody could begin with it.
            found = connection.ask("XRANGE", self._log, str(pointer.at), str(pointer.at), "COUNT", 1)
            before = await connection.ask("GET", self._pointer)
            if not self._is_newer(before, pointer.at):
                await connection.ask("UNWATCH")
                return False
            if not await found:
                raise EntryForgotten(f"entry {pointer.at} is no longer in the log, so there is no snapshot of it")
            connection.ask("MULTI")
            for name in names:
                connection.ask("PERSIST", name)
            connection.ask("SET", self._pointer, str(pointer))
            connection.ask("XTRIM", self._log, "MINID", str(kept))
            old = _old(before)
            if old is not None:
                for number in range(old.chunks):
                    connection.ask("EXPIRE", self._chunk(old, number), _REPLACED)
            done = await connection.ask("EXEC")
            if done is not None:
                connection.check_inside(done)
                return True
        return False

    @staticmethod
    def _is_newer(raw: Any, at: LogId) -> bool:
        old = _old(raw)
        return old is None or old.at < at

    async def load(self, connection: Connection) -> Snapshot | None:
        """Return the newest snapshot.

        Raises:
            SnapshotBroken: it is not whole.
        """
        for _ in range(_TRIES):
            pointer = _parse(await connection.ask("GET", self._pointer))
            if pointer is None:
                return None
            data = await self._load(connection, pointer)
            if data is not None:
                return Snapshot(pointer.at, data)
            if _parse(await connection.ask("GET", self._pointer)) == pointer:
                break  # it was not replaced meanwhile
        raise SnapshotBroken(
            "parts of the newest snapshot in the engine are missing or damaged. Start all nodes on an empty cell "
            "(another --cluster-cell, or remove the keys of this one)"
        )

    async def _load(self, connection: Connection, pointer: _Pointer) -> bytes | None:
        parts: list[bytes] = []
        for first in range(0, pointer.chunks, _AHEAD):
            numbers = range(first, min(first + _AHEAD, pointer.chunks))
            sent = [connection.ask("GET", self._chunk(pointer, number)) for number in numbers]
            for each in sent:
                part = await each
                if not isinstance(part, bytes) or len(part) > _CHUNK:
                    return None
                parts.append(part)
        data = b"".join(parts)
        return data if (len(data), zlib.crc32(data)) == (pointer.size, pointer.checksum) else None


def _old(raw: Any) -> _Pointer | None:
    """Return the snapshot that is to be replaced; None: there is none that can be used."""
    try:
        return _parse(raw)
    except SnapshotBroken:
        return None
