"""Imports of packages that an extra of the distribution installs."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Final

_NAMESPACES: Final = ("azure",)
"""Packages whose parts are distributions of their own."""


class MissingExtra(ModuleNotFoundError):
    """A package is not installed; the message names the extra that brings it."""


@contextmanager
def extra(name: str) -> Generator[None]:
    """Surround imports of packages that ``pip install 'limpet[name]'`` installs.

    Raises:
        MissingExtra: a package is missing; the message has the command that installs it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package, _, rest = (error.name or "limpet").partition(".")
        if package in ("limpet", "limpet_core"):
            raise  # a fault of this package
        if package in _NAMESPACES and rest:
            package = f"{package}-{rest.partition('.')[0]}"
        text = f"{package} is not installed; get it with: pip install 'limpet[{name}]'"
        raise MissingExtra(text, name=error.name) from None


def require(*packages: str) -> None:
    """Look for packages within :func:`extra`, without the time that it takes to import them.

    Raises:
        ModuleNotFoundError: one is not installed.
    """
    for package in packages:
        # A module that a program has made itself, such as a test's, needs to be nowhere.
        if sys.modules.get(package) is None and find_spec(package) is None:
            raise ModuleNotFoundError(f"No module named {package!r}", name=package)
