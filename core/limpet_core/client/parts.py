"""Parts: what a session is composed of besides its lifecycle, and what the lifecycle tells each of them."""

from __future__ import annotations

from typing import ClassVar, Protocol

from limpet_core.client.timers import Timer
from limpet_core.errors import LimpetError


class Part(Protocol):
    """A part with messages of its own, which waits for answers of the service.

    Attributes:
        timer: the timer that calls :meth:`wake`.
        wake_at: the time of the next :meth:`wake`, in seconds; may be early, never late.
    """

    timer: ClassVar[Timer]
    wake_at: float

    @property
    def waits(self) -> bool:
        """Whether it waits for the service: then reading goes on even if the consumer is too slow."""
        ...

    def connected(self, now: float) -> None:
        """Note that a new connection is established."""
        ...

    def recovered(self, now: float) -> None:
        """Note that the connection has a transport again."""
        ...

    def transport_lost(self) -> None:
        """Note that the transport is lost. Repeats do nothing."""
        ...

    def connection_lost(self) -> None:
        """Note that the connection is lost for good, after its transport."""
        ...

    def stop(self, error: LimpetError | None) -> None:
        """Note that the session stops, because of ``error`` or (None) by ``stop()``. Repeats do nothing."""
        ...

    def wake(self, now: float) -> None:
        """Do what is due, and set :attr:`wake_at` anew."""
        ...
