"""The benchmarks still run, and their tables say what was measured."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from tests.helpers.needs import needs

HERE = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(HERE)
    import _harness

    return _harness


def run(cpu: float, messages: int = 1000) -> dict[str, float]:
    return {"messages": messages, "cpu": cpu, "wall": 2 * cpu}


def test_a_ratio_is_taken_within_one_repetition_and_failures_are_left_out(harness: ModuleType) -> None:
    results = {
        "ours": [run(1.0), run(2.0), {"failed": "no result"}, run(4.0)],
        "aio": [run(10.0), run(30.0), run(5.0), run(1.0, messages=0)],
    }
    assert harness.ratios(results, "aio", "ours", harness.cpu) == [10.0, 15.0]
    assert harness.ratios(results, "ours", "js", harness.cpu) == []


def test_a_table_shows_ratios_to_ours_and_names_failures(harness: ModuleType) -> None:
    results = {"ours": [run(0.001), run(0.002)], "aio": [run(0.01), run(0.03)], "js": [{"failed": "no node"}]}
    _, _, ours, aio, js = harness.table("message", results).splitlines()
    assert ours == "| Limpet, asyncio | 1.50 | 1.00..2.00 | 375,000 | 1 | 1.00..1.00 | 1.00 |"
    assert aio.endswith("| **12.50** | 10.00..15.00 | 12.50 |")
    assert "failed: no node" in js


@pytest.mark.parametrize(("cost", "verdict"), [(25, "reached"), (15, "between"), (5, "**missed**")])
def test_a_goal_says_whether_it_was_reached(harness: ModuleType, cost: float, verdict: str) -> None:
    import _goals

    (line,) = _goals.table({"receive 32": {"ours": [run(1.0)], "aio": [run(cost)]}}).splitlines()[2:]
    assert line == (
        f"| receive 32 B: official aio / ours | 10 | 20 | **{cost:.2f}** | {cost:.2f}..{cost:.2f} | {verdict} |"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["receive.py", "--sizes", "32", "--clients", "ours,ours-for,ours-batches,ours-trio,ours-sync,wsproto,picows"],
        ["receive.py", "--sizes", "4096", "--clients", "ours,aio", "--tls"],
        ["send.py", "--in-flight", "100", "--clients", "ours,ours-anyio,aio"],
        ["reconnect.py", "--clients", "ours", "--storm", "50"],
        ["many.py", "--clients", "ours,ours-trio", "--connections", "5", "--each", "20"],
    ],
    ids=" ".join,
)
def test_the_clients_can_be_measured(arguments: list[str]) -> None:
    script, *rest = arguments
    command = [sys.executable, HERE / script, *rest, "--reps", "1", "--seconds", "0.3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert "us/" in done.stdout
    assert "failed" not in done.stdout
    assert "skipped" not in done.stdout


def test_every_workload_whose_instructions_are_counted_still_runs() -> None:
    # Without valgrind, and in a process of its own: some take the place of what opens connections.
    once = "import icount\nfor name in icount.names(): print(name, flush=True); icount.run(name, 0)"
    done = subprocess.run([sys.executable, "-c", once], cwd=HERE, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, f"{done.stdout.splitlines()[-1]}: {done.stderr}"
    assert len(done.stdout.splitlines()) > 30


def test_a_cluster_can_be_measured() -> None:
    needs("redis-server")
    few = ["--members", "2,6", "--bursts", "1,4", "--bursts-of-each", "3", "--fan-out", "4", "--deliveries", "80"]
    few += ["--publishers", "1,2"]
    command = [sys.executable, HERE / "cluster.py", *few, "--reps", "1", "--idle", "0.1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    engine = [line.split("|")[1:-1] for line in lines if line.startswith("|") and " ms |" in line]
    assert [(int(once), int(members)) for once, _, members, *_ in engine] == [(1, 2), (1, 6), (4, 2), (4, 6)]
    assert all(float(us) > 0 for _, _, _, us, *_ in engine)
    nodes = [line.split("|")[1:-1] for line in lines if "alone" in line or "a cluster of" in line]
    assert [(int(way), int(by)) for way, by, *_ in nodes[::3]] == [(1, 1), (2, 2), (4, 1), (4, 2)]
    assert len(nodes) == 12
    assert all(float(ratio) > 0 for *_, ratio in nodes)


def test_the_clients_of_redis_can_be_measured() -> None:
    needs("redis-server")
    command = [sys.executable, HERE / "engine.py", "--rounds", "1", "--entries", "1000"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    row = next(line for line in done.stdout.splitlines() if line.startswith("| Limpet's log |"))
    assert all(float(cell) > 0 for cell in row.split("|")[2:-1])
