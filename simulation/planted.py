"""A fault of the service's logic, planted in a node: some commands raise, the same ones at all nodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from zlib import crc32

from limpet_core.service.cluster.replicated_core import ReplicatedCore
from simulation.inspect import wrap_steps

_ONE_IN: Final = 12


class PlantedFault(Exception):
    """What the planted fault raises."""


class Planted:
    """Makes the logic raise before or after the effect of a command, as the time of the log and its kind decide.

    Args:
        core: the logic of a node.
        until: the time of the log at which the fault goes away.

    Attributes:
        raised: the names of the steps that have raised, each with the time of the log.
    """

    def __init__(self, core: ReplicatedCore, until: float) -> None:
        self.core, self.until = core, until
        self.raised: list[tuple[str, float]] = []
        wrap_steps(core, self._wrap)

    def _wrap(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def perhaps_raises(*arguments: Any, **named: Any) -> Any:
            now = self.core.now
            draw = crc32(f"{name} {now}".encode())
            if now >= self.until or draw % _ONE_IN:
                return function(*arguments, **named)
            if draw // _ONE_IN % 2:
                function(*arguments, **named)
            self.raised.append((name, now))
            raise PlantedFault(name)

        return perhaps_raises
