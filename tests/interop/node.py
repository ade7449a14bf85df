"""JavaScript programs of this suite, driven line by line over their standard input and output."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from tests.helpers.needs import leave_out, needs
from tests.helpers.npm import install_packages
from tests.helpers.waiting import LIMIT

HERE = Path(__file__).parent
Listener = Callable[[str, dict[str, Any]], None]


class JavaScriptError(Exception):
    """What a package threw: the name of the service's error or of the exception, and the HTTP status if any."""

    def __init__(self, name: str, message: str, status: int | None) -> None:
        super().__init__(f"{name}: {message}")
        self.name = name
        self.status = status


def install() -> None:
    """Install exactly what package-lock.json says, unless that is done already; skip where that is impossible."""
    needs("node", "npm")
    install_packages(HERE)


def node_command() -> list[str]:
    """How to run node: the packages need 20 or newer; 18, which Debian 12 has, does with a flag."""
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    major = int(version.strip().removeprefix("v").partition(".")[0])
    if major < 18:
        leave_out(f"the official packages need node 18 or newer, and this is {version.strip()}")
    return ["node", "--experimental-global-webcrypto"] if major < 19 else ["node"]


class Node:
    """One running program of ``tests/interop/js``, or another ``command`` that speaks its protocol.

    ``environment`` is added to that of this process; ``inherited`` are file descriptors that the program gets.
    """

    def __init__(
        self,
        program: str,
        *,
        command: Sequence[str] | None = None,
        environment: Mapping[str, str] | None = None,
        inherited: Sequence[int] = (),
    ) -> None:
        self._listeners: dict[str, Listener] = {}
        self._answers: dict[int, Future[Any]] = {}
        self._ids = itertools.count(1)
        self._ready: Future[str] = Future()
        self._errors: deque[str] = deque(maxlen=40)
        self._process = subprocess.Popen(
            command or [*node_command(), str(HERE / "js" / program)],
            env={**os.environ, **(environment or {})},
            pass_fds=inherited,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._read, self._read_errors)]
        for thread in self._threads:
            thread.start()
        self.version: str = self._ready.result(LIMIT)

    @property
    def running(self) -> bool:
        """Whether the process is alive."""
        return self._process.poll() is None

    def listen(self, about: str, listener: Listener) -> None:
        """Call ``listener(event, value)``, in another thread, for what the program tells about something."""
        self._listeners[about] = listener

    def begin(self, command: str, **arguments: Any) -> Future[Any]:
        """Give a command; the future has its result or raises `JavaScriptError`."""
        number = next(self._ids)
        answer = self._answers[number] = Future()
        line = json.dumps({"id": number, "do": command, **{k: v for k, v in arguments.items() if v is not None}})
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return answer

    def call(self, command: str, **arguments: Any) -> Any:
        """Give a command and wait for its result. Raises `JavaScriptError`."""
        return self.begin(command, **arguments).result(LIMIT)

    def stop(self) -> None:
        """End the process, by the end of its input."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(LIMIT)
        finally:
            self._process.kill()
            for thread in self._threads:
                thread.join(LIMIT)
            for pipe in (self._process.stdout, self._process.stderr):
                assert pipe is not None
                pipe.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said = json.loads(line)
            if "id" in said:
                self._answer(said)
            elif said["event"] == "ready":
                self._ready.set_result(said["value"])
            elif said["about"] in self._listeners:
                self._listeners[said["about"]](said["event"], said["value"])
        self._process.wait()
        self._threads[1].join(LIMIT)
        ended = RuntimeError(f"node ended with code {self._process.returncode}:\n{''.join(self._errors)}")
        for answer in [self._ready, *self._answers.values()]:
            if not answer.done():
                answer.set_exception(ended)

    def _answer(self, said: dict[str, Any]) -> None:
        answer = self._answers.pop(said["id"])
        if "error" in said:
            answer.set_exception(JavaScriptError(**said["error"]))
        else:
            answer.set_result(said["result"])

    def _read_errors(self) -> None:
        assert self._process.stderr is not None
        self._errors.extend(self._process.stderr)
