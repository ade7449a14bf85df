"""The TCP stream of the trio client."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing
from tests.helpers.waiting import LIMIT

from limpet._structured.backend import ByteStream
from limpet.trio._tcp import open_tcp

SIZE = 2 * 1024 * 1024


def run(scenario: Callable[[ByteStream, socket.socket], Awaitable[None]]) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener, trio.fail_after(LIMIT):
            stream = await open_tcp(*listener.getsockname())
            peer, _ = listener.accept()
            with peer:
                await scenario(stream, peer)
            await stream.aclose()

    trio.run(main)


def test_bytes_are_received_at_once_and_when_they_come_up_to_the_end() -> None:
    async def scenario(stream: ByteStream, peer: socket.socket) -> None:
        async def send_later() -> None:
            await trio.testing.wait_all_tasks_blocked()
            peer.send(b"second")

        peer.send(b"first")
        with trio.testing.assert_checkpoints():
            assert await stream.receive(3) == b"fir"
        assert await stream.receive(SIZE) == b"st"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_later)
            assert await stream.receive(SIZE) == b"second"
        peer.close()
        with trio.testing.assert_checkpoints():
            assert await stream.receive(SIZE) == b""

    run(scenario)


def test_a_wake_up_without_bytes_is_waited_out(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(stream: ByteStream, peer: socket.socket) -> None:
        wait, waits = trio.lowlevel.wait_readable, 0

        async def wait_readable(sock: socket.socket) -> None:
            nonlocal waits
            waits += 1
            if waits == 2:
                peer.send(b"news")
            if waits > 1:
                await wait(sock)

        monkeypatch.setattr(trio.lowlevel, "wait_readable", wait_readable)
        assert await stream.receive(SIZE) == b"news"
        assert waits == 2

    run(scenario)


def test_a_send_waits_for_a_peer_that_does_not_read_and_all_of_it_arrives() -> None:
    async def scenario(stream: ByteStream, peer: socket.socket) -> None:
        data = bytes(range(256)) * (16 * SIZE // 256)
        received = bytearray()

        def read() -> None:
            peer.settimeout(LIMIT)
            while len(received) < len(data):
                received.extend(peer.recv(SIZE))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.send, data)
            await trio.testing.wait_all_tasks_blocked()
            assert nursery.child_tasks
            await trio.to_thread.run_sync(read)
        assert received == data

    run(scenario)


def test_a_send_that_waits_can_be_cancelled_and_what_arrives_is_received_meanwhile() -> None:
    async def scenario(stream: ByteStream, peer: socket.socket) -> None:
        with trio.move_on_after(0.05) as scope:
            await stream.send(b"x" * 16 * SIZE)
        assert scope.cancelled_caught
        peer.send(b"news")
        assert await stream.receive(SIZE) == b"news"

    run(scenario)


def test_a_cancelled_receive_loses_nothing() -> None:
    async def scenario(stream: ByteStream, peer: socket.socket) -> None:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stream.receive, SIZE)
                await trio.testing.wait_all_tasks_blocked()
                peer.send(b"news")
                scope.cancel()
        with trio.CancelScope() as scope:
            scope.cancel()
            await stream.receive(SIZE)
        assert scope.cancelled_caught
        with trio.CancelScope() as scope:
            scope.cancel()
            await stream.send(b"never sent")
        assert scope.cancelled_caught
        assert await stream.receive(SIZE) == b"news"
        peer.setblocking(False)
        with pytest.raises(BlockingIOError):
            peer.recv(SIZE)

    run(scenario)


def test_a_connection_that_is_reset_fails_both_directions() -> None:
    async def scenario(stream: ByteStream, peer: socket.socket) -> None:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        peer.close()
        with pytest.raises(ConnectionError):
            await stream.receive(SIZE)
        with pytest.raises(ConnectionError):
            await stream.send(b"x")

    run(scenario)


def test_a_close_ends_a_receive_that_waits_and_may_be_repeated() -> None:
    async def scenario(stream: ByteStream, peer: socket.socket) -> None:
        async def receive() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await stream.receive(SIZE)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            await trio.testing.wait_all_tasks_blocked()
            with trio.testing.assert_checkpoints():
                await stream.aclose()
        await stream.aclose()
        peer.settimeout(LIMIT)
        assert peer.recv(SIZE) == b""

    run(scenario)


def test_what_is_sent_at_once_is_as_much_as_the_system_takes() -> None:
    async def scenario(stream: ByteStream, peer: socket.socket) -> None:
        assert stream.send_now(b"news") is None
        data = bytes(range(256)) * (16 * SIZE // 256)
        rest = stream.send_now(data)
        assert rest
        assert len(rest) < len(data)
        while (left := stream.send_now(rest)) != rest:  # the peer's system has taken something meanwhile
            assert left
            rest = left
        received = bytearray()

        def read() -> None:
            peer.settimeout(LIMIT)
            while len(received) < 4 + len(data):
                received.extend(peer.recv(SIZE))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.send, rest)
            await trio.to_thread.run_sync(read)
        assert received == b"news" + data

    run(scenario)


def test_a_read_that_was_full_is_followed_by_the_rest() -> None:
    async def scenario(stream: ByteStream, peer: socket.socket) -> None:
        peer.send(b"123456")
        with trio.testing.assert_checkpoints():
            assert await stream.receive(3) == b"123"
        with trio.testing.assert_checkpoints():
            assert await stream.receive(3) == b"456"
        with trio.move_on_after(0.01) as scope:  # it was full, too, and nothing follows
            await stream.receive(3)
        assert scope.cancelled_caught
        peer.send(b"7")
        assert await stream.receive(3) == b"7"

    run(scenario)
