"""The code blocks of a page, and how they are run. `test_code.py` says how an author uses it."""

from __future__ import annotations

import ast
import asyncio
import inspect
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest
from tests.helpers.ports import free_port
from tests.helpers.waiting import LIMIT

from limpet.testing import BackgroundService

FENCE = re.compile(
    r"^<!-- run\n(?P<hidden>.*?)^-->$"
    r"|(?:^<!-- (?P<mark>not run|file|prints): (?P<about>[^\n]+) -->\n\s*)?"
    r"^(?P<ticks>`{3,})(?P<language>[^\n`]*)\n(?P<code>.*?)^(?P=ticks)$",
    re.DOTALL | re.MULTILINE,
)
OWN_LOOP = re.compile(r"\b(?:asyncio|trio|anyio)\.run\(")


class Block(NamedTuple):
    """A block of a page: code for the page's program, a file, a program of its own, or left out for a reason."""

    line: int
    language: str
    code: str
    file: str | None = None
    prints: str | None = None
    not_run: str | None = None
    hidden: bool = False


def blocks(text: str) -> list[Block]:
    """Return the fenced blocks of a page and its hidden blocks, in order."""
    found = []
    for match in FENCE.finditer(text):
        part = "code" if match["hidden"] is None else "hidden"
        line = text.count("\n", 0, match.start(part))
        if part == "hidden":
            found.append(Block(line, "python", match[part], hidden=True))
            continue
        marks = {match["mark"].replace(" ", "_"): match["about"]} if match["mark"] else {}
        found.append(Block(line, match["language"].strip(), match[part], **marks))
    return found


class Program:
    """A page as a program: its blocks in order, in one namespace, beside a local service."""

    def __init__(self, page: Path, folder: Path, service: BackgroundService) -> None:
        self._page = page
        self._folder = folder
        self._replaced: dict[str, str] = {}
        self._started: list[tuple[subprocess.Popen[bytes], Path]] = []
        self.module = ModuleType("__main__")
        self.module.__dict__.update(
            service=service,
            url=service.url("alice"),
            run=self.run,
            start=self.start,
            replace=self.replace,
            until=until,
            free_port=free_port,
        )

    async def play(self) -> None:
        """Run all blocks."""
        for block in blocks(self._page.read_text("utf-8")):
            code = block.code
            if not block.hidden:
                for old, new in self._replaced.items():
                    code = code.replace(old, new)
            if file := block.file or (block.prints and f"program_{block.line}.py"):
                path = self._folder / file
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(code, "utf-8")
                if path.suffix == ".py":
                    self._compiled(block, code)
                if block.prints:
                    self.start(f"python -u -X dev -W error {file}", ready=block.prints, goes_on=False)
            elif block.language == "python" and not block.not_run:
                await self._execute(block, code)

    def _compiled(self, block: Block, code: str) -> Any:
        padding = "\n" * block.line  # so that a traceback has the line of the page
        return compile(padding + code, str(self._page), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)

    async def _execute(self, block: Block, code: str) -> None:
        compiled = self._compiled(block, code)
        if compiled.co_flags & inspect.CO_COROUTINE:
            await eval(compiled, self.module.__dict__)
        elif OWN_LOOP.search(code):  # a loop of its own needs a thread of its own
            await asyncio.to_thread(exec, compiled, self.module.__dict__)
        else:
            exec(compiled, self.module.__dict__)

    # ---- What hidden blocks can call

    def replace(self, old: str, new: object) -> None:
        """Replace a text, such as an address, in all later blocks that readers see."""
        self._replaced[old] = str(new)

    def run(self, command: str, *, input: str = "", status: int = 0) -> str:
        """Run a command in the page's folder to its end; return what it printed."""
        done = subprocess.run(
            words(command), cwd=self._folder, input=input, capture_output=True, text=True, timeout=100, check=False
        )
        assert done.returncode == status, f"{command}: status {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def start(
        self, command: str, *, ready: str = "", goes_on: bool = True, seconds: float = LIMIT
    ) -> Callable[[], str]:
        """Start a command in the page's folder, which goes on until the page ends, and wait until it prints `ready`.

        Returns: a function that returns all that the command has printed.
        """
        path = self._folder / f"output-{len(self._started)}.txt"
        with path.open("wb") as output:
            process = subprocess.Popen(
                words(command), cwd=self._folder, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
            )
        self._started.append((process, path))
        limit = time.monotonic() + seconds
        while ready not in (printed := path.read_text("utf-8")):
            if process.poll() is not None and (goes_on or process.returncode or ready not in path.read_text("utf-8")):
                pytest.fail(f"{command}: ended with status {process.returncode}\n{printed}")
            assert time.monotonic() < limit, f"{command}: {ready!r} is not in\n{printed}"
            time.sleep(0.02)
        return lambda: path.read_text("utf-8")

    def end(self) -> None:
        """End what was started."""
        for process, path in self._started:
            process.terminate()
            try:
                process.wait(LIMIT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(LIMIT)
                raise
            print(path.read_text("utf-8"), end="")


def words(command: str) -> list[str]:
    """Return the words of a command; programs of this environment are found without its being activated."""
    program, *rest = shlex.split(command)
    beside = Path(sys.executable).parent / program
    return [str(beside) if beside.exists() else program, *rest]


async def until(true: Callable[[], object]) -> None:
    """Wait until the function returns something true."""
    async with asyncio.timeout(LIMIT):
        while not (outcome := true()):  # noqa: ASYNC110 - it has no event to wait for
            await asyncio.sleep(0.005)
        if isinstance(outcome, Awaitable):
            raise TypeError("until() takes a plain function")


def play(page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a page in a folder of its own; raise what one of its blocks raises."""
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    known, environment = set(sys.modules), dict(os.environ)
    with BackgroundService() as service:
        program = Program(page, folder, service)
        monkeypatch.setitem(sys.modules, "__main__", program.module)  # so that annotations of its classes are found

        async def bounded() -> None:
            async with asyncio.timeout(100):
                await program.play()

        try:
            asyncio.run(bounded())
        finally:
            program.end()
            os.environ.clear()
            os.environ.update(environment)
            for name in set(sys.modules) - known:  # another page may have a file of the same name
                if str(folder) in str(getattr(sys.modules[name], "__file__", "")):
                    del sys.modules[name]
