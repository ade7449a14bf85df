"""benchmarks/service.py, which also looks that every message arrives once and in order, for a moment."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.helpers.waiting import complaints

BENCHMARK = Path(__file__).parents[3] / "benchmarks" / "service.py"
SMALL = {"members": 5, "sizes": "32,200", "windows": 4, "seconds": 0.2, "reps": 1, "idle": 20, "idle-seconds": 0.1}


def test_the_benchmark_measures_something() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-X",
            "dev",
            "-W",
            "error",
            str(BENCHMARK),
            *(f"--{name}={value}" for name, value in SMALL.items()),
        ],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    if not sys.platform.startswith("linux"):
        assert "only Linux has" in done.stderr
        return
    assert (done.returncode, complaints(done.stderr)) == (0, "")
    assert "20 idle connections" in done.stdout
    assert "| publications of 32 B by REST |" in done.stdout
    assert "| connections, opened and closed |" in done.stdout
    assert [
        line.split("|")[1:4] for line in done.stdout.splitlines() if line.startswith(("| reliable", "| plain"))
    ] == [[f" {subprotocol} ", f" {size} B ", " 4 "] for subprotocol in ("reliable", "plain") for size in (32, 200)]
