"""Run checks against a driver, and look at what is left behind: sockets, and errors that nobody sees."""

from __future__ import annotations

import gc
import sys
import threading
import warnings
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager

from limpet.testing.conformance.bench import Bench, soon
from limpet.testing.conformance.check import Check, needs_of
from limpet.testing.conformance.checks import CHECKS
from limpet.testing.conformance.driver import Candidate
from limpet.testing.conformance.failure import explain, listed, text_of
from limpet.testing.open_sockets import open_sockets
from limpet.testing.service import BackgroundService
from limpet.testing.watched import noted_misuses


class NotConforming(AssertionError):
    """Some checks failed.

    Attributes:
        failures: what each of them raised, by the name of the check.
    """

    def __init__(self, candidate: str, failures: dict[str, BaseException]) -> None:
        texts = [f"  {name}: {text_of(error)}" for name, error in failures.items()]
        super().__init__("\n".join([f"{candidate} fails {_checks(len(failures))}:", *texts]))
        self.failures: dict[str, BaseException] = failures


def _checks(number: int) -> str:
    return "1 check" if number == 1 else f"{number} checks"


def checks_for(candidate: Candidate) -> list[Check]:
    """Return the checks whose needs the candidate fulfils."""
    return [check for check in CHECKS if not needs_of(check) & candidate.lacks]


def run_conformance(
    candidate: Candidate, checks: Iterable[Check] | None = None, *, report: Callable[[str], object] = print
) -> None:
    """Run checks one after the other, all of :func:`checks_for` by default; raise :class:`NotConforming` at the end.

    Args:
        candidate: the driver.
        checks: None: all that fit.
        report: gets a line for each check, and at the end the number of those that passed.
    """
    failures: dict[str, BaseException] = {}
    passed = 0
    for check in checks_for(candidate) if checks is None else checks:
        try:
            run_check(check, candidate)
        except Exception as error:  # noqa: BLE001 - told at the end
            failures[check.__name__] = error
            report(f"FAILED {check.__name__}: {text_of(error)}")
        else:
            passed += 1
            report(f"ok     {check.__name__}")
    report(f"{_checks(passed)} passed" + (f", {len(failures)} failed" if failures else ""))
    if failures:
        raise NotConforming(candidate.name, failures)


def run_check(check: Check, candidate: Candidate) -> None:
    """Run one check against one driver; raises AssertionError, or what went wrong.

    The notes of the error have the line of the check that failed, the values in it, the events of each driver, and the
    misuses of each :class:`limpet.testing.Watched` session. A misuse fails the check, also if an event loop caught it.

    Raises:
        ValueError: the candidate lacks what the check needs.
    """
    missing = needs_of(check) & candidate.lacks
    if missing:
        raise ValueError(f"{check.__name__} needs {', '.join(sorted(missing))}, which {candidate.name} lacks")
    candidate.call(lambda: None)  # an event loop that starts late has its own sockets from here on
    sockets = open_sockets()
    with noted_misuses() as misuses, _unseen_errors() as unseen:
        with BackgroundService() as service:
            bench = Bench(service, candidate)
            try:
                check(bench)
            except BaseException as error:
                explain(error, check, bench.tested, misuses)
                raise
            finally:
                bench.close()
        # A socket that was open before may have been replaced by another.
        soon(
            lambda: len(open_sockets()) <= len(sockets),
            lambda: (
                "the end of sockets that are left open: "
                + ", ".join(what for one, what in open_sockets().items() if one not in sockets)
            ),
        )
        gc.collect()
    assert not unseen, f"errors that nobody saw: {unseen}"
    assert not misuses, f"the strict session has found: {listed(misuses)}"


@contextmanager
def _unseen_errors() -> Generator[list[object]]:
    """Collect errors that nobody sees: in threads, in destructors, and sockets that were not closed."""
    unseen: list[object] = []
    hooks = sys.unraisablehook, threading.excepthook
    sys.unraisablehook = lambda fault: unseen.append((fault.err_msg, repr(fault.exc_value), repr(fault.object)))
    threading.excepthook = lambda fault: unseen.append((fault.thread, repr(fault.exc_value)))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", ResourceWarning)
            yield unseen
    finally:
        sys.unraisablehook, threading.excepthook = hooks
