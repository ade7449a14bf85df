"""Publishes without an ack: no more of them on their way than the service bears."""

from __future__ import annotations

from typing import Final

STRIDE: Final = 150
"""After so many publishes without an ack, one asks for an ack all the same."""


class Pacing:
    """Counts publishes without an ack against the acks of those that asked for one.

    Those to a group of one's own come back, and the service gives up on a connection with 1000 unacknowledged
    messages. It can only know that we have them if it reads what we say before it has published as many more. So every
    :data:`STRIDE`-th publish asks for an ack, and whoever is two of these ahead should wait.
    """

    __slots__ = ("_free", "_stride")

    def __init__(self, stride: int = STRIDE) -> None:
        self._stride = stride
        self.reset()

    def reset(self) -> None:
        """Nothing is on its way."""
        self._free = 2 * self._stride

    @property
    def full(self) -> bool:
        """Whether too many are on their way for another one."""
        return self._free <= 0

    @property
    def asks(self) -> bool:
        """Whether the next publish is to ask for an ack."""
        return self._free % self._stride == 1

    def published(self) -> None:
        """One more is on its way."""
        self._free -= 1

    def answered(self) -> None:
        """One that asked was executed, refused or lost: the service has seen all before it, or will never do."""
        self._free += self._stride
