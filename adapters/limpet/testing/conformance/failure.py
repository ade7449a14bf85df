"""The text of a failed check: the line that failed, its values, and the events of the drivers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from limpet.testing.conformance.bench import Tested
from limpet.testing.conformance.check import Check, needs_of
from limpet.testing.failed_line import failed_at, short
from limpet.testing.watched import Misuse

MANY: Final = 3
"""Misuses that are shown: the later ones often follow from the first."""
LAST: Final = 20
"""Events of a driver that are shown."""


def explain(error: BaseException, check: Check, tested: Sequence[Tested], misuses: Sequence[Misuse]) -> None:
    """Add notes to the error of ``check``, which a traceback and :func:`text_of` show."""
    if check.__doc__:
        error.add_note(f"The check: {' '.join(check.__doc__.split())}")
    if needs := needs_of(check):
        names = " and ".join(repr(need) for need in sorted(needs))
        error.add_note(f"The check is for drivers that have {names}: a Candidate says in lacks what its driver has not")
    for note in failed_at(error, check):
        error.add_note(note)
    for number, driver in enumerate(tested, 1):
        events = ", ".join(short(event) for event in driver.events[-LAST:])
        error.add_note(f"Driver {number}, {short(driver.driver)}, gave [{events}]")
    if misuses and error not in misuses:
        error.add_note(f"The strict session has found: {listed(misuses)}")


def listed(misuses: Sequence[Misuse]) -> str:
    """Return the texts of some misuses, each one once."""
    texts = list(dict.fromkeys(str(misuse) for misuse in misuses))
    more = f"; and {len(texts) - MANY} more" if len(texts) > MANY else ""
    return "; ".join(texts[:MANY]) + more


def text_of(error: BaseException) -> str:
    """Return the error and its notes, one line each."""
    first = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return "\n    ".join([first, *getattr(error, "__notes__", ())])
