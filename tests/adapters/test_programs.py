"""Whole programs with an async client, in development mode: they end by themselves, and nothing is left to say."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import trustme
from tests.helpers import forked
from tests.helpers.echo import server_context
from tests.helpers.waiting import LIMIT, complaints, until

from limpet.service import EventHandler, HubOptions, ServiceOptions
from limpet.testing import BackgroundService
from limpet.testing.contract.checks._mute import Mute

RUNS = {
    "asyncio": ("asyncio", "asyncio.run(main())"),
    "uvloop": ("asyncio", "import uvloop; uvloop.run(main())"),
    "trio": ("trio", "import trio; trio.run(main)"),
    "anyio-asyncio": ("anyio", "anyio.run(main)"),
    "anyio-trio": ("anyio", "anyio.run(main, backend='trio')"),
}

PROGRAM = """
    import asyncio, os, signal, sys, threading
    import anyio
    from limpet import GroupMessage, Stopped
    from limpet.{module} import Client

    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells ignore it for what runs in the background

    async def main():
        client = Client(sys.argv[1], ssl=sys.argv[2] or None)
        client.on(Stopped, lambda event: print("stopped", event.error))
        shown = anyio.Event()
        async def show(message):
            await anyio.sleep(0)
            print(message.data)
            shown.set()
        client.on(GroupMessage, show)
        async with client:
            await client.join_group("g")
            await client.send_to_group("g", "hello")
            await client.send_to_group("g", "unheard", no_echo=True)
            await shown.wait()
            {then}

    try:
        {run}
    except KeyboardInterrupt:
        print("interrupted")
"""


def code(program: str, **parts: str) -> str:
    return textwrap.dedent(program).format(**parts)


def run(kind: str, then: str, service: BackgroundService, ca: Path | None = None) -> list[str]:
    module, start = RUNS[kind]
    program = code(PROGRAM, module=module, run=start, then=then)
    done = forked.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", program, service.url(), str(ca or "")],
        text=True,
        timeout=LIMIT,
    )
    assert (complaints(done.stderr), done.returncode) == ("", 0)
    return done.stdout.splitlines()


@pytest.mark.parametrize("kind", RUNS)
@pytest.mark.parametrize("secure", [False, True])
def test_a_program_ends_cleanly(kind: str, secure: bool, tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    tls = server_context(authority.issue_cert("127.0.0.1"))
    with BackgroundService(tls=tls if secure else None) as service:
        assert run(kind, "pass", service, tmp_path / "ca.pem" if secure else None) == ["hello", "stopped None"]


@pytest.mark.skipif(sys.platform == "win32", reason="a console's Ctrl-C goes to every process of it")
@pytest.mark.parametrize("kind", RUNS)
@pytest.mark.parametrize(
    "blocked",
    ["await anyio.sleep_forever()", "[m async for m in client]", "await client.send_event('hangs', 1)"],
    ids=["sleep", "iteration", "request"],
)
def test_ctrl_c_ends_it_politely(kind: str, blocked: str) -> None:
    then = f"threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start(); {blocked}"
    with socket.create_server(("127.0.0.1", 0)) as nobody_answers:
        handler = EventHandler(url=f"http://127.0.0.1:{nobody_answers.getsockname()[1]}/", system_events=())
        hubs = {"chat": HubOptions(event_handlers=(handler,))}
        with BackgroundService(ServiceOptions(hubs=hubs)) as service:
            assert run(kind, then, service) == ["hello", "stopped None", "interrupted"]
            assert not service.members("g")


STARTING = """
    import asyncio, signal, sys
    import anyio
    from limpet import Options
    from limpet.{module} import Client

    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells ignore it for what runs in the background
    client = Client(sys.argv[1], Options(connect_timeout=600.0, close_timeout=600.0))

    async def main():
        async with client:
            pass

    def blocking():
        with client:
            pass

    try:
        {run}
    except KeyboardInterrupt:
        print("interrupted")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="a console's Ctrl-C goes to every process of it")
@pytest.mark.parametrize("kind", [*RUNS, "sync"])
def test_ctrl_c_in_a_start_waits_for_no_answer_of_a_mute_service(kind: str) -> None:
    module, start = RUNS.get(kind, ("sync", "blocking()"))
    with Mute() as server:
        process = forked.Popen(
            [sys.executable, "-X", "dev", "-W", "error", "-c", code(STARTING, module=module, run=start), server.url],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            until(lambda: server.opened or process.poll() is not None)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=LIMIT)
        finally:
            process.kill()
    assert (out, complaints(err), process.returncode) == ("interrupted\n", "", 0)


HANGING = """
    import asyncio, socket, sys, time
    import anyio
    from limpet import ConnectError, Options
    from limpet.{module} import Client

    look_up = socket.getaddrinfo

    def getaddrinfo(host, port, family=0, type=0, proto=0, flags=0):
        if host not in ("hangs.test", b"hangs.test") or flags & socket.AI_NUMERICHOST:
            return look_up(host, port, family, type, proto, flags)
        time.sleep(600.0)

    socket.getaddrinfo = getaddrinfo
    connect = {connect}
    client = Client("ws://hangs.test/client/hubs/chat", Options(connect_timeout=0.2), connect=connect)

    async def main():
        try:
            await client.__aenter__()
        except ConnectError as error:
            print("timed out" in str(error))

    def blocking():
        try:
            client.start()
        except ConnectError as error:
            print("timed out" in str(error))

    {run}
"""

CONNECTORS = {
    "websockets": "websockets",
    "aiohttp": "aiohttp",
    "picows": "picows",
    "sync-websockets": "websockets",
}


@pytest.mark.parametrize("kind", [*RUNS, "sync", *CONNECTORS])
def test_a_look_up_that_hangs_does_not_hold_up_the_end(kind: str) -> None:
    module, start = RUNS.get(kind, ("sync", "blocking()") if kind.startswith("sync") else RUNS["asyncio"])
    connect = "None"
    if kind in CONNECTORS:
        function = "blocking_connector" if module == "sync" else "connector"
        connect = f"__import__('limpet.connect.{CONNECTORS[kind]}', fromlist=['*']).{function}()"
    program = code(HANGING, module=module, run=start, connect=connect)
    done = forked.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", program],
        text=True,
        timeout=LIMIT,
    )
    assert (done.stdout, complaints(done.stderr), done.returncode) == ("True\n", "", 0)
