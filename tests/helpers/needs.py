"""Programs that some tests need and not every machine has."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest

__all__ = ["everything_is_required", "leave_out", "needs"]


def everything_is_required() -> bool:
    """Whether ``LIMPET_REQUIRE_ALL=1`` promises that whatever a test needs is there, as `.ci/run` does."""
    return os.environ.get("LIMPET_REQUIRE_ALL") == "1"


def leave_out(reason: str) -> NoReturn:
    """Skip the test, or fail it if everything is required."""
    if everything_is_required():
        pytest.fail(f"{reason}, and LIMPET_REQUIRE_ALL=1 says that no test may be left out", pytrace=False)
    pytest.skip(reason)


def needs(*programs: str | tuple[str, ...]) -> list[str]:
    """Return the paths of programs; a tuple names one program by all the names it may have.

    Leaves the test out if one is missing.
    """
    paths: list[str] = []
    for program in programs:
        names = (program,) if isinstance(program, str) else program
        path = next(filter(None, map(shutil.which, names)), None)
        if path is None:
            leave_out(f"{' or '.join(names)} is not installed")
        paths.append(path)
    return paths
