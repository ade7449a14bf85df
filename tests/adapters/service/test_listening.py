"""Listening: each address counts that the machine has; out of file descriptors; no connection is lost at the end."""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import socket
import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from limpet.service import LocalCertificate, Service, _listening
from limpet.service._listening import Listener

FAILURES = 100
_CLIENTS = 60


def test_a_long_queue_of_clients_that_have_left_does_not_hold_up_a_new_one(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each pause frees as many places in the queue as there are descriptors: a hundred pauses are over in seconds."""
    real = asyncio.SelectorEventLoop.sock_accept
    failed: list[float] = []

    async def sock_accept(loop: asyncio.SelectorEventLoop, listening: socket.socket) -> Any:
        if len(failed) < FAILURES:
            failed.append(loop.time())
            raise OSError(errno.EMFILE, "Too many open files")
        return await real(loop, listening)

    monkeypatch.setattr(asyncio.SelectorEventLoop, "sock_accept", sock_accept)

    async def main() -> None:
        async with Service() as service, httpx.AsyncClient(trust_env=False, timeout=None) as client:
            async with asyncio.timeout(FAILURES / 2):
                assert (await client.get(f"{service.endpoint}/api/health")).status_code == 200

    with caplog.at_level(logging.INFO, "limpet.service"):
        asyncio.run(main())
    assert len(failed) == FAILURES
    assert failed[-1] - failed[0] > 1.0, "it paused"
    assert len([line for line in caplog.messages if "out of file descriptors" in line]) == 1


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
@pytest.mark.parametrize("tls", [False, True])
def test_a_stop_amid_a_long_queue_leaves_no_socket_open(turns: int, tls: bool, tmp_path: Path) -> None:
    """The event loop accepts many connections in each turn; all were waiting when it had its first."""
    certificate = LocalCertificate.of_folder(tmp_path).ssl_context() if tls else None

    async def main() -> None:
        service = Service(ssl=certificate)
        await service.start()
        with ExitStack() as opened:
            for _ in range(400):
                opened.enter_context(socket.create_connection(("127.0.0.1", service.port)))
            for _ in range(turns):
                await asyncio.sleep(0)
            await service.stop()

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        asyncio.run(main())
        gc.collect()
    assert [str(warning.message) for warning in caught] == []


class Connections(asyncio.Protocol):
    """Collects the transports of all connections."""

    def __init__(self, made: list[asyncio.BaseTransport]) -> None:
        self._made = made

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._made.append(transport)


@pytest.mark.parametrize("turns", range(6))
def test_a_close_amid_a_rush_of_clients_leaves_no_socket_open(turns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_listening, "_ACCEPTS_PER_TURN", 4)
    made: list[asyncio.BaseTransport] = []

    async def rush() -> None:
        listener = Listener(lambda: Connections(made))
        port = await listener.open("127.0.0.1", 0)
        with ExitStack() as clients:
            for _ in range(_CLIENTS):
                clients.enter_context(socket.create_connection(("127.0.0.1", port)))
            for _ in range(turns):
                await asyncio.sleep(0)
            await listener.close()
            for transport in made:
                transport.close()
            await asyncio.sleep(0)
            gc.collect()

    with warnings.catch_warnings(record=True) as left_open:
        warnings.simplefilter("always", ResourceWarning)
        asyncio.run(rush())
        gc.collect()
    assert [str(warning.message) for warning in left_open] == []
    assert made or not turns  # nothing is accepted before the first


@pytest.mark.parametrize("number", [errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL])
def test_an_address_of_a_family_that_the_machine_lacks_is_left_out(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as that of ``localhost`` where IPv6 is switched off."""
    real, found = socket.create_server, socket.getaddrinfo

    def create_server(address: Any, *, family: int, **named: Any) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(number, "it is switched off")
        return real(address, family=family, **named)

    def look_up(host: str, port: int, *args: Any, **named: Any) -> list[Any]:
        if host != "name.test":
            return found(host, port, *args, **named)
        addresses = [(socket.AF_INET6, "::1"), (socket.AF_INET, "127.0.0.1")]
        return [(family, socket.SOCK_STREAM, 6, "", (address, port)) for family, address in addresses]

    async def listen(host: str) -> None:
        listener = Listener(asyncio.Protocol)
        port = await listener.open(host, 0)
        with socket.create_connection(("127.0.0.1", port)):
            await listener.close()

    monkeypatch.setattr(socket, "create_server", create_server)
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    asyncio.run(listen("name.test"))
    with pytest.raises(OSError, match="it is switched off"):
        asyncio.run(listen("::1"))


def test_a_service_that_starts_is_not_started_a_second_time() -> None:
    async def scenario() -> None:
        service = Service()
        first, second = await asyncio.gather(service.start(), service.start(), return_exceptions=True)
        assert first is None
        assert isinstance(second, RuntimeError)
        assert str(second) == "the service is starting already"
        with pytest.raises(RuntimeError, match="running already"):
            await service.start()
        async with httpx.AsyncClient(trust_env=False) as client:
            assert (await client.get(f"{service.endpoint}/api/health")).status_code == 200
        await service.stop()
        await service.start()  # and nothing of the attempts before is in its way
        await service.stop()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(scenario())
