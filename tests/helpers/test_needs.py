from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tests.helpers.needs import needs


def test_programs_are_found_by_any_of_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    name = Path(sys.executable).name
    assert needs(name, ("no-such-program", name)) == [str(Path(sys.executable))] * 2


@pytest.mark.parametrize(("required", "outcome"), [("", pytest.skip.Exception), ("1", pytest.fail.Exception)])
def test_a_missing_program_skips_unless_everything_is_required(
    monkeypatch: pytest.MonkeyPatch, required: str, outcome: type[BaseException]
) -> None:
    monkeypatch.setenv("HOLDFAST_REQUIRE_ALL", required)
    with pytest.raises(outcome, match="no-such-program or no-other is not installed"):
        needs(("no-such-program", "no-other"))
