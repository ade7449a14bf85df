"""Nodes as processes: started, killed, stopped for a while, and in the end all gone."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.helpers import forked
from tests.helpers.waiting import LIMIT

ROOT = Path(__file__).parents[4]
STARTING = 2 * LIMIT
"""Seconds until a node serves clients: Python has to start, and the log has to be read."""

_LOOK = 0.01


class NodeProcess:
    """A process of ``tests.service.cluster.kill.node``.

    Attributes:
        name: of its place in the cluster.
        port: where it serves clients.
        run: its name in the cluster, which no other process has.
        reads: the server that it reads the log from; "nothing" while there is none.
        is_stopped: whether it stands still.
    """

    def __init__(self, name: str, process: subprocess.Popen[Any], log: Path) -> None:
        self.name = name
        self.port = 0
        self.run = ""
        self.reads = "nothing"
        self.is_stopped = False
        self._process = process
        self._lines = asyncio.StreamReader()
        self._log = log
        self._listening: asyncio.Task[None] | None = None

    @classmethod
    async def start(cls, folder: Path, name: str, number: int, **plan: Any) -> NodeProcess:
        """Start a node and wait until it serves."""
        log = folder / f"node-{name}-{number}.log"
        with log.open("wb") as errors:
            command = [sys.executable, "-m", "tests.service.cluster.kill.node", json.dumps({"name": name, **plan})]
            pipe = subprocess.PIPE
            process = await asyncio.to_thread(
                forked.Popen, command, stdin=pipe, stdout=pipe, stderr=errors, bufsize=0, cwd=ROOT
            )
        node = cls(name, process, log)
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(node._lines), process.stdout)
        try:
            async with asyncio.timeout(STARTING):
                await node._take_line()
        except BaseException:
            await node.end()
            raise
        if not node.port:
            await node.end()
            raise AssertionError(f"node {name} does not start: {node.said()}")
        node._listening = asyncio.create_task(node._listen())
        return node

    async def _take_line(self) -> bool:
        line = await self._lines.readline()
        facts = json.loads(line) if line else {}
        self.port = facts.get("port", self.port)
        self.run = facts.get("run", self.run)
        self.reads = facts.get("reads", self.reads)
        return bool(line)

    async def _listen(self) -> None:
        while await self._take_line():
            pass

    @property
    def is_alive(self) -> bool:
        """Whether there is a process."""
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    def said(self) -> str:
        """Its log."""
        return self._log.read_text(errors="replace")

    async def kill(self) -> None:
        """End it with SIGKILL."""
        if self.is_alive:
            self._process.kill()
        await self._wait()

    def stand_still(self) -> None:
        self._process.send_signal(signal.SIGSTOP)
        self.is_stopped = True

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)
        self.is_stopped = False

    async def ended(self) -> int:
        """Wait until it ends by itself; return its exit code."""
        async with asyncio.timeout(LIMIT):
            return await self._wait()

    async def _wait(self) -> int:
        while (code := self._process.poll()) is None:  # noqa: ASYNC110 - it may be started anew, or forked
            await asyncio.sleep(_LOOK)
        return code

    async def end(self) -> None:
        """Leave nothing behind."""
        await self.kill()  # SIGKILL ends a process that stands still, too
        if self._listening is not None:
            await self._listening
        assert self._process.stdin is not None
        self._process.stdin.close()
