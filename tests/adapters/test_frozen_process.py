"""A process that is stopped (SIGSTOP) for longer than the keepalive time-out, and goes on: its connection stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from tests.helpers import forked
from tests.helpers.waiting import LIMIT, until

from limpet.testing import BackgroundService

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="the system has no SIGSTOP")

FROZEN = 7.5
"""Seconds; the keepalive time-out is 5 seconds. A ping that is more than two seconds late is the sign."""

BEGIN = """
import sys
from limpet import Connected, Disconnected, Options, Recovering
{imports}

def tell(event):
    print(type(event).__name__, getattr(event, "data", ""), flush=True)

client = Client(sys.argv[1], Options(keepalive_interval=0.2, keepalive_timeout=5.0))
for kind in (Connected, Disconnected, Recovering):
    client.on(kind, tell)
"""

ASYNC = """
async def main():
    async with client:
        await client.join_group("g")
        async for message in client:
            tell(message)
            if message.data == "over":
                return

{run}
"""

BLOCKING = """
with client:
    client.join_group("g")
    for message in client:  # callbacks have a thread of their own, for which the end of a program does not wait
        tell(message)
        if message.data == "over":
            break
"""

PROGRAMS = {
    "asyncio": ("import asyncio\nfrom limpet.asyncio import Client", ASYNC, "asyncio.run(main())"),
    "asyncio-uvloop": ("import uvloop\nfrom limpet.asyncio import Client", ASYNC, "uvloop.run(main())"),
    "trio": ("import trio\nfrom limpet.trio import Client", ASYNC, "trio.run(main)"),
    "anyio": ("import anyio\nfrom limpet.anyio import Client", ASYNC, "anyio.run(main)"),
    "sync": ("from limpet.sync import Client", BLOCKING, ""),
}


@pytest.mark.parametrize("client", PROGRAMS)
@pytest.mark.parametrize("arrived", [True, False], ids=["messages wait to be read", "nothing has arrived"])
def test_a_process_that_was_stopped_keeps_its_connection(client: str, arrived: bool) -> None:
    if client == "asyncio-uvloop":
        pytest.importorskip("uvloop")
    imports, body, run = PROGRAMS[client]
    program = BEGIN.format(imports=imports) + body.format(run=run)
    with BackgroundService() as service:  # noqa: SIM117 - the process ends first
        with forked.Popen(
            [sys.executable, "-c", program, service.url()], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            try:
                # Before the stop: a blocking client tells it in a thread of its own, which may come after a message.
                assert process.stdout.readline().strip() == "Connected"
                until(lambda: service.members("g"))
                os.kill(process.pid, signal.SIGSTOP)
                if arrived:
                    service.publish("g", ["while it was stopped"])
                time.sleep(FROZEN)
                os.kill(process.pid, signal.SIGCONT)
                time.sleep(1.5)  # a connection that counts as dead by now is told
                service.publish("g", ["over"])
                told, _ = process.communicate(timeout=LIMIT)
            finally:
                process.kill()
    messages = ["GroupMessage while it was stopped"] * arrived + ["GroupMessage over"]
    lines = [line.strip() for line in told.splitlines()]
    assert [line for line in lines if line != "Disconnected"] == messages
    assert "Disconnected" not in lines[:-1]
    assert process.returncode == 0
