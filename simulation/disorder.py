"""Disorder of what the service says about the states of groups: updates overtake a snapshot, or come once more."""

from __future__ import annotations

from collections.abc import Callable

from simulation.clock import Clock

_SNAPSHOT = b'{"type":"groupStateSnapshot"'
_UPDATE = b'{"type":"groupStateUpdate"'


class Disorder:
    """Holds back snapshots on one transport, and repeats old updates on it.

    A client copes with both: a state has a time, and an older one never replaces it (js). Of two snapshots the later
    stays the last. Nothing is repeated behind a later snapshot: that says which clients have no state any more.

    Args:
        clock: the clock.
        name: of the transport.
        send: sends a message on the transport.
    """

    def __init__(self, clock: Clock, name: str, send: Callable[[bytes], None]) -> None:
        self._clock, self._send = clock, send
        self._random = clock.draw(f"{name} states")
        self._snapshots = 0
        self._held: list[bytes] = []

    def takes(self, message: bytes) -> bool:
        """Return whether a message that the service sends is to be sent later, and not now."""
        clock, random = self._clock, self._random
        if message.startswith(_UPDATE):
            if clock.faulty and random.random() < 0.3:
                clock.after(random.choice([0.1, 1.0, 3.0]), self._repeat, message, self._snapshots)
        elif message.startswith(_SNAPSHOT):
            self._snapshots += 1
            if self._held or (clock.faulty and random.random() < 0.3):
                self._held.append(message)
                clock.after(random.choice([0.1, 1.0, 3.0]), self._let_go)
                return True
        return False

    def _repeat(self, update: bytes, snapshots: int) -> None:
        if snapshots == self._snapshots:
            self._clock.log("an old update of states once more")
            self._send(update)

    def _let_go(self) -> None:
        self._clock.log("a snapshot of states behind later updates")
        self._send(self._held.pop(0))
