"""The connections to the primary and to the server that is read, and the look at the servers that keeps them right."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import Final

from limpet.service.cluster._redis_answers import AnswerError, ConnectionLost
from limpet.service.cluster._redis_append import Appender
from limpet.service.cluster._redis_connection import Connection
from limpet.service.cluster._redis_read import BLOCK
from limpet.service.cluster._redis_servers import Choice, choose
from limpet.service.cluster._redis_survey import Findings, Survey
from limpet.service.cluster._redis_url import Address, EngineUrl
from limpet.service.cluster._unread import Unread
from limpet.service.cluster.errors import EngineRefused, EngineUnreachable

_LOGGER: Final = logging.getLogger("limpet.service.cluster")

_ALL_WELL: Final = 5.0
"""Seconds between surveys of the servers while nothing is wrong."""
TROUBLE: Final = 0.5
"""Seconds between them while something is."""
_LOOK: Final = 0.1
"""Seconds between looks at what is overdue."""
CUT_OFF: Final = 10.0
"""Seconds until the primary is read in place of a replica that may be about to be promoted."""


def _ignore(answer: object) -> None:
    """Take an answer that says nothing."""


class Links:
    """Finds the servers to use, connects to them, and does so again whenever something is wrong.

    Args:
        url: of the engine.
        key: of the log.
        unread: the entries of this node that were not read back.
        answer_timeout: seconds until a server counts as silent, and an entry as overdue.
        strict: never read from the primary.

    Attributes:
        appender: appends to the primary.
        source: the connection to the server that is read; ``None`` while there is none.
        closed: whether :meth:`close` was called.
    """

    def __init__(self, url: EngineUrl, key: str, unread: Unread, answer_timeout: float, strict: bool) -> None:
        self._login = url.login
        self._unread = unread
        self._timeout = answer_timeout
        self._strict = strict
        self._loop = asyncio.get_running_loop()
        self._survey = Survey(url, answer_timeout)
        self._turn = asyncio.Lock()
        self._trouble = asyncio.Event()
        self._changed = asyncio.Event()
        self._in_use = Choice()
        self._source_run_id = ""
        self._waiting_since: float | None = None  # for a replica that was read, and may come back
        self._missed_since: float | None = None  # for a primary
        self._looked = 0.0  # when the servers were asked last
        self._logged: tuple[str | None, bool] = (None, False)  # the problem, and whether the log works
        self._logged_where = ""
        self._problem: str | None = None
        self._urgent = False  # a connection is missing
        self._read_problem: str | None = None
        self._watching: asyncio.Task[None] | None = None
        self._connects = 0
        self.appender = Appender(key, unread, self._trouble.set)
        self.source: Connection | None = None
        self.closed = False

    async def start(self, wait: float) -> None:
        """Connect for the first time, within so many seconds.

        Raises:
            EngineRefused: a setting keeps the log from working.
            EngineUnreachable: there is no primary.
        """
        end = self._loop.time() + wait
        while True:
            lasting = await self.look()
            if self.appender.connection is not None:
                break
            if lasting:
                raise EngineRefused(self._problem)
            if self._loop.time() > end:
                raise EngineUnreachable(self._problem)
            await asyncio.sleep(TROUBLE)
        self._watching = self._loop.create_task(self._watch(), name="limpet: the servers of the cluster's log")

    async def close(self) -> None:
        """End all connections, and tell all that wait for one."""
        self.closed = True
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])
        self.appender.close()
        self._drop_source()
        self._wake_waiting()

    # ---- For those who use the connections

    @property
    def primary(self) -> Address | None:
        """The primary in use."""
        return None if self._in_use.primary is None else self._in_use.primary.address

    @property
    def engine(self) -> str | None:
        """What the primary in use is, for people."""
        return None if self._in_use.primary is None else self._in_use.primary.engine

    @property
    def degraded(self) -> bool:
        """Whether the primary is read."""
        return self._in_use.primary is not None and self._source_run_id == self._in_use.primary.run_id

    @property
    def problem(self) -> str | None:
        """What is wrong, and what to do about it."""
        refusal = self.appender.refusal
        return str(refusal) if refusal is not None else self._problem or self._read_problem

    @property
    def reconnects(self) -> int:
        """Connections that were made after the first two."""
        return max(0, self._connects - 2)

    async def changes(self) -> None:
        """Wait until there is another connection, or the log is closed."""
        await self._changed.wait()

    def lose_source(self, connection: Connection, error: Exception) -> None:
        """Give up a connection that did not read."""
        if not isinstance(error, ConnectionLost):
            self._read_problem = f"the log cannot be read: {error}"
        connection.abort()
        if connection is self.source:
            self._drop_source()
        self._trouble.set()

    def has_read(self) -> None:
        """Note that the source answers as it should."""
        self._read_problem = None

    async def opened(self, address: Address) -> Connection:
        """Return a new connection to a server.

        Raises:
            ConnectionLost: there is none in time.
            AnswerError: the server refuses the password, or is not ready.
        """
        return await Connection.open(address, self._login, self._timeout)

    # ---- The look at the servers

    async def look(self) -> bool:
        """Ask the servers what they are, and connect to those to use; return whether a problem is a lasting one."""
        async with self._turn:
            self._trouble.clear()
            findings = await self._survey.make()
            self._looked = self._loop.time()
            choice = self._chosen(findings)
            problem = choice.problem
            if problem is not None:
                problem = findings.explained(problem, is_lasting=choice.lasting)
            if choice.primary is not None:
                self._settle(choice)
                problem = await self._connect(choice) or problem
            self._problem = problem
            self._log_changes()
            self._urgent = choice.source is None or self.appender.connection is None or self.source is None
            return choice.lasting or (findings.lasting and choice.primary is None)

    def _chosen(self, findings: Findings) -> Choice:
        if findings.sentinel_problem is not None:
            return Choice(problem=findings.sentinel_problem)
        now, since, missed = self._loop.time(), self._waiting_since, self._missed_since
        choice = choose(
            findings.servers,
            named=findings.named,
            in_use=self._in_use,
            silent=findings.silent,
            patient=since is None or now - since < CUT_OFF,
            loyal=missed is None or now - missed < CUT_OFF,
            strict=self._strict,
        )
        self._missed_since = None if choice.primary is not None else now if missed is None else missed
        return choice

    def _settle(self, choice: Choice) -> None:
        waits = choice.source is None and not self._strict and self._in_use.source is not None
        if not waits:
            self._waiting_since = None
        elif self._waiting_since is None:
            self._waiting_since = self._loop.time()
        # It must not be forgotten which replica is waited for.
        self._in_use = replace(choice, source=self._in_use.source) if waits else choice

    async def _connect(self, choice: Choice) -> str | None:
        """Connect to the servers chosen, where there is no connection yet; return what failed."""
        assert choice.primary is not None
        try:
            primary, appends = choice.primary.address, self.appender.connection
            if appends is None or appends.address != primary or self._is_silent(appends, 0):
                connection = await self._opened_to_stay(primary)
                self.appender.use(connection)
                self._wake_waiting()
            else:
                appends.post(_ignore, "PING")  # a connection that is dead shows before it is needed
            source = self.source
            if choice.source is None:
                if source is not None and self.degraded:
                    self._drop_source()
            elif (
                source is None
                or source.lost
                or source.address != choice.source.address
                or self._is_silent(source, BLOCK)
            ):
                connection = await self._opened_to_stay(choice.source.address)
                connection.on_lost = self._trouble.set
                self._drop_source()
                self.source = connection
                self._source_run_id = choice.source.run_id
                self._wake_waiting()
        except (ConnectionLost, AnswerError) as error:
            return str(error)
        return None

    async def _opened_to_stay(self, address: Address) -> Connection:
        connection = await self.opened(address)
        if self.closed:
            connection.abort()
            raise ConnectionLost("the log is closed")
        self._connects += 1
        return connection

    def _drop_source(self) -> None:
        if self.source is not None:
            self.source.on_lost = None
            self.source.abort()
            self.source = None

    @property
    def _works(self) -> bool:
        """Whether entries are stored and read, as far as it is known."""
        appender = self.appender
        connected = appender.connection is not None and self.source is not None
        return connected and appender.refusal is None and self._read_problem is None

    def _log_changes(self) -> None:
        """Log, once each, which servers are used, what is wrong, and that it no longer is."""
        problem, works = self.problem, self._works
        before, works_before = self._logged
        if (problem, works) == self._logged and self._where() == self._logged_where:
            return
        where = self._logged_where = self._where()
        self._logged = problem, works
        if before is not None and works and not works_before:
            _LOGGER.info("the cluster's log goes on: it %s", where)
        elif problem is None:
            _LOGGER.info("the cluster's log %s", where if before is None else f"works as it should again: it {where}")
        if problem is not None and problem != before:
            _LOGGER.warning("the cluster's log: %s", problem)

    def _where(self) -> str:
        return f"appends to {self.primary}, reads from {None if self.source is None else self.source.address}"

    def _wake_waiting(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    # ---- When to look

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_LOOK)
            if self.problem != self._logged[0]:
                self._log_changes()  # also where nobody looks at the servers: the log can be read again
            if self._is_due():
                try:
                    await self.look()
                except Exception:
                    _LOGGER.exception("the servers of the cluster's log could not be looked at")

    def _is_due(self) -> bool:
        since = self._loop.time() - self._looked
        if self._trouble.is_set() or since > _ALL_WELL:
            return True
        overdue = self._unread.age() > self._timeout or self._is_silent(self.appender.connection, 0)
        return since > TROUBLE and (overdue or self._is_silent(self.source, BLOCK) or self._urgent)

    def _is_silent(self, connection: Connection | None, more: float) -> bool:
        return connection is not None and connection.silence() > self._timeout + more
