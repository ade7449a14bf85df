"""Which nodes a node takes for dead or stopped, since it has heard nothing of them."""

from __future__ import annotations

import math
from typing import Final

from limpet_core.service.cluster.commands import Dead
from limpet_core.service.cluster.members import ABANDONED, SILENCE
from limpet_core.service.cluster.shared_state import SharedState

BEAT: Final = 1.0
"""Seconds without an entry after which a node writes one."""


class Listening:
    """Listens to the nodes of the cluster, and accuses those that are silent of being dead.

    They must be silent by the log's clock and by this machine's: the log's may jump. While the log stands still nobody
    can be heard, and when it goes on, not all are heard at once.

    Args:
        node: the name of this run of this node, which accuses others alone.
    """

    def __init__(self, node: str) -> None:
        self._node = node
        # The counter of each node, and since when it is that, by this machine's clock.
        self._heard: dict[str, tuple[int, float]] = {}
        # The newest entry at the last look at which there was a newer one than before, and when that was.
        self._moved = ("", -math.inf)

    def accusations(self, shared: SharedState, now: float) -> list[Dead]:
        """Return the accusations to write into the log; call it about once in a :data:`BEAT`.

        Each silent node is accused once for each time of silence. The log decides: a sign of life may have come before.

        Args:
            shared: what the log says.
            now: monotonic seconds of this machine.
        """
        self._listen(shared, now)
        accusations: list[Dead] = []
        for member in shared.members.silent(shared.core.now):
            counter, since = self._heard[member.node]
            if member.node != self._node and now - since > SILENCE:
                self._heard[member.node] = (counter, now)
                accusations.append(Dead(member.node, counter))
        return accusations

    def _listen(self, shared: SharedState, now: float) -> None:
        heard = self._heard
        position, since = self._moved
        if shared.position != position:
            self._moved = (shared.position, now)
            if now - since > 2 * BEAT:
                heard = {}
        self._heard = {
            member.node: known
            if (known := heard.get(member.node, (0, now)))[0] == member.counter
            else (member.counter, now)
            for member in shared.members
        }


class Vigil:
    """Listens before a node whose settings are not those of the cluster says that it has come.

    The log takes that node in if all others were silent for :data:`ABANDONED` seconds by the log's clock. But this
    clock may jump, and after an outage of the engine the node that lives may not be the first to write. So they must be
    silent for as long by this machine's clock, too, while the log answers.

    Args:
        shared: what the log says, to its newest entry.
        now: monotonic seconds of this machine.
    """

    def __init__(self, shared: SharedState, now: float) -> None:
        self._shared = shared
        self._counters = self._present()
        self._since = self._looked = now

    def is_over(self, now: float) -> bool:
        """Return whether to speak now: to be taken in, or to be told why not, since another node was heard.

        Call it about once in a :data:`BEAT`, each time with the newest entry of the log applied.
        """
        if now - self._looked > 2 * BEAT:
            self._since = now  # the log has not answered, or this node stood still: nobody could be heard
        self._looked = now
        present = self._present()
        heard = any(self._counters.get(node) != counter for node, counter in present.items())
        return not (self._shared.is_foreign and present) or heard or now - self._since > ABANDONED

    def _present(self) -> dict[str, int]:
        return {member.node: member.counter for member in self._shared.members}
