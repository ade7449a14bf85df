"""``python -m benchmarks.soak.client NAME URL PLAN``: one client goes through a soak and prints what it saw as JSON."""

from __future__ import annotations

import functools
import json
import os
import sys
import threading
import time
from collections import Counter
from typing import Any

import anyio
from benchmarks.soak.left import more, things
from benchmarks.soak.subjects import ASYNC, BLOCKING

_STRAGGLERS = 0.5
"""Seconds to listen for what must not come any more."""

_STOPPING = 10.0


class Diary:
    """What a client saw."""

    def __init__(self, messages: int) -> None:
        self.messages = messages
        self.received: list[int] = []
        self.waiting: dict[int, float] = {}
        self.done: list[int] = []
        self.failed: Counter[str] = Counter()
        self.slowest = 0.0
        self.stalled = 0

    def notice(self, text: str) -> None:
        self.received.append(int(text))

    def asked(self, number: int) -> None:
        self.waiting[number] = time.monotonic()

    def answered(self, number: int, error: BaseException | None = None) -> None:
        self.slowest = max(self.slowest, time.monotonic() - self.waiting.pop(number))
        if error is None:
            self.done.append(number)
        else:
            self.failed[f"{type(error).__name__} {str(error).split('(')[0]}".strip()[:60]] += 1

    @property
    def complete(self) -> bool:
        """All is said and everything has come."""
        return not self.waiting and len(set(self.received)) >= self.messages

    def report(self, left: dict[str, int]) -> dict[str, Any]:
        return {
            "received": self.received,
            "done": self.done,
            "failed": self.failed,
            "stalled": self.stalled,
            "slowest": self.slowest,
            "left": left,
        }


async def soak(name: str, url: str, plan: dict[str, Any]) -> dict[str, Any]:
    kind, loop, _ = ASYNC[name]
    diary = Diary(plan["messages"])
    before = things(len(anyio.get_running_tasks()))
    client = kind(url, diary.notice, loop=loop, hasty=plan["hasty"])

    async def call(number: int) -> None:
        try:
            await client.send(plan["up"], str(number))
        except Exception as error:  # noqa: BLE001 - whatever it raises, it is to be told
            diary.answered(number, error)
        else:
            diary.answered(number)

    with anyio.CancelScope() as living:
        async with client:
            await client.join(plan["down"])
            async with anyio.create_task_group() as tasks:
                begin = time.monotonic()
                for number in range(plan["messages"]):
                    await anyio.sleep(max(begin + number / plan["rate"] - time.monotonic(), 0))
                    diary.asked(number)
                    tasks.start_soon(call, number)
                with anyio.move_on_after(plan["grace"]):
                    while not diary.complete:  # noqa: ASYNC110 - looked at from outside, as all clients are
                        await anyio.sleep(0.02)
                await anyio.sleep(_STRAGGLERS)
                diary.stalled = len(diary.waiting)
                tasks.cancel_scope.cancel()
            living.deadline = anyio.current_time() + _STOPPING
    diary.stalled += living.cancelled_caught
    return diary.report(await _left(before))


async def _left(before: dict[str, int]) -> dict[str, int]:
    left: dict[str, int] = {}
    for _ in range(50):  # loops need some turns to close sockets
        left = more(things(len(anyio.get_running_tasks())), before)
        if not any(count > 0 for count in left.values()):
            break
        await anyio.sleep(0.02)
    return left


def soak_blocking(name: str, url: str, plan: dict[str, Any]) -> dict[str, Any]:
    diary = Diary(plan["messages"])
    before = things()
    client = BLOCKING[name](url, diary.notice, hasty=plan["hasty"])
    calls: set[threading.Thread] = set()

    def call(number: int) -> None:
        try:
            client.send(plan["up"], str(number))
        except Exception as error:  # noqa: BLE001 - whatever it raises, it is to be told
            diary.answered(number, error)
        else:
            diary.answered(number)
        calls.discard(threading.current_thread())

    client.start()
    client.join(plan["down"])
    begin = time.monotonic()
    for number in range(plan["messages"]):
        time.sleep(max(begin + number / plan["rate"] - time.monotonic(), 0))
        diary.asked(number)
        thread = threading.Thread(target=call, args=(number,), daemon=True)
        calls.add(thread)
        thread.start()
    until = time.monotonic() + plan["grace"]
    while not diary.complete and time.monotonic() < until:
        time.sleep(0.02)
    time.sleep(_STRAGGLERS)
    diary.stalled = len(diary.waiting)
    stop = threading.Thread(target=client.stop, daemon=True)
    stop.start()
    stop.join(_STOPPING)
    diary.stalled += stop.is_alive()
    left: dict[str, int] = {}
    for _ in range(50):
        left = more(things(), before)
        left["threads"] -= sum(thread.is_alive() for thread in list(calls))  # those count as stalled already
        if not any(count > 0 for count in left.values()):
            break
        time.sleep(0.02)
    return diary.report(left)


def main() -> None:
    name, url, plan = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    if name in BLOCKING:
        print(json.dumps(soak_blocking(name, url, plan)), flush=True)
        os._exit(0)  # what is stalled or left behind must not hold up the end
    loop = ASYNC[name][2]
    backend = "trio" if loop == "trio" else "asyncio"
    options = {"use_uvloop": True} if loop == "uvloop" else {}
    run = functools.partial(soak, name, url, plan)
    print(json.dumps(anyio.run(run, backend=backend, backend_options=options)), flush=True)


if __name__ == "__main__":
    main()
