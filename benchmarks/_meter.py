"""What is done and measured inside a client's process: the same for every client, ours or not."""

from __future__ import annotations

import collections
import gc
import resource
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import anyio
import anyio.abc

Result = dict[str, Any]


class Flag(Protocol):
    """An event of anyio or threading."""

    def set(self) -> object: ...
    def is_set(self) -> bool: ...


class Snapshot:
    """A moment, and how many had been counted by then."""

    def __init__(self, count: int = 0) -> None:
        self.count, self.wall, self.cpu = count, time.perf_counter(), time.process_time()

    def until(self, later: Snapshot) -> Result:
        return {"messages": later.count - self.count, "wall": later.wall - self.wall, "cpu": later.cpu - self.cpu}


class Meter:
    """What a client received between the messages to the groups ``start`` and ``end``, and what that cost.

    The work for each message is that of a small application: count it, add up the size of its data, look at its group.
    """

    def __init__(self, done: Flag) -> None:
        self.done = done
        self.count = self.size = 0
        self.begin = Snapshot()
        self.result: Result = {}

    def take(self, message: Any) -> None:
        """The callback."""
        self.count += 1
        self.size += len(message.data)
        if message.group != "bench":
            self._marked(message.group)

    async def take_async(self, message: Any) -> None:
        """The same, for a client that takes nothing but coroutines."""
        self.take(message)

    def _marked(self, group: str) -> None:
        if group == "start":
            self.begin = Snapshot(self.count)
        elif group == "end":
            self._finish()

    def _finish(self) -> None:
        self.result = self.begin.until(Snapshot(self.count))
        self.done.set()

    def ended(self, cause: str) -> None:
        """The connection was lost before the end."""
        if not self.done.is_set():
            self._finish()
            self.result["lost"] = cause


async def beside_a_timer(receive: Callable[[], Awaitable[Result]]) -> Result:
    """How late a timer of 10 ms is while messages flood in."""
    lateness: list[float] = []

    async def tick() -> None:
        while True:
            due = time.perf_counter() + 0.01
            await anyio.sleep(0.01)
            lateness.append(time.perf_counter() - due)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tick)
        result = await receive()
        tasks.cancel_scope.cancel()
    late = sorted(lateness[1:])
    return result | {
        "late_median": late[len(late) // 2],
        "late_99": late[len(late) * 99 // 100],
        "late_worst": late[-1],
    }


class Rounds:
    """Requests that tasks make again and again.

    Attributes:
        answered: how many have been answered.
        going: there are to be more.
    """

    def __init__(self) -> None:
        self.answered, self.going = 0, True

    async def measured(self, work: Callable[[], Awaitable[None]], tasks: int, seconds: float) -> Result:
        """Do the work in so many tasks; a quarter of the time to warm up."""
        async with anyio.create_task_group() as group:
            for _ in range(tasks):
                group.start_soon(work)
            await anyio.sleep(seconds / 4)
            before = Snapshot(self.answered)
            await anyio.sleep(seconds)
            result = before.until(Snapshot(self.answered))
            self.going = False
        return result


async def repeat(request: Callable[[], Awaitable[object]], in_flight: int, seconds: float) -> Result:
    """So many tasks, each asking again as soon as it is answered."""
    rounds = Rounds()

    async def work() -> None:
        while rounds.going:
            await request()
            rounds.answered += 1

    return await rounds.measured(work, in_flight, seconds)


async def repeat_submitted(submit: Callable[[], Awaitable[object]], in_flight: int, seconds: float) -> Result:
    """One task with so many futures: for the oldest, as soon as it is answered, one more is asked for."""
    rounds = Rounds()

    async def work() -> None:
        futures = collections.deque(submit() for _ in range(in_flight - 1))
        while rounds.going:
            futures.append(submit())
            await futures.popleft()
            rounds.answered += 1

    return await rounds.measured(work, 1, seconds)


def repeat_submitted_blocking(submit: Callable[[], Any], in_flight: int, seconds: float) -> Result:
    """The same in one thread."""
    futures = collections.deque(submit() for _ in range(in_flight - 1))

    def request() -> None:
        futures.append(submit())
        futures.popleft().result()

    return repeat_blocking(request, seconds)


def repeat_blocking(request: Callable[[], object], seconds: float) -> Result:
    """One after the other, in this thread."""
    answered, before = 0, Snapshot()
    while time.perf_counter() < before.wall + seconds / 4:
        request()
    before = Snapshot()
    while time.perf_counter() < before.wall + seconds:
        request()
        answered += 1
    return before.until(Snapshot(answered))


def private_memory() -> int:
    """The memory that is this process's own, in bytes (USS)."""
    with open("/proc/self/smaps_rollup") as lines:
        return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


async def idle(
    opened: Callable[[anyio.abc.TaskGroup], Awaitable[object]],
    count: int,
    seconds: float,
    report: Callable[[Result], None],
) -> None:
    """Open connections, then do nothing for a while; the process ends with the report."""
    async with anyio.create_task_group() as tasks:
        clients = [await opened(tasks) for _ in range(10)]  # imports, caches, first arenas
        gc.collect()
        memory = private_memory()
        clients += [await opened(tasks) for _ in range(count)]
        await anyio.sleep(3.0)  # until nothing is left that helps busy connections alone
        gc.collect()
        memory = private_memory() - memory
        usage, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        await anyio.sleep(seconds)
        report(_did_nothing(memory / count, usage, began))


def idle_blocking(opened: Callable[[], object], count: int, seconds: float) -> Result:
    """The same with blocking clients, for which ``opened`` returns a connected one."""
    clients = [opened() for _ in range(10)]
    gc.collect()
    memory = private_memory()
    clients += [opened() for _ in range(count)]
    time.sleep(0.5)
    gc.collect()
    memory = private_memory() - memory
    usage, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    time.sleep(seconds)
    return _did_nothing(memory / count, usage, began)


def _did_nothing(memory: float, usage: resource.struct_rusage, began: float) -> Result:
    after = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "memory": memory,
        "wall": time.perf_counter() - began,
        "cpu": after.ru_utime + after.ru_stime - usage.ru_utime - usage.ru_stime,
        "wakeups": after.ru_nvcsw - usage.ru_nvcsw - 1,  # the last one ended the sleep
    }
