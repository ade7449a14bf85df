"""The programs in the how-to about typed messages run, and print what they should."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from tests.helpers import forked
from tests.helpers.waiting import complaints

HOWTO = Path(__file__).parents[2] / "docs" / "howto" / "typed-messages.md"

PRINTED = [
    "orders 7 urgent\n",
    "the data of a GroupMessage of the group 'orders' does not fit Order: Expected `int`, got `str` - at `$.id`\n"
    "{'id': 'seven'}\n8\n",
    "not an order: Expected `int`, got `str` - at `$.id` ann\n8\n",
    "7\n",
]


def test_the_programs_run(tmp_path: Path) -> None:
    programs = re.findall(r"```python\n(.*?)```", HOWTO.read_text("utf-8"), re.DOTALL)
    printed: list[str] = []
    for program in programs:
        path = tmp_path / "program.py"
        path.write_text(program, "utf-8")
        done = forked.run(
            [sys.executable, "-X", "dev", "-W", "error", path.name],
            cwd=tmp_path,
            text=True,
            timeout=100,
        )
        assert done.returncode == 0, done.stderr
        assert complaints(done.stderr) == ""
        printed.append(done.stdout)
    assert printed == PRINTED
