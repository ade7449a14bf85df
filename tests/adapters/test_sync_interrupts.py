"""The blocking client whose application's thread is interrupted (Ctrl-C) between any two steps of a call."""

from __future__ import annotations

import gc
import json
import os
import sys
import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dis import opmap
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import pytest
import trustme
from simulation.inspect import inspect
from tests.helpers import forked
from tests.helpers.echo import server_context
from tests.helpers.waiting import LIMIT, until

from limpet import GroupMessage, InvocationError, Session, State, Stopped
from limpet.service import ServiceOptions
from limpet.sync import Client
from limpet.testing import BackgroundService, trace
from limpet.testing.contract.harness import fast

E = TypeVar("E", bound=Exception)

GROUP = "interrupted"
WAYS = ["tcp", "tls", "connect"]
SEED = int(os.environ.get("LIMPET_SEED", "13"))
COUNT = int(os.environ.get("LIMPET_INTERRUPTS", "1000"))
RUN_LIMIT = 90 + COUNT // 10
"""Seconds that a run may take; more is a deadlock."""
RETURN = opmap["RETURN_VALUE"]


# ---- At random moments


@pytest.mark.skipif(sys.platform == "win32", reason="this system has no signals for one thread")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.timeout(RUN_LIMIT + 30)
def test_whenever_it_is_interrupted_nothing_hangs_and_nothing_is_lost_or_doubled(way: str, tmp_path: Path) -> None:
    if way == "connect":
        pytest.importorskip("websockets")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    tls = server_context(authority.issue_cert("127.0.0.1")) if way == "tls" else None
    # On a slow machine the listener may be far behind: the service must not give it up.
    patient = ServiceOptions(retained_messages=1_000_000, retained_bytes=1 << 30)
    with BackgroundService(patient, tls=tls) as service:
        closed: list[int] = []

        def observe(event: object) -> None:
            if isinstance(event, trace.ConnectionClosed | trace.ConnectionDropped):
                closed.append(event.code)

        service.call(lambda real, _: real.core.observers.append(observe))
        heard: dict[str, list[int]] = {}
        with Client(service.direct_url() if way != "tls" else service.url(), **trusting(way, tmp_path)) as listener:
            listener.on(GroupMessage, lambda message: heard.setdefault(message.data[0], []).append(message.data[1]))
            listener.join_group(GROUP)
            program = [sys.executable, "-X", "dev", "-W", "error", "-m", "tests.helpers.interrupted", service.url()]
            done = forked.run(
                [*program, str(SEED), str(COUNT), str(RUN_LIMIT), way, str(tmp_path / "ca.pem")],
                text=True,
                timeout=RUN_LIMIT + 10,
            )
            assert (done.stderr, done.returncode) == ("", 0)
            listener.send_to_group(GROUP, ["over", 0])
            until(lambda: "over" in heard)
            assert not {1002, 1003, 1007} & set(closed)  # no frame was cut in two
            assert listener.stats.reconnects == 0
    known = json.loads(done.stdout)
    assert known["interrupts"] >= COUNT
    assert known["stopped"] == ["None"] * known["begun"]  # each life has its end, once, and nothing else ended it
    for kind, numbers in known["sure"].items():
        got = heard.get(kind, [])
        assert got == sorted(set(got)), f"{kind}: twice, or out of order"
        assert set(numbers) <= set(got), f"{kind}: lost"
        assert set(got) <= set(range(known["tried"][kind] + 1))
    for life in known["got"]:  # what the interrupted thread took itself
        for kind in known["sure"]:
            mine = [number for who, number in life if who == kind]
            first, last = (mine[0], mine[-1]) if mine else (0, -1)
            assert mine == [number for number in heard[kind] if first <= number <= last], f"{kind}: not taken"


def trusting(way: str, place: Path) -> dict[str, Any]:
    return {"ssl": place / "ca.pem"} if way == "tls" else {}


# ---- At every step


class Interrupt:
    """Raises KeyboardInterrupt in this thread before the n-th opcode of a call, those that it calls included.

    This test's own functions are left out: what they were given is theirs to lose. So is the last step of a function,
    where the interpreter does not look for interrupts.
    """

    def __init__(self, step: int) -> None:
        self.left = step
        self.happened = False

    def __call__(self, frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code.co_filename == __file__:
            return None
        frame.f_trace_opcodes = True
        # Lines as well: Python 3.12 and 3.13 do not tell of every opcode.
        if event in ("opcode", "line") and frame.f_code.co_code[frame.f_lasti] != RETURN:
            self.left -= 1
            if self.left < 0:
                self.happened = True
                raise KeyboardInterrupt
        return self


@contextmanager
def tracing(trace_function: Any) -> Generator[None]:
    before = sys.gettrace()
    gc.disable()  # what it finds may be anybody's, with Python code of theirs
    sys.settrace(trace_function)
    try:
        yield
    finally:
        sys.settrace(before)
        gc.enable()


def interrupted(call: Callable[[], object], step: int) -> tuple[bool, bool]:
    """Call, interrupted before that opcode; return whether it was, and whether the call has returned."""
    interrupt = Interrupt(step)
    try:
        with tracing(interrupt):
            call()
    except KeyboardInterrupt:
        return True, False
    return interrupt.happened, True


def interrupted_everywhere(call: Callable[[], object], check: Callable[[bool], object], stride: int = 1) -> int:
    """Call, interrupted before its first opcode, its second and so on, until it comes to its end; return the number.

    In a thread of its own: to interrupt amid the handling of an exception, as only a trace function can, leaves the
    interpreter thinking that it is still handled. ``check`` is told each time whether the call has returned.
    """

    def run() -> int:
        for step in range(0, 20_000, stride):
            happened, returned = interrupted(call, step)
            check(returned)
            if not happened:
                return step
        raise AssertionError("it has no end")

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run).result()


def raised(kind: type[E], call: Callable[[], object]) -> E:
    """Return what the call raises, without the thousands of steps of ``pytest.raises``."""
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was not raised")


class Counted:
    """Publishes that count up, and what a listener hears of them."""

    def __init__(self, client: Client, listener: Client) -> None:
        self.client = client
        self.tried = -1
        self.sure: list[int] = []
        self.heard: list[int] = []
        listener.on(GroupMessage, lambda message: self.heard.append(message.data))
        listener.join_group(GROUP)

    def send(self, **settings: Any) -> None:
        self.tried += 1
        self.client.send_to_group(GROUP, self.tried, **settings)

    def check(self, returned: bool) -> None:
        if returned:
            self.sure.append(self.tried)

    def end(self) -> None:
        self.send()
        until(lambda: self.heard[-1:] == [self.tried])
        assert self.heard == sorted(set(self.heard))
        assert set(self.sure) <= set(self.heard)


@pytest.fixture
def service() -> Generator[BackgroundService]:
    with BackgroundService() as service:
        yield service


@pytest.mark.parametrize("way", ["tcp", "connect"])
@pytest.mark.parametrize(
    "settings", [{}, {"ack": False}, {"timeout": 5}, {"ack": False, "timeout": 5}], ids=lambda value: str(value)
)
def test_a_send_that_is_interrupted_at_any_step_is_sent_once_or_not_at_all(
    service: BackgroundService, way: str, settings: dict[str, Any]
) -> None:
    more: dict[str, Any] = {}
    if way == "connect":
        more["connect"] = pytest.importorskip("limpet.connect.websockets").blocking_connector()
    with Client(service.url(), fast(), **more) as client, Client(service.url(), fast()) as listener:
        counted = Counted(client, listener)
        steps = interrupted_everywhere(lambda: counted.send(**settings), counted.check)
        assert steps > 10
        counted.end()
        assert client.state is State.CONNECTED


def test_an_invocation_that_is_interrupted_at_any_step_leaves_nothing_behind(service: BackgroundService) -> None:
    with Client(service.url(), fast()) as client:

        def invoke() -> None:
            assert raised(InvocationError, lambda: client.invoke("nobody", "x")).name == "NotFound"

        steps = interrupted_everywhere(invoke, lambda _: None)
        assert steps > 10
        until(lambda: not inspect(client._session).left)
        invoke()
        assert client.state is State.CONNECTED


def test_a_send_that_has_to_wait_and_is_interrupted_leaves_nobody_waiting(service: BackgroundService) -> None:
    with Client(service.url(), fast()) as client, Client(service.direct_url(), fast()) as listener:
        counted = Counted(client, listener)
        service.stall("to_client")

        def flood() -> None:
            while True:
                counted.send(ack=False, timeout=0.2)

        with pytest.raises(TimeoutError):
            flood()

        def send() -> None:
            raised(TimeoutError, lambda: counted.send(ack=False, timeout=0.0))

        interrupted_everywhere(send, lambda _: None)
        until(lambda: not client._driver.unacked.waiting)
        assert inspect(client._session).senders == 0
        service.resume()
        counted.end()


@pytest.mark.parametrize("kind", ["events", "typed", "inbox", "a new one each time"])
def test_a_message_whose_taker_is_interrupted_at_any_step_is_taken_next(service: BackgroundService, kind: str) -> None:
    with Client(service.url(), fast(max_buffered_messages=8 if kind == "events" else 10_000)) as client:
        of_type: dict[str, Any] = {"type": int} if kind == "typed" else {}
        stream = client.events(GroupMessage, **of_type) if kind in ("events", "typed") else iter(client)
        client.join_group(GROUP)
        published, got = 0, list[Any]()

        def take() -> None:
            got.append(stream.next(LIMIT).data if kind != "a new one each time" else first())

        def first() -> Any:
            for message in client:
                return message.data
            raise AssertionError("it has ended")

        def check(_: bool) -> None:
            nonlocal published
            if published < len(got) + 8:
                service.publish(GROUP, range(published, published + 16))
                published += 16

        if kind == "a new one each time":
            stream.close()
        check(False)
        steps = interrupted_everywhere(take, check)
        assert steps > 10
        while len(got) < published:
            take()
        assert got == list(range(published))
        stream.close()


def test_a_wait_for_a_message_that_is_interrupted_at_any_step_leaves_the_stream_to_be_read(
    service: BackgroundService,
) -> None:
    with Client(service.url(), fast()) as client:
        stream = client.events(GroupMessage)
        client.join_group(GROUP)

        def take() -> None:
            raised(TimeoutError, lambda: stream.next(0.0))

        interrupted_everywhere(take, lambda _: None)
        client.send_to_group(GROUP, "x")
        assert stream.next(LIMIT).data == "x"
        stream.close()


def test_a_subscription_that_is_interrupted_at_any_step_ends(service: BackgroundService) -> None:
    with Client(service.url(), fast()) as client:

        def subscribe() -> None:
            with client.subscribe(GROUP) as messages:
                client.send_to_group(GROUP, 1)
                messages.next(LIMIT)

        interrupted_everywhere(subscribe, lambda _: None)
        client.send_to_group("other", 1)
        assert client.groups == frozenset()
        assert not client._delivery.buffers
        assert not client._open_subscriptions.open


def test_streams_whose_reader_is_interrupted_at_any_step_lose_no_fragment_and_end(service: BackgroundService) -> None:
    with Client(service.url(), fast()) as client, Client(service.direct_url(), fast()) as writer:
        client.join_group(GROUP)

        def look() -> None:
            with client.streams() as streams:
                raised(TimeoutError, lambda: streams.next(0.0))

        interrupted_everywhere(look, lambda _: None)
        until(lambda: not client._delivery.buffers)
        streams = client.streams()
        written, got = 0, list[Any]()
        with writer.open_stream(GROUP) as writing:

            def write(_: bool) -> None:
                nonlocal written
                while written < len(got) + 4:
                    writing.write(written)
                    written += 1

            write(True)
            stream = streams.next(LIMIT)
            steps = interrupted_everywhere(lambda: got.append(stream.next(LIMIT).data), write)
            assert steps > 10
            while len(got) < written:
                got.append(stream.next(LIMIT).data)
        assert got == list(range(written))
        assert list(stream) == []
        streams.close()
        until(lambda: not client._delivery.buffers)


def test_start_and_stop_that_are_interrupted_at_any_step_can_be_asked_for_again(service: BackgroundService) -> None:
    begun, stopped = [], list[Stopped]()
    start = Session.start

    def counted(session: Session, now: float, **settings: Any) -> None:
        start(session, now, **settings)
        begun.append(1)

    before = set(threading.enumerate())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Session, "start", counted)
        client = Client(service.url(), fast())
        client.on(Stopped, stopped.append)

        def check(_: bool) -> None:
            client.stop()
            assert client.state is State.STOPPED
            until(lambda: len(stopped) == len(begun))
            with client:
                client.join_group(GROUP)
            until(lambda: len(stopped) == len(begun))

        assert interrupted_everywhere(client.start, check, stride=3) > 10

        def stop() -> None:
            client.stop()

        def started_again(_: bool) -> None:
            check(_)
            client.start()

        client.start()
        assert interrupted_everywhere(stop, started_again, stride=3) > 10
        client.stop()
        until(lambda: len(stopped) == len(begun))
    assert all(event.error is None for event in stopped)
    until(lambda: set(threading.enumerate()) <= before)
