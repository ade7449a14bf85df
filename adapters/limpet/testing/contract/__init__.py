"""The contract that every client keeps, for authors of adapters: run :data:`CHECKS` with :func:`run_check`."""

from limpet.testing.contract.adapters import Adapter, Blocking
from limpet.testing.contract.run import CHECKS, Check, run_check
from limpet.testing.contract.world import Subject

__all__ = ["CHECKS", "Adapter", "Blocking", "Check", "Subject", "run_check"]
