"""The commands of docs/howto/command-line.md and of the README's "Try it", in a real bash, in the order of the page."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.docs.pages import ROOT, section
from tests.helpers.command_line import TIMEOUT, environment_without_limpet
from tests.helpers.ports import free_port
from tests.helpers.waiting import until

PAGE = ROOT / "docs" / "howto" / "command-line.md"
_MARK = r"(?:^<!-- in the background until: ([^\n]+) -->\n)?"
_BLOCK = re.compile(_MARK + r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


class Block(NamedTuple):
    """A block of the page; ``until``: it runs in the background, and has printed this before the next one begins."""

    until: str | None
    language: str
    code: str


def blocks(text: str) -> list[Block]:
    return [Block(match[1], match[2], match[3]) for match in _BLOCK.finditer(text)]


class Terminals:
    """Runs blocks in one folder; what they print is kept. What is exported holds for all that follow."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._exports = ""
        self.background: list[subprocess.Popen[bytes]] = []
        self._outputs = 0
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self._environment = {**environment_without_limpet(), "PATH": path, "PYTHONUNBUFFERED": "1"}

    def run(self, block: Block) -> None:
        self._outputs += 1
        script = f"set -e\n{self._exports}\n{'exec ' if block.until else ''}{block.code}"
        self._exports += "".join(line for line in block.code.splitlines(True) if line.startswith("export "))
        with (self._folder / f"{self._outputs}.output").open("wb") as output:
            process = subprocess.Popen(
                ["bash", "-c", script],
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        if block.until:
            self.background.append(process)
            wanted = block.until
            until(lambda: wanted in self.printed() or process.poll() is not None)
            assert wanted in self.printed(), self.printed()
            return
        try:
            assert process.wait(TIMEOUT) == 0, f"{block.code}\n{self.printed()}"
        finally:
            process.kill()
            process.wait()

    def printed(self) -> str:
        """Return all that was printed, on a terminal or to a file of JSON."""
        files = [*self._folder.glob("*.output"), *self._folder.glob("lines.json")]
        return "\n".join(file.read_text("utf-8", "replace") for file in files)

    def close(self) -> None:
        for process in self.background:
            process.kill()
            process.wait()


@pytest.fixture
def terminals(tmp_path: Path) -> Iterator[Terminals]:
    made = Terminals(tmp_path)
    yield made
    made.close()


def pattern(line: str) -> re.Pattern[str]:
    """Return the pattern of a line that is shown: three dots stand for any text."""
    return re.compile("^" + ".*".join(map(re.escape, line.split("..."))) + "$", re.MULTILINE)


@pytest.mark.timeout(600)  # two dozen programs, one after the other
@pytest.mark.skipif(sys.platform == "win32" or shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize(
    ("text", "least"),
    [
        (PAGE.read_text("utf-8"), 20),
        (section((ROOT / "README.md").read_text("utf-8"), "Try it"), 4),
    ],
    ids=["howto", "README"],
)
def test_every_command_runs_and_prints_what_is_shown(text: str, least: int, terminals: Terminals) -> None:
    ports = {"8080": str(free_port()), "3000": str(free_port())}
    text = re.sub("8080|3000", lambda found: ports[found[0]], text)
    text = text.replace("limpet serve\n", f"limpet serve --port {ports['8080']}\n")
    found = blocks(text)
    assert len(found) == text.count("\n```\n") >= least
    for block in found:
        if block.language == "sh":
            terminals.run(block)
            continue
        assert block.language == "text"
        for line in block.code.splitlines():
            until(lambda: pattern(line).search(terminals.printed()))  # noqa: B023


def test_a_line_that_is_not_printed_is_not_found() -> None:
    assert pattern('{"a":"...",...}').search('x\n{"a":"1","b":2}\n')
    assert not pattern("room bob: hello").search("room bob: hello, you")
