"""The contract that every client keeps, for authors of adapters.

Run each of :data:`CHECKS` with :func:`run_check`, or those of a :class:`Profile` that fits your client. The methods
that a client must have are those of :class:`AsyncClientApi` or :class:`BlockingClientApi`.
"""

from limpet.testing.contract.api import AsyncClientApi, ClientState, EventStream
from limpet.testing.contract.blocking import Blocking
from limpet.testing.contract.blocking_api import BlockingClientApi, BlockingEventStream
from limpet.testing.contract.check import Check, Mark, marks_of, needs_of
from limpet.testing.contract.checks import CHECKS
from limpet.testing.contract.needs import ALL, Need
from limpet.testing.contract.profile import PROFILES, Profile
from limpet.testing.contract.run import run_check
from limpet.testing.contract.subject import Adapter, Subject

__all__ = [
    "ALL",
    "CHECKS",
    "PROFILES",
    "Adapter",
    "AsyncClientApi",
    "Blocking",
    "BlockingClientApi",
    "BlockingEventStream",
    "Check",
    "ClientState",
    "EventStream",
    "Mark",
    "Need",
    "Profile",
    "Subject",
    "marks_of",
    "needs_of",
    "run_check",
]
