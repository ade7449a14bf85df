"""The checks that every driver passes, on whatever event loop it runs: for authors of drivers.

A *driver* runs a :class:`limpet.Session`: it opens transports, keeps time and passes events on. Describe yours as a
:class:`Candidate`, and call :func:`run_conformance`, or :func:`run_check` for each of :func:`checks_for`. The checks
run in the thread that calls, beside a :class:`limpet.testing.BackgroundService`; they need neither asyncio nor pytest.
:mod:`limpet.testing.contract` is for whole clients with the API of Limpet's own.
"""

from limpet.testing.conformance.bench import GROUP, Bench, Tested
from limpet.testing.conformance.check import Check, needs_of
from limpet.testing.conformance.checks import CHECKS
from limpet.testing.conformance.driver import NEEDS, Candidate, Driver, Make, Need, PausingDriver, Url, directly
from limpet.testing.conformance.run import NotConforming, checks_for, run_check, run_conformance

__all__ = [
    "CHECKS",
    "GROUP",
    "NEEDS",
    "Bench",
    "Candidate",
    "Check",
    "Driver",
    "Make",
    "Need",
    "NotConforming",
    "PausingDriver",
    "Tested",
    "Url",
    "checks_for",
    "directly",
    "needs_of",
    "run_check",
    "run_conformance",
]
