"""The versions of what the service does with the same inputs: the nodes of a cluster must all do the same.

A change of what a command does, even the mend of a fault, is a new one. The code asks ``Registry.behaviour``, or
``ServiceCore.behaviour``, which way to go, and keeps the way of the release before.
"""

from __future__ import annotations

from typing import Final

OLDEST_BEHAVIOUR: Final = 1
"""The oldest behaviour of the service that this release has."""

BEHAVIOUR: Final = 1
"""The newest behaviour of the service that this release has: that of a service on one machine."""
