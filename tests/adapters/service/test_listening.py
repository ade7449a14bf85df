"""Accepting while the process is out of file descriptors."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from typing import Any

import httpx
import pytest

from limpet.service import Service

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
