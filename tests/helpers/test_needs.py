from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from tests.helpers import forked
from tests.helpers.needs import needs

pytest_plugins = ["pytester"]


def test_programs_are_found_by_any_of_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    name = Path(sys.executable).name
    assert needs(name, ("no-such-program", name)) == [str(Path(sys.executable))] * 2


@pytest.mark.parametrize(("required", "outcome"), [("", pytest.skip.Exception), ("1", pytest.fail.Exception)])
def test_a_missing_program_skips_unless_everything_is_required(
    monkeypatch: pytest.MonkeyPatch, required: str, outcome: type[BaseException]
) -> None:
    monkeypatch.setenv("LIMPET_REQUIRE_ALL", required)
    with pytest.raises(outcome, match="no-such-program or no-other is not installed"):
        needs(("no-such-program", "no-other"))


@pytest.mark.parametrize(
    ("test", "missing"),
    [
        ("browser/test_trace_page.py::test_the_log_can_be_paused_resumed_and_cleared", "chromium"),
        ("interop/test_connecting.py::test_an_anonymous_client_has_no_user", "node"),
    ],
)
@pytest.mark.parametrize("required", [False, True])
def test_without_its_program_a_test_is_left_out_by_name_or_fails_where_everything_is_required(
    tmp_path: Path, test: str, missing: str, required: bool
) -> None:
    root = Path(__file__).parents[2]
    done = forked.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rs", "-q", f"tests/{test}"],
        cwd=root,
        env={**os.environ, "PATH": str(tmp_path), "LIMPET_REQUIRE_ALL": "1" if required else ""},
        text=True,
        timeout=100,
    )
    assert f"{missing} or " in done.stdout or f"{missing} is not installed" in done.stdout
    assert (done.returncode, " skipped" in done.stdout) == ((1, False) if required else (0, True)), done.stdout


def test_a_skip_for_another_reason_fails_as_well_where_everything_is_required(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIMPET_REQUIRE_ALL", "1")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    folder = pytester.mkdir("browser")
    pytester.makeconftest((Path(__file__).parents[1] / "conftest.py").read_text("utf-8"))
    skipping = "import pytest\n\ndef test_one():\n    pytest.skip('not today')\n"
    (folder / "test_needy.py").write_text(skipping, "utf-8")
    pytester.makepyfile(test_other=skipping)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(failed=1, skipped=1)
    result.stdout.fnmatch_lines(["*not today*"])
