"""For tests: a service behind a network that can be broken, and the contract that every client has to keep.

Needs ``holdfast[service]``, and for the contract ``holdfast[anyio]``.
"""

from holdfast.testing.background import ROLES, BackgroundService

__all__ = ["ROLES", "BackgroundService"]
