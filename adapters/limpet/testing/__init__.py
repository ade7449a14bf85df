"""For tests: services whose network can be broken, over sockets or in memory; a strict session; the contract.

``trace`` has the types of what a service's log holds. ``limpet.testing.plugin`` is for pytest. Needs
``limpet[service]``, and for the contract ``limpet[anyio]``.
"""

from limpet._extras import extra

with extra("service"):
    from limpet.testing.service import BackgroundService
from limpet.testing._answers import AnsweredCall
from limpet.testing._verbs import ROLES
from limpet.testing.log import EventLog
from limpet.testing.virtual.service import VirtualClient, VirtualService
from limpet.testing.watched import Misuse, Watched
from limpet_core.service import trace

__all__ = [
    "ROLES",
    "AnsweredCall",
    "BackgroundService",
    "EventLog",
    "Misuse",
    "VirtualClient",
    "VirtualService",
    "Watched",
    "trace",
]
