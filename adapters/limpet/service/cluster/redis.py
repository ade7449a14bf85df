"""The log of a cluster in Redis 6.2 or newer, or Valkey: a stream, read from the replica where there is one.

What is read from a replica is stored by two servers: if the primary is lost and this replica promoted, nothing is lost
that was read. Entries that were not read back are appended again at the new primary, in their order.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Final, TypeVar

from limpet.service.cluster._redis_answers import AnswerError, ConnectionLost
from limpet.service.cluster._redis_connection import Connection
from limpet.service.cluster._redis_links import Links
from limpet.service.cluster._redis_read import Malformed, is_entry, newest_id, read_page
from limpet.service.cluster._redis_snapshots import StoredSnapshots, snapshot_id
from limpet.service.cluster._redis_url import EngineUrl, parse_url
from limpet.service.cluster._unread import Unread
from limpet.service.cluster.errors import EngineRefused, EngineUnreachable, EntryForgotten, EntryTrimmed
from limpet.service.cluster.log import (
    MAX_UNREAD,
    MAX_UNREAD_BYTES,
    START,
    LogEntry,
    LogId,
    LogState,
    OnCongested,
    Snapshot,
    check_entry,
    check_snapshot,
)

__all__ = ["RedisLog"]

_LOGGER: Final = logging.getLogger("limpet.service.cluster")
_T = TypeVar("_T")

_CELL: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")

_BEHIND: Final = 0.02
"""Seconds until a replica that is behind is read again, and a question asked again."""

_SNAPSHOT: Final = 600.0
"""Seconds that a snapshot may take."""


class RedisLog:
    """A :class:`~limpet.service.cluster.log.Log` in Redis or Valkey. :meth:`open` makes one.

    It belongs to the event loop that opened it. ``async with`` closes it.
    """

    def __init__(self, url: EngineUrl, cell: str, unread: Unread, *, strict: bool, answer_timeout: float, wait: float):
        """Use :meth:`open`."""
        self._key = f"{{limpet:{cell}}}:log"
        self._pointer = f"{{limpet:{cell}}}:snap"
        self._wait = wait
        self._unread = unread
        self._links = Links(url, self._key, unread, answer_timeout, strict)
        self._snapshots = StoredSnapshots(self._key, self._pointer)
        self._reading = False
        self._warned = False

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        cell: str = "0",
        strict: bool = False,
        max_unread: int = MAX_UNREAD,
        max_unread_bytes: int = MAX_UNREAD_BYTES,
        on_congested: OnCongested | None = None,
        answer_timeout: float = 2.0,
        wait: float = 10.0,
    ) -> RedisLog:
        """Connect to an engine, and return its log.

        Args:
            url: ``redis://[user:password@]host[:port][,host...][/database]``, ``rediss://`` for TLS, or
                ``redis+sentinel://[user:password@]host[:port][,host...]/name[/database]``. TLS takes the options of
                redis-py: ``ssl_ca_certs``, ``ssl_certfile``, ``ssl_keyfile``, ``ssl_cert_reqs=none``,
                ``ssl_check_hostname=false``; Sentinel takes ``sentinel_username`` and ``sentinel_password``.
            cell: which log of this engine; all nodes of a cluster name the same one.
            strict: read nothing while no replica follows the primary, instead of reading from the primary.
            max_unread: entries that may be unread before the log is congested.
            max_unread_bytes: bytes that may be unread before the log is congested.
            on_congested: is called when that changes.
            answer_timeout: seconds until a server that does not answer counts as silent, and an entry that was not
                read back as overdue.
            wait: seconds that a call waits for the engine, this one included.

        Raises:
            ValueError: the URL or the cell is none.
            OSError: a file of certificates cannot be read.
            EngineRefused: the engine must not be used, or does not let us.
            EngineUnreachable: there is no primary within ``wait`` seconds.
        """
        if not _CELL.fullmatch(cell):
            raise ValueError("a cell has 1 to 64 letters, digits, dots, underscores and dashes")
        engine = parse_url(url)
        unread = Unread(max_unread, max_unread_bytes, on_congested, asyncio.get_running_loop().time)
        log = cls(engine, cell, unread, strict=strict, answer_timeout=answer_timeout, wait=wait)
        try:
            await log._links.start(wait)
            await log.newest()  # whether it may be read at all
        except BaseException:
            await log.close()
            raise
        return log

    async def __aenter__(self) -> RedisLog:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # ---- The log

    def append(self, entry: bytes) -> None:
        """Append an entry; see :meth:`Log.append <limpet.service.cluster.Log.append>`."""
        check_entry(entry)
        if self._links.closed:
            raise RuntimeError("the log is closed")
        self._links.appender.append(entry)

    async def read(self, after: LogId = START) -> AsyncGenerator[list[LogEntry]]:
        """Read all entries behind ``after``; see :meth:`Log.read <limpet.service.cluster.Log.read>`."""
        links = self._links
        if self._reading or links.closed:
            raise RuntimeError("the log is closed" if links.closed else "the log has a reader already")
        self._reading = True
        position: LogId = after
        data: bytes | None = None
        try:
            while not links.closed:
                asked = links.source
                if asked is None:
                    await links.changes()
                    continue
                try:
                    page = await read_page(asked, self._key, self._pointer, position, data)
                except (ConnectionLost, AnswerError, Malformed) as error:
                    links.lose_source(asked, error)
                    continue
                if links.source is not asked:
                    continue  # another server is to be read meanwhile: with strict, this one must not be
                links.has_read()
                if not page.proven:
                    try:
                        await self._judge(position, data)
                    except EngineRefused as error:
                        links.lose_source(asked, error)  # nothing is known: it may let us again
                    continue
                if page.foreign and not self._warned:
                    self._warned = True
                    _LOGGER.warning("entries of %s are not of Limpet, and left out: who writes there?", self._key)
                if page.last == position:
                    continue
                position = page.last
                data = page.entries[-1].data if page.entries and page.entries[-1].id == position else None
                for entry in page.entries:
                    self._unread.take(entry.data)
                if self._unread.missed(position):
                    links.appender.repeat()
                if page.entries:
                    yield page.entries
        finally:
            self._reading = False

    async def newest(self) -> LogId:
        """Return the id of the newest entry; see :meth:`Log.newest <limpet.service.cluster.Log.newest>`."""

        async def ask(connection: Connection) -> LogId:
            return newest_id(await connection.ask("XREVRANGE", self._key, "+", "-", "COUNT", 1))

        return await self._of_primary(ask)

    async def save_snapshot(self, at: LogId, data: bytes, *, kept: LogId | None = None) -> bool:
        """Keep a snapshot; see :meth:`Log.save_snapshot <limpet.service.cluster.Log.save_snapshot>`."""
        check_snapshot(at, data)
        first = at if kept is None else min(at, kept)
        return await self._apart(lambda connection: self._snapshots.save(connection, at, data, first))

    async def load_snapshot(self) -> Snapshot | None:
        """Return the newest snapshot; see :meth:`Log.load_snapshot <limpet.service.cluster.Log.load_snapshot>`."""
        return await self._apart(self._snapshots.load)

    @property
    def state(self) -> LogState:
        """The log at this moment."""
        source, appends = self._links.source, self._links.appender.connection
        return LogState(
            reading_from="nothing" if source is None else "primary" if self._links.degraded else "replica",
            primary=None if appends is None else str(appends.address),
            source=None if source is None else str(source.address),
            unread_entries=len(self._unread),
            unread_bytes=self._unread.size,
            lag=self._unread.lag(),
            congested=self._unread.congested,
            repeated=self._links.appender.repeated,
            reconnects=self._links.reconnects,
            problem=self._links.problem,
            engine=None if appends is None else self._links.engine,
        )

    @property
    def congested(self) -> bool:
        """Whether too much is unread."""
        return self._unread.congested

    async def close(self) -> None:
        """Give up what was not read back, and end all connections. A reader ends."""
        await self._links.close()
        self._unread.clear()

    # ---- Questions

    async def _judge(self, position: LogId, data: bytes | None) -> None:
        """Return if the entry is in the log of the primary: then the source is behind, and may be read again."""
        for asks_again in (True, False):
            try:
                found, snapshot = await self._find(position, data)
            except EngineUnreachable:
                return
            if found:
                await asyncio.sleep(_BEHIND)
                return
            if asks_again:  # the server may be the primary no longer
                await self._links.look()
        if snapshot is not None and snapshot > position:
            raise EntryTrimmed(
                f"entry {position} was trimmed from the log, for there is a snapshot of entry {snapshot}: this node "
                "was too slow. It must load the snapshot, and read on behind it"
            )
        raise EntryForgotten(
            f"entry {position} is no longer in the log: the engine has lost what this node has told its clients "
            "already. It was restarted without its data, or a replica was promoted that was behind"
        )

    async def _find(self, entry: LogId, data: bytes | None) -> tuple[bool, LogId | None]:
        """Return whether an entry is in the log of the primary, and the entry of the newest snapshot."""

        async def ask(connection: Connection) -> tuple[bool, LogId | None]:
            found = connection.ask("XRANGE", self._key, str(entry), str(entry), "COUNT", 1)
            snapshot = snapshot_id(await connection.ask("GET", self._pointer))
            return (snapshot is None if entry == START else is_entry(await found, entry, data)), snapshot

        return await self._of_primary(ask)

    async def _of_primary(self, ask: Callable[[Connection], Awaitable[_T]]) -> _T:
        """Ask on the connection that appends, behind all that was appended; wait for one if there is none."""
        try:
            async with asyncio.timeout(self._wait):
                while True:
                    if self._links.closed:
                        raise EngineUnreachable("the log is closed")
                    connection = self._links.appender.connection
                    if connection is None:
                        await self._links.changes()
                        continue
                    try:
                        return await ask(connection)
                    except (ConnectionLost, AnswerError) as error:
                        _raise_lasting(error)
                        await asyncio.sleep(_BEHIND)
                    except Malformed as error:
                        connection.abort(f"it sends {error}")  # all that follow may be answers to other questions
                        raise
        except Malformed as error:
            raise EngineRefused(f"the engine does not speak as Redis does: {error}") from None
        except TimeoutError:
            raise self._unreachable() from None

    async def _apart(self, work: Callable[[Connection], Awaitable[_T]]) -> _T:
        """Work on a connection of its own to the primary, so that nothing waits behind large answers."""
        connection: Connection | None = None
        try:
            async with asyncio.timeout(_SNAPSHOT):
                await self._of_primary(lambda connection: connection.ask("PING"))
                assert self._links.primary is not None
                connection = await self._links.opened(self._links.primary)
                return await work(connection)
        except AnswerError as error:
            raise EngineRefused(str(error)) from None
        except ConnectionLost as error:
            raise EngineUnreachable(str(error)) from None
        except TimeoutError:
            raise self._unreachable() from None
        finally:
            if connection is not None:
                connection.abort()

    def _unreachable(self) -> EngineUnreachable:
        return EngineUnreachable(self._links.problem or f"the engine has not answered for {self._wait:g} s")


def _raise_lasting(error: Exception) -> None:
    if isinstance(error, AnswerError) and error.lasting:
        raise EngineRefused(str(error)) from None
