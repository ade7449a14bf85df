"""Accepting: while the process is out of file descriptors, and when the service stops."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import socket
import warnings
from pathlib import Path
from typing import Any

import httpx
import pytest

from limpet.service import LocalCertificate, Service

FAILURES = 100


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
        with contextlib.ExitStack() as opened:
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
