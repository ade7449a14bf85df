"""The TCP stream of the anyio client on asyncio."""

from __future__ import annotations

import asyncio
import importlib.util
import socket
import time
from collections.abc import Awaitable, Callable

import anyio
import pytest
from tests.helpers.waiting import LIMIT

from limpet._structured.backend import ByteStream
from limpet.anyio._tcp import _AsyncioStream, open_tcp

SIZE = 2 * 1024 * 1024
READ = b"x" * 256 * 1024
"""As much as asyncio reads in one go."""


LOOPS = (False, True) if importlib.util.find_spec("uvloop") else (False,)
"""Whether to take uvloop."""


def run(scenario: Callable[[ByteStream, socket.socket], Awaitable[None]], use_uvloop: bool = False) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener, anyio.fail_after(LIMIT):
            stream = await open_tcp(*listener.getsockname())
            peer, _ = listener.accept()
            with peer:
                await scenario(stream, peer)
            await stream.aclose()

    anyio.run(main, backend_options={"use_uvloop": use_uvloop})


def test_what_is_not_received_waits_for_the_most_part_at_the_peer() -> None:
    async def scenario(stream: ByteStream, peer: socket.socket) -> None:
        peer.setblocking(False)
        sent, idle = 0, 0
        while idle < 20:
            try:
                sent += peer.send(b"x" * 65536)
                idle = 0
            except BlockingIOError:
                idle += 1
            await anyio.sleep(0.002)
            assert stream._size <= 512 * 1024  # type: ignore[attr-defined]
        received = 0
        while received < sent:
            received += len(await stream.receive(SIZE))
        assert received == sent
        peer.close()
        assert await stream.receive(SIZE) == b""

    run(scenario)


class Transport(asyncio.Transport):
    reading = True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


def test_the_largest_read_alone_does_not_pause_reading() -> None:
    """A flood comes in such reads, and to pause and resume for each costs as much as many messages."""

    async def scenario() -> None:
        transport, stream = Transport(), _AsyncioStream()
        stream.connection_made(transport)
        for _ in range(3):
            stream.data_received(READ)
            assert transport.reading
            assert await stream.receive(SIZE) == READ
        stream.data_received(READ)
        stream.data_received(b"x")
        assert not transport.reading
        assert [await stream.receive(len(READ)) for _ in range(2)] == [READ, b"x"]
        assert transport.reading

    asyncio.run(scenario())


def test_small_reads_that_wait_take_little_memory_and_are_received_together() -> None:
    async def scenario() -> None:
        transport, stream = Transport(), _AsyncioStream()
        stream.connection_made(transport)
        sent = b""
        while transport.reading:
            piece = f"{len(sent)},".encode()
            stream.data_received(piece)
            sent += piece
            assert len(stream._unread) <= 1024
        assert await stream.receive(len(READ)) == sent
        assert transport.reading
        assert not stream._unread

    asyncio.run(scenario())


def test_a_send_waits_for_a_peer_that_does_not_read_and_what_arrives_is_received_meanwhile() -> None:
    async def scenario(stream: ByteStream, peer: socket.socket) -> None:
        with anyio.move_on_after(0.05) as scope:
            await stream.send(b"x" * 16 * SIZE)
        assert scope.cancelled_caught
        peer.send(b"news")
        assert await stream.receive(SIZE) == b"news"

    run(scenario)


def test_a_send_that_waits_ends_with_the_connection() -> None:
    async def scenario(stream: ByteStream, peer: socket.socket) -> None:
        async def reset() -> None:
            await anyio.sleep(0.05)
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            peer.close()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reset)
            with pytest.raises(ConnectionError):
                await stream.send(b"x" * 16 * SIZE)
        with pytest.raises(ConnectionError):
            await stream.send(b"x")
        with pytest.raises(ConnectionError):
            await stream.receive(SIZE)

    run(scenario)


def test_a_cancelled_receive_loses_nothing() -> None:
    async def scenario(stream: ByteStream, peer: socket.socket) -> None:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(stream.receive, SIZE)
                await anyio.sleep(0.01)
                peer.send(b"news")
                scope.cancel()
        assert await stream.receive(SIZE) == b"news"

    run(scenario)


@pytest.mark.parametrize("use_uvloop", LOOPS)
def test_what_a_send_has_returned_for_is_not_lost_with_a_close(use_uvloop: bool) -> None:
    async def scenario(stream: ByteStream, peer: socket.socket) -> None:
        sent = 0
        with anyio.CancelScope() as scope:
            while True:
                scope.deadline = anyio.current_time() + 0.1
                await stream.send(b"x" * 8192)
                sent += 8192
        await stream.aclose()
        await stream.aclose()
        peer.settimeout(LIMIT)
        received = 0
        while data := peer.recv(SIZE):
            received += len(data)
        assert received >= sent

    run(scenario, use_uvloop)


def arrive() -> None:
    """Let what was sent arrive, while the event loop sees nothing of it."""
    time.sleep(0.01)


@pytest.mark.parametrize("use_uvloop", LOOPS)
def test_what_has_arrived_before_a_send_fails_is_received(use_uvloop: bool) -> None:
    async def scenario(stream: ByteStream, peer: socket.socket) -> None:
        await stream.send(b"unread, so that the close is a reset")
        arrive()
        peer.send(b"last words")
        peer.close()
        arrive()
        await stream.send(b"news")
        assert await stream.receive(SIZE) == b"last words"
        with pytest.raises(ConnectionError):
            await stream.receive(SIZE)

    run(scenario, use_uvloop)


@pytest.mark.parametrize("backend", ["asyncio", "uvloop", "trio"])
def test_what_is_sent_at_once_is_as_much_as_there_is_room_for(backend: str) -> None:
    if backend == "uvloop" and True not in LOOPS:
        pytest.skip("uvloop is not installed")

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener, anyio.fail_after(LIMIT):
            stream = await open_tcp(*listener.getsockname())
            peer, _ = listener.accept()
            with peer:
                assert stream.send_now(b"news") is None
                data = bytes(range(256)) * (16 * SIZE // 256)
                rest = stream.send_now(data)
                assert rest is not None
                if backend != "trio":  # there the system may have made room meanwhile
                    assert stream.send_now(b"more") == b"more"
                received = bytearray()

                def read() -> None:
                    peer.settimeout(LIMIT)
                    while len(received) < 4 + len(data):
                        received.extend(peer.recv(SIZE))

                with anyio.move_on_after(0.05) as scope:
                    await stream.send(rest)
                assert scope.cancelled_caught  # it waits for the rest, also where the transport has that already
                if backend != "trio":  # there a cancelled send does not tell what was sent
                    async with anyio.create_task_group() as tasks:
                        tasks.start_soon(stream.send, b"")
                        await anyio.to_thread.run_sync(read)
                    assert received == b"news" + data
            await stream.aclose()

    name = "trio" if backend == "trio" else "asyncio"
    anyio.run(main, backend=name, backend_options={"use_uvloop": True} if backend == "uvloop" else {})


def test_nothing_is_sent_at_once_where_the_connection_is_lost() -> None:
    async def scenario(stream: ByteStream, peer: socket.socket) -> None:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        peer.close()
        with pytest.raises(ConnectionError):
            await stream.receive(SIZE)
        with pytest.raises(ConnectionError):
            stream.send_now(b"x")

    run(scenario)
