"""Client libraries of Redis, for the log of a cluster: CPU of the client for each entry appended and read.

``python benchmarks/engine.py`` starts a ``redis-server`` of its own on a free port of loopback. All libraries take
turns in one run, so that a busy machine hits all alike: compare the ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import Any, Protocol

import hiredis

from limpet.service.cluster.redis import RedisLog

KEY = b"{limpet:0}:log"  # that of RedisLog
ENTRY = b"x" * 120
TURN = 32
"""Entries that are appended in one turn of the event loop."""
PAGE = 1000
"""Entries that one XREAD returns at most."""


class Contestant(Protocol):
    """A library, connected."""

    async def append(self, entries: list[bytes]) -> None:
        """Append the entries of one turn, pipelined, and wait for all answers."""

    async def read(self, count: int) -> None:
        """Read so many entries from the beginning."""

    async def close(self) -> None: ...


class Pages:
    """Reads page by page."""

    async def page(self, after: bytes) -> list[Any]:
        raise NotImplementedError

    async def read(self, count: int) -> None:
        after = b"0-0"
        while count > 0:
            page = await self.page(after)
            count, after = count - len(page), page[-1][0]


class Raw(Pages, asyncio.Protocol):
    """A protocol of asyncio around hiredis, as Limpet's own connection is."""

    def __init__(self) -> None:
        self.reader = hiredis.Reader()
        self.waiting = 0
        self.answers: list[Any] = []
        self.done: asyncio.Future[None] | None = None
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.reader.feed(data)
        while (answer := self.reader.gets()) is not False:
            self.answers.append(answer)
        if len(self.answers) >= self.waiting and self.done is not None:
            self.done.set_result(None)
            self.done = None

    async def run(self, *commands: tuple[Any, ...]) -> list[Any]:
        self.answers.clear()
        self.waiting = len(commands)
        self.done = asyncio.get_running_loop().create_future()
        self.transport.write(b"".join([hiredis.pack_command(command) for command in commands]))
        await self.done
        return self.answers

    async def append(self, entries: list[bytes]) -> None:
        await self.run(*[(b"XADD", KEY, b"*", b"e", entry) for entry in entries])

    async def page(self, after: bytes) -> list[Any]:
        (answer,) = await self.run((b"XREAD", b"COUNT", PAGE, b"BLOCK", 1000, b"STREAMS", KEY, after))
        return answer[0][1] if answer else []

    async def close(self) -> None:
        self.transport.close()


async def raw(port: int) -> Contestant:
    _, protocol = await asyncio.get_running_loop().create_connection(Raw, "127.0.0.1", port)
    return protocol


class Limpet:
    """The log of Limpet as a node uses it, with all its book-keeping, and pages of its own size."""

    def __init__(self, log: Any) -> None:
        self.log = log
        self.waiting = 0
        self.done: asyncio.Future[None] | None = None
        appender = log._links.appender
        answered = appender._answered

        def counted(*arguments: Any) -> None:
            answered(*arguments)
            self.waiting -= 1
            if not self.waiting and self.done is not None:
                self.done.set_result(None)

        appender._answered = counted

    async def append(self, entries: list[bytes]) -> None:
        self.waiting = len(entries)
        self.done = asyncio.get_running_loop().create_future()
        for entry in entries:
            self.log.append(entry)
        await self.done
        self.log._unread.clear()

    async def read(self, count: int) -> None:
        async with aclosing(self.log.read()) as pages:
            async for page in pages:
                count -= len(page)
                if count <= 0:
                    break

    async def close(self) -> None:
        await self.log.close()


async def limpet(port: int) -> Contestant:
    return Limpet(await RedisLog.open(f"redis://127.0.0.1:{port}"))


class RedisPy(Pages):
    """redis-py as its documentation shows it: a pipeline for each turn."""

    def __init__(self, port: int) -> None:
        import redis.asyncio

        self.redis: Any = redis.asyncio.Redis(host="127.0.0.1", port=port)

    async def append(self, entries: list[bytes]) -> None:
        if len(entries) == 1:
            await self.redis.xadd(KEY, {b"e": entries[0]})
            return
        pipeline = self.redis.pipeline(transaction=False)
        for entry in entries:
            pipeline.xadd(KEY, {b"e": entry})
        await pipeline.execute()

    async def page(self, after: bytes) -> list[Any]:
        answer = await self.redis.xread({KEY: after}, count=PAGE, block=1000)
        return answer[0][1] if answer else []

    async def close(self) -> None:
        await self.redis.aclose()


async def redis_py(port: int) -> Contestant:
    return RedisPy(port)


class RedisPyConnection(Pages):
    """One connection of redis-py, below its client: commands are packed and answers read by hand, without a pool."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    async def append(self, entries: list[bytes]) -> None:
        commands = [(b"XADD", KEY, b"*", b"e", entry) for entry in entries]
        await self.connection.send_packed_command(self.connection.pack_commands(commands), check_health=False)
        for _ in entries:
            await self.connection.read_response()

    async def page(self, after: bytes) -> list[Any]:
        await self.connection.send_command(
            b"XREAD", b"COUNT", PAGE, b"BLOCK", 1000, b"STREAMS", KEY, after, check_health=False
        )
        answer = await self.connection.read_response()
        return next(iter(answer.items()))[1] if isinstance(answer, dict) else answer[0][1] if answer else []

    async def close(self) -> None:
        await self.connection.disconnect()


async def redis_py_connection(port: int) -> Contestant:
    from redis.asyncio.connection import Connection

    connection = Connection(host="127.0.0.1", port=port)
    await connection.connect()
    return RedisPyConnection(connection)


class Coredis(Pages):
    """coredis as its documentation shows it: a pipeline for each turn."""

    def __init__(self, client: Any) -> None:
        self.client = client

    async def append(self, entries: list[bytes]) -> None:
        if len(entries) == 1:
            await self.client.xadd(KEY, {b"e": entries[0]})
            return
        async with self.client.pipeline(transaction=False) as pipeline:
            for entry in entries:
                pipeline.xadd(KEY, {b"e": entry})

    async def page(self, after: bytes) -> list[Any]:
        answer = await self.client.xread({KEY: after}, count=PAGE, block=1000)
        return list(next(iter(answer.values()))) if answer else []

    async def close(self) -> None:
        await self.client.__aexit__(None, None, None)


async def coredis_(port: int) -> Contestant:
    import coredis

    client: Any = coredis.Redis(host="127.0.0.1", port=port)
    await client.__aenter__()
    return Coredis(client)


CONTESTANTS: dict[str, Callable[[int], Awaitable[Contestant]]] = {
    "hiredis in a protocol": raw,
    "Limpet's log": limpet,
    "redis-py, one connection": redis_py_connection,
    "redis-py": redis_py,
    "coredis": coredis_,
}


@contextmanager
def server() -> Iterator[int]:
    """Run a Redis in a folder of its own, and yield its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        options = ["--port", str(port), "--bind", "127.0.0.1", "--dir", folder, "--save", "", "--appendonly", "no"]
        process = subprocess.Popen(["redis-server", *options], stdout=subprocess.DEVNULL)
        try:
            end = time.monotonic() + 30
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    if time.monotonic() > end:
                        raise
                    time.sleep(0.02)
            yield port
        finally:
            process.terminate()
            process.wait()


async def cost(work: Callable[[], Awaitable[int]]) -> float:
    """Return the CPU time for each of what ``work`` counts, in microseconds."""
    start = time.process_time()
    count = await work()
    return 1e6 * (time.process_time() - start) / count


async def measure(port: int, rounds: int, entries: int) -> dict[str, dict[str, list[float]]]:
    """Return the costs of each round, by task and library."""
    libraries: dict[str, Contestant] = {}
    for name, make in CONTESTANTS.items():
        try:
            libraries[name] = await make(port)
        except ModuleNotFoundError as error:
            print(f"{name} is left out: {error}")
    first = libraries["hiredis in a protocol"]
    assert isinstance(first, Raw)
    costs: dict[str, dict[str, list[float]]] = {}

    async def batched(library: Contestant) -> int:
        for _ in range(entries // TURN):
            await library.append([ENTRY] * TURN)
        return entries // TURN * TURN

    async def single(library: Contestant) -> int:
        for _ in range(entries // 8):
            await library.append([ENTRY])
        return entries // 8

    async def read(library: Contestant) -> int:
        await library.read(entries)
        return entries

    tasks = {f"append, {TURN} in a turn": batched, "append, one at a time": single, "read": read}
    for turn in range(rounds + 1):  # the first one fills caches
        for task, work in tasks.items():
            for name, library in libraries.items():
                await first.run((b"DEL", KEY))
                if work is read:
                    for _ in range(entries // PAGE + 1):
                        await first.append([ENTRY] * PAGE)
                spent = await cost(lambda work=work, library=library: work(library))  # type: ignore[misc]
                if turn:
                    costs.setdefault(task, {}).setdefault(name, []).append(spent)
    for library in libraries.values():
        await library.close()
    return costs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--entries", type=int, default=8000, help="entries of each round")
    options = parser.parse_args()
    with server() as port:
        costs = asyncio.run(measure(port, options.rounds, options.entries))
    print(f"CPU of the client for each entry of {len(ENTRY)} bytes: microseconds, median of {options.rounds} rounds\n")
    print("| library | " + " | ".join(f"{task} | ratio" for task in costs) + " |")
    print("|---|" + "---:|---:|" * len(costs))
    own = next(iter(CONTESTANTS))
    for name in next(iter(costs.values())):
        cells: list[str] = []
        for of_task in costs.values():
            ratio = statistics.median(spent / base for spent, base in zip(of_task[name], of_task[own], strict=True))
            cells.append(f"{statistics.median(of_task[name]):.1f} | {ratio:.2f}")
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
