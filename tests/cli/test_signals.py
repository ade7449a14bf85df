"""Signals that ask a command to end: real processes, which say goodbye."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from tests.helpers import forked
from tests.helpers.command_line import TIMEOUT, running
from tests.helpers.waiting import LIMIT, until
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from limpet import GroupMessage
from limpet.sync import Client
from limpet.testing import BackgroundService

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")

GROUP = "room"
SIGNALS = [signal.SIGTERM, signal.SIGHUP, signal.SIGINT]


@contextlib.contextmanager
def disposed(**of: signal.Handlers) -> Iterator[None]:
    """Have processes that are started within the block ignore signals, or not: ``SIGHUP=SIG_IGN``, as nohup does."""
    before = {name: signal.signal(signal.Signals[name], disposition) for name, disposition in of.items()}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(signal.Signals[name], handler)


@pytest.fixture(autouse=True)
def _as_from_a_terminal() -> Iterator[None]:
    """Tests that are run with nohup would have their processes ignore SIGHUP."""
    with disposed(SIGTERM=signal.SIG_DFL, SIGHUP=signal.SIG_DFL):
        yield


@pytest.fixture
def service() -> Iterator[BackgroundService]:
    with BackgroundService() as service:
        yield service


def subscriber(service: BackgroundService) -> contextlib.AbstractContextManager[subprocess.Popen[str]]:
    return running("sub", "--url", service.direct_url(user_id="alice"), GROUP)


def joined(process: subprocess.Popen[str]) -> None:
    assert process.stderr is not None
    assert "connected as" in process.stderr.readline()


@contextlib.contextmanager
def listener(service: BackgroundService, heard: list[str]) -> Iterator[Client]:
    with Client(service.direct_url()) as client:
        client.on(GroupMessage, lambda message: heard.append(message.data))
        client.join_group(GROUP)
        yield client


@contextlib.contextmanager
def serving() -> Iterator[tuple[subprocess.Popen[str], ClientConnection]]:
    """``limpet serve``, and a connection to it."""
    with running("serve", "--port", "0") as process:
        assert process.stdout is not None
        urls: list[str] = []
        while len(urls) < 2:
            line = process.stdout.readline()
            assert line, process.communicate()
            urls += [line.strip()] if "ws://" in line else []
        with connect(urls[0], subprotocols=[Subprotocol("json.webpubsub.azure.v1")]) as websocket:
            websocket.recv()
            yield process, websocket


@pytest.mark.parametrize("number", SIGNALS)
def test_sub_says_goodbye(number: signal.Signals, service: BackgroundService) -> None:
    with subscriber(service) as process:
        joined(process)
        assert service.members(GROUP)
        process.send_signal(number)
        _, told = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 128 + number
    assert told == ""
    # The service keeps a connection that was lost for half a minute, and none that was closed with 1000.
    assert not service.members(GROUP)


@pytest.mark.parametrize("number", SIGNALS)
def test_pub_does_not_wait_for_a_line_that_nobody_writes(number: signal.Signals, service: BackgroundService) -> None:
    url = service.direct_url(roles=("webpubsub.sendToGroup",), groups=(GROUP,))
    heard: list[str] = []
    with (
        listener(service, heard) as client,
        forked.Popen(
            [sys.executable, "-m", "limpet", "pub", "--url", url, GROUP],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        try:
            assert process.stdin is not None
            process.stdin.write("one\n")
            process.stdin.flush()
            until(lambda: heard == ["one"])
            process.send_signal(number)
            assert process.wait(TIMEOUT) == 128 + number
            assert process.stderr is not None
            assert process.stderr.read() == ""
        finally:
            process.kill()
        assert service.members(GROUP) == {client.connection_id}


@pytest.mark.parametrize("number", SIGNALS)
def test_serve_tells_its_clients_that_it_goes_away(number: signal.Signals) -> None:
    with serving() as (process, websocket):
        process.send_signal(number)
        for _ in websocket:
            pass
        out, told = process.communicate(timeout=TIMEOUT)
        assert websocket.close_code == 1001
    assert (process.returncode, told) == (0, "")
    assert out.endswith("Stopped.\n")


def test_what_is_ignored_stays_ignored(service: BackgroundService) -> None:
    """As under nohup."""
    with (
        disposed(SIGHUP=signal.SIG_IGN, SIGTERM=signal.SIG_IGN),
        serving() as (server, websocket),
        subscriber(service) as process,
    ):
        joined(process)
        for one in (process, server):
            one.send_signal(signal.SIGHUP)
            one.send_signal(signal.SIGTERM)
        service.publish(GROUP, ["still there"])
        assert process.stdout is not None
        assert process.stdout.readline() == f"{GROUP}: still there\n"
        websocket.send('{"type":"ping"}')
        assert "pong" in str(websocket.recv(timeout=LIMIT))
        for one in (process, server):
            assert one.poll() is None


def test_a_second_signal_ends_what_cannot_say_goodbye(service: BackgroundService) -> None:
    """It writes to a program that does not read, and notices no cancellation."""
    with forked.Popen(
        [sys.executable, "-m", "limpet", "sub", "--url", service.direct_url(), GROUP],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": ""},  # else a write that a signal interrupts is not gone on with
    ) as process:
        try:
            joined(process)
            service.publish(GROUP, ["x" * 1_000_000])  # more than a pipe takes
            select.select([process.stdout], [], [], LIMIT)
            process.send_signal(signal.SIGTERM)
            time.sleep(0.2)
            assert process.poll() is None, "it still writes"
            while process.poll() is None:
                process.send_signal(signal.SIGTERM)
                time.sleep(0.05)
        finally:
            process.kill()
    assert process.returncode == -signal.SIGTERM


@pytest.mark.parametrize("command", ["sub", "serve"])
def test_a_terminal_that_is_closed_ends_it_without_a_complaint(command: str, service: BackgroundService) -> None:
    """What it says then cannot be written anywhere."""
    import pty

    arguments = ["sub", "--url", service.direct_url(), GROUP] if command == "sub" else ["serve", "--port", "0"]
    code = "import os, sys; os.login_tty(0); os.execv(sys.argv[1], sys.argv[1:])"
    terminal, slave = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", code, sys.executable, "-m", "limpet", *arguments], stdin=slave, close_fds=True
    ) as process:
        try:
            os.close(slave)
            shown = b""
            while b"connected as" not in shown and b"and keeps it." not in shown:
                shown += os.read(terminal, 4096)
            os.close(terminal)
            assert process.wait(TIMEOUT) == (128 + signal.SIGHUP if command == "sub" else 0)
        finally:
            process.kill()
    assert not service.members(GROUP)


def test_signals_that_come_together_are_one_request() -> None:
    """A terminal that is closed sends SIGHUP, and its shell another one; a service manager may add SIGTERM."""
    with serving() as (process, websocket):
        # They are delivered when it goes on, all at once: a busy machine might take a second from one to the next.
        for number in (signal.SIGSTOP, signal.SIGTERM, signal.SIGHUP, signal.SIGHUP, signal.SIGCONT):
            process.send_signal(number)
        for _ in websocket:
            pass
        _, told = process.communicate(timeout=TIMEOUT)
        assert websocket.close_code == 1001
    assert (process.returncode, told) == (0, "")


AGAIN = """
import asyncio, os, signal, time
from limpet.service._signals import told_to_end

now, told = 100.0, []
time.monotonic = lambda: now

def send(*numbers):
    for number in numbers:
        os.kill(os.getpid(), number)
    print(told, flush=True)

loop = asyncio.new_event_loop()
with told_to_end(loop, told.append):
    send(signal.SIGHUP)
    now += 0.9
    send(signal.SIGHUP, signal.SIGTERM, signal.SIGTERM)
    now += 0.2
    send(signal.SIGTERM)
"""


def test_a_signal_ends_the_program_if_it_comes_a_second_after_the_first() -> None:
    done = forked.run([sys.executable, "-c", AGAIN], text=True, timeout=LIMIT)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGTERM, f"[{signal.SIGHUP:d}]\n" * 2, "")


MISSED = """
import asyncio, signal, sys, threading, time
from limpet.service._signals import told_to_end

def send():
    time.sleep(0.3)
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)  # so the wait of the main thread is not interrupted
    threading.Event().wait()

async def main():
    loop, told = asyncio.get_running_loop(), asyncio.Event()
    with told_to_end(loop, lambda number: loop.call_soon_threadsafe(told.set)):
        threading.Thread(target=send, daemon=True).start()
        await told.wait()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL

asyncio.run(main())
"""


def test_a_signal_that_comes_just_before_the_loop_waits_is_not_missed() -> None:
    with disposed(SIGTERM=signal.SIG_DFL):
        done = forked.run([sys.executable, "-c", MISSED], text=True, timeout=LIMIT)
    assert (done.returncode, done.stderr) == (0, "")
