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
        lines: the lines that wait, each with its logger, level and arguments.
    """

    __slots__ = ("lines",)

    def __init__(self) -> None:
        # A list: a deque takes 0.7 KiB, even empty, and few lines wait at a time.
        self.lines: list[tuple[logging.Logger, int, str, tuple[object, ...]]] = []

    def debug(self, text: str, *args: object, to: logging.Logger = log) -> None:
        """Keep a line of level DEBUG, if the logger wants it; ``to``: the logger."""
        if to.isEnabledFor(logging.DEBUG):
            self.lines.append((to, logging.DEBUG, text, args))

    def info(self, text: str, *args: object) -> None:
        """Keep a line of level INFO, if the logger wants it."""
        if log.isEnabledFor(logging.INFO):
            self.lines.append((log, logging.INFO, text, args))

    def warning(self, text: str, *args: object) -> None:
        """Keep a line of level WARNING."""
        self.lines.append((log, logging.WARNING, text, args))

    def error(self, text: str, *args: object) -> None:
        """Keep a line of level ERROR."""
        self.lines.append((log, logging.ERROR, text, args))

    def write(self) -> None:
        """Write the lines that wait. A handler may raise, and call the session; lines of that are written next time."""
        for _ in range(len(self.lines)):
            if not self.lines:
                return  # a handler has drained the session
            logger, level, text, args = self.lines.pop(0)
            logger.log(level, text, *args)
