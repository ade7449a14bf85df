"""What a command imports: each start waits for it."""

from __future__ import annotations

import subprocess
import sys

import pytest
from tests.helpers.command_line import TIMEOUT, environment_without_limpet

CONNECTION_STRING = f"Endpoint=http://127.0.0.1:8080;AccessKey={'k' * 32};Version=1.0;"


def imported(*arguments: str) -> set[str]:
    """Run ``limpet``, and return the names of the modules that it has imported."""
    ran = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "limpet", *arguments],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        env=environment_without_limpet(),
    )
    assert ran.returncode == 0, ran.stderr
    return {line.rpartition("|")[2].strip() for line in ran.stderr.splitlines()}


@pytest.mark.parametrize("arguments", [("token", "--connection-string", CONNECTION_STRING), ("completion", "bash")])
def test_a_command_does_not_wait_for_what_others_need(arguments: tuple[str, ...]) -> None:
    assert not imported(*arguments) & {"rich.console", "limpet.testing"}


@pytest.mark.parametrize("command", ["sub", "pub"])
def test_a_client_does_not_wait_for_a_server(command: str) -> None:
    assert not imported(command, "--help") & {"uvicorn", "starlette", "jwt"}


def test_a_benchmark_draws_a_table_and_a_demo_cuts_connections() -> None:
    """The test above looks for names that are in use."""
    assert "rich.console" in imported("bench", "--help")
    assert imported("demo", "--help") >= {"limpet.testing", "uvicorn", "starlette", "jwt"}
