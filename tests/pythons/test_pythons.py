"""``make test-all``: which interpreters it finds, what it installs for them, and what it tells."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import pytest
from tests.pythons import __main__ as command
from tests.pythons import environment, interpreters
from tests.pythons.environment import CannotInstallError, Environment
from tests.pythons.interpreters import Interpreter, Missing, find

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the interpreters of these tests are shell scripts")

TOLD = (
    '{{"version": "{version}", "key": [{key}], "implementation": "{implementation}", "free_threaded": {free}, '
    '"venv": {venv}}}'
)


def program(folder: Path, name: str, script: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n", "utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def python(
    folder: Path,
    name: str,
    version: str,
    implementation: str = "cpython",
    free: str = "false",
    venv: str = "true",
) -> Path:
    key = ", ".join(version.split(".")[:2])
    told = TOLD.format(version=version, key=key, implementation=implementation, free=free, venv=venv)
    return program(folder, name, f"echo '{told}'")


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder on PATH; pyenv has its versions beside it."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    return tmp_path / "bin"


def test_the_usual_names_are_looked_for(path: Path) -> None:
    python(path, "python3.12", "3.12.4")
    python(path, "python3.14t", "3.14.1", free="true")
    python(path, "pypy3.11", "3.11.11", "pypy")
    found, missing = find()
    assert [one.title for one in found] == ["CPython 3.12.4", "CPython 3.14.1 free-threaded", "PyPy 3.11.11"]
    assert Missing("python3.13", "not found") in missing
    assert {one.name for one in found} | {one.name for one in missing} == set(interpreters.NAMES)


def test_a_path_names_an_interpreter(path: Path) -> None:
    own = python(path.parent / "elsewhere", "python", "3.13.2")
    found, missing = find([str(own), str(path / "none")])
    assert [(one.path, one.title) for one in found] == [(own, "CPython 3.13.2")]
    assert [one.reason for one in missing] == ["not found"]


def test_where_pyenv_has_a_name_that_does_not_run_its_folder_has_the_interpreter(path: Path) -> None:
    program(path, "python3.13", "echo 'pyenv: python3.13: command not found' >&2; exit 127")
    own = python(path.parent / "pyenv" / "versions" / "3.13.0" / "bin", "python3.13", "3.13.0")
    found, missing = find(["python3.13"])
    assert ([one.path for one in found], missing) == ([own], [])


def test_what_does_not_run_or_does_not_fit_is_told(path: Path) -> None:
    program(path, "broken", "echo 'no libraries' >&2; exit 1")
    program(path, "chatty", "echo hello")
    python(path, "old", "3.10.1")
    python(path, "bare", "3.12.1", venv="false")
    found, missing = find(["broken", "chatty", "old", "bare"])
    assert found == []
    broken, chatty, old, bare = (one.reason for one in missing)
    assert broken.endswith("broken does not run: no libraries")
    assert "chatty does not run" in chatty
    assert old.endswith("old is 3.10.1, and Limpet needs 3.11")
    assert "has no venv" in bare


def test_the_interpreter_of_this_run_is_found_and_told_right() -> None:
    (found,), missing = find([sys.executable])
    assert missing == []
    assert found.version == ".".join(map(str, sys.version_info[:3]))


# ---- The command

GOOD = "<testsuites><testsuite tests='5' failures='0' errors='0' skipped='1'/></testsuites>"
BAD = "<testsuites><testsuite tests='5' failures='1' errors='1' skipped='0'/></testsuites>"


@pytest.fixture
def prepared(path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program in place of the Python of each environment: it writes the report, and the status, of a file."""
    runner = program(
        path.parent,
        "runner",
        f"for one; do case $one in --junitxml=*) /bin/cat {path.parent}/report.xml > ${{one#--junitxml=}};; "
        f'*) echo "$one" >> {path.parent}/arguments;; esac; done; exit $(/bin/cat {path.parent}/status)',
    )
    (path.parent / "report.xml").write_text(GOOD)
    (path.parent / "status").write_text("0")

    def prepare(interpreter: Interpreter) -> Environment:
        if interpreter.implementation == "pypy" or interpreter.version == "3.99.0":
            raise CannotInstallError("no build of msgspec")
        return Environment(runner, ("gevent",) if interpreter.version == "3.14.1" else ())

    monkeypatch.setattr(command, "prepare", prepare)
    return path.parent


def test_the_table_has_a_row_for_each_interpreter(
    path: Path, prepared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    python(path, "python3.12", "3.12.4")
    python(path, "python3.14", "3.14.1")
    python(path, "pypy3.11", "3.11.11", "pypy")
    assert command.main(["tests/core", "-k", "some"]) == 0
    lines = capsys.readouterr().out.splitlines()
    table = lines[lines.index(next(line for line in lines if line.startswith("Python "))) :]
    assert [line.split()[:3] for line in table[2:5]] == [
        ["CPython", "3.12.4", "passed"],
        ["CPython", "3.14.1", "passed"],
        ["PyPy", "3.11.11", "cannot"],
    ]
    assert "4 / 0 / 1" in table[2]
    assert table[3].endswith("without gevent")
    assert table[4].endswith("no build of msgspec")
    assert sum("not there" in line for line in table) == len(interpreters.NAMES) - 3
    assert {"tests/core", "-k", "some"} <= set((prepared / "arguments").read_text().splitlines())


def test_a_failed_test_and_a_failed_installation_fail_the_command(
    path: Path, prepared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    python(path, "python3.12", "3.12.4")
    (prepared / "report.xml").write_text(BAD)
    (prepared / "status").write_text("1")
    assert command.main([]) == 1
    assert "3 / 2 / 0" in capsys.readouterr().out
    python(path, "new", "3.99.0")
    assert command.main(["--pythons", "new"]) == 1
    assert command.main(["--pythons", "nowhere"]) == 1


def test_others_leaves_out_the_version_that_make_test_has(
    path: Path, prepared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = ".".join(map(str, sys.version_info[:2]))
    python(path, f"python{own}", f"{own}.9")
    assert command.main(["--others"]) == 0
    assert "no interpreter to test with, but the one that `make test` uses" in capsys.readouterr().out
    other = "3.12" if own != "3.12" else "3.13"
    python(path, f"python{other}", f"{other}.9")
    assert command.main(["--others"]) == 0
    output = capsys.readouterr().out
    assert f"CPython {other}.9" in output
    assert f"CPython {own}.9" not in output


# ---- Environments

WITHOUT_PIP = (*environment.VENV, "--without-pip")
"""To put pip into an environment takes four seconds; these tests have a pip of their own."""


def test_what_has_no_build_is_left_out_and_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[str] = []

    def pip(python: Path, *arguments: str) -> None:
        calls.append(arguments[-1])
        if arguments[-1].endswith("[all]") or arguments[-1].startswith("gevent"):
            raise CannotInstallError("no build of gevent")

    monkeypatch.setattr(environment, "PLACE", tmp_path)
    monkeypatch.setattr(environment, "VENV", WITHOUT_PIP)
    monkeypatch.setattr(environment, "_pip", pip)
    (interpreter,), _ = find([sys.executable])
    assert environment.prepare(interpreter).left_out == ("gevent",)
    assert any(call.startswith("trio") for call in calls)
    calls.clear()
    assert environment.prepare(interpreter).left_out == ("gevent",)
    assert calls == [], "it is there from the run before"


def test_limpet_itself_must_be_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pip(python: Path, *arguments: str) -> None:
        if "--editable" in arguments:
            raise CannotInstallError("no build of msgspec")

    monkeypatch.setattr(environment, "PLACE", tmp_path)
    monkeypatch.setattr(environment, "VENV", WITHOUT_PIP)
    monkeypatch.setattr(environment, "_pip", pip)
    (interpreter,), _ = find([sys.executable])
    with pytest.raises(CannotInstallError, match="msgspec"):
        environment.prepare(interpreter)


def test_every_requirement_is_one_that_pip_takes() -> None:
    every = environment.optional_requirements()
    assert all(isinstance(one, str) for one in every)
    assert [one for one in every if one.startswith("limpet[")] == []
    assert any(one.startswith("pytest>") for one in every)
    assert any(one.startswith("trio>") for one in every)
