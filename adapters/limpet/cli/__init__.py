"""The command line: ``limpet serve``, ``token``, ``url``, ``sub``, ``pub``, ``demo``."""

from __future__ import annotations

import sys

from limpet._extras import MissingExtra, extra

__all__ = ["main"]


def main() -> None:
    """Run the command line. The entry point of ``limpet``."""
    try:
        with extra("cli"):
            from limpet.cli.commands import cli
    except MissingExtra as error:
        sys.exit(f"limpet: {error}")
    cli(prog_name="limpet")
