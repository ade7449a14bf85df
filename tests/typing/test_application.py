"""Type checkers accept the sample application, and refuse in it what they should."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

APPLICATION = Path(__file__).with_name("application.py")
ROOT = Path(__file__).parents[2]
LIMIT = 300.0


def expected() -> set[int]:
    """The lines that must be refused."""
    lines = APPLICATION.read_text("utf-8").splitlines()
    return {number for number, line in enumerate(lines, 1) if "  # error: " in line}


def test_mypy_finds_the_mistakes_and_no_others() -> None:
    pytest.importorskip("mypy", reason="mypy is needed: make check installs it")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--output", "json", "--cache-dir", ".mypy_cache", str(APPLICATION)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert not done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert {each["line"] for each in found if each["severity"] == "error"} == expected(), done.stdout


def test_pyright_finds_the_mistakes_and_no_others(tmp_path: Path) -> None:
    pyright = shutil.which("pyright", path=str(Path(sys.executable).parent))
    if pyright is None:
        pytest.skip("pyright is needed: make check installs it")
    shutil.copy(APPLICATION, tmp_path)
    paths = [str(ROOT / each) for each in ("core", "adapters")]
    config = {"typeCheckingMode": "strict", "include": [APPLICATION.name], "extraPaths": paths}
    project = tmp_path / "pyrightconfig.json"
    project.write_text(json.dumps(config), "utf-8")
    done = subprocess.run(
        [pyright, "--project", str(project), "--pythonpath", sys.executable, "--outputjson"],
        cwd=ROOT,
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    found = json.loads(done.stdout)["generalDiagnostics"]
    lines = {each["range"]["start"]["line"] + 1 for each in found if each["severity"] == "error"}
    assert lines == expected(), done.stdout
