"""What runs in a fork is as what is started anew."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.helpers import forked
from tests.helpers.command_line import TIMEOUT, environment_without_limpet

pytestmark = pytest.mark.skipif(not forked.POSSIBLE, reason="this system has no fork")

LIMPET = [sys.executable, "-W", "error", "-m", "limpet"]
DEVELOPMENT = [sys.executable, "-X", "dev", "-W", "error"]

SURROUNDINGS = """
import os, signal, sys, threading, warnings
import __main__
print(sys.argv, sys.flags, sys.path, sys.warnoptions, os.getcwd(), sorted(os.environ.items()))
print(__name__, __main__.__dict__ is globals(), sys.stdout.encoding, sys.stdout.write_through, sys.stdout.isatty())
print({number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGCHLD, signal.SIGPIPE)})
print(signal.set_wakeup_fd(-1), threading.enumerate(), signal.pthread_sigmask(signal.SIG_BLOCK, []))
print(sorted(os.listdir("/dev/fd")), repr(sys.stdin.read()), "__file__" in globals() and __file__)
print(warnings.filters)
sys.exit(3)
"""


def both(command: list[str], tmp_path: Path, **options: object) -> list[subprocess.CompletedProcess[str]]:
    """Run a program in a fork and anew; addresses of objects in what it prints are left out."""
    environment = {**environment_without_limpet(), "COLUMNS": "70"}
    every = {"input": "", "cwd": tmp_path, "text": True, "timeout": TIMEOUT, "env": environment, **options}
    done = [forked.run(command, **every), subprocess.run(command, capture_output=True, **every)]  # type: ignore[arg-type,call-overload]
    for each in done:
        each.stdout = re.sub(r"(?<=[ =])(0x)?[0-9a-f]{9,}", "...", each.stdout)
    return done


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
def test_status_and_output_are_those_of_a_start(arguments: list[str], stdin: str, tmp_path: Path) -> None:
    (tmp_path / "here.toml").write_text("wrong = 1\n")
    ours, started = both([*LIMPET, *arguments], tmp_path, input=stdin)
    assert (ours.returncode, ours.stdout, ours.stderr) == (started.returncode, started.stdout, started.stderr)
    assert started.stdout + started.stderr


@pytest.mark.parametrize("options", [[], ["-W", "error"], ["-X", "dev", "-W", "error"]], ids=" ".join)
@pytest.mark.parametrize("script", [False, True])
@pytest.mark.parametrize("unbuffered", [{}, {"PYTHONUNBUFFERED": "1"}], ids=["buffered", "unbuffered"])
def test_a_program_has_the_surroundings_of_a_start(
    options: list[str], script: bool, unbuffered: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "program.py").write_text(SURROUNDINGS)
    program = ["program.py"] if script else ["-c", SURROUNDINGS]
    environment = {**{name: os.environ[name] for name in os.environ if name != "PYTHONUNBUFFERED"}, **unbuffered}
    ours, started = both([sys.executable, *options, *program, "-x", "y"], tmp_path, env=environment, input="a\n")
    assert ours.stdout.split("\n") == started.stdout.split("\n")
    assert (ours.returncode, ours.stderr) == (started.returncode, started.stderr) == (3, "")


def test_a_program_that_fails_tells_it(tmp_path: Path) -> None:
    ours, started = both([*DEVELOPMENT, "-c", "def fail(): raise ValueError('no')\nfail()"], tmp_path)
    assert ours.returncode == started.returncode == 1
    assert [each.stderr.splitlines()[-1] for each in (ours, started)] == ["ValueError: no"] * 2


@pytest.mark.parametrize("code", ["raise KeyboardInterrupt", "import os; os.kill(os.getpid(), 9)"])
def test_the_signal_that_ended_a_program_is_told(code: str, tmp_path: Path) -> None:
    ours, started = both([*DEVELOPMENT, "-c", code], tmp_path)
    assert ours.returncode == started.returncode < 0


def test_what_does_not_end_is_killed() -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        forked.run([*LIMPET, "serve", "--port", "0"], text=True, timeout=5.0)
    assert forked.run([*LIMPET, "--version"], text=True, timeout=TIMEOUT).returncode == 0


def test_a_program_that_runs_can_be_talked_to_and_be_signalled() -> None:
    program = "print(input(), flush=True); input()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with forked.Popen([sys.executable, "-c", program], text=True, **pipes) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        print("hello", file=process.stdin, flush=True)
        assert process.stdout.readline() == "hello\n"
        assert process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.01)
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT) == process.poll() == -signal.SIGTERM


def test_what_most_programs_import_is_there_before_they_begin(tmp_path: Path) -> None:
    there = (
        "import sys; print(all(name in sys.modules for name in ('limpet.trio', 'limpet.testing', 'uvicorn', 'click')))"
    )
    assert [each.stdout for each in both([*DEVELOPMENT, "-c", there], tmp_path)] == ["True\n", "False\n"]


def test_a_warning_is_an_error_in_a_test_run_too(tmp_path: Path) -> None:
    (tmp_path / "test_one.py").write_text("import warnings\nwarnings.warn('no')\ndef test_one(): pass\n")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:asyncio", "-W", "error"]
    assert [each.returncode for each in both(command, tmp_path)] == [2, 2]


OUTER = """
import os, subprocess, sys
from tests.helpers import forked
forked.run([sys.executable, "-c", ""])
code = "import sys; from tests.helpers import forked; " \\
    "print(forked.run([sys.executable, '-c', 'import limpet; print(limpet.__file__)'], text=True).stdout)"
subprocess.run([sys.executable, "-c", code], cwd=sys.argv[1], env={**os.environ, "PYTHONPATH": sys.argv[1]}, check=True)
"""


def test_a_run_of_another_checkout_within_this_one_has_a_server_of_its_own(tmp_path: Path) -> None:
    """As the tests of an unpacked sdist: their programs must import what is in the sdist."""
    shutil.copytree(Path(__file__).parent, tmp_path / "tests" / "helpers")
    for file, text in (("__init__.py", ""), ("cli/commands.py", "class cli: commands = {'none': None}")):
        (tmp_path / "limpet" / file).parent.mkdir(exist_ok=True)
        (tmp_path / "limpet" / file).write_text(text)
    environment = {**os.environ, "PYTEST_XDIST_TESTRUNUID": tmp_path.name}
    command = [sys.executable, "-c", OUTER, str(tmp_path)]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], env=environment, capture_output=True, text=True, timeout=TIMEOUT
    )
    assert done.stdout.strip() == str(tmp_path / "limpet" / "__init__.py"), done.stderr


def test_other_variables_of_the_interpreter_are_those_of_a_start(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    done = forked.run([sys.executable, "-c", "print('\\xe9')"], env=environment, timeout=TIMEOUT)
    assert done.stdout == b"\xe9\n"
