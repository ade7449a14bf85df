"""The contract that every client keeps, for authors of adapters: run :data:`CHECKS` with :func:`run_check`."""

from limpet.testing.contract.blocking import Blocking
from limpet.testing.contract.check import Check, Mark, marks_of
from limpet.testing.contract.checks import CHECKS
from limpet.testing.contract.run import run_check
from limpet.testing.contract.subject import Adapter, Subject

__all__ = ["CHECKS", "Adapter", "Blocking", "Check", "Mark", "Subject", "marks_of", "run_check"]
