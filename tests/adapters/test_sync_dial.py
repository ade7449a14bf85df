"""The thread of the blocking client that dials and sees to the handshake, where the start ends meanwhile."""

from __future__ import annotations

import socket
import threading

import pytest
from tests.helpers.waiting import LIMIT, until

from limpet import ConnectTimeout
from limpet._transports.route import Route
from limpet.sync import Client, _dialer, driver
from limpet.sync._calls import Call
from limpet.testing.contract.harness import fast


def dialling() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "limpet-dial"]


def test_a_connection_amid_its_handshake_is_closed_when_the_start_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux closes a socket only when no thread waits for it any more."""
    monkeypatch.setattr(_dialer, "_OPENING_INTERVAL", 4 * LIMIT)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        client = Client(f"ws://127.0.0.1:{listening.getsockname()[1]}/client/hubs/h", fast())
        with pytest.raises(ConnectTimeout):
            client.start(timeout=0.3)
        peer, _ = listening.accept()
        with peer:
            peer.settimeout(LIMIT)
            while peer.recv(4096):
                pass
    until(lambda: not dialling())


def test_a_url_is_not_asked_for_when_the_start_is_over_already() -> None:
    asked: list[str] = []

    def url() -> str:
        asked.append("asked")
        return "ws://127.0.0.1:1/client/hubs/h"

    job = driver.Driver(Route(url, None, False), fast())
    with job.lock:
        job.prepare()
        job.begin(None, Call())
        job.session.stop(job.now())
        job.settle(job.session.events()[-1])  # type: ignore[arg-type]
    until(lambda: not dialling())
    job.end()
    assert not asked
