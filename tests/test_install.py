"""tools/install.py, which the Makefile calls: what it says while pip works, and when pip fails."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.docs.pages import ROOT

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the Makefile is for Unix")

TIMEOUT = 100

# Stands for the Python of the environment, and does what pip does.
PIP = """#!/bin/sh
echo "Collecting one>=1 (from two)"
echo "  Downloading https://index.example/one-1.0-py3-none-any.whl (1 kB)"
echo "Requirement already satisfied: two in somewhere"
{}
echo "Installing collected packages: one, three"
echo "Successfully installed one-1.0 three-1.0"
"""

# The program without its commands: it prints the last argument of each.
INSTALL = """
import runpy, sys
main = runpy.run_path({!r})["main"]
main.__globals__["run"] = lambda what, command: print("venv" if "venv" in command else command[-1])
main(sys.argv[1], "what is wanted", ["--group", "test"])
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "bin").mkdir()
    (tmp_path / ".made").touch()
    return tmp_path


def fake(folder: Path, line: str = "") -> None:
    python = folder / "bin" / "python"
    python.write_text(PIP.format(line))
    python.chmod(0o755)


def command(folder: Path) -> list[str]:
    return [sys.executable, str(ROOT / "tools" / "install.py"), str(folder), "what is wanted", "--group", "test"]


def test_plain_lines_without_a_terminal(folder: Path) -> None:
    fake(folder)
    done = subprocess.run(command(folder), capture_output=True, text=True, timeout=TIMEOUT, check=True)
    first, last = done.stdout.splitlines()
    assert first == "Installing what is wanted"
    assert last.endswith(" s  installed 2 packages")
    assert done.stderr == ""


def test_a_line_that_moves_on_a_terminal(folder: Path) -> None:
    import pty

    fake(folder, "sleep 1")
    ours, theirs = pty.openpty()
    with subprocess.Popen(command(folder), stdout=theirs, env={**os.environ, "TERM": "xterm"}) as process:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # how Linux says that the other end is closed
            while part := os.read(ours, 4096):
                shown += part
        os.close(ours)
    assert process.returncode == 0
    lines = shown.decode().split("\r\x1b[K")
    assert lines[0] == "Installing what is wanted\r\n"
    assert any(line.endswith("found 2 packages: two") for line in lines)
    assert lines[-1].endswith(" s  installed 2 packages\r\n")


def test_a_failure_shows_what_pip_said(folder: Path) -> None:
    fake(folder, 'echo "ERROR: no such package"; exit 3')
    done = subprocess.run(command(folder), capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert done.returncode == 1
    assert done.stdout.endswith(" s  failed\n")
    assert "ERROR: no such package\n" in done.stderr
    assert "This failed: " in done.stderr
    assert "--group test" in done.stderr


def test_an_environment_that_was_stopped_half_made_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    fake(tmp_path)  # a Python is there, and nothing says that its pip was updated
    missing = subprocess.run(
        [sys.executable, "-c", INSTALL.format(str(ROOT / "tools" / "install.py")), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=True,
    )
    assert missing.stdout.splitlines() == ["venv", "pip>=25.1", "test"]
    assert (tmp_path / ".made").exists()
