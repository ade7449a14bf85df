"""The mutants that are explained are mutants of the code as it is."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GROUPS = tomllib.loads((Path(__file__).parent / "explained.toml").read_text())["group"]
CHANGES = sorted({(function, out) for group in GROUPS for function, out, _ in group["mutants"]})


@pytest.mark.parametrize(("function", "out"), CHANGES)
def test_the_line_that_was_changed_is_in_the_function(function: str, out: str) -> None:
    module, *_, name = function.split(".")
    source = (ROOT / "core" / "limpet_core" / "client" / f"{module}.py").read_text()
    _, _, body = source.partition(f"def {name}(")
    assert out in " ".join(line.strip() for line in body.splitlines())
