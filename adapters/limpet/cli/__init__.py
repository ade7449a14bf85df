"""The command line, ``limpet``: a module for each command, or for a few that belong together."""

from __future__ import annotations

import signal
import sys

from limpet._extras import MissingExtra, extra

__all__ = ["main"]


def main() -> None:
    """Run the command line. The entry point of ``limpet``."""
    try:
        with extra("cli"):
            from limpet.cli.commands import cli
        cli(prog_name="limpet")
    except MissingExtra as error:
        sys.exit(f"limpet: {error}")
    except KeyboardInterrupt:  # the import takes a while
        sys.exit(128 + signal.SIGINT)
