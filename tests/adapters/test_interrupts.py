"""Callbacks that end the program (Ctrl-C, sys.exit()): what has happened is delivered, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import gc
import linecache
import signal
import sys
from collections.abc import Generator
from types import FrameType
from typing import Any

import anyio
import pytest
from tests.adapters.harness import GROUP, options, soon
from tests.helpers.waiting import LIMIT

import limpet.anyio
import limpet.trio
from limpet import (
    Ack,
    ClientStopped,
    Connected,
    Disconnected,
    GroupMessage,
    InvocationError,
    Recovering,
    SendError,
    Session,
    State,
    Stopped,
)
from limpet.asyncio import Client
from limpet.asyncio._waiters import Waiter, wake
from limpet.testing import BackgroundService


class Odd(BaseException):
    """Neither a failure nor an order to end."""


ENDS = [KeyboardInterrupt, SystemExit]
ODD = [Odd, GeneratorExit, asyncio.CancelledError, lambda: BaseExceptionGroup("odd", [Odd(), ValueError()])]
each = pytest.mark.parametrize("make", [*ENDS, *ODD], ids=lambda make: getattr(make, "__name__", "group"))
KINDS: dict[str, tuple[Any, str]] = {
    "trio": (limpet.trio.Client, "trio"),
    "anyio-asyncio": (limpet.anyio.Client, "asyncio"),
    "anyio-trio": (limpet.anyio.Client, "trio"),
}


@pytest.fixture
def service() -> Generator[BackgroundService]:
    with BackgroundService() as running:
        yield running


class Program:
    """A client, and its event loop, which is run again after an exception has left it."""

    def __init__(self, service: BackgroundService) -> None:
        self.service = service
        self.loop = asyncio.new_event_loop()
        self.reported: list[BaseException] = []
        self.loop.set_exception_handler(lambda _, context: self.reported.append(context["exception"]))
        self.seen: list[object] = []
        self.left = 0
        self.client = Client(service.url(), options(request_timeout=LIMIT))
        self.client.on(Recovering, self.seen.append)
        self.client.on(Stopped, self.seen.append)

    def run(self, work: Any) -> Any:
        """Run ``work`` to its end, however often the loop is left."""

        async def bounded() -> Any:
            async with asyncio.timeout(2 * LIMIT):
                return await work

        task = self.loop.create_task(bounded())
        while True:
            try:
                return self.loop.run_until_complete(task)
            except (KeyboardInterrupt, SystemExit):
                self.left += 1

    def begin(self) -> None:
        self.run(self.client.start())
        self.run(self.client.join_group(GROUP))

    def end(self) -> None:
        self.run(self.client.stop())
        self.run(asyncio.sleep(0.01))
        assert not asyncio.all_tasks(self.loop)
        self.loop.close()
        gc.collect()

    async def until(self, last: object) -> None:
        while last not in self.seen:  # noqa: ASYNC110 - bounded by who runs it
            await asyncio.sleep(0.002)


@pytest.fixture
def program(service: BackgroundService) -> Generator[Program]:
    made = Program(service)
    yield made
    made.loop.close()


def raises_in(program: Program, make: Any, *, at: object) -> Any:
    def show(message: GroupMessage) -> None:
        program.seen.append(message.data)
        if message.data == at:
            raise make()

    return show


@each
def test_a_plain_callback_that_ends_the_program_loses_no_answer_and_no_event(program: Program, make: Any) -> None:
    program.client.on(GroupMessage, raises_in(program, make, at=3))
    others: list[Any] = []
    program.client.on(GroupMessage, lambda message: others.append(message.data))
    program.begin()

    async def send() -> list[Ack]:
        async with asyncio.TaskGroup() as tasks:
            sends = [tasks.create_task(program.client.send_to_group(GROUP, number)) for number in range(6)]
        return [task.result() for task in sends]

    assert len(program.run(send())) == 6
    program.run(program.until(5))
    assert program.seen == others == list(range(6)), "all that came, in order, and no connection lost"
    assert program.left == (1 if make in ENDS else 0)
    # What would not leave the loop is reported to it; a cancellation of something else is the callback's failure.
    assert len(program.reported) == (0 if make in ENDS or make is asyncio.CancelledError else 1)
    program.end()
    assert program.seen == [*range(6), Stopped(None)]


@each
def test_so_does_one_that_is_told_of_the_end(program: Program, make: Any) -> None:
    def bad(_: object) -> None:
        raise make()

    program.client.on(Connected, bad)
    program.client.on(Disconnected, bad)
    program.client.on(Stopped, bad)
    program.begin()
    waiting = program.loop.create_task(anext(program.client.events(Stopped)))
    program.run(program.client.stop())
    assert program.run(waiting) == Stopped(None)
    assert program.client.state is State.STOPPED
    program.run(asyncio.sleep(0.01))
    assert program.left == (3 if make in ENDS else 0)
    program.end()


@each
def test_an_async_callback_that_ends_the_program_holds_up_no_other(program: Program, make: Any) -> None:
    async def bad(message: GroupMessage) -> None:
        await asyncio.sleep(0)
        program.seen.append(message.data)
        if message.data == 1:
            raise make()

    others: list[Any] = []
    program.client.on(GroupMessage, bad)
    program.client.on(GroupMessage, lambda message: others.append(message.data))
    program.begin()
    program.service.publish(GROUP, range(4))
    if make is GeneratorExit:
        # Who is told to end, ends: plain callbacks get what is left, and the next event finds all as new.
        program.run(asyncio.sleep(0.05))
        program.service.publish(GROUP, [4])
    program.run(program.until(4 if make is GeneratorExit else 3))
    program.run(asyncio.sleep(0.01))
    assert others == list(range(5 if make is GeneratorExit else 4))
    assert program.seen == ([0, 1, 4] if make is GeneratorExit else [0, 1, 2, 3])
    assert program.left == (1 if make in ENDS else 0)
    program.end()


def test_a_plain_callback_behind_an_async_one_may_end_the_program_as_well(program: Program) -> None:
    async def waits(message: GroupMessage) -> None:
        await asyncio.sleep(0.001)

    program.client.on(GroupMessage, waits)
    program.client.on(GroupMessage, raises_in(program, KeyboardInterrupt, at=1))
    program.client.on(GroupMessage, waits)
    program.begin()
    program.service.publish(GROUP, range(4))
    program.run(program.until(3))
    assert program.left == 1
    assert program.seen == [0, 1, 2, 3]
    program.end()


def test_an_interrupted_client_stops_and_leaves_nobody_waiting(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C comes in the midst of the client's own work: nobody knows what was done and what was not."""
    program.begin()
    receive = Session.receive_messages

    def interrupted(*arguments: Any) -> None:
        monkeypatch.setattr(Session, "receive_messages", receive)
        raise KeyboardInterrupt

    monkeypatch.setattr(Session, "receive_messages", interrupted)
    sending = program.loop.create_task(program.client.send_to_group(GROUP, "x"))
    with pytest.raises(SendError, match="may or may not"):
        program.run(sending)
    assert program.left == 1
    (told,) = program.seen
    assert isinstance(told, Stopped)
    assert "interrupted" in str(told.error)
    monkeypatch.undo()
    program.begin()
    assert isinstance(program.run(program.client.send_to_group(GROUP, "again")), Ack)
    program.end()


@pytest.mark.parametrize("request_type", ["a publish", "a join", "an invocation"])
def test_an_interrupt_between_an_answer_and_the_wake_of_its_task_leaves_nobody_asleep(
    program: Program, monkeypatch: pytest.MonkeyPatch, request_type: str
) -> None:
    program.begin()
    wake_soon = Waiter.wake_soon

    def interrupted(waiter: Waiter) -> None:
        if waiter.callback is not None:
            monkeypatch.setattr(Waiter, "wake_soon", wake_soon)
            raise KeyboardInterrupt
        wake_soon(waiter)

    async def ask() -> object:
        client = program.client
        if request_type == "a publish":
            return await client.send_to_group(GROUP, "x")
        if request_type == "a join":
            return await client.join_group("another")
        with pytest.raises(InvocationError) as refused:
            await client.invoke("nobody", "x")
        return refused.value

    monkeypatch.setattr(Waiter, "wake_soon", interrupted)
    assert program.run(ask()) is not None
    assert program.left == 1
    program.end()


def test_a_task_that_an_interrupt_has_left_asleep_behind_its_answer_can_be_cancelled() -> None:
    """The end of asyncio.run() cancels each task, and waits for it."""

    async def scenario() -> None:
        waiter = Waiter(loop=asyncio.get_running_loop())
        waiter.callback = None

        async def wait() -> None:
            await waiter

        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        asyncio.Future.set_result(waiter, None)  # and then comes the interrupt
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            async with asyncio.timeout(LIMIT):
                await task

    asyncio.run(scenario())


@pytest.mark.parametrize("first", ["an answer", "a cancellation"])
def test_a_task_that_an_interrupt_has_left_to_be_woken_is_woken_once_where_it_is_cancelled(
    monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    """A second wake would end a wait of its clean-up too early, and be an InvalidStateError after its end."""
    steps: list[object] = []

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: steps.append(context["exception"]))
        call_soon = loop.call_soon
        waiter = Waiter(loop=loop)
        waiter.callback = None
        cleaned = loop.create_future()

        def interrupted(*arguments: Any, **options: Any) -> None:
            monkeypatch.setattr(loop, "call_soon", call_soon)
            call_soon(*arguments, **options)
            raise KeyboardInterrupt

        async def wait() -> None:
            try:
                await waiter
            finally:
                steps.append("cleans up")
                steps.append(await cleaned)

        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        monkeypatch.setattr(loop, "call_soon", interrupted)
        with pytest.raises(KeyboardInterrupt):
            waiter.set_result(None) if first == "an answer" else task.cancel()
        task.cancel()  # as the end of asyncio.run() does
        for _ in range(4):
            await asyncio.sleep(0)
        cleaned.set_result("is clean")
        await asyncio.wait([task], timeout=LIMIT)
        assert task.cancelled()
        await asyncio.sleep(0)

    asyncio.run(scenario())
    assert steps == ["cleans up", "is clean"]


def test_an_interrupt_amid_the_wake_of_many_tasks_leaves_none_asleep(program: Program) -> None:
    interrupts = [KeyboardInterrupt]

    class Interrupted(Waiter):
        def done(self) -> bool:
            if self.callback is not None and super().done() and interrupts:
                raise interrupts.pop()
            return super().done()

    async def scenario() -> list[object]:
        waiters = [kind(loop=program.loop) for kind in (Waiter, Interrupted, Waiter)]
        for waiter in waiters:
            waiter.callback = None

        async def wait(waiter: Waiter) -> object:
            return await waiter

        tasks = [program.loop.create_task(wait(waiter)) for waiter in waiters]
        await asyncio.sleep(0)
        for number, waiter in enumerate(waiters):
            asyncio.Future.set_result(waiter, number)
        program.loop.call_soon(wake, program.loop, iter(waiters))
        return list(await asyncio.gather(*tasks))

    assert program.run(scenario()) == [0, 1, 2]
    assert program.left == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("waits", [False, True], ids=["plain", "async"])
@pytest.mark.parametrize("make", [KeyboardInterrupt, SystemExit, Odd])
def test_with_structured_concurrency_it_ends_the_client_politely(
    service: BackgroundService, kind: str, waits: bool, make: Any
) -> None:
    client_type, backend = KINDS[kind]
    seen: list[Any] = []
    answers: list[object] = []

    def plain(message: GroupMessage) -> None:
        if message.sequence_id == 2:
            raise make()

    async def waiting(message: GroupMessage) -> None:
        await anyio.lowlevel.checkpoint()
        plain(message)

    async def send(client: Any, number: int) -> None:
        try:
            answers.append(await client.send_to_group(GROUP, number))
        except SendError as error:
            answers.append(error)

    async def main() -> None:
        with anyio.fail_after(LIMIT):
            client = client_type(service.url(), options())
            client.on(GroupMessage, waiting if waits else plain)
            client.on(GroupMessage, lambda message: seen.append(message.sequence_id))
            client.on(Disconnected, lambda event: seen.append(type(event)))
            client.on(Stopped, lambda event: seen.append(type(event)))
            async with client:
                await client.join_group(GROUP)
                with anyio.CancelScope(shield=True):
                    async with anyio.create_task_group() as tasks:
                        for number in range(4):
                            tasks.start_soon(send, client, number)
                await anyio.sleep_forever()

    with pytest.raises(BaseException) as caught:  # noqa: PT011 - whatever the loop makes of it
        anyio.run(main, backend=backend)
    assert _holds(caught.value, make)
    if (backend, make) not in (("asyncio", KeyboardInterrupt), ("asyncio", SystemExit)):
        assert len(answers) == 4  # else the loop has ended, and cancelled all that waited
    ids, end = seen[:-2], seen[-2:]
    assert end == [Disconnected, Stopped]
    assert ids == list(range(1, len(ids) + 1))
    assert 2 in ids, "the other callback gets it"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("waits", [False, True], ids=["plain", "async"])
@pytest.mark.parametrize("make", [KeyboardInterrupt, SystemExit, Odd])
def test_what_ends_the_program_is_raised_though_a_request_was_given_up_for_it(
    service: BackgroundService, kind: str, waits: bool, make: Any
) -> None:
    """The end of the client fails the request, which ends the block: that must not stand for the reason."""
    client_type, backend = KINDS[kind]

    def plain(_: GroupMessage) -> None:
        raise make()

    async def waiting(message: GroupMessage) -> None:
        await anyio.lowlevel.checkpoint()
        plain(message)

    async def main() -> None:
        with anyio.fail_after(LIMIT):
            client = client_type(service.url(), options())
            client.on(GroupMessage, waiting if waits else plain)
            async with client:
                await client.join_group(GROUP)
                with anyio.CancelScope(shield=True):
                    while True:
                        await client.send_to_group(GROUP, "x")

    with pytest.raises(BaseException) as caught:  # noqa: PT011 - whatever the loop makes of it
        anyio.run(main, backend=backend)
    assert _holds(caught.value, make)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("make", [KeyboardInterrupt, SystemExit, Odd])
def test_what_ends_the_program_while_the_client_starts_is_raised(
    service: BackgroundService, kind: str, make: Any
) -> None:
    client_type, backend = KINDS[kind]
    ended: list[type] = []

    def provider() -> str:
        raise make()

    async def main() -> None:
        with anyio.fail_after(LIMIT):
            client = client_type(provider, options())
            client.on(Stopped, lambda event: ended.append(type(event)))
            async with client:
                raise AssertionError("started")

    with pytest.raises(BaseException) as caught:  # noqa: PT011 - whatever the loop makes of it
        anyio.run(main, backend=backend)
    assert _holds(caught.value, make)
    assert ended == [Stopped]


@pytest.mark.skipif(sys.platform == "win32", reason="a console's Ctrl-C goes to every process of it")
@pytest.mark.parametrize("kind", ["trio", "anyio-trio"])
@pytest.mark.parametrize("waits", [False, True], ids=["plain", "async"])
def test_ctrl_c_interrupts_a_callback_that_takes_long(service: BackgroundService, kind: str, waits: bool) -> None:
    client_type, backend = KINDS[kind]
    seen: list[object] = []

    def plain(message: GroupMessage) -> None:
        try:
            signal.raise_signal(signal.SIGINT)
            seen.append("not interrupted")
        except KeyboardInterrupt:
            seen.append(message.data)

    async def waiting(message: GroupMessage) -> None:
        await anyio.lowlevel.checkpoint()
        plain(message)

    async def main() -> None:
        with anyio.fail_after(LIMIT):
            client = client_type(service.url(), options())
            callback = waiting if waits else plain
            client.on(GroupMessage, callback)
            async with client:
                await client.join_group(GROUP)
                await client.send_to_group(GROUP, "slow")
                await client.send_to_group(GROUP, "again")
                while len(seen) < 2:  # noqa: ASYNC110 - bounded above
                    await anyio.sleep(0.002)
            client.off(GroupMessage, callback)

    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        anyio.run(main, backend=backend)
    finally:
        signal.signal(signal.SIGINT, usual)
    assert seen == ["slow", "again"]


def _holds(error: BaseException, kind: type[BaseException]) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return any(_holds(one, kind) for one in error.exceptions)
    return isinstance(error, kind)


_OURS = (
    "limpet/asyncio/driver.py",
    "limpet/asyncio/_tcp.py",
    "limpet/_clients/callbacks.py",
    "limpet/_clients/buffers.py",
    "limpet/_clients/delivery.py",
    "limpet/_clients/driver.py",
    "limpet/_clients/async_driver.py",
    "limpet/_clients/waiters.py",
    "limpet/_transports/pipeline.py",
    "limpet/_transports/tls.py",
    "_core/",
)


class Interrupting:
    """Raises KeyboardInterrupt at the n-th line of the client's own code."""

    def __init__(self, line: int) -> None:
        self.left = line

    def __call__(self, frame: FrameType, event: str, argument: object) -> Any:
        # What comes at the call of a callback has interrupted that.
        ours = frame.f_code.co_filename.endswith(_OURS) or "limpet_core" in frame.f_code.co_filename
        return self.step if self.left > 0 and ours and frame.f_code.co_name != "call" else None

    def step(self, frame: FrameType, event: str, argument: object) -> Any:
        # An interrupt at the entry of a function, before its `try`, is out of reach: the call has not begun. Python
        # looks for signals at calls and jumps, and there is none between the end of a session's call and this
        # assignment. The call of the only callback is as that of one of several, above.
        source = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
        if event == "line" and source not in ("try:", 'self.running = ""', "result = only(event)"):
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt
        return self.step


def test_an_interrupt_at_any_line_of_the_client_leaves_nobody_waiting_and_loses_nothing_in_silence(
    service: BackgroundService,
) -> None:
    line, ends, runs = 1, 0, 0
    while True:
        program = Program(service)
        for kind in (GroupMessage, Disconnected):
            program.client.on(kind, program.seen.append)
        program.begin()
        acked: set[int] = set()

        async def send(number: int, client: Client = program.client, acked: set[int] = acked) -> None:
            try:
                await client.send_to_group(GROUP, number)
            except (SendError, ClientStopped):
                return
            acked.add(number)

        sends = [program.loop.create_task(send(number)) for number in range(5)]
        interrupting, usual = Interrupting(line), sys.gettrace()
        sys.settrace(interrupting)
        try:
            program.loop.run_until_complete(asyncio.wait(sends, timeout=LIMIT))
        except KeyboardInterrupt:
            program.left += 1
        finally:
            sys.settrace(usual)
        program.run(asyncio.wait(sends, timeout=LIMIT))
        assert all(one.done() for one in sends), f"somebody waits, line {line}"
        for one in sends:
            assert one.exception() is None or isinstance(one.exception(), KeyboardInterrupt)

        def reported(seen: list[Any] = program.seen, acked: set[int] = acked) -> bool:
            heard = {event.data for event in seen if isinstance(event, GroupMessage)}
            return acked <= heard or any(isinstance(event, Stopped | Disconnected) for event in seen)

        program.run(soon(reported))  # else the events of the line were lost in silence
        told = any(isinstance(event, Stopped | Disconnected) for event in program.seen)
        heard = [event.data for event in program.seen if isinstance(event, GroupMessage)]
        assert heard == sorted(set(heard))
        program.end()
        runs, ends = runs + 1, ends + told
        if interrupting.left > 0:
            break  # there were not so many lines
        assert program.left == 1
        line += 41
    assert runs > 10
    assert ends > 0
