"""The terminal for tables and bars, or a file in its place."""

from __future__ import annotations

from rich.console import Console


class _QuietConsole(Console):
    def on_broken_pipe(self) -> None:
        """Leave a pipe that nobody reads to the command line, which ends without a word."""
        raise BrokenPipeError


def console() -> Console:
    """Return the console: 80 columns without a terminal, colours only on one and without ``NO_COLOR``."""
    return _QuietConsole(soft_wrap=False, highlight=False)
