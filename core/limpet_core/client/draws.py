"""Random numbers from the application's function, which is not trusted to work."""

from __future__ import annotations

from collections.abc import Callable

from limpet_core.client.log_lines import LogLines
from limpet_core.text import one_line, reason_of


class Draws:
    """Draws from [0, 1] in the middle of a transition: it never raises.

    Args:
        random: the application's function.
        lines: the session's log; the first fault of ``random`` is told there.
    """

    __slots__ = ("_log", "_random", "_told")

    def __init__(self, random: Callable[[], float], lines: LogLines) -> None:
        self._random = random
        self._log = lines
        self._told = False

    def __call__(self) -> float:
        try:
            number = self._random()
            if isinstance(number, int | float) and 0.0 <= number <= 1.0:  # pyright: ignore[reportUnnecessaryIsInstance]
                return number
            fault = f"returned {one_line(repr(number), 100)}"
        except Exception as error:  # noqa: BLE001 - whatever it raises, the transition has to be completed
            fault = f"raised {type(error).__name__}: {one_line(reason_of(error), 100)}"
        if not self._told:
            self._told = True
            self._log.error("random %s instead of a number from 0 to 1; 0.5 is used in its place", fault)
        return 0.5
