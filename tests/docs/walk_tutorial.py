"""Walk through the tutorial as a reader does: paste every block, and compare what it shows.

``python -m tests.docs.walk_tutorial PACKAGE`` does it in a new virtual environment, into which it installs PACKAGE (a
checkout or a wheel) in place of ``limpet``, and prints how long each step took. ``test_tutorial.py`` does the same
without the installation.

The words before a block say what to do with it:

- "Put this into `NAME`:" and "Add this to the end of `NAME`:" make a file;
- "In a new terminal, ... start the **NAME**:" and "Stop the **NAME** with Ctrl-C, and start it again:" run a program
  that goes on;
- "Stop the **NAME** with Ctrl-C." stops one;
- every other block for a shell runs in the first terminal; what is shown "until" something is asked for again.

A block of text is the output of the block before it, or of "the terminal of the **NAME**"; "..." stands for anything.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial"
PAGES = sorted(TUTORIAL.glob("[0-9]-*.md"))
PATIENCE = 120.0
"""Seconds for one step; the installation has no limit."""


@dataclass(frozen=True)
class Block:
    """A block of a page: the words before it, its language and its text."""

    words: str
    language: str
    text: str

    @property
    def file(self) -> str | None:
        found = re.search(r"(?:Put this into|Add this to the end of) `([\w.]+)`:$", self.words)
        return found[1] if found else None


def blocks(page: Path) -> list[Block]:
    """Return the blocks of a page in order."""
    found = []
    end = 0
    text = page.read_text("utf-8")
    for match in re.finditer(r"^```(\w+)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        found.append(Block(" ".join(text[end : match.start()].split()), match[1], match[2]))
        end = match.end()
    assert end, page
    return found


def files() -> dict[str, list[str]]:
    """Return the parts of each file that a reader makes."""
    made: dict[str, list[str]] = {}
    for page in PAGES:
        for block in blocks(page):
            if block.file:
                assert ("Add this" in block.words.rpartition(". ")[2]) == (block.file in made), block.words
                made.setdefault(block.file, []).append(block.text)
    return made


def matches(expected: str, shown: str) -> bool:
    pattern = ".*".join(re.escape(part) for part in expected.strip().split("..."))
    return re.fullmatch(pattern, shown.strip(), re.DOTALL) is not None


class Terminal:
    """A terminal in which a program goes on; its output is in a file."""

    def __init__(self, script: str, folder: Path, environment: dict[str, str], output: Path) -> None:
        self.output = output
        with output.open("wb") as file:
            self._process = subprocess.Popen(
                ["bash", "-c", script],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def stop(self, number: int = signal.SIGINT) -> None:
        """Press Ctrl-C."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, number)
        self._process.wait(PATIENCE)

    def shown(self) -> str:
        return self.output.read_text("utf-8", "replace")


class Walk:
    """A walk through the pages in a folder.

    Args:
        folder: an empty folder.
        package: what to install into a new environment in place of ``limpet``; None: use this program's environment.
        tell: is told each step and its seconds.
    """

    def __init__(self, folder: Path, package: str | None, tell: Callable[[str, float], None]) -> None:
        self.folder = folder
        self._package, self._tell = package, tell
        self._logs = folder / "logs"
        self._logs.mkdir()
        with ExitStack() as stack:
            sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2)]
            self.ports = dict(zip(("8080", "8000"), (str(each.getsockname()[1]) for each in sockets), strict=True))
        self._environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PYTEST", "LIMPET", "VIRTUAL_ENV"))
        }
        self._environment["PYTHONDONTWRITEBYTECODE"] = "1"
        if package is None:  # it has more plugins than a reader
            self._environment["PYTEST_ADDOPTS"] = "-p no:asyncio -p no:trio -p no:hypothesispytest"
        self._terminals: dict[str, Terminal] = {}
        self._last: Terminal | None = None
        self._shown = ""

    def __enter__(self) -> Walk:
        return self

    def __exit__(self, *_: object) -> None:
        for terminal in self._terminals.values():
            terminal.stop(signal.SIGKILL)

    def adapted(self, text: str) -> str:
        """Return the text with this walk's ports."""
        for shown, port in self.ports.items():
            text = re.sub(rf"\b{shown}\b", port, text)
        return text

    def page(self, page: Path) -> None:
        """Do what the page says."""
        steps = blocks(page)
        for number, block in enumerate(steps):
            begun = time.monotonic()
            after = steps[number + 1] if number + 1 < len(steps) else None
            self._do(block, after)
            self._tell(f"{page.name} {number + 1}: {block.text.splitlines()[0][:60]}", time.monotonic() - begun)

    def _do(self, block: Block, after: Block | None) -> None:
        text = self.adapted(block.text)
        start = re.search(r"(?:start the \*\*(.+?)\*\*|\*\*(.+?)\*\* with Ctrl-C, and start it again):$", block.words)
        stop = re.search(r"Stop the \*\*([^*]+)\*\* with Ctrl-C", block.words)
        there = re.search(r"The terminal of the \*\*(.+?)\*\* shows:$", block.words)
        if stop:
            self._last = self._terminals[stop[1]]
            self._last.stop()
        if block.file:
            path = self.folder / block.file
            path.write_text(f"{path.read_text('utf-8')}\n\n{text}" if path.exists() else text, "utf-8")
        elif start:
            name = start[1] or start[2]
            output = self._logs / f"{len(list(self._logs.iterdir()))}-{name}"
            self._last = self._terminals[name] = Terminal(text, self.folder, self._environment, output)
        elif block.language == "shell":
            self._last = None
            self._shown = self._run(text)
            if block.words.endswith("ready:") and " until " in block.words:
                assert after is not None
                self._wait(lambda: matches(self.adapted(after.text), self._run(text)), lambda: self._run(text))
                self._shown = self._run(text)
        elif block.language == "text":
            terminal = self._terminals[there[1]] if there else self._last
            if terminal is None:
                assert matches(text, self._shown), f"shown:\n{self._shown}\nbut the page has:\n{text}"
            else:  # it goes on
                self._wait(lambda: matches(f"...{text.strip()}...", terminal.shown()), terminal.shown)
        else:
            raise AssertionError(f"what is to be done with this block? {block}")

    def _run(self, script: str) -> str:
        """Run a script in the first terminal, which keeps its folder and its settings."""
        if self._package is None and "-m venv" in script:
            script = f"{script.splitlines()[0]}\nln -s {sys.prefix} .venv"
        elif self._package is not None:
            script = script.replace("'limpet[cli]'", f"'{self._package}[cli]'")
        where = self._logs / "where"
        settings = "if [ -e settings.sh ]; then . ./settings.sh; fi"
        done = subprocess.run(
            ["bash", "-e", "-c", f"{settings}\n{script}\npwd > {where}"],
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=None if "pip install" in script else PATIENCE,
            check=False,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}"
        self.folder = Path(where.read_text("utf-8").strip())
        return done.stdout

    def _wait(self, true: Callable[[], bool], shown: Callable[[], str]) -> None:
        end = time.monotonic() + PATIENCE
        while not true():
            assert time.monotonic() < end, shown()
            time.sleep(0.1)


def main(package: str) -> None:
    """Walk, and print the times."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        with Walk(Path(folder), package, lambda step, seconds: print(f"{seconds:6.1f} s  {step}", flush=True)) as walk:
            for page in PAGES:
                walk.page(page)
        print(f"{time.monotonic() - begun:6.1f} s  all of it")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(str(Path(sys.argv[1]).resolve()))
