"""The proxy that disturbs the network of the tests, by itself."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from typing import Any

import pytest
from tests.adapters.harness import bounded, nothing_left, run, soon
from tests.helpers.waiting import LIMIT

from limpet.testing.network import ChaosProxy


class Echo(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


def with_proxy(scenario: Any) -> None:
    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0)
        async with ChaosProxy("127.0.0.1", server.sockets[0].getsockname()[1]) as proxy:
            await scenario(proxy)
        server.close()
        await server.wait_closed()
        await nothing_left()

    run(main)


def test_the_proxy_passes_everything_on_and_counts() -> None:
    async def scenario(proxy: ChaosProxy) -> None:
        data = random.Random(5).randbytes(2_000_000)
        cases = ((None, 0.0, 2_000_000), (7, 0.0, 5000), (None, 0.01, 500_000), (99, 0.01, 9999))
        for proxy.segment, proxy.delay, size in cases:
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            writer.write(data[:size])
            assert await bounded(reader.readexactly(size)) == data[:size]
            writer.close()
            await writer.wait_closed()
        assert (proxy.connections, proxy.cuts, proxy.refused) == (4, 0, 0)

    with_proxy(scenario)


@pytest.mark.parametrize("reset", [True, False])
def test_the_proxy_cuts(reset: bool) -> None:
    async def scenario(proxy: ChaosProxy) -> None:
        streams = [await asyncio.open_connection("127.0.0.1", proxy.port) for _ in range(3)]
        for reader, writer in streams:
            writer.write(b"x")
            await bounded(reader.readexactly(1))
        assert proxy.cut(reset=reset) == 3
        assert proxy.cut(reset=reset) == 0
        for reader, writer in streams:
            if reset:
                with pytest.raises(ConnectionResetError):
                    await bounded(reader.read())
            else:
                assert await bounded(reader.read()) == b""
            writer.close()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)
        assert proxy.cuts == 3

    with_proxy(scenario)


def test_the_proxy_cuts_after_so_many_bytes() -> None:
    async def scenario(proxy: ChaosProxy) -> None:
        for direction, got in (("to_client", b"abc"), ("to_service", b"abc")):
            proxy.cut_after(3, direction, reset=False)  # type: ignore[arg-type]
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            writer.write(b"abcdef")
            if direction == "to_client":
                assert await bounded(reader.read()) == got
            else:
                assert got.startswith(await bounded(reader.read()))
            writer.close()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)
        assert proxy.cuts == 2
        with pytest.raises(ValueError, match="n_bytes"):
            proxy.cut_after(-1)

    with_proxy(scenario)


def test_the_proxy_stalls_and_refuses_and_is_stopped_all_the_same() -> None:
    async def scenario(proxy: ChaosProxy) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        proxy.stall("to_client")
        writer.write(b"x")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.readexactly(1), 0.05)
        proxy.resume()
        assert await bounded(reader.readexactly(1)) == b"x"
        proxy.refuse(60)
        refused, refused_writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        with pytest.raises(ConnectionResetError):
            await bounded(refused.read())
        refused_writer.close()
        await asyncio.gather(refused_writer.wait_closed(), return_exceptions=True)
        assert proxy.refused == 1
        writer.write(b"y")  # those that are open stay so
        assert await bounded(reader.readexactly(1)) == b"y"
        proxy.refuse(0.01)
        await asyncio.sleep(0.02)
        _, other = await asyncio.open_connection("127.0.0.1", proxy.port)
        await soon(lambda: proxy.connections == 2)
        proxy.stall()
        proxy.refuse(60)
        await proxy.stop()
        await proxy.stop()
        for stream in (writer, other):
            stream.close()
            await asyncio.gather(stream.wait_closed(), return_exceptions=True)

    with_proxy(scenario)


@pytest.mark.parametrize("turns", range(6))
def test_a_client_that_comes_while_the_proxy_stops_leaves_nothing_open(turns: int) -> None:
    async def scenario(proxy: ChaosProxy) -> None:
        with socket.create_connection(("127.0.0.1", proxy.port)) as sock:
            for _ in range(turns):
                await asyncio.sleep(0)
            await proxy.stop()
            sock.settimeout(LIMIT)
            with contextlib.suppress(ConnectionResetError):
                assert sock.recv(1) == b""

    with_proxy(scenario)
