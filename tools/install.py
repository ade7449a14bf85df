"""Install into a virtual environment, and say what and how far: a line that moves on a terminal, else plain lines.

    python tools/install.py FOLDER WHAT PIP-ARGUMENT...

FOLDER is made if it is not there; WHAT names the packages for people. Needs nothing but Python; if that is too old for
Limpet, it says so.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sized

OLDEST = (3, 11)

# Seconds between two lines without a terminal, while one step goes on.
PAUSE = 10.0

# Lines of pip that are shown if it fails.
TAIL = 30

NEWS = re.compile(r"\s*(?:Collecting ([\w.-]+)|Requirement already satisfied: ([\w.-]+)|(Downloading) (\S+))")


class Line:
    """The line that says how far the installation is."""

    def __init__(self) -> None:
        self.moves = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
        self.begin = time.monotonic()
        self.text = "..."
        self._shown_at = self.begin
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._tick)
        self._thread.start()

    def _tick(self) -> None:
        while not self._stopped.wait(0.2 if self.moves else 1.0):
            now = time.monotonic()
            if self.moves:
                width = shutil.get_terminal_size().columns - 1
                print(f"\r\x1b[K{self._with_time()[:width]}", end="", flush=True)
            elif now - self._shown_at >= PAUSE:
                self._shown_at = now
                print(self._with_time(), flush=True)

    def _with_time(self) -> str:
        return f"  {time.monotonic() - self.begin:3.0f} s  {self.text}"

    def close(self, text: str) -> None:
        """Replace the line by a last one."""
        self._stopped.set()
        self._thread.join()
        self.text = text
        print(("\r\x1b[K" if self.moves else "") + self._with_time(), flush=True)


def count(packages: Sized) -> str:
    """Return how many packages there are, in words."""
    return f"{len(packages)} package{'s' if len(packages) != 1 else ''}"


def run(what: str, command: list[str]) -> None:
    """Run a command of pip or venv, and end the program if it fails."""
    print(what, flush=True)
    line = Line()
    kept: list[str] = []
    found: set[str] = set()
    installed: list[str] = []
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    try:
        assert process.stdout is not None
        for told in process.stdout:
            kept = [*kept[1 - TAIL :], told.rstrip()]
            news = NEWS.match(told)
            if news is not None and news[3] is None:
                found.add(news[1] or news[2])
                line.text = f"found {count(found)}: {news[1] or news[2]}"
            elif news is not None:
                name = "-".join(news[4].rpartition("/")[2].split("-")[:2])
                line.text = f"found {count(found)}: downloading {name}"
            elif told.startswith("Installing collected packages:"):
                installed = told.partition(":")[2].split(",")
                line.text = f"writing {count(installed)}"
        status = process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        line.close("stopped")
        raise
    if status:
        line.close("failed")
        print("\n".join(kept), file=sys.stderr)
        sys.exit(
            f"\nThis failed: {' '.join(command)}\nIt needs a network, or an index of packages that pip is set up for."
        )
    line.close(f"installed {count(installed)}" if installed else "done")


def main(folder: str, what: str, arguments: list[str]) -> None:
    """Make the environment if it is not there, then install."""
    if sys.version_info < OLDEST:
        newest = ".".join(map(str, OLDEST))
        sys.exit(
            f"Limpet needs Python {newest} or newer, and this is {sys.version.split()[0]}: make PYTHON=python{newest}"
        )
    python = os.path.join(folder, "bin", "python")
    pip = [python, "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar", "off"]
    made = os.path.join(folder, ".made")  # else a stop in between leaves one without a pip that knows groups
    if not os.path.exists(made):
        run(f"Making {folder} with Python {sys.version.split()[0]}", [sys.executable, "-m", "venv", folder])
        run("Updating pip in it", [*pip, "--upgrade", "pip>=25.1"])
        with open(made, "w"):
            pass
    run(f"Installing {what}", [*pip, *arguments])


if __name__ == "__main__":
    try:
        main(sys.argv[1], sys.argv[2], sys.argv[3:])
    except KeyboardInterrupt:
        sys.exit(130)
