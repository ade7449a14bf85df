"""For tests: services whose network can be broken, over sockets or in memory, and the contract of a client.

`trace` has the types of what a service's log holds. `holdfast.testing.plugin` is for pytest. Needs
``holdfast[service]``, and for the contract ``holdfast[anyio]``.
"""

try:
    from holdfast.testing.background import ROLES, BackgroundService
except ModuleNotFoundError as _error:
    if _error.name is None or _error.name.partition(".")[0] == "holdfast":
        raise
    raise ModuleNotFoundError(
        f"holdfast.testing needs the local service ({_error}): pip install 'holdfast[service]'", name=_error.name
    ) from None
from holdfast.testing.log import EventLog
from holdfast.testing.virtual import VirtualClient, VirtualService
from holdfast_core.service import trace

__all__ = ["ROLES", "BackgroundService", "EventLog", "VirtualClient", "VirtualService", "trace"]
