"""JavaScript packages that tests need, exactly as a package-lock.json says."""

from __future__ import annotations

import filecmp
import shutil
import subprocess
import sys
from pathlib import Path

from filelock import FileLock
from tests.helpers.needs import leave_out, needs

__all__ = ["install_packages"]

INSTALLING = 600.0
"""Seconds for the installation of the packages, which may have to come from far away."""


def install_packages(folder: Path) -> None:
    """Install what the package-lock.json of a folder says, unless that is done; leave the test out if it is impossible.

    Needs npm.
    """
    needs("npm")
    lock, installed = folder / "package-lock.json", folder / "node_modules" / "installed-lock.json"
    with FileLock(Path(sys.prefix) / f"{folder.name}.lock"):  # other processes run tests as well
        if installed.exists() and filecmp.cmp(lock, installed, shallow=False):
            return
        command = ["npm", "ci", "--silent", "--prefix", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALLING)
        if done.returncode:
            leave_out(f"npm cannot install {folder.name}: {done.stderr.strip() or done.stdout.strip()}")
        shutil.copy(lock, installed)
