"""Parts that an extra of the distribution brings."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager


class MissingExtra(ModuleNotFoundError):
    """A package is not installed; the message names the extra that brings it."""


@contextmanager
def extra(name: str) -> Generator[None]:
    """Around imports of what ``pip install 'limpet[name]'`` brings: where one is missing, say so.

    Raises:
        MissingExtra: with the command that helps.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "limpet").partition(".")[0]
        if package in ("limpet", "limpet_core"):
            raise  # a fault of ours
        text = f"{package} is not installed; get it with: pip install 'limpet[{name}]'"
        raise MissingExtra(text, name=error.name) from None
