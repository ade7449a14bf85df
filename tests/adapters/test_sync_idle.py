"""What a blocking client takes while it is idle: the stack of its thread, file descriptors, objects."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from tests.adapters.test_sync import program
from tests.helpers.waiting import until

from limpet import GroupMessage, Session
from limpet._transports.pipeline import Pipeline
from limpet.sync import Client, _waits, driver
from limpet.testing import BackgroundService
from limpet.testing.contract.harness import fast

GROUP = "g"


@pytest.fixture
def service() -> Iterator[BackgroundService]:
    with BackgroundService() as service:
        yield service


def started(url: str, stack: ExitStack) -> Client:
    return stack.enter_context(Client(url, fast(keepalive_interval=20.0)))


def noting(monkeypatch: pytest.MonkeyPatch, owner: type, method: str) -> list[int | None]:
    """Return the threads that call a method from now on."""
    threads: list[int | None] = []
    call = getattr(owner, method)

    def noted(*args: Any, **kwargs: Any) -> Any:
        threads.append(threading.get_ident())
        return call(*args, **kwargs)

    monkeypatch.setattr(owner, method, noted)
    return threads


@pytest.mark.parametrize("recovery", [False, True])
def test_what_goes_deep_is_done_in_other_threads_than_the_clients_own(
    recovery: bool, service: BackgroundService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pages of a stack that were used once stay in memory as long as their thread."""
    starts = noting(monkeypatch, Session, "start")
    spawns = noting(monkeypatch, threading.Thread, "start")
    reads = noting(monkeypatch, Pipeline, "receive_data")
    with Client(service.url(), fast()) as client:
        thread = client._driver.worker.thread
        assert thread is not None
        own = thread.ident
        if recovery:
            reads.clear()
            service.cut()
            client.send_to_group(GROUP, "x")
            assert any(reader != own for reader in reads)
        else:
            assert len(starts) == 1
            assert own not in starts
            assert own not in spawns
            assert own not in reads
        reads.clear()
        client.send_to_group(GROUP, "x")
        assert set(reads) == {own}


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists what a process has open, and has eventfd")
def test_an_idle_client_has_two_file_descriptors(service: BackgroundService) -> None:
    def count() -> int:
        return len(os.listdir("/proc/self/fd"))

    with ExitStack() as stack:
        started(service.direct_url(), stack)
        before = count()
        clients = [started(service.direct_url(), stack) for _ in range(10)]
        until(lambda: count() == before + 3 * len(clients))  # one of the three is the service's


IDLE = """
    import gc, sys, tracemalloc
    from limpet.sync import Client

    def started():
        client = Client(sys.argv[1])
        client.start()
        return client

    first = started()
    tracemalloc.start()
    clients = [started()]
    gc.collect()
    before, _ = tracemalloc.get_traced_memory()
    clients += [started() for _ in range(30)]
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    for client in (first, *clients):
        client.stop()
    print((after - before) / 30)
"""


def test_an_idle_client_takes_11_kib_at_most_beside_the_stack_of_its_thread(service: BackgroundService) -> None:
    """It took 12. This is a limit for all versions of Python; what exactly it takes, benchmarks/idle.py measures."""
    done = program(IDLE, service)
    assert (done.stderr, done.returncode) == ("", 0)
    assert float(done.stdout) < 11_264


def test_subscriptions_are_made_once_by_whichever_thread_comes_first(service: BackgroundService) -> None:
    with Client(service.url(), fast()) as client:
        assert client._open_subscriptions is client._open_subscriptions
        assert client._open_watches is client._open_watches
        assert client._open_subscriptions is not client._open_watches


# ---- How its threads wait

WAKEUPS = [_waits.SocketPair, *([_waits.EventFd] if hasattr(os, "eventfd") else [])]


@pytest.mark.parametrize("make", WAKEUPS)
def test_a_wakeup_that_comes_first_is_not_lost_and_counts_once(make: type[_waits.SocketPair]) -> None:
    wakeup = make()
    try:
        assert _waits.wait(0.0, wakeup.reader, -1, 0) == (False, False)
        for _ in range(3):
            wakeup.wake()
        assert _waits.wait(30.0, wakeup.reader, -1, 0) == (True, False)
        wakeup.clear()
        assert _waits.wait(0.0, wakeup.reader, -1, 0) == (False, False)
        wakeup.clear()
        timer = threading.Timer(0.02, wakeup.wake)
        timer.start()
        assert _waits.wait(30.0, wakeup.reader, -1, 0) == (True, False)
        timer.join()
    finally:
        wakeup.close()


@pytest.mark.parametrize("make", WAKEUPS)
def test_a_client_works_with_each_kind_of_wakeup(
    make: type[_waits.SocketPair], service: BackgroundService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "make_wakeup", make)
    with Client(service.url(), fast()) as client, client.subscribe(GROUP) as messages:
        client.send_to_group(GROUP, "x")
        assert messages.next(30.0).data == "x"
        service.cut()
        client.send_to_group(GROUP, "y")
        stream = client.events(GroupMessage)
        stream.close()
        assert messages.next(30.0).data == "y"


@pytest.mark.parametrize("make", WAKEUPS)
def test_a_wakeup_that_is_closed_wakes_nothing_else(make: type[_waits.SocketPair]) -> None:
    """A signal handler that stops the client may interrupt a thread which is about to wake it."""
    wakeup = make()
    number = wakeup.reader
    wakeup.close()
    reading, writing = os.pipe()
    try:
        os.set_blocking(reading, False)
        if number == reading:
            reading = os.dup(reading)
        os.dup2(writing, number)  # another file has its number now
        wakeup.wake()
        with pytest.raises(BlockingIOError):
            os.read(reading, 8)
        wakeup.close()  # as a child does that was forked amid a close
        os.fstat(number)
    finally:
        for each in {reading, writing, number}:
            os.close(each)


def test_a_wait_for_a_socket_tells_what_was_asked_for() -> None:
    pair = _waits.SocketPair()
    sock = pair.reader
    try:
        assert _waits.wait(0.0, -1, sock, _waits.READ) == (False, False)
        assert _waits.wait(30.0, -1, sock, _waits.WRITE) == (False, True)
        assert _waits.wait(30.0, -1, sock, _waits.READ | _waits.WRITE) == (False, True)
        assert _waits.wait(0.0, -1, sock, 0) == (False, False)
        pair.wake()
        assert _waits.wait(0.0, -1, sock, 0) == (False, False)
        assert _waits.wait(30.0, -1, sock, _waits.READ) == (False, True)
    finally:
        pair.close()
    assert _waits.wait(30.0, -1, sock, _waits.READ) == (False, True)  # another thread has closed it
