"""HTTP proxies: a real one as a process of its own, and one that answers what a test says.

The real one is proxy.py: it comes from PyPI with the other test dependencies, so that no test depends on what else
a machine has, and knows what is tested here: CONNECT, Basic authorization, 407, and 502 for what it cannot reach.
"""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

from tests.helpers.waiting import LIMIT


class RealProxy:
    """A proxy that runs, at :attr:`port` of 127.0.0.1."""

    def __init__(self, port: int, log: Path) -> None:
        self.port = port
        self._log = log

    def url(self, credentials: str = "") -> str:
        """What goes into ``proxy=``; ``credentials`` as ``USER:PASSWORD``."""
        return f"http://{credentials}{'@' if credentials else ''}127.0.0.1:{self.port}"

    def log(self) -> str:
        """What it has written so far; ``CONNECT host:port`` for each tunnel that has come to an end."""
        return self._log.read_text()


@contextmanager
def real_proxy(folder: Path, credentials: str | None = None) -> Iterator[RealProxy]:
    """Run a proxy, which writes into ``folder``; ``credentials`` that it asks for as ``USER:PASSWORD``."""
    port_file, log = folder / "port", folder / "log"
    command = [sys.executable, "-m", "proxy", "--hostname", "127.0.0.1", "--port", "0", "--port-file", str(port_file)]
    command += ["--num-acceptors", "1", "--num-workers", "1"]
    command += ["--basic-auth", credentials] if credentials else []
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    with process:
        try:
            yield RealProxy(_port(process, port_file, log), log)
        finally:
            process.terminate()  # its own processes end with it
            with suppress(subprocess.TimeoutExpired):
                process.wait(LIMIT)
            process.kill()


def _port(process: subprocess.Popen[bytes], port_file: Path, log: Path) -> int:
    end = time.monotonic() + LIMIT
    while time.monotonic() < end and process.poll() is None:
        if port_file.exists() and (text := port_file.read_text()).endswith("\n"):
            return int(text)
        time.sleep(0.02)
    raise RuntimeError(f"the proxy did not start: {log.read_text()}")


class StubProxy:
    """Answers every CONNECT in the same way.

    Args:
        answer: sent when the request is there.
        then: what happens next: ``hang``, ``close``, or the port of 127.0.0.1 where all tunnels lead to.
        tls: for clients; None: without TLS.

    Attributes:
        requests: all CONNECT requests, whole.
        open: how many connections of clients are open.
    """

    def __init__(self, answer: bytes = b"", then: str | int = "close", *, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.requests: list[bytes] = []
        self.open = 0
        self.port = 0
        self._answer = answer
        self._then = then

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[StubProxy]:
        """Listen on a free port of 127.0.0.1."""
        tasks: set[asyncio.Task[None]] = set()

        async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            tasks.add(task)
            self.open += 1
            try:
                await self._serve(reader, writer)
            except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                return  # the client has gone, or the test is over
            finally:
                self.open -= 1
                tasks.discard(task)
                writer.close()

        server = await asyncio.start_server(accepted, "127.0.0.1", 0, ssl=self._tls)
        self.port = int(server.sockets[0].getsockname()[1])
        try:
            yield self
        finally:
            server.close()
            for task in tuple(tasks):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await server.wait_closed()

    @property
    def url(self) -> str:
        """What goes into ``proxy=``."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        if not request.startswith(b"CONNECT "):
            return  # a client of another test, which looks for a service that had this port before
        self.requests.append(request)
        writer.write(self._answer)
        await writer.drain()
        if self._then == "hang":
            await reader.read()
        elif isinstance(self._then, int):
            service_reader, service_writer = await asyncio.open_connection("127.0.0.1", self._then)
            try:
                await asyncio.gather(copy(reader, service_writer), copy(service_reader, writer))
            finally:
                service_writer.close()


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Write all that comes, to its end."""
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
