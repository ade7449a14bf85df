"""A storm of reconnects, for reconnect.py: the local service loses all its clients at once, and all of them recover.

``python _storm.py CLIENTS`` is the clients' process, all of them in one event loop. It starts the service, which is a
process of its own, and prints a row. Linux only.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import signal
import subprocess
import sys
import time
from dataclasses import dataclass

LIMIT = 120.0
"""Seconds that all of it may take."""


@dataclass
class Storm:
    """Seconds until the last client has recovered, and CPU seconds for each client."""

    wall: float
    client: float
    service: float


async def serve() -> None:
    """Run the service until the standard input ends; each line of it is a storm."""
    from limpet.service import Service

    async with Service() as service:

        def drop_all() -> None:
            if not sys.stdin.readline():
                ended.set()
            for hub in list(service.core.hubs):
                for connection_id in list(hub.connections):
                    service.core.drop(connection_id)
            service.flush()

        ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(sys.stdin, drop_all)
        print(service.client_url("bench", expires_in=86400.0), flush=True)
        await ended.wait()


async def storm(process: subprocess.Popen[str], count: int) -> Storm:
    """Connect so many clients, and time one storm."""
    from limpet import Recovered
    from limpet.asyncio import Client

    assert process.stdin is not None
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    clients = [Client(url) for _ in range(count)]
    left, all_back = count, asyncio.Event()

    def back(event: Recovered) -> None:
        nonlocal left
        left -= 1
        if not left:
            all_back.set()

    def used() -> float:
        with open(f"/proc/{process.pid}/schedstat") as schedstat:
            return int(schedstat.read().split()[0]) / 1e9

    async with asyncio.timeout(LIMIT):
        for client in clients:
            client.on(Recovered, back)
        for first in range(0, count, 50):
            await asyncio.gather(*(client.start() for client in clients[first : first + 50]))
        begun, own, other = time.monotonic(), time.process_time(), used()
        process.stdin.write("\n")
        process.stdin.flush()
        await all_back.wait()
        found = Storm(time.monotonic() - begun, (time.process_time() - own) / count, (used() - other) / count)
        for first in range(0, count, 50):
            await asyncio.gather(*(client.stop() for client in clients[first : first + 50]))
    return found


def main() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if sys.argv[1] == "--serve":
        asyncio.run(serve())
        return
    count = int(sys.argv[1])
    command = [sys.executable, __file__, "--serve"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            found = asyncio.run(storm(process, count))
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)
    print(f"| {count} | {found.wall:.2f} | {1e6 * found.client:.0f} | {1e6 * found.service:.0f} |")


if __name__ == "__main__":
    main()
