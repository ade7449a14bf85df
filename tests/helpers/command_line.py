"""``limpet`` in processes of its own."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from tests.helpers import forked

TIMEOUT = 100


def limpet(*arguments: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``limpet`` to its end."""
    return forked.run(
        [sys.executable, "-W", "error", "-m", "limpet", *arguments],
        input=stdin,
        text=True,
        timeout=TIMEOUT,
        env={**environment_without_limpet(), **environment},
    )


def environment_without_limpet() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("LIMPET_")}


@contextlib.contextmanager
def running(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = forked.Popen(
        [sys.executable, "-m", "limpet", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**environment_without_limpet(), "PYTHONUNBUFFERED": "1"},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def joined(process: subprocess.Popen[str], groups: int = 1) -> None:
    """Read what ``limpet sub --json`` prints until it has joined so many groups."""
    assert process.stdout is not None
    while groups:
        line = process.stdout.readline()
        assert line, process.communicate()
        groups -= json.loads(line)["type"] == "joined"


def messages(output: str) -> list[dict[str, Any]]:
    """Return the messages among the lines of ``limpet sub --json``."""
    lines: list[dict[str, Any]] = [json.loads(line) for line in output.split("\n")[:-1]]
    return [line for line in lines if line["type"] == "message"]
