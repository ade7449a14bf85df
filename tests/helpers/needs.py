"""Programs that some tests need and not every machine has."""

from __future__ import annotations

import os
import shutil

import pytest

__all__ = ["needs"]


def needs(*programs: str | tuple[str, ...]) -> list[str]:
    """Return the paths of programs; a tuple names one program by all the names it may have.

    Skips the test if one is missing, or fails it if ``HOLDFAST_REQUIRE_ALL=1`` promises that all are there.
    """
    paths: list[str] = []
    for program in programs:
        names = (program,) if isinstance(program, str) else program
        path = next(filter(None, map(shutil.which, names)), None)
        if path is None:
            reason = f"{' or '.join(names)} is not installed"
            if os.environ.get("HOLDFAST_REQUIRE_ALL") == "1":
                pytest.fail(f"{reason}, and HOLDFAST_REQUIRE_ALL=1 says that no test may be left out", pytrace=False)
            pytest.skip(reason)
        paths.append(path)
    return paths
