"""A server that answers what a test wants it to, byte for byte."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import hiredis

INFO = {
    "redis_version": "7.0.15",
    "run_id": "a" * 40,
    "role": "master",
    "master_replid": "b" * 40,
    "master_replid2": "0" * 40,
    "maxmemory": "0",
    "maxmemory_policy": "noeviction",
}


def info(**changes: str) -> bytes:
    text = "# Server\r\n" + "".join(f"{name}:{value}\r\n" for name, value in (INFO | changes).items())
    return b"$%d\r\n%s\r\n" % (len(text), text.encode())


class FakeServer:
    """Answers each command by its name, or by its first two words; ``asked`` has all. An answer of None is silence."""

    def __init__(self) -> None:
        self.answers: dict[str, bytes | None] = {
            "INFO": info(),
            "XREVRANGE": b"*0\r\n",
            "XRANGE": b"*0\r\n",
            "XADD": b"$3\r\n5-0\r\n",
            "GET": b"$-1\r\n",
            "XREAD": None,
        }
        self.asked: list[list[bytes]] = []
        self.url = ""
        self.writers: set[asyncio.StreamWriter] = set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.add(writer)
        commands = hiredis.Reader()
        while data := await reader.read(65536):
            commands.feed(data)
            while (command := commands.gets()) is not False:
                self.asked.append(command)
                name, both = command[0].decode(), b" ".join(command[:2]).decode("latin-1")
                answer = self.answers.get(both, self.answers.get(name, b"+OK\r\n"))
                if answer is not None:
                    writer.write(answer)
        writer.close()
        self.writers.discard(writer)


@asynccontextmanager
async def fake_server() -> AsyncIterator[FakeServer]:
    fake = FakeServer()
    server = await asyncio.start_server(fake._serve, "127.0.0.1", 0)
    fake.url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield fake
    finally:
        server.close()
        for writer in list(fake.writers):
            writer.transport.abort()
        await asyncio.sleep(0)
