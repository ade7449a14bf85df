"""The command line: ``holdfast serve``, ``token``, ``url``, ``sub``, ``pub``, ``demo``."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line; the entry point of ``holdfast``."""
    try:
        from holdfast.cli.commands import cli
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] == "holdfast":
            raise
        sys.exit(f"holdfast: {error.name} is not installed; get it with: pip install 'holdfast[cli]'")
    cli(prog_name="holdfast")
