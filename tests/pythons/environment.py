"""An environment with Limpet and all that its tests need, for one interpreter."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tomllib
from dataclasses import dataclass
from pathlib import Path

from tests.pythons.interpreters import Interpreter

ROOT = Path(__file__).parents[2]
PLACE = ROOT / ".venv" / "pythons"
VENV = ("-m", "venv")


class CannotInstallError(Exception):
    """Limpet itself, or pytest, cannot be installed; the text is pip's."""


@dataclass(frozen=True)
class Environment:
    """A finished environment, and the requirements that have no build for its interpreter."""

    python: Path
    left_out: tuple[str, ...]

    @property
    def gil(self) -> bool:
        """Whether the interpreter holds the GIL once Limpet is imported: an extension may bring it back."""
        code = "import sys, limpet; print(getattr(sys, '_is_gil_enabled', lambda: True)())"
        done = subprocess.run([self.python, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
        return done.stdout.strip() == "True"


def optional_requirements() -> list[str]:
    """Return all that an environment for tests may have, without Limpet's own names for groups of them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    extras = project["project"]["optional-dependencies"].values()
    groups = project["dependency-groups"]
    every: list[str] = [one for extra in extras for one in extra]
    for one in groups["test"]:
        every += [one] if isinstance(one, str) else groups[one["include-group"]]
    return [one for one in dict.fromkeys(every) if not one.startswith("limpet[")]


def prepare(interpreter: Interpreter) -> Environment:
    """Make the environment, or take that of an earlier run. Raises :class:`CannotInstallError`.

    Where a package of an extra or of the tests has no build for this interpreter, the others are installed one by one.
    """
    folder = PLACE / re.sub(r"\W+", "-", interpreter.title).lower()
    python = folder / "bin" / "python"
    stamp = folder / "installed"
    wanted = hashlib.sha256(f"{interpreter.path}\n{(ROOT / 'pyproject.toml').read_text('utf-8')}".encode()).hexdigest()
    if stamp.exists():
        key, *left_out = stamp.read_text("utf-8").splitlines()
        if key == wanted:
            return Environment(python, tuple(left_out))
    shutil.rmtree(folder, ignore_errors=True)
    print(f"installing for {interpreter.title} (a minute or more) ...", flush=True)
    subprocess.run([interpreter.path, *VENV, folder], check=True)
    _pip(python, "--upgrade", "pip>=25.1")
    failures: list[str] = []
    try:
        _pip(python, "--editable", f"{ROOT}[all]")
        _pip(python, "--group", f"{ROOT / 'pyproject.toml'}:test")
    except CannotInstallError:
        _pip(python, "--editable", str(ROOT))
        for requirement in optional_requirements():
            try:
                _pip(python, "--prefer-binary", requirement)
            except CannotInstallError:
                if requirement.startswith("pytest>"):
                    raise
                failures.append(re.split(r"[<>=; ]", requirement)[0])
    stamp.write_text("\n".join([wanted, *failures]), "utf-8")
    return Environment(python, tuple(failures))


def _pip(python: Path, *arguments: str) -> None:
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONWARNINGS": ""})
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines()]
        told = [line for line in lines if line.startswith(("Failed to build", "ERROR:"))]
        raise CannotInstallError((told or lines or ["pip failed"])[-1])
