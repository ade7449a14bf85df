"""How a cluster goes over to another behaviour of the service: not before all of its nodes have it."""

from __future__ import annotations

from typing import Final

from limpet_core.service.cluster.shared_state import SharedState

PROPOSE_AFTER: Final = 60.0
"""For how many seconds all nodes must have had a behaviour before it is proposed.

A node of the release before, which has crashed and starts again, is still welcome in this time.
"""


class Rollout:
    """Looks for a newer behaviour that all nodes have; every node looks, and the first one proposes it.

    Args:
        after: seconds, by the time of the log, for which all nodes must have had it.
    """

    def __init__(self, after: float = PROPOSE_AFTER) -> None:
        self._after = after
        self._common = 0
        self._since = 0.0

    def proposal(self, shared: SharedState, node: str) -> int | None:
        """Return the behaviour that ``node`` is to propose now; ``None``: nothing. Call it about once a second."""
        common = min((member.newest for member in shared.members), default=0)
        if common != self._common:
            self._common, self._since = common, shared.core.now
        if common <= shared.behaviour or shared.members.first != node:
            return None
        return common if shared.core.now - self._since >= self._after else None
