"""Publications by REST and new connections, for service.py: how many a second of the service's CPU time carries."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import _harness as harness
import jwt

from limpet_core.service import ConnectionString

AT_ONCE = 8
"""Requests or connections on their way."""

TEXT = "x" * 32

LONGEST = 100_000
"""Bytes of an answer's head."""


@dataclass
class Rate:
    """What was done, and what it took."""

    count: int
    cpu: float
    wall: float


def print_table(url: str, connection_string: str, cpu: Callable[[], float], seconds: float, reps: int) -> None:
    """Measure both, interleaved. ``cpu`` returns the seconds of CPU time that the service has used."""
    kinds = {
        "publications of 32 B by REST": lambda: by_rest(connection_string, cpu, seconds),
        "connections, opened and closed": lambda: connections(url, cpu, seconds),
    }
    found: dict[str, list[Rate]] = {kind: [] for kind in kinds}
    for _ in range(reps):
        for kind, measure in kinds.items():
            found[kind].append(asyncio.run(measure()))
    print(f"\nRequests, {AT_ONCE} at a time, {seconds:g} s, service on one core\n")
    print("| what | for each CPU s | spread | a second |")
    print("|---|---:|---:|---:|")
    for kind, runs in found.items():
        each = [run.count / max(run.cpu, 1e-6) for run in runs]
        wall = statistics.median([run.count / run.wall for run in runs])
        print(f"| {kind} | {statistics.median(each):,.0f} | {harness.spread(each, ',.0f')} | {wall:,.0f} |", flush=True)


async def by_rest(connection_string: str, cpu: Callable[[], float], seconds: float) -> Rate:
    """Publish 32 B of text to a group by REST, each request with a token of its own, as the server SDKs do."""
    connection = ConnectionString.parse(connection_string)
    address = urlsplit(connection.endpoint)
    path = "/api/hubs/bench/groups/nobody/:send"

    async def one_after_the_other(number: int, go_on: Callable[[], bool]) -> int:
        done = 0
        reader, writer = await asyncio.open_connection(address.hostname, address.port, limit=LONGEST)
        while go_on():
            claims = {"aud": connection.endpoint + path, "exp": int(time.time()) + 3600, "jti": f"{number} {done}"}
            token = jwt.encode(claims, connection.access_key, "HS256")
            writer.write(
                f"POST {path}?api-version=2024-12-01 HTTP/1.1\r\nHost: {address.netloc}\r\n"
                f"Authorization: Bearer {token}\r\nContent-Type: text/plain\r\n"
                f"Content-Length: {len(TEXT)}\r\n\r\n{TEXT}".encode()
            )
            answer = await reader.readuntil(b"\r\n\r\n")
            if not answer.startswith(b"HTTP/1.1 202 "):
                raise RuntimeError(answer.decode("latin-1"))
            done += 1
        writer.close()
        return done

    return await _measured(one_after_the_other, cpu, seconds)


async def connections(url: str, cpu: Callable[[], float], seconds: float) -> Rate:
    """Connect with the reliable subprotocol, wait for the connected message, and close."""
    address = urlsplit(url)
    request = (
        f"GET {address.path}?{address.query} HTTP/1.1\r\nHost: {address.netloc}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        "Sec-WebSocket-Protocol: json.reliable.webpubsub.azure.v1\r\n\r\n"
    ).encode()

    async def one_after_the_other(number: int, go_on: Callable[[], bool]) -> int:
        done = 0
        while go_on():
            reader, writer = await asyncio.open_connection(address.hostname, address.port, limit=LONGEST)
            writer.write(request)
            answer = await reader.readuntil(b"\r\n\r\n")
            if not answer.startswith(b"HTTP/1.1 101 "):
                raise RuntimeError(answer.decode("latin-1"))
            await reader.readuntil(b'"connected"')
            writer.write(b"\x88\x82" + bytes(4) + (1000).to_bytes(2, "big"))
            await reader.read()
            writer.close()
            done += 1
        return done

    return await _measured(one_after_the_other, cpu, seconds)


async def _measured(
    work: Callable[[int, Callable[[], bool]], Coroutine[Any, Any, int]], cpu: Callable[[], float], seconds: float
) -> Rate:
    begun, spent = time.monotonic(), cpu()

    def go_on() -> bool:
        return time.monotonic() < begun + seconds

    async with asyncio.timeout(seconds + 60.0):
        done = await asyncio.gather(*(work(number, go_on) for number in range(AT_ONCE)))
    return Rate(sum(done), cpu() - spent, time.monotonic() - begun)
