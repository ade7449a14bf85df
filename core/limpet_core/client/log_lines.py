"""The lines of a session's log, kept until nothing of the session is half done."""

from __future__ import annotations

import logging

log: logging.Logger = logging.getLogger("limpet")
frames_log: logging.Logger = logging.getLogger("limpet.frames")


class LogLines:
    """Keeps lines for the log until :meth:`write`.

    A handler of the log may call the session, or let another greenlet run that does. In the middle of a transition
    either would meet a state that is none. So lines are written where the application takes the events.

    Attributes:
        lines: the lines that wait, each with its logger, level and arguments; None: there are none.
    """

    __slots__ = ("lines",)

    def __init__(self) -> None:
        # Made when needed, and no deque, which would take 0.7 KiB: few lines wait at a time.
        self.lines: list[tuple[logging.Logger, int, str, tuple[object, ...]]] | None = None

    def debug(self, text: str, *args: object, to: logging.Logger = log) -> None:
        """Keep a line of level DEBUG, if the logger wants it; ``to``: the logger."""
        if to.isEnabledFor(logging.DEBUG):
            self._keep(to, logging.DEBUG, text, args)

    def info(self, text: str, *args: object) -> None:
        """Keep a line of level INFO, if the logger wants it."""
        if log.isEnabledFor(logging.INFO):
            self._keep(log, logging.INFO, text, args)

    def warning(self, text: str, *args: object) -> None:
        """Keep a line of level WARNING."""
        self._keep(log, logging.WARNING, text, args)

    def error(self, text: str, *args: object) -> None:
        """Keep a line of level ERROR."""
        self._keep(log, logging.ERROR, text, args)

    def _keep(self, logger: logging.Logger, level: int, text: str, args: tuple[object, ...]) -> None:
        if self.lines is None:
            self.lines = []
        self.lines.append((logger, level, text, args))

    def write(self) -> None:
        """Write the lines that wait. A handler may raise, and call the session; lines of that are written next time."""
        for _ in range(len(self.lines or ())):
            if not self.lines:
                return  # a handler has drained the session
            logger, level, text, args = self.lines.pop(0)
            self.lines = self.lines or None
            logger.log(level, text, *args)
