"""The code in the how-to for authors of adapters does what it says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.docs.blocks import blocks
from tests.helpers import forked
from tests.helpers.waiting import complaints

HOWTO = Path(__file__).parents[2] / "docs" / "howto" / "test-an-adapter.md"


def test_the_code_runs(tmp_path: Path) -> None:
    """The examples with tests for pytest, the others as programs."""
    found = blocks(HOWTO.read_text("utf-8"))
    examples = [block.code for block in found if block.language == "python" and not block.not_run]
    some = ["-q", "-p", "no:cacheprovider", "-k", "it_starts or recovered or every_kind"]
    assert sum("def test_" in example for example in examples) in range(1, len(examples))
    for number, example in enumerate(examples):
        path = tmp_path / f"test_{number}.py"
        path.write_text(example, "utf-8")
        command = [sys.executable, "-X", "dev", "-W", "error"]
        if "def test_" in example:
            command += ["-m", "pytest", *some, path.name]
            done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)
        else:
            done = forked.run([*command, path.name], cwd=tmp_path, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        assert complaints(done.stderr) == ""
