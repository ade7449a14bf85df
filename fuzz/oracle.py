"""The oracle of the targets."""

from __future__ import annotations

from simulation.parts import PartsOracle

from limpet import Connected


class Oracle(PartsOracle):
    """For a peer that may use a connection id twice."""

    def connected(self, event: Connected) -> None:
        self.connection_ids.clear()
        super().connected(event)
