"""Real servers of an engine for tests: loopback only, free ports, a folder of their own each."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hiredis
import pytest
from tests.helpers.needs import needs
from tests.helpers.ports import free_port
from tests.helpers.waiting import LIMIT, until

TRIES = 5
"""A free port may be taken by another process before the server has it."""


def engine_program() -> str:
    """Return the path of the server that tests run: ``LIMPET_TEST_ENGINE``, or else ``redis-server``.

    Leaves the test out if there is no ``redis-server``. An engine that was asked for by name must be there.
    """
    asked = os.environ.get("LIMPET_TEST_ENGINE")
    if not asked:
        return needs("redis-server")[0]
    path = shutil.which(asked)
    if path is None:
        pytest.fail(f"LIMPET_TEST_ENGINE is {asked}, which is no program", pytrace=False)
    return path


class RedisServer:
    """A server of Redis, Valkey or whatever else is to be tested, or a sentinel."""

    def __init__(self, folder: Path, *options: str, sentinel: str | None = None) -> None:
        self.program = engine_program()
        self.folder = folder
        self.options = options
        self.sentinel = sentinel
        self.password: str | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self.tls_port = 0
        for _ in range(TRIES):
            self.port = free_port()
            if self.start():
                return
        raise AssertionError(f"{self.program} does not start: {self.log()}")

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"redis://{self.address}"

    def start(self) -> bool:
        """Start it, again, too; return whether it listens."""
        self.folder.mkdir(exist_ok=True)
        common = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        log = ["--logfile", str(self.folder / "log")]
        if self.sentinel is not None:
            config = self.folder / "sentinel.conf"
            config.write_text(self.sentinel)
            command = [self.program, str(config), "--sentinel", *common, *log]
        else:
            quick = ["--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"]
            command = [self.program, *common, *log, "--save", "", "--appendonly", "no", *quick, *self.options]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + LIMIT
        while self.process.poll() is None and time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return True
            except OSError:
                time.sleep(0.01)
        return False

    def __call__(self, *command: str | bytes | int) -> Any:
        """Send a command and return the answer, an error as an exception's object."""
        with socket.create_connection(("127.0.0.1", self.port), LIMIT) as connection:
            reader = hiredis.Reader()
            commands: list[tuple[Any, ...]] = [command]
            if self.password is not None:
                commands.insert(0, ("AUTH", self.password))
            for each in commands:
                connection.sendall(hiredis.pack_command(each))  # type: ignore[arg-type]
            answers: list[Any] = []
            while len(answers) < len(commands):
                data = connection.recv(65536)
                if not data:
                    return ConnectionError("closed")
                reader.feed(data)
                while (answer := reader.gets()) is not False:
                    answers.append(answer)
            return answers[-1]

    def kill(self) -> None:
        """End it with SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stand_still(self) -> None:
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGCONT)

    def follow(self, primary: RedisServer) -> None:
        """Make it a replica, and wait until it follows."""
        until(lambda: self("REPLICAOF", "127.0.0.1", primary.port) == b"OK")  # once it has read its disk
        until(lambda: b"master_link_status:up" in self("INFO", "replication"))
        until(lambda: b"state=online" in primary("INFO", "replication"))

    def promote(self) -> None:
        assert self("REPLICAOF", "NO", "ONE") == b"OK"

    def log(self) -> str:
        try:
            return (self.folder / "log").read_text()[-2000:]
        except OSError:
            return ""


class Servers:
    """Makes servers, and ends all of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made: list[RedisServer] = []

    def __call__(self, *options: str, sentinel: str | None = None) -> RedisServer:
        server = RedisServer(self.folder / f"redis-{len(self.made)}", *options, sentinel=sentinel)
        self.made.append(server)
        return server

    def pair(self, *options: str) -> tuple[RedisServer, RedisServer]:
        """Return a primary and the replica that follows it."""
        primary, replica = self(*options), self(*options)
        replica.follow(primary)
        return primary, replica


@contextmanager
def running_servers(folder: Path) -> Iterator[Servers]:
    servers = Servers(folder)
    try:
        yield servers
    finally:
        for server in servers.made:
            if server.process is not None and server.process.poll() is None:
                server.process.kill()
                server.process.wait()
