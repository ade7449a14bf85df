"""One connection to a server of the engine: hiredis packs commands and reads answers, asyncio moves the bytes.

Benchmarks decided for this instead of a whole client: see ``benchmarks/engine.py``.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from typing import Any, Final, TypeGuard, cast

from limpet._extras import extra
from limpet.service.cluster._redis_answers import AnswerError, ConnectionLost, explain
from limpet.service.cluster._redis_url import Address, Login
from limpet.service.cluster.log import MAX_ENTRY
from limpet_core.text import one_line, reason_of

with extra("cluster"):
    import hiredis

PAGE: Final = 64
"""Entries that one command reads at most."""

_MAX_ANSWER: Final = PAGE * (MAX_ENTRY + 1024)
"""Bytes of the largest answer that is waited for."""

_MAX_ELEMENTS: Final = 100_000
"""Elements of the largest list that is taken."""

# Its stub says that a command is of one word.
_pack: Final[Callable[[tuple[str | bytes | int, ...]], bytes]] = hiredis.pack_command  # type: ignore[assignment]

Answered = Callable[[Any], None]
"""Is called with an answer, or with the AnswerError or ConnectionLost that comes in its place."""


def silence(address: Address, login: Login, timeout: float) -> str:
    """Return what to say of a server that has not answered for so many seconds."""
    hint = "" if login.tls is None else " over TLS: if it speaks none, write redis:// in the URL"
    return f"{address} does not answer for {timeout:g} s{hint}"


class Connection(asyncio.Protocol):
    """A connection that is logged in. Commands of one turn of the event loop are written together, in their order.

    Attributes:
        on_lost: is called at the end of the connection, by whichever side.
    """

    def __init__(self, address: Address, login: Login) -> None:
        self.address = address
        self._secrets = login.secrets
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader()
        self._transport: asyncio.Transport | None = None
        self._waiting: deque[Answered] = deque()
        self._packed: list[bytes] = []
        self._lost: ConnectionLost | None = None
        self._without_answer = 0  # bytes since the last whole answer
        self._heard = 0.0  # when bytes came last, or the first of the commands was sent that wait
        self.on_lost: Callable[[], None] | None = None

    @classmethod
    async def open(cls, address: Address, login: Login, timeout: float) -> Connection:
        """Connect and log in.

        Raises:
            ConnectionLost: there is no connection within so many seconds.
            AnswerError: the server refuses user, password or database, or is not ready.
        """
        connection: Connection | None = None
        try:
            async with asyncio.timeout(timeout):
                _, connection = await asyncio.get_running_loop().create_connection(
                    lambda: cls(address, login),
                    address.host,
                    address.port,
                    ssl=login.tls,
                    server_hostname=address.host if login.tls is not None else None,
                )
                await connection._log_in(login)
                opened, connection = connection, None
                return opened
        except ssl.SSLError as error:
            why = one_line(reason_of(error), 200)
            hint = "check ssl_ca_certs in the URL, and that the certificate names this host"
            raise ConnectionLost(f"no TLS with {address}: {why}; {hint}") from None
        except TimeoutError:
            raise ConnectionLost(silence(address, login, timeout), was_silent=True) from None
        except (OSError, ValueError) as error:  # ValueError: a server has said a name that is no host's
            raise ConnectionLost(f"no connection to {address}: {one_line(reason_of(error), 200)}") from None
        finally:
            if connection is not None:
                connection.abort()

    async def _log_in(self, login: Login) -> None:
        waits: list[asyncio.Future[Any]] = []
        if login.password is not None:
            user = () if login.username is None else (login.username,)
            waits.append(self.ask("AUTH", *user, login.password))
        if login.database:
            waits.append(self.ask("SELECT", login.database))
        for answer in await asyncio.gather(*waits, return_exceptions=True):
            if isinstance(answer, BaseException):
                raise answer

    # ---- Asking

    def post(self, answered: Answered, *command: str | bytes | int) -> None:
        """Send a command; ``answered`` is called with what comes back, exactly once."""
        if self._lost is not None:
            self._loop.call_soon(answered, self._lost)
            return
        if not self._waiting:
            self._heard = self._loop.time()
        if not self._packed:
            self._loop.call_soon(self._flush)
        self._waiting.append(answered)
        self._packed.append(_pack(command))

    def ask(self, *command: str | bytes | int) -> asyncio.Future[Any]:
        """Send a command; the future has its answer, or raises AnswerError or ConnectionLost."""
        future: asyncio.Future[Any] = self._loop.create_future()

        def answered(answer: Any) -> None:
            if future.done():  # nobody waits any more
                return
            if isinstance(answer, AnswerError | ConnectionLost):
                future.set_exception(answer)
                future.exception()  # another answer may be waited for first
            else:
                future.set_result(answer)

        self.post(answered, *command)
        return future

    def check_inside(self, answers: Any) -> None:
        """Raise the AnswerError of the first error inside a list, as the answer to EXEC is one."""
        for answer in answers if is_list(answers) else ():
            if isinstance(answer, hiredis.ReplyError):
                raise explain(str(answer), self.address, self._secrets)

    def _flush(self) -> None:
        packed, self._packed = self._packed, []
        if self._transport is not None and packed:
            self._transport.write(packed[0] if len(packed) == 1 else b"".join(packed))

    @property
    def lost(self) -> bool:
        """Whether the connection has ended."""
        return self._lost is not None

    def silence(self) -> float:
        """Return for how many seconds an answer has been waited for without any byte; 0 if none is waited for."""
        return self._loop.time() - self._heard if self._waiting else 0.0

    def abort(self, why: str = "it was closed") -> None:
        """End the connection at once. All that wait for an answer are told."""
        if self._transport is not None:
            self._transport.abort()
        self._end(why)

    # ---- What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # that of uvloop has another base

    def data_received(self, data: bytes) -> None:
        if self._lost is not None:
            return
        self._heard = self._loop.time()
        try:
            if self._without_answer == 0 and _is_long_list(data):
                raise hiredis.ProtocolError("a list that is too long")
            self._reader.feed(data)
            self._without_answer += len(data)
            answer: Any
            while (answer := self._reader.gets()) is not False:
                self._without_answer = 0
                if isinstance(answer, hiredis.ReplyError):
                    answer = explain(str(answer), self.address, self._secrets)
                if not self._waiting:
                    raise hiredis.ProtocolError("an answer to nothing")
                self._waiting.popleft()(answer)
                if self._lost is not None:  # by what was called
                    return
        except (hiredis.HiredisError, MemoryError) as error:
            self.abort(f"it does not speak as Redis does: {one_line(reason_of(error), 200, self._secrets)}")
            return
        if self._without_answer == 0 and self._reader.has_data():
            self._without_answer = 1  # the beginning of the next one; no more than asyncio reads at once
        if self._without_answer > _MAX_ANSWER:
            self.abort(f"its answer has more than {_MAX_ANSWER:,} bytes")

    def connection_lost(self, exc: Exception | None) -> None:
        self._end("the server closed it" if exc is None else one_line(reason_of(exc), 200))

    def _end(self, why: str) -> None:
        if self._lost is not None:
            return
        lost = self._lost = ConnectionLost(f"the connection to {self.address} ended: {why}")
        self._packed.clear()
        while self._waiting:
            self._waiting.popleft()(lost)
        if self.on_lost is not None:
            self.on_lost()


def is_list(answer: object) -> TypeGuard[list[Any]]:
    """Return whether an answer is a list."""
    return isinstance(answer, list)


def _is_long_list(data: bytes) -> bool:
    # hiredis makes room for all elements when it has read their number.
    if data[:1] not in (b"*", b"%", b"~", b">"):
        return False
    number = data[1 : data.find(b"\r", 1, 24)]
    return number.isdigit() and int(number) > _MAX_ELEMENTS
