"""The code in the how-to for authors of adapters does what it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.helpers.waiting import complaints

HOWTO = Path(__file__).parents[2] / "docs" / "howto" / "test-an-adapter.md"


def test_the_code_runs(tmp_path: Path) -> None:
    contract, service = re.findall(r"```python\n(.*?)```", HOWTO.read_text("utf-8"), re.DOTALL)
    (tmp_path / "test_mine.py").write_text(contract, "utf-8")
    (tmp_path / "service.py").write_text(service, "utf-8")
    some = ["-q", "-p", "no:cacheprovider", "-k", "it_starts or recovered or every_kind"]
    for arguments in (["-m", "pytest", *some, "test_mine.py"], ["service.py"]):
        done = subprocess.run(
            [sys.executable, "-X", "dev", "-W", "error", *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert complaints(done.stderr) == ""
