"""The tests on every Python of this machine: ``make test-all`` runs this.

    make test-all                                  # all tests, on each interpreter of tests/pythons/interpreters.py
    make test-all PART=tests/core                  # some of them
    make test-all PYTHONS="python3.13 /opt/py/bin/python3.14t"
    make test-all OTHERS=1                         # not on the Python that `make test` uses

Each interpreter has an environment of its own below ``.venv/pythons``. A table at the end has the results. The status
is 1 if a test failed, or if an interpreter that Limpet supports cannot run them. Needs no package.
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from tests.pythons.environment import ROOT, CannotInstallError, prepare
from tests.pythons.interpreters import NAMES, Interpreter, find

UNSUPPORTED = {"pypy"}
"""Implementations for which a dependency has no build; they are tried, and may fail to install."""


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    title: str
    result: str
    numbers: str = ""
    seconds: str = ""
    notes: str = ""
    good: bool = True


def totals(report: Path) -> dict[str, int]:
    """Return how many tests there were, and how many failed and were skipped, from pytest's XML."""
    suites = ElementTree.parse(report).getroot().iter("testsuite")
    found = dict.fromkeys(("tests", "failures", "errors", "skipped"), 0)
    for suite in suites:
        for name in found:
            found[name] += int(suite.get(name, 0))
    return found


def run(interpreter: Interpreter, part: Sequence[str], workers: str) -> Row:
    """Run the tests on one interpreter."""
    print(f"\n== {interpreter.title} ({interpreter.path})", flush=True)
    try:
        environment = prepare(interpreter)
    except CannotInstallError as error:
        print(error, flush=True)
        good = interpreter.implementation in UNSUPPORTED
        return Row(interpreter.title, "cannot be installed", notes=str(error)[:100], good=good)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [str(environment.python), "-m", "pytest", "-q", "-n", workers, "--dist", "worksteal"]
        command += ["-p", "no:cacheprovider", "-o", "junit_family=xunit2", f"--junitxml={report}", *part]
        status = subprocess.run(command, cwd=ROOT).returncode
        count = totals(report) if report.exists() else dict.fromkeys(("tests", "failures", "errors", "skipped"), 0)
    bad = count["failures"] + count["errors"]
    passed = count["tests"] - bad - count["skipped"]
    notes = [f"without {', '.join(environment.left_out)}"] if environment.left_out else []
    if interpreter.free_threaded:
        notes.append("with the GIL" if environment.gil else "without the GIL")
    return Row(
        interpreter.title,
        "passed" if status == 0 else f"failed (status {status})",
        f"{passed} / {bad} / {count['skipped']}",
        f"{time.monotonic() - began:.0f}",
        "; ".join(notes),
        status == 0,
    )


def table(rows: Iterable[Row]) -> str:
    """Return the rows as a table of text."""
    head = ("Python", "result", "passed / failed / skipped", "seconds", "notes")
    lines = [head, *((row.title, row.result, row.numbers, row.seconds, row.notes) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    texts = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([texts[0], "-" * len(texts[0]), *texts[1:]])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tests everywhere; return the status of the process."""
    parser = argparse.ArgumentParser(prog="python -m tests.pythons", description="Run the tests on every Python.")
    parser.add_argument("part", nargs="*", default=[], help="files or folders of tests, or options of pytest")
    parser.add_argument("--pythons", default="", help="names or paths of interpreters, in place of the usual names")
    parser.add_argument("--others", action="store_true", help="leave out the version that runs this command")
    parser.add_argument("--workers", default="2", help="processes that run tests")
    chosen, options = parser.parse_known_args(arguments)
    found, missing = find(chosen.pythons.split() or NAMES)
    if chosen.others:
        own = platform.python_version_tuple()[:2]
        found = [one for one in found if tuple(one.version.split(".")[:2]) != own or one.free_threaded]
    for one in missing:
        print(f"{one.name}: {one.reason}")
    if not found:
        print("no interpreter to test with" + (", but the one that `make test` uses" if chosen.others else ""))
        return 0 if chosen.others else 1
    rows = [run(interpreter, [*options, *chosen.part], chosen.workers) for interpreter in found]
    rows += [Row(one.name, "not there", notes=one.reason, good=not chosen.pythons) for one in missing]
    print(f"\n{table(rows)}")
    return 0 if all(row.good for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
