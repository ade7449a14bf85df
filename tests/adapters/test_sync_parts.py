"""Parts of the blocking client, alone: its mailbox and its TCP connection."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from limpet.sync._mailbox import Mailbox
from limpet.sync._tcp import TcpConnection


def test_work_that_comes_amid_other_work_waits_for_the_next_turn() -> None:
    mailbox, done = Mailbox(), list[str]()
    mailbox.post(lambda: (done.append("first"), mailbox.post(lambda: done.append("later")))[0])
    mailbox.post(lambda: done.append("second"))
    mailbox.do_all()
    assert done == ["first", "second"]
    assert len(mailbox) == 1
    mailbox.do_all()
    assert done == ["first", "second", "later"]


def test_work_that_raises_leaves_the_rest_in_its_order() -> None:
    mailbox, done = Mailbox(), list[int]()

    def fails() -> None:
        mailbox.post(lambda: done.append(3))
        raise RuntimeError("no more")

    for work in (lambda: done.append(0), fails, lambda: done.append(1), lambda: done.append(2)):
        mailbox.post(work)
    with pytest.raises(RuntimeError, match="no more"):
        mailbox.do_all()
    assert done == [0]
    mailbox.put_first([lambda: done.append(-2), lambda: done.append(-1)])
    mailbox.do_all()
    assert done == [0, -2, -1, 1, 2, 3]
    assert not mailbox


class Sizes:
    """A pipeline that notes how much comes at a time."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def receive_data(self, data: bytes, now: float) -> None:
        self.sizes.append(len(data))


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, peer = socket.socketpair()
    with ours, peer:
        ours.setblocking(False)
        # On macOS there is room for 8 KiB alone, and a write of more would wait for ever.
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 17)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 17)
        yield ours, peer


def test_a_read_of_little_takes_little_room_and_a_flood_takes_much(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, peer = pair
    pipeline: Any = Sizes()
    connection = TcpConnection(pipeline, ours)
    for size, reads in [(10, [10]), (20_000, [4096, 15_904]), (10, [10]), (20_000, [4096, 15_904])]:
        peer.sendall(bytes(size))
        for _ in reads:
            connection.receive()
        assert pipeline.sizes == reads
        pipeline.sizes.clear()
