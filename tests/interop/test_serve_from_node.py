"""The example of a test in JavaScript, which starts and ends a service of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.helpers.needs import needs
from tests.interop.node import node_command

EXAMPLE = Path(__file__).parents[2] / "examples" / "node_test.mjs"


def run(command: Path, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    needs("node")
    environment = os.environ | {"LIMPET_COMMAND": str(command), "TMPDIR": str(tmp_path)}
    call = [*node_command(), "--test", "--test-reporter=tap", str(EXAMPLE)]
    return subprocess.run(call, capture_output=True, text=True, timeout=100, env=environment)


def test_the_tests_of_the_example_pass_and_leave_nothing(tmp_path: Path) -> None:
    done = run(Path(sys.executable).parent / "limpet", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "# pass 2" in done.stdout or "# pass 1" in done.stdout, done.stdout  # Node 18 counts the file
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["missing", "failing"])
def test_a_service_that_does_not_start_fails_the_tests_at_once(tmp_path: Path, command: str) -> None:
    program = tmp_path / "failing"
    program.write_text("#!/bin/sh\nexit 3\n", "utf-8")
    program.chmod(0o755)
    done = run(tmp_path / command, tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert ("ENOENT" if command == "missing" else "limpet serve ended with status 3") in done.stdout
