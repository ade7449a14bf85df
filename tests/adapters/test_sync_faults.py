"""The blocking client when its surroundings fail it: no threads, no file descriptors, a fork, a fault of its own."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from simulation.inspect import pending
from tests.adapters.test_sync import program
from tests.helpers.home import instead_of_deliver
from tests.helpers.waiting import LIMIT, until

from limpet import (
    ConnectError,
    Disconnected,
    GroupMessage,
    InvalidType,
    InvalidValue,
    LimpetError,
    LocalProtocolError,
    Session,
    State,
    Stopped,
    TooManyRequests,
)
from limpet._transports.pipeline import Pipeline
from limpet._transports.route import Route
from limpet.sync import Client, _callbacks, driver
from limpet.sync._open_streams import Reader
from limpet.testing import BackgroundService, trace
from limpet.testing.contract.harness import fast

GROUP = "g"
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


def threads() -> list[threading.Thread]:
    """The client's: the service in the background has one as well."""
    names = ("limpet", "limpet-dial", "limpet-callbacks")
    return [thread for thread in threading.enumerate() if thread.name in names]


# ---- A fault of our own


def fail(*_: Any, **__: Any) -> Any:
    raise ZeroDivisionError("token=SECRET? access_token=SECRET")


@pytest.mark.parametrize(
    ("owner", "method"),
    [(Pipeline, "receive_data"), (Session, "wake"), (Session, "receive_messages"), (driver, "wait")],
)
def test_a_fault_in_the_thread_ends_the_client_and_tells_everybody(
    owner: object, method: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with BackgroundService() as service:
        client = Client(service.url(), fast(keepalive_interval=0.1, close_timeout=0.2))
        stopped: list[Stopped] = []
        client.on(Stopped, stopped.append)
        client.start()
        client.join_group(GROUP)
        outcome: list[BaseException] = []

        def wait(call: Callable[[], object]) -> None:
            try:
                call()
            except LimpetError as error:
                outcome.append(error)

        stream = client.events(GroupMessage)
        waiting = [threading.Thread(target=wait, args=(call,)) for call in (stream.next, lambda: [*client])]
        for thread in waiting:
            thread.start()
        service.stall("to_client")
        request = threading.Thread(target=wait, args=(lambda: client.send_to_group(GROUP, 1),))
        request.start()
        until(lambda: pending(client._session))
        monkeypatch.setattr(owner, method, fail)
        if method.startswith("receive"):
            service.resume()
        for thread in (*waiting, request):
            thread.join(LIMIT)
            assert not thread.is_alive()
        until(lambda: stopped)
        monkeypatch.undo()
        service.resume()
        assert client.state is State.STOPPED
        error = stopped[0].error
        assert isinstance(error, ConnectError)
        assert "own thread has failed" in str(error)
        assert isinstance(error.__cause__, ZeroDivisionError)
        assert "SECRET" not in str(error)
        assert sorted(type(one).__name__ for one in outcome) == ["ConnectError", "ConnectError", "SendError"]
        assert "fail" in caplog.text
        assert "Traceback" in caplog.text
        client.stop()
        until(lambda: not threads())
        stream.close()
        with client:  # and it can be used again
            client.send_to_group(GROUP, 2)


@pytest.mark.parametrize("broken", ["connected", "stop"])
def test_a_fault_while_it_starts_is_what_start_raises(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with BackgroundService() as service:
        monkeypatch.setattr(Pipeline, "receive_data", fail)
        if broken == "stop":  # so that not even the end goes as it should
            monkeypatch.setattr(Session, "disconnected", fail)
            monkeypatch.setattr(threading, "excepthook", lambda _: None)
        with pytest.raises(ConnectError, match="own thread has failed"):
            Client(service.url(), fast(close_timeout=0.1)).start()
        until(lambda: not threads())


def test_a_fault_in_a_thread_that_dials_ends_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    with BackgroundService() as service:
        client = Client(service.url(), fast(close_timeout=0.1))
        monkeypatch.setattr(Route, "pipeline", fail)
        with pytest.raises(ConnectError, match="own thread has failed"):
            client.start()
        monkeypatch.undo()
        with client:
            pass


def test_a_fault_in_handing_out_loses_no_answer() -> None:
    with BackgroundService() as service, Client(service.url(), fast(close_timeout=0.1)) as client:
        deliver = client._delivery.deliver
        calls: list[int] = []

        def fail_once(events: Any) -> None:
            if threading.current_thread().name == "limpet" and not calls:
                calls.append(1)
                fail()
            deliver(events)

        instead_of_deliver(client._delivery, fail_once)
        client.send_to_group(GROUP, 1, timeout=LIMIT)
        until(lambda: client.state is State.STOPPED)


# ---- What the system has none left of


@pytest.mark.parametrize("scarce", ["file descriptor", "thread"])
def test_without_what_it_needs_it_does_not_start_and_may_do_so_later(
    scarce: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(*_: Any, **__: Any) -> Any:
        raise RuntimeError("can't start new thread") if scarce == "thread" else OSError(24, "Too many open files")

    with BackgroundService() as service:
        client = Client(service.url(), fast())
        stream = client.events(GroupMessage)
        with client:
            pass
        owner, name = {
            "file descriptor": (os, "eventfd") if hasattr(os, "eventfd") else (socket, "socketpair"),
            "thread": (threading.Thread, "start"),
        }[scarce]
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, none_left)
            with pytest.raises(ConnectError, match=r"cannot start: .*(can't start new thread|Too many open files)"):
                client.start()
        assert client.state is State.STOPPED
        with pytest.raises(StopIteration):  # nothing has happened
            stream.next(timeout=LIMIT)
        stream.close()
        client.stop()
        with client:
            client.join_group(GROUP)


def refuse_threads(patch: pytest.MonkeyPatch, kind: str, times: int) -> list[str]:
    """So many threads of that name cannot be started."""
    start, refused = threading.Thread.start, list[str]()

    def none_left(thread: threading.Thread) -> None:
        if thread.name == kind and len(refused) < times:
            refused.append(kind)
            raise RuntimeError("can't start new thread")
        start(thread)

    patch.setattr(threading.Thread, "start", none_left)
    return refused


def test_without_a_thread_to_dial_it_tries_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with BackgroundService() as service:
        with monkeypatch.context() as patch:
            refuse_threads(patch, "limpet-dial", 2)  # the second one is asked for at once
            with pytest.raises(ConnectError, match="can't start new thread"):
                Client(service.url(), fast()).start()
        with monkeypatch.context() as patch:
            refused = refuse_threads(patch, "limpet-dial", 1)
            with Client(service.url(), fast()):
                assert len(refused) == 1
        with Client(service.url(), fast()) as client:
            client.join_group(GROUP)
            lost = client.events(Disconnected)
            refused = refuse_threads(monkeypatch, "limpet-dial", 2)
            service.cut()
            client.send_to_group(GROUP, 1, timeout=LIMIT)
            assert len(refused) == 2
            lost.close()


def test_without_a_thread_to_dial_it_tries_again_though_no_deadline_comes_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "RETRY", 0.05)
    far = 3600.0
    with BackgroundService() as service:
        options = fast(recovery_interval=0.0, connect_timeout=far, recovery_timeout=3 * far, ack_timeout=far)
        with Client(service.url(), options) as client:
            client.join_group(GROUP)
            refused = refuse_threads(monkeypatch, "limpet-dial", 2)
            service.cut()
            client.send_to_group(GROUP, 1, timeout=LIMIT)
            assert len(refused) == 2


def test_without_a_thread_for_callbacks_they_wait(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[object] = []
    with BackgroundService() as service, Client(service.url(), fast()) as client:
        client.on(GroupMessage, lambda message: seen.append(message.data))
        client.join_group(GROUP)
        refused = refuse_threads(monkeypatch, "limpet-callbacks", 1)
        service.publish(GROUP, [1])
        until(lambda: refused)
        service.publish(GROUP, [2])
        until(lambda: seen == [1, 2])
    assert "callbacks have to wait" in caplog.text


def test_callbacks_get_their_thread_though_nothing_else_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    monkeypatch.setattr(_callbacks, "RETRY", 0.05)
    with BackgroundService() as service, Client(service.url(), fast()) as client:
        client.on(GroupMessage, lambda message: seen.append(message.data))
        client.join_group(GROUP)
        refused = refuse_threads(monkeypatch, "limpet-callbacks", 3)
        service.publish(GROUP, [1])
        until(lambda: seen == [1])
        assert len(refused) == 3


# ---- Calls of its own thread


def test_a_logging_handler_may_publish_and_is_not_let_wait_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    raised: list[Exception] = []
    with BackgroundService() as service, Client(service.url(), fast()) as client:
        stream, nothing = client.events(GroupMessage), client.events(Disconnected)
        client.join_group(GROUP)

        class Handler(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                client.send_to_group(GROUP, record.getMessage(), ack=False)
                client.send_to_group(GROUP, "x" * 20_000, ack=False)  # too long for the short way
                for call in (lambda: client.send_to_group(GROUP, "x"), lambda: nothing.next(LIMIT)):
                    try:
                        call()
                    except LocalProtocolError as error:
                        raised.append(error)
                client.stop()

        handler = Handler(level=logging.ERROR)
        logger = logging.getLogger("limpet")
        logger.addHandler(handler)
        try:
            client.on(GroupMessage, lambda _: None)
            refuse_threads(monkeypatch, "limpet-callbacks", 1)  # which is logged, in the client's thread
            service.publish(GROUP, ["first"])
            until(lambda: client.state is State.STOPPED)
        finally:
            logger.removeHandler(handler)
        assert next(stream).data == "first"
        stream.close()
        nothing.close()
    assert len(raised) == 2
    assert all("cannot wait for itself" in str(error) for error in raised)


# ---- Messages without an ack, taken over before they are sent


def test_what_was_taken_over_is_sent_though_the_program_ends_at_once() -> None:
    code = """
        import sys
        from limpet.sync import Client
        client = Client(sys.argv[1])
        client.start()
        for number in range(250):
            client.send_to_group("g", number, ack=False)
    """
    with BackgroundService() as service, Client(service.direct_url(), fast()) as listener:
        listener.join_group(GROUP)
        done = program(code, service)
        assert (done.stderr, done.returncode) == ("", 0)
        stream = iter(listener)
        assert [stream.next(LIMIT).data for _ in range(250)] == list(range(250))
        stream.close()


def test_what_was_taken_over_is_sent_in_order_though_there_is_no_room_for_a_while() -> None:
    with (
        BackgroundService() as service,
        Client(service.direct_url(), fast()) as listener,
        Client(service.url(), fast(max_pending_requests=2, ack_timeout=None)) as client,
    ):
        listener.join_group(GROUP)
        client.join_group("other")
        until(lambda: client._driver.unacked.accepting)
        service.stall("to_client")
        waiting = [threading.Thread(target=client.send_to_group, args=("other", 1)) for _ in range(2)]
        for thread in waiting:
            thread.start()
        until(lambda: len(pending(client._session)) == 2)
        client.send_to_group(GROUP, "first", ack=False)
        until(lambda: client._driver.unacked.accepted)
        with pytest.raises(TimeoutError, match="too far behind"):
            client.send_to_group(GROUP, "never", ack=False, timeout=0.05)
        with pytest.raises(TooManyRequests):
            client.send_to_group(GROUP, "never")
        service.resume()
        for thread in waiting:
            thread.join(LIMIT)
        client.send_to_group(GROUP, "second")
        stream = iter(listener)
        assert [stream.next(LIMIT).data for _ in range(2)] == ["first", "second"]
        stream.close()


# ---- A fork


@needs_fork
@pytest.mark.parametrize("connect", ["None", "blocking_connector()"])
def test_a_forked_child_can_do_nothing_to_its_parents_connection(connect: str) -> None:
    pytest.importorskip("websockets")
    code = """
        import os, sys, time, warnings
        from limpet import GroupMessage, LocalProtocolError
        from limpet.connect.websockets import blocking_connector
        from limpet.sync import Client
        warnings.simplefilter("ignore", DeprecationWarning)  # Python's own, of threads and fork

        def refused(call, *args, **named):
            try:
                call(*args, **named)
            except LocalProtocolError as error:
                assert "parent process: make a new client" in str(error), error
            else:
                raise AssertionError(f"{call} was not refused")

        with Client(sys.argv[1], connect=CONNECT) as client:
            seen = []
            client.on(GroupMessage, lambda message: seen.append(message.data))
            with client.subscribe("g") as subscription:
                stream = client.events(GroupMessage)
                client.send_to_group("g", "one")
                assert subscription.next(30).data == "one"
                child = os.fork()
                if not child:
                    for method in (client.join_group, client.leave_group):
                        refused(method, "g")
                        refused(method, "g", timeout=0.1)
                    for method in (client.send_to_group, client.send_event):
                        refused(method, "g", "child")
                        refused(method, "g", "child", ack=False)
                    refused(client.start)
                    refused(stream.next)
                    refused(iter(client).next)
                    refused(lambda: client.subscribe("other").__enter__())
                    stream.close()
                    client.stop()
                    with Client(sys.argv[1]) as own:  # as it was told to
                        own.join_group("g")
                        own.send_to_group("g", "two")
                    sys.exit(7)  # by way of the ends of subscription and client
                assert os.waitpid(child, 0)[1] == 7 << 8
                client.send_to_group("g", "three")
                print([stream.next(30).data for _ in range(3)], client.groups)
            while len(seen) < 3:  # callbacks take their time
                time.sleep(0.01)
        assert seen == ["one", "two", "three"], seen
    """
    with BackgroundService() as service:
        done = program(code.replace("CONNECT", connect), service)
        assert (done.stdout, done.stderr, done.returncode) == (
            "['one', 'two', 'three'] frozenset({'g'})\n",
            "",
            0,
        )


@needs_fork
def test_forks_amid_everything_find_a_lock_that_is_free() -> None:
    code = """
        import os, sys, threading, warnings
        from limpet import ClientStopped, GroupMessage
        from limpet.sync import Client
        warnings.simplefilter("ignore", DeprecationWarning)
        sys.setswitchinterval(1e-5)
        with Client(sys.argv[1]) as client:
            client.on(GroupMessage, lambda message: None)
            client.join_group("g")

            def send():
                try:
                    while True:
                        client.send_to_group("g", "x", ack=False)
                except ClientStopped:
                    pass

            sender = threading.Thread(target=send)
            sender.start()
            for _ in range(20):
                child = os.fork()
                if not child:
                    client.groups
                    client.events(GroupMessage).close()
                    client.stop()
                    os._exit(0)
                assert os.waitpid(child, 0)[1] == 0
            client.send_to_group("g", "y")
            client.stop()
            sender.join()
    """
    with BackgroundService() as service:
        done = program(code, service)
        assert (done.stderr, done.returncode) == ("", 0)


@needs_fork
def test_a_forked_child_keeps_no_connection_of_a_parent_that_is_gone() -> None:
    code = """
        import os, sys, time, warnings
        from limpet.sync import Client
        warnings.simplefilter("ignore", DeprecationWarning)
        client = Client(sys.argv[1])
        client.start()
        child = os.fork()
        if not child:
            os.close(1)
            os.close(2)
            time.sleep(120)  # and never uses the client
            os._exit(0)
        print(child, flush=True)
        os._exit(0)
    """
    dropped: list[object] = []
    with BackgroundService() as service:
        service.call(lambda real, _: real.core.observers.append(dropped.append))
        done = program(code, service)
        try:
            until(lambda: any(isinstance(event, trace.ConnectionDropped) for event in dropped.copy()))
        finally:
            os.kill(int(done.stdout), signal.SIGKILL)
    assert (done.stderr, done.returncode) == ("", 0)


# ---- What is asked in a way that cannot be meant


@pytest.mark.parametrize(
    ("timeout", "error"),
    [
        (-1, InvalidValue),
        (-0.001, InvalidValue),
        (float("nan"), InvalidValue),
        ("1", InvalidType),
        (True, InvalidType),
    ],
)
def test_a_timeout_is_a_number_of_seconds(timeout: Any, error: type[Exception]) -> None:
    sent: list[object] = []
    with BackgroundService() as service, Client(service.url(), fast()) as client:
        stream = client.events(GroupMessage)
        client.join_group(GROUP)
        for call in (
            lambda: stream.next(timeout=timeout),
            lambda: client.join_group("other", timeout=timeout),
            lambda: client.leave_group(GROUP, timeout=timeout),
            lambda: client.send_to_group(GROUP, "x", timeout=timeout),
            lambda: client.send_to_group(GROUP, "x", ack=False, timeout=timeout),
            lambda: client.send_event("e", "x", ack=False, timeout=timeout),
        ):
            with pytest.raises(error, match="timeout must be"):
                sent.append(call())
        client.send_to_group(GROUP, "only this")
        assert stream.next(timeout=LIMIT).data == "only this"
        assert client.groups == {GROUP}
        with pytest.raises(TimeoutError):
            stream.next(timeout=0)
        stream.close()


@pytest.mark.skipif(sys.platform == "win32", reason="signals to oneself are different there")
def test_an_interrupt_amid_next_leaves_the_stream_to_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    with BackgroundService() as service, Client(service.url(), fast()) as client:
        stream = client.events(GroupMessage)
        client.join_group(GROUP)

        def interrupted(reader: Reader, timeout: float | None) -> bool:
            signal.raise_signal(signal.SIGINT)
            raise AssertionError("not interrupted")

        with monkeypatch.context() as patch:
            patch.setattr(Reader, "wait", interrupted)
            with pytest.raises(KeyboardInterrupt):
                stream.next(timeout=LIMIT)
        client.send_to_group(GROUP, 1)
        assert stream.next(timeout=LIMIT).data == 1
        stream.close()


def test_a_second_reader_of_a_stream_takes_nothing_from_the_first() -> None:
    with BackgroundService() as service, Client(service.url(), fast()) as client:
        stream = client.events(GroupMessage)
        client.join_group(GROUP)
        got: list[object] = []
        reader = threading.Thread(target=lambda: got.append(stream.next(timeout=LIMIT).data))
        reader.start()
        until(lambda: stream._buffer.wake is not None)
        with pytest.raises(LimpetError, match="another thread iterates"):
            stream.next(timeout=LIMIT)
        client.send_to_group(GROUP, 1)
        reader.join(LIMIT)
        assert got == [1]
        stream.close()
