"""What runs in a fork is as what is started anew."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.helpers import forked
from tests.helpers.command_line import TIMEOUT, environment_without_limpet

pytestmark = pytest.mark.skipif(not forked.POSSIBLE, reason="this system has no fork")


@pytest.mark.parametrize(
    ("arguments", "stdin"),
    [
        (["--help"], ""),
        (["sing"], ""),
        (["pub", "--url", "ws://127.0.0.1:1/client/hubs/h?access_token=t", "g"], "{no JSON\n"),
        (["serve", "--config", "here.toml"], ""),
    ],
    ids=["help", "no command", "a wrong line", "a wrong file of the folder"],
)
def test_status_and_output_are_those_of_a_start(
    arguments: list[str], stdin: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here.toml").write_text("wrong = 1\n")
    monkeypatch.chdir(tmp_path)
    environment = {**environment_without_limpet(), "COLUMNS": "70"}
    started = subprocess.run(
        [sys.executable, "-W", "error", "-m", "limpet", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        env=environment,
    )
    expected = (started.returncode, started.stdout, started.stderr)
    assert forked.run(arguments, stdin, environment, TIMEOUT) == expected
    assert started.stdout + started.stderr


def test_what_does_not_end_is_killed() -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        forked.run(["serve", "--port", "0"], "", environment_without_limpet(), 5.0)
    assert forked.run(["--version"], "", environment_without_limpet(), TIMEOUT)[0] == 0
