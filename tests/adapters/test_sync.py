"""The blocking client in a blocking program's idiom: `with`, threads, timeouts, Ctrl-C, the end of the process."""

from __future__ import annotations

import socket
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest
from tests.helpers import forked
from tests.helpers.waiting import LIMIT, until

from limpet import (
    ClientStopped,
    ConnectError,
    GroupMessage,
    InvalidType,
    LocalProtocolError,
    Options,
    SendError,
    SendTimeout,
    State,
    Stopped,
)
from limpet.sync import Client
from limpet.testing import BackgroundService
from limpet.testing.contract.harness import fast

GROUP = "g"


def program(code: str, service: BackgroundService) -> subprocess.CompletedProcess[str]:
    """Run a program in development mode; it must end by itself."""
    return forked.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", textwrap.dedent(code), service.url()],
        text=True,
        timeout=LIMIT,
    )


def deaf(stack: ExitStack) -> tuple[str, int]:
    """An address that answers nothing at all: whoever comes when the queue is full is not even refused."""
    listening = stack.enter_context(socket.socket())
    listening.bind(("127.0.0.1", 0))
    listening.listen(0)
    for _ in range(3):
        waiting = stack.enter_context(socket.socket())
        waiting.setblocking(False)
        waiting.connect_ex(listening.getsockname())
    return listening.getsockname()  # type: ignore[no-any-return]


def test_a_subscription_is_a_block_that_a_loop_iterates_over() -> None:
    with BackgroundService() as service, Client(service.url(), fast()) as client:
        with client.subscribe(GROUP) as messages:
            for number in range(3):
                client.send_to_group(GROUP, number)
            seen = []
            for message in messages:
                seen.append(message.data)
                if message.data == 2:
                    break
        assert seen == [0, 1, 2]


def test_next_with_a_timeout_loses_nothing() -> None:
    with BackgroundService() as service, Client(service.url(), fast()) as client:
        client.join_group(GROUP)
        stream = iter(client)
        with pytest.raises(TimeoutError):
            stream.next(timeout=0.01)
        client.send_to_group(GROUP, 1)
        assert stream.next(timeout=LIMIT).data == 1
        stream.close()


def test_a_send_without_ack_that_has_to_wait_gives_up_in_time() -> None:
    with BackgroundService() as service, Client(service.url(), fast()) as client:

        def flood() -> None:
            for _ in range(1000):
                client.send_to_group(GROUP, "x", ack=False, timeout=0.1)

        service.stall("to_client")
        with pytest.raises(TimeoutError, match="too far behind"):
            flood()
        service.resume()
        client.send_to_group(GROUP, "x", ack=False, timeout=LIMIT)


def test_callbacks_run_in_one_thread_that_is_neither_ours_nor_the_connections() -> None:
    seen: list[tuple[object, threading.Thread]] = []
    with BackgroundService() as service, Client(service.url(), fast()) as client:
        client.on(GroupMessage, lambda message: seen.append((message.data, threading.current_thread())))
        client.join_group(GROUP)
        service.publish(GROUP, range(50))
        until(lambda: len(seen) == 50)
    assert [data for data, _ in seen] == list(range(50))
    (thread,) = {thread for _, thread in seen}
    assert thread.name == "limpet-callbacks"


def test_many_threads_may_use_one_client() -> None:
    with BackgroundService() as service, Client(service.url(), fast()) as client:
        stream = client.events(GroupMessage)
        client.join_group(GROUP)

        def work(worker: int) -> None:
            for number in range(30):
                client.send_to_group(GROUP, [worker, number])
                if number % 10 == 0:
                    client.join_group(f"{worker}")
                    client.leave_group(f"{worker}")
                    client.off(GroupMessage, client.on(GroupMessage, print))

        with ThreadPoolExecutor(12) as pool:
            list(pool.map(work, range(12)))
        got = [stream.next(timeout=LIMIT).data for _ in range(360)]
        stream.close()
        assert client.groups == {GROUP}
    for worker in range(12):
        assert [number for who, number in got if who == worker] == list(range(30))


@pytest.mark.parametrize("blocked", ["request", "iteration", "start"])
def test_a_stop_from_another_thread_wakes_whoever_is_blocked(blocked: str) -> None:
    with BackgroundService() as service:
        client = Client(service.url(), fast(close_timeout=0.1, connect_timeout=60.0))
        if blocked == "start":
            service.stall()
        else:
            client.start()
            client.join_group(GROUP)
            service.stall("to_client")
        outcome: list[object] = []

        def block() -> None:
            try:
                if blocked == "start":
                    client.start()
                elif blocked == "request":
                    client.send_to_group(GROUP, 1)
                else:
                    outcome.append(list(client))
            except (SendError, LocalProtocolError) as error:
                outcome.append(type(error).__name__)

        thread = threading.Thread(target=block)
        thread.start()
        time.sleep(0.1)
        client.stop()
        thread.join(LIMIT)
        assert not thread.is_alive()
        assert client.state is State.STOPPED
        assert outcome == [{"request": "SendError", "iteration": [], "start": "ClientStopped"}[blocked]]


def test_async_functions_are_refused() -> None:
    async def provide() -> str:
        return ""

    async def callback(_: GroupMessage) -> None: ...

    client = Client(provide, fast())  # type: ignore[arg-type]
    with pytest.raises(ConnectError, match="async"):
        client.start()
    with pytest.raises(InvalidType, match="async"):
        client.on(GroupMessage, callback)


def test_a_start_that_fails_leaves_the_client_usable() -> None:
    with BackgroundService() as service:
        urls = [service.url() + "x", service.url()]
        client = Client(lambda: urls.pop(0), fast())
        stopped: list[Stopped] = []
        client.on(Stopped, stopped.append)
        with pytest.raises(ConnectError):
            client.start()
        with client:
            client.join_group(GROUP)
            until(lambda: stopped)
            assert len(stopped) == 1


@pytest.mark.parametrize("blocked", ["client.send_to_group('g', 'x')", "next(iter(client))", "Client(slow).start()"])
@pytest.mark.skipif(sys.platform == "win32", reason="a console's Ctrl-C goes to every process of it")
def test_ctrl_c_wakes_the_main_thread(blocked: str) -> None:
    with BackgroundService() as service:
        code = f"""
            import os, signal, sys, threading, time
            from limpet import Options
            from limpet.sync import Client

            def slow():
                time.sleep(0.5)
                return sys.argv[1]

            signal.signal(signal.SIGINT, signal.default_int_handler)  # shells ignore it for what runs in the background
            with Client(sys.argv[1], Options(close_timeout=0.1)) as client:
                client.join_group("g")
                print("ready", flush=True)
                sys.stdin.readline()
                try:
                    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
                    {blocked}
                except KeyboardInterrupt:
                    print("interrupted")
        """
        process = forked.Popen(
            [sys.executable, "-X", "dev", "-W", "error", "-c", textwrap.dedent(code), service.url()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        service.stall("to_client")
        out, err = process.communicate("go\n", timeout=LIMIT)
        assert (out, err, process.returncode) == ("interrupted\n", "", 0)


@pytest.mark.parametrize("end", ["client.stop()", "pass", "raise SystemExit(0)"])
def test_a_program_ends_whether_it_stops_the_client_or_not(end: str) -> None:
    with BackgroundService() as service:
        done = program(
            f"""
            import sys
            from limpet import GroupMessage
            from limpet.sync import Client
            client = Client(sys.argv[1])
            client.on(GroupMessage, lambda message: None)
            client.start()
            client.join_group("g")
            client.send_to_group("g", "x")
            {end}
            """,
            service,
        )
        assert done.returncode == 0, done.stderr
        if end == "client.stop()":
            assert done.stderr == ""


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="this system has no fork")
def test_a_forked_child_ends_and_its_parent_goes_on() -> None:
    with BackgroundService() as service:
        done = program(
            """
            import os, sys, warnings
            from limpet.sync import Client
            warnings.simplefilter("ignore", DeprecationWarning)  # Python's own, of threads and fork
            with Client(sys.argv[1]) as client:
                client.join_group("g")
                child = os.fork()
                if not child:
                    sys.exit(0)  # by way of the client's stop()
                assert os.waitpid(child, 0)[1] == 0
                client.send_to_group("g", "still here")
                print(next(iter(client)).data)
            """,
            service,
        )
        assert (done.stdout, done.stderr, done.returncode) == ("still here\n", "", 0)


@pytest.mark.parametrize("refused", [0, 1])
def test_an_address_of_a_family_this_machine_does_not_speak_is_passed_over(
    refused: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_up = socket.getaddrinfo
    with socket.socket() as nobody, BackgroundService() as service:
        nobody.bind(("127.0.0.1", 0))  # and does not listen

        def unusable_first(*args: Any, **kwargs: Any) -> list[Any]:
            dead = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", nobody.getsockname())] * refused
            alien = (255, socket.SOCK_STREAM, 6, "", ("::1", 1))
            return [*dead, alien, *look_up(*args, **kwargs)]

        monkeypatch.setattr(socket, "getaddrinfo", unusable_first)
        client = Client(service.url(), fast())
        starting = threading.Thread(target=client.start, daemon=True)
        starting.start()
        starting.join(LIMIT)
        assert client.state is State.CONNECTED
        client.stop()


def test_a_host_that_never_answers_holds_up_no_stop_and_leaves_no_thread() -> None:
    before = set(threading.enumerate())
    with ExitStack() as stack:
        client = Client(f"ws://127.0.0.1:{deaf(stack)[1]}/client/hubs/chat", Options(connect_timeout=60.0))
        failed: list[ConnectError | ClientStopped] = []

        def start() -> None:
            try:
                client.start()
            except (ConnectError, ClientStopped) as error:
                failed.append(error)

        starting = threading.Thread(target=start, daemon=True)
        starting.start()
        time.sleep(0.3)
        assert (client.state, failed) == (State.CONNECTING, [])
        client.stop()
        for thread in set(threading.enumerate()) - before:
            thread.join(LIMIT)
            assert not thread.is_alive(), thread
        assert [type(error) for error in failed] == [ClientStopped]


def test_a_callback_for_the_stop_may_start_the_client_again_at_once(request: pytest.FixtureRequest) -> None:
    request.addfinalizer(partial(sys.setswitchinterval, sys.getswitchinterval()))
    sys.setswitchinterval(1e-6)  # so that every order of the threads comes up
    with BackgroundService() as service:
        for _ in range(30):
            client = Client(service.url(), fast())
            started = threading.Event()

            def again(_: Stopped, client: Client = client, started: threading.Event = started) -> None:
                if not started.is_set():
                    client.start()
                    started.set()

            client.on(Stopped, again)
            client.start()
            client.stop()
            assert started.wait(LIMIT)
            assert client.state is State.CONNECTED
            stopping = threading.Thread(target=client.stop, daemon=True)
            stopping.start()
            stopping.join(LIMIT)
            assert not stopping.is_alive()


def test_a_callback_that_exits_does_not_end_the_callbacks(caplog: pytest.LogCaptureFixture) -> None:
    with BackgroundService() as service, Client(service.url(), fast()) as client:
        second = threading.Event()

        def callback(message: GroupMessage) -> None:
            if message.data == 1:
                sys.exit()
            second.set()

        client.on(GroupMessage, callback)
        client.join_group(GROUP)
        service.publish(GROUP, [1, 2])
        assert second.wait(LIMIT)
    assert "a callback for GroupMessage failed" in caplog.text


def test_who_waits_in_vain_is_told_whether_the_request_was_sent() -> None:
    with BackgroundService() as service, Client(service.url(), fast(ack_timeout=None)) as client:
        service.stall("to_client")
        with pytest.raises(
            SendTimeout, match=r"no answer came within timeout \(0\.1 s\) \(ack id 1; it may or may not"
        ):
            client.join_group(GROUP, timeout=0.1)
        service.refuse()
        service.cut()
        until(lambda: client.state is not State.CONNECTED)
        with pytest.raises(SendTimeout, match=r"within timeout \(0\.1 s\) \(ack id \d; it was never sent\)"):
            client.join_group("another", timeout=0.1)


def test_a_stream_that_is_dropped_waits_for_no_lock_and_ends() -> None:
    with BackgroundService() as service, Client(service.url(), fast(max_buffered_messages=4)) as client:
        streams = [client.events(GroupMessage)]
        client.join_group(GROUP)
        service.publish(GROUP, range(100))
        until(lambda: client._delivery.held)
        with client._driver.lock, client._guard:  # wherever the garbage collector finds it
            dying = threading.Thread(target=streams.clear, daemon=True)
            dying.start()
            dying.join(LIMIT)
            assert not dying.is_alive()
        until(lambda: not client._delivery.held and not client._delivery.buffers)
        client.send_to_group(GROUP, "goes on")


def test_a_client_that_is_not_started_keeps_no_streams_that_were_dropped() -> None:
    client = Client("ws://host/client/hubs/chat")
    for _ in range(100):
        client.events(GroupMessage)
        iter(client)
    assert len(client._delivery.buffers) <= 1
    assert len(client._delivery.inbox.readers) <= 1


def test_in_a_forked_child_callbacks_have_a_thread_again() -> None:
    client = Client("ws://host/client/hubs/chat")
    driver = client._driver
    driver.callbacks._thread = threading.current_thread()  # busy with the last callback, in the parent
    changed, lock, guard = driver.callbacks._change(), driver.lock, client._guard
    client._after_fork()
    assert driver.callbacks._thread is None
    assert driver.callbacks._change() is not changed
    assert driver.lock is not lock
    assert client._guard is not guard
