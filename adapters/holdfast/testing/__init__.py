"""For tests: services whose network can be broken, over sockets or in memory, and the contract of a client.

`trace` has the types of what a service's log holds. `holdfast.testing.plugin` is for pytest. Needs
``holdfast[service]``, and for the contract ``holdfast[anyio]``.
"""

from holdfast._extras import extra

with extra("service"):
    from holdfast.testing.background import ROLES, BackgroundService
from holdfast.testing.log import EventLog
from holdfast.testing.virtual import VirtualClient, VirtualService
from holdfast_core.service import trace

__all__ = ["ROLES", "BackgroundService", "EventLog", "VirtualClient", "VirtualService", "trace"]
