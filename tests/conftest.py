"""Hypothesis profiles, names of failed tests while the suite runs, and tests that must not be skipped.

The environment variable LIMPET_PROFILE chooses a profile of hypothesis: quick (the default), ci or long. Quick and ci
draw the same examples in each run; long draws others, without a time limit. A test with a number of examples of its own
takes it from ``tests.helpers.profiles``, so that it grows with the profile.
"""

from __future__ import annotations

import asyncio.constants
import gc
import os
import signal
import traceback
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from tests.helpers.needs import everything_is_required
from tests.helpers.order import spread
from tests.helpers.reports import WorkerReports, is_worker

PROFILE = os.environ.get("LIMPET_PROFILE", "quick")
SLOW = list(HealthCheck)

settings.register_profile("quick", max_examples=100, deadline=None, derandomize=True, suppress_health_check=SLOW)
settings.register_profile("ci", settings.get_profile("quick"), max_examples=200, print_blob=True)
settings.register_profile("long", settings.get_profile("ci"), max_examples=10_000, derandomize=False)
settings.load_profile(PROFILE)

# asyncio's debug mode notes ten frames with each callback, a fifth of the time of a check. Nothing reads them. Even one
# frame costs a look at the file of its code.
asyncio.constants.DEBUG_STACK_DEPTH = 0  # type: ignore[misc]
# Its futures and tasks, which are written in C, note all frames: half of the time of a check.
traceback.extract_stack.__defaults__ = (None, 0)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell ignores it for background processes, and the programs that tests interrupt would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ.setdefault("PYTEST_ADDOPTS", "-p no:asyncio -p no:trio -p no:hypothesispytest")
"""Test runs that tests start are those of users without these plugins; pyproject.toml has two of them for this run."""

_HERE = Path(__file__).parent
_SINCE = pytest.StashKey[tuple[Path, int]]()
_OFTEN = 25
_NEEDY = {_HERE / "interop", _HERE / "browser"}


class _FailuresAtOnce:
    """Prints the name of a failed test, and why, at once: progress in dots does not tell, and a run takes minutes."""

    def __init__(self, terminal: pytest.TerminalReporter) -> None:
        self._terminal = terminal

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            reason = "" if crash is None else f": {crash.message.partition(chr(10))[0][:200]}"
            self._terminal.write_line(f"FAILED {report.nodeid} ({report.when}){reason}", red=True)


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    terminal = config.pluginmanager.get_plugin("terminalreporter")  # workers have none: the controller reports
    if terminal is not None and terminal.verbosity <= 0:
        config.pluginmanager.register(_FailuresAtOnce(terminal))
    if is_worker(config):
        config.pluginmanager.register(WorkerReports())


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if PROFILE == "long":
        for item in items:
            item.add_marker(pytest.mark.timeout(0), append=False)
    workers = getattr(config, "workerinput", {}).get("workercount", 1)
    if workers > 1:
        items[:] = spread(items, workers, lambda item: item.nodeid.partition("::")[0])


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect no garbage meanwhile: each worker would look through what it has just made, for a second."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_finish() -> None:
    _exempt_what_is_there()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Do it again before another file, after its first test, which imports libraries, and after each twenty-five.

    Pytest remembers much of each test.
    """
    path, number = item.config.stash.get(_SINCE, (item.path, 0))
    if path != item.path:
        number = 0
    if number % _OFTEN < 2:
        _exempt_what_is_there()
    item.config.stash[_SINCE] = item.path, number + 1


def _exempt_what_is_there() -> None:
    """Exempt what is there from collection.

    A quarter of a million objects are pytest's and the libraries'. Many tests collect garbage to see what a client has
    left behind, and would look through all of these each time, for 0.2 s.
    """
    gc.collect()
    if hasattr(gc, "freeze"):  # PyPy has no such thing
        gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail each skipped test that needs Node or a browser if LIMPET_REQUIRE_ALL=1."""
    report = yield
    if report.skipped and everything_is_required() and _NEEDY & set(item.path.parents):
        report.outcome = "failed"
        report.longrepr = f"skipped, though LIMPET_REQUIRE_ALL=1 says that no test may be left out: {report.longrepr}"
    return report
