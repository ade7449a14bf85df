"""The Python interpreters of this machine, by the names under which they are installed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

NAMES = ("python3.11", "python3.12", "python3.13", "python3.14", "python3.13t", "python3.14t", "pypy3.11")
"""What is looked for, unless somebody names others. A ``t`` is a build without the GIL."""
OLDEST = (3, 11)
LIMIT = 60.0
"""Seconds in which an interpreter must have told what it is."""

QUESTION = """
import json, platform, sys, sysconfig
try:
    import ensurepip, venv
except ImportError:
    venv = None
print(json.dumps({
    "version": platform.python_version(),
    "key": list(sys.version_info[:2]),
    "implementation": sys.implementation.name,
    "free_threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
    "venv": venv is not None,
}))
"""


@dataclass(frozen=True)
class Interpreter:
    """An interpreter that runs and can make environments."""

    name: str
    path: Path
    version: str
    implementation: str
    free_threaded: bool

    @property
    def title(self) -> str:
        """Implementation and version, for the table."""
        name = {"cpython": "CPython", "pypy": "PyPy"}.get(self.implementation, self.implementation)
        return f"{name} {self.version}" + (" free-threaded" if self.free_threaded else "")


@dataclass(frozen=True)
class Missing:
    """A name under which no interpreter was found, and why."""

    name: str
    reason: str


def candidates(name: str) -> list[Path]:
    """Return the programs of a name, or at a path: those on PATH first, then those that pyenv keeps in its folder.

    pyenv puts a program of each name on PATH that runs only in folders for which a user has chosen that version.
    """
    if os.sep in name:
        return [Path(name)] if Path(name).exists() else []
    folders = [*os.get_exec_path(), *map(str, sorted(_pyenv().glob("versions/*/bin"), reverse=True))]
    found = [shutil.which(name, path=folder) for folder in folders]
    return [Path(path) for path in dict.fromkeys(found) if path is not None]


def _pyenv() -> Path:
    return Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))


def ask(name: str, path: Path) -> Interpreter | Missing:
    """Run an interpreter, and return what it says of itself."""
    command = [str(path), "-I", "-c", QUESTION]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=True)
        told = json.loads(done.stdout)
    except subprocess.CalledProcessError as error:
        said = (error.stderr or error.stdout).strip().splitlines()
        return Missing(name, f"{path} does not run: {said[0] if said else f'status {error.returncode}'}")
    except (OSError, subprocess.TimeoutExpired, ValueError) as error:
        return Missing(name, f"{path} does not run: {error}")
    if tuple(told["key"]) < OLDEST:
        return Missing(name, f"{path} is {told['version']}, and Limpet needs {'.'.join(map(str, OLDEST))}")
    if not told["venv"]:
        return Missing(name, f"{path} has no venv or ensurepip (Debian: the package {name}-venv)")
    return Interpreter(name, path.absolute(), told["version"], told["implementation"], told["free_threaded"])


def find(names: Iterable[str] = NAMES) -> tuple[list[Interpreter], list[Missing]]:
    """Return the interpreters that run, and the names for which there is none."""
    found: list[Interpreter] = []
    missing: list[Missing] = []
    for name in names:
        answers = [ask(name, path) for path in candidates(name)]
        running = [answer for answer in answers if isinstance(answer, Interpreter)]
        if running:
            found.append(running[0])
        else:
            reasons: Sequence[Missing] = [answer for answer in answers if isinstance(answer, Missing)]
            missing.append(reasons[0] if reasons else Missing(name, "not found"))
    return found, missing
