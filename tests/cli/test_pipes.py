"""Ends of the command line that are no errors: a reader of its output that has gone, and Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.helpers import forked
from tests.helpers.command_line import TIMEOUT, environment_without_limpet, limpet, running

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has other pipes and signals")


@pytest.mark.parametrize(
    "command", [["sub", "room"], ["sub", "--json", "room"], ["sub", "--streams", "room"], ["state", "room"]]
)
def test_a_command_ends_with_the_reader_of_its_output(service: dict[str, str], command: list[str]) -> None:
    """It does not wait for one more message, which may never come."""
    with running(*command, "--url", service["url"]) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        if "--json" in command:
            process.stdout.readline()
        else:
            process.stderr.readline()
        if command[0] == "state":
            assert "nobody has a state" in process.stderr.readline()
        process.stdout.close()
        assert process.wait(TIMEOUT) == 141
        assert process.stderr.read() == ""
        process.stdout = None


def test_a_shell_sees_what_it_sees_of_other_programs(service: dict[str, str]) -> None:
    script = 'limpet sub --url "$1" --json room | head -n 1; echo "${PIPESTATUS[@]}"'
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script, "bash", service["url"]],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        env={**environment_without_limpet(), "PATH": path},
        check=False,
    )
    first, status = done.stdout.splitlines()
    assert '"type":"connected"' in first
    assert (status, done.stderr) == ("141 0", "")


@pytest.mark.parametrize("arguments", [["--help"], ["sub", "--help"], ["--version"], ["completion", "bash"]])
def test_output_that_nobody_reads_is_no_error(arguments: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = forked.run(
            [sys.executable, "-m", "limpet", *arguments],
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            timeout=TIMEOUT,
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_file_is_no_pipe(service: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "messages"
    with (
        path.open("w") as file,
        forked.Popen(
            [sys.executable, "-m", "limpet", "sub", "--url", service["url"], "room", "--count", "1"],
            stdout=file,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        try:
            assert process.stderr is not None
            assert "connected as" in process.stderr.readline()
            assert limpet("pub", "--url", service["url"], "room", "one").returncode == 0
            assert process.wait(TIMEOUT) == 0
        finally:
            process.kill()
    assert path.read_text() == "room alice: one\n"


def test_pub_does_not_need_its_output(service: dict[str, str]) -> None:
    """It prints nothing, so a reader that has gone does not keep it from sending."""
    with forked.Popen(
        [sys.executable, "-m", "limpet", "pub", "--url", service["url"], "room"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = None
        _, told = process.communicate("one\ntwo\n", timeout=TIMEOUT)
    assert (process.returncode, told) == (0, "-- 2 messages sent and acknowledged\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_says_nothing(service: dict[str, str], number: signal.Signals) -> None:
    with running("bench", "--url", service["url"], "--seconds", "600", "--in-flight", "1") as process:
        assert process.stderr is not None
        assert "publishing to" in process.stderr.readline()
        process.send_signal(number)
        out, told = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, out, told) == (128 + number, "", "")
