"""The how-to about the log: its log is that of a real outage, and its code does what it says."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.helpers import forked
from tests.helpers.waiting import LIMIT

from limpet import Connected
from limpet._clients.log import LEVELS
from limpet.asyncio import Client
from limpet.testing import BackgroundService

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "logging.md"

PROGRAM = """
import sys
from limpet.sync import Client

with Client(sys.argv[1]) as client:
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def page() -> str:
    return PAGE.read_text("utf-8")


@pytest.fixture(scope="module")
def code(page: str) -> dict[str, Any]:
    """The names that the page defines; the set-up of the log is left out."""
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        if "basicConfig" not in block:
            exec(compile(block, str(PAGE), "exec"), names)
    return names


def without_chance(line: str) -> str:
    """Return a line of the log without what differs from run to run: times, ids, ports, the words of the system."""
    line = re.sub(r"^\S+ \S+ ", "", line)
    line = re.sub(r"(recovering \S+: ).* \(close", r"\1REASON (close", line)
    line = re.sub(r"(cannot connect to ).*(; no connection)", r"\1REASON\2", line)
    line = re.sub(r"in \d+\.\d s$|at once$", "SOON", line)
    return re.sub(r"\d+", "N", re.sub(r"(?<= )[\w-]{20,}(?=[ :,])", "ID", line))


async def until(true: Callable[[], object]) -> None:
    while not true():  # noqa: ASYNC110 - it has no event to wait for
        await asyncio.sleep(0.005)


def test_the_log_is_that_of_an_outage(page: str) -> None:
    lines: list[str] = []
    with BackgroundService() as service:
        process = forked.Popen(
            [sys.executable, "-c", PROGRAM, service.url()],
            env={**os.environ, "LIMPET_LOG_LEVEL": "info"},
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdin is not None
        assert process.stderr is not None

        def read(what: str) -> str:
            assert process.stderr is not None
            for line in process.stderr:
                lines.append(line.rstrip("\n"))
                if what in line:
                    return line
            raise AssertionError(f"{what!r} is not in {lines}")

        try:
            read("connected: ")
            service.refuse()
            service.cut()
            read("attempt 1 failed")
            service.accept()
            recovered = re.search(r"recovered (\S+) ", read("recovered "))
            assert recovered is not None
            service.end(recovered[1], "restarting")
            read("reconnected: ")
            process.stdin.close()
            assert process.stderr.read() == ""
            assert process.wait(LIMIT) == 0
        finally:
            process.kill()
            process.wait()
            process.stderr.close()
    (shown,) = re.findall(r"```text\n(.*?)```", page, re.DOTALL)
    assert list(map(without_chance, lines)) == list(map(without_chance, shown.splitlines()))


def test_the_levels_are_those_of_the_page(page: str) -> None:
    assert set(re.findall(r"^\| `([a-z]+)` \|", page, re.MULTILINE)) == set(LEVELS)


def test_the_set_up_of_the_log_shows_connections_and_no_frames(page: str) -> None:
    (block,) = [each for each in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "basicConfig" in each]
    loggers = [logging.getLogger(name) for name in ("limpet", "limpet.frames")]
    before = [logger.level for logger in loggers]
    try:
        exec(compile(block, str(PAGE), "exec"), {})
        assert [logger.getEffectiveLevel() for logger in loggers] == [logging.INFO, logging.WARNING]
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def test_the_code_shows_an_outage_and_tells_the_health(code: dict[str, Any]) -> None:
    shown: list[str] = []

    async def scenario(service: BackgroundService) -> None:
        client = Client(service.url())
        code["watch"](client, shown.append)
        assert json.loads(code["health"](client))["state"] == "stopped"
        async with asyncio.timeout(2 * LIMIT), client:
            connected = client.events(Connected)
            service.refuse()
            service.cut()
            await until(lambda: any("failed" in text for text in shown))
            service.accept()
            await until(lambda: "back" in shown)
            assert client.connection_id is not None
            service.end(client.connection_id)
            await connected.__anext__()
            health = json.loads(code["health"](client))
            assert (health["state"], health["recoveries"], health["reconnects"]) == ("connected", 1, 1)
            assert health["failed_attempts"] == sum("failed" in text for text in shown)
        service.refuse()

    with BackgroundService() as service:
        asyncio.run(scenario(service))
    assert shown[0] == "connected"
    assert re.fullmatch(r"attempt 1 failed, the next is in \d s", shown[1])
    assert shown[-2:] == ["back", "connected"]
