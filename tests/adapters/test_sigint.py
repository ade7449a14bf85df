"""Ctrl-C, some hundred times at random moments, amid traffic: nothing is lost in silence, and no call hangs."""

from __future__ import annotations

import sys
import textwrap

import pytest
from tests.helpers import forked

from limpet.testing import BackgroundService

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a console's Ctrl-C goes to every process of it")

# On asyncio, the first Ctrl-C of a run cancels the main task; another one may come amid the loop's own work, which does
# not bear that: there is one for each run.
RUNS = {
    "asyncio": ("asyncio", "asyncio.run(main())", "once"),
    "anyio-asyncio": ("anyio", "anyio.run(main)", "once"),
    "trio": ("trio", "trio.run(main)", "often"),
    "anyio-trio": ("anyio", "anyio.run(main, backend='trio')", "often"),
}

PROGRAM = """
    import asyncio, logging, os, random, signal, sys, threading, time
    import anyio, trio
    from contextlib import suppress
    from limpet import (
        Backoff, ClientStopped, Disconnected, GroupMessage, InvocationError, MessagesMissed, Options, SendError,
        Stopped, StreamError,
    )
    from limpet.{module} import Client

    INTERRUPTS, OFTEN = {interrupts}, {often}
    logging.disable()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells ignore it for what runs in the background
    chance = random.Random({seed})
    armed, over = threading.Event(), threading.Event()
    sent = 0

    def interrupt():
        global sent
        armed.wait()
        while sent < INTERRUPTS:
            if not OFTEN:
                armed.wait()
                armed.clear()
            time.sleep(chance.uniform(0, 0.004))
            sent += 1
            os.kill(os.getpid(), signal.SIGINT)
        over.set()

    number = invoked = written = 0
    events = []  # all that was told, in order; append cannot be interrupted
    acked = []  # numbers, and how many events were told before each answer
    client = Client(sys.argv[1], Options(close_timeout=2, reconnect=Backoff(initial=0.01)))
    for kind in (GroupMessage, Disconnected, MessagesMissed, Stopped):
        client.on(kind, events.append)

    async def traffic():
        global number
        while not over.is_set():
            number += 1
            mine = number
            try:
                await client.send_to_group("g", mine)
            except SendError:
                continue
            except ClientStopped:
                await anyio.sleep_forever()  # until the reason comes by
            acked.append((mine, len(events)))
            try:
                await others(mine)
            except (InvocationError, StreamError):
                pass
            except ClientStopped:
                await anyio.sleep_forever()  # as above

    async def others(mine):
        global invoked, written
        if mine % 3 == 0:
            try:
                await client.invoke("order", mine)
            except InvocationError as error:
                invoked += error.name == "NotFound"  # the answer: there are no event handlers
                raise
        elif mine % 3 == 1:
            async with client.open_stream("streams") as stream:
                await stream.write(mine)
                await stream.flush()
                await stream.write(mine)
            written += 1

    def missing():
        # What was told after its answer: the message itself, or that some may be missing.
        heard = {{event.data for event in events if isinstance(event, GroupMessage)}}
        gaps = Disconnected | MessagesMissed
        told = max((at for at, event in enumerate(events) if isinstance(event, gaps)), default=-1)
        return [one for one, before in acked if one not in heard and told < before]

    def waiting():
        # Streams that nobody writes to any more are ended, and no invocation is left alone.
        return "streams" in repr(client) or "invocations" in repr(client)

    async def main():
        async with client:
            try:
                await client.join_group("g")
            except SendError:
                await anyio.sleep_forever()  # as above
            armed.set()
            while not over.is_set():
                try:
                    await traffic()
                except KeyboardInterrupt:
                    pass
            deadline = time.monotonic() + 10
            while (missing() or waiting()) and time.monotonic() < deadline:
                await anyio.sleep(0.01)
            assert not waiting(), client
            with suppress(InvocationError):
                await others(0)
            await others(1)

    def only_interrupts(error):
        if isinstance(error, BaseExceptionGroup):
            return all(map(only_interrupts, error.exceptions))
        return isinstance(error, KeyboardInterrupt | trio.Cancelled)

    def program():
        runs = 0
        while True:
            runs += 1
            try:
                {run}
                if over.is_set():
                    return runs
            except BaseException as error:
                if not only_interrupts(error):
                    raise

    threading.Thread(target=interrupt, daemon=True).start()
    while True:
        try:
            runs = program()
            break
        except KeyboardInterrupt:
            pass
    numbers = [event.data for event in events if isinstance(event, GroupMessage)]
    assert sent == INTERRUPTS, sent
    assert not missing(), missing()
    assert numbers == sorted(set(numbers)), "once each and in order"
    assert isinstance(events[-1], Stopped), events[-1]
    starts, ends = sum(isinstance(event, Stopped) for event in events), len(numbers)
    print("runs", runs, "stopped", starts, "heard", ends, "acked", len(acked), "invoked", invoked, "written", written)
"""


@pytest.mark.parametrize("kind", RUNS)
def test_hundreds_of_interrupts_lose_nothing_in_silence(kind: str) -> None:
    module, start, how = RUNS[kind]
    often = how == "often"
    code = textwrap.dedent(PROGRAM).format(
        module=module, run=start, often=often, interrupts=300 if often else 150, seed=1
    )
    with BackgroundService() as service:
        done = forked.run(
            [sys.executable, "-c", code, service.direct_url()],
            text=True,
            timeout=120,
        )
    # Between two runs the interpreter may have to say that nobody hears of a signal: that is not of interest.
    assert done.returncode == 0, done.stderr
    words = done.stdout.split()
    told = {name: int(count) for name, count in zip(words[::2], words[1::2], strict=True)}
    assert all(told.values()), f"there was traffic, and each call still works: {told}"
    if often:
        # Few come amid a callback, or amid trio's own work on a new connection; elsewhere they end no client.
        assert told["runs"] < 300 // 4
