"""``limpet serve`` out of file descriptors, and at a port that is in use: real processes with low limits."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest
from tests.helpers.waiting import LIMIT, until
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the limits of other processes are Linux' own")

SOFT, HARD = 100, 100


class Served:
    """A running ``limpet serve`` with limits of its own; all that it logs is in a file."""

    def __init__(self, log: Path, *arguments: str, soft: int, hard: int) -> None:
        import resource

        self._log = log
        with log.open("w") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "limpet", "serve", "--port", "0", "--anonymous", "chat", *arguments],
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard)),
            )
        stdout = self.process.stdout
        assert stdout is not None
        self._stdout: IO[str] = stdout
        found = re.search(r"http://127\.0\.0\.1:(\d+)", stdout.readline())
        assert found is not None, self.log
        self.port = int(found[1])

    @property
    def log(self) -> str:
        return self._log.read_text()

    def client(self) -> ClientConnection:
        return connect(
            f"ws://127.0.0.1:{self.port}/client/hubs/chat",
            subprotocols=[Subprotocol("json.webpubsub.azure.v1")],
            proxy=None,
            open_timeout=LIMIT,
        )

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.communicate(timeout=LIMIT)
        finally:
            self.process.kill()


@contextlib.contextmanager
def served(log: Path, *arguments: str, soft: int = SOFT, hard: int = HARD) -> Iterator[Served]:
    service = Served(log, *arguments, soft=soft, hard=hard)
    try:
        yield service
    finally:
        service.stop()


def ping(client: ClientConnection) -> None:
    client.send('{"type":"ping"}')
    while json.loads(client.recv(LIMIT)) != {"type": "pong"}:
        pass


def test_out_of_file_descriptors(tmp_path: Path) -> None:
    """One line in the log, no traceback; connected clients are served, and the others as soon as there is room."""
    with served(tmp_path / "log") as service, contextlib.ExitStack() as opened:
        client = opened.enter_context(service.client())
        ping(client)
        crowd = [opened.enter_context(socket.create_connection(("127.0.0.1", service.port))) for _ in range(SOFT + 60)]
        until(lambda: "out of file descriptors" in service.log)
        before = _cpu_seconds(service.process.pid)
        for _ in range(200):
            ping(client)
        # Several pauses in accepting, each of which ends with another failure.
        with pytest.raises(TimeoutError):
            client.recv(3.5)
        spent = _cpu_seconds(service.process.pid) - before
        late = service.log
        for one in crowd:
            one.close()
        with service.client() as newcomer:
            ping(newcomer)
        ping(client)
    warnings = [line for line in late.splitlines() if "no new client can be accepted" in line]
    assert len(warnings) == 1, late[:2000]
    assert f"out of file descriptors (this process may have {HARD} open at a time)" in warnings[0]
    assert "Traceback" not in late
    assert len(late.splitlines()) == 2, late  # the other one is that of the start
    assert spent < 2.0


def test_requests_that_come_first_then_need_no_file(tmp_path: Path) -> None:
    """No traceback for the first of their kind, on connections that were there before: nothing is loaded as late."""
    paths = ("/", "/trace/client.js", "/api/hubs/chat/:fly", "/api/hubs/chat/:send", "/nothing", "/client/hubs/chat")
    with served(tmp_path / "log") as service, contextlib.ExitStack() as opened:
        address = ("127.0.0.1", service.port)
        early = [opened.enter_context(socket.create_connection(address, LIMIT)) for _ in paths]
        websocket = opened.enter_context(socket.create_connection(address, LIMIT))
        for _ in range(SOFT):
            opened.enter_context(socket.create_connection(address))
        until(lambda: "out of file descriptors" in service.log)
        statuses: list[int] = []
        for path, one in zip(paths, early, strict=True):
            one.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
            statuses.append(int(one.recv(12).split()[1]))
        websocket.sendall(
            b"GET /client/hubs/chat HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        statuses.append(int(websocket.recv(12).split()[1]))
        assert statuses == [200, 200, 404, 405, 404, 400, 101]
        assert len(service.log.splitlines()) == 2, service.log


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_the_soft_limit_is_raised_to_the_hard_one(tmp_path: Path) -> None:
    import resource

    with served(tmp_path / "log", soft=64, hard=1500) as service:
        assert resource.prlimit(service.process.pid, resource.RLIMIT_NOFILE) == (1500, 1500)
        assert service.log == ""


@pytest.mark.parametrize(("hard", "configured", "told"), [(200, None, True), (200, 100, False), (1100, 2000, True)])
def test_a_limit_that_is_too_low_is_told_at_the_start(
    tmp_path: Path, hard: int, configured: int | None, told: bool
) -> None:
    arguments: list[str] = []
    if configured is not None:
        config = tmp_path / "limpet.toml"
        config.write_text(f"max_connections = {configured}\n")
        arguments = ["--config", str(config)]
    with served(tmp_path / "log", *arguments, soft=hard, hard=hard) as service:
        lines = service.log.splitlines()
    assert len(lines) == told
    for line in lines:
        assert f"this process may have {hard} files open, enough for about {hard - 50} clients" in line
        assert "ulimit -n" in line


def test_a_port_in_use_is_told_with_the_process_and_a_free_port(tmp_path: Path) -> None:
    with served(tmp_path / "log", soft=1024, hard=1024) as service:
        command = [sys.executable, "-m", "limpet", "serve", "--port"]
        refused = subprocess.run([*command, str(service.port)], capture_output=True, text=True, timeout=LIMIT)
        assert refused.returncode == 1
        found = re.fullmatch(
            rf"Error: port {service.port} of 127\.0\.0\.1 is in use by process {service.process.pid} \((.+)\): "
            r"stop it, or use port (\d+), which is free, or port 0 for any free one\n",
            refused.stderr,
        )
        assert found is not None, refused.stderr
        assert found[1] == Path(f"/proc/{service.process.pid}/comm").read_text().strip()
        with socket.create_server(("127.0.0.1", int(found[2]))):
            pass
