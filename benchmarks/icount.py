"""Instructions for each message, layer by layer, counted by valgrind: a busy machine changes nothing.

The core, the local service and its cluster, and the client on asyncio from the bytes of a read to the callback, all
without sockets.

``python benchmarks/icount.py -o before.json``, later ``python benchmarks/icount.py --compare before.json``. Only user
mode is counted, not the kernel's work. Needs the program ``valgrind``.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import re
import subprocess
import sys
from pathlib import Path

from _client_layers import client_layers
from _cluster_workloads import cluster_workloads
from _layers import all_layers
from _service_workloads import service_workloads
from _workloads import Workload, all_workloads

FEW, MANY = 2, 6
"""How often a workload runs in its two processes. What differs between them is the workload alone."""

COUNTED = re.compile(r"I +refs: +([\d,]+)")


def names() -> list[str]:
    """Return the names of all workloads."""
    whole = (*all_workloads(), *service_workloads(), *cluster_workloads())
    return [*(workload.name for workload in whole), *all_layers(), *client_layers()]


def found(name: str) -> Workload:
    """Return the workload of a name."""
    layers = all_layers() | client_layers()
    if name in layers:
        return layers[name]()
    return next(each for each in (*all_workloads(), *service_workloads(), *cluster_workloads()) if each.name == name)


def count(name: str, rounds: int) -> int:
    """Return the instructions of a process that runs a workload so often."""
    command = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]
    done = subprocess.run(
        [*command, sys.executable, __file__, "--run", name, "--rounds", str(rounds)],
        env=os.environ | {"PYTHONHASHSEED": "0"},  # hashes decide how often dicts collide
        capture_output=True,
        text=True,
        check=True,
    )
    counted = COUNTED.search(done.stderr)
    assert counted is not None, done.stderr
    return int(counted[1].replace(",", ""))


def run(name: str, rounds: int) -> None:
    """Run a workload so often, after one round that fills the caches."""
    workload = found(name)
    gc.disable()
    for _ in range(rounds + 1):
        workload.run()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workloads", nargs="*", help="parts of the names of those to run; all by default")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="keep the counts here")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="counts of before")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        run(options.run, options.rounds)
        return
    before = json.loads(options.compare.read_text()) if options.compare else {}
    counts: dict[str, float] = {}
    print("| workload | instructions for each |" + (" before | ratio |" if before else ""))
    print("|---|---:|" + ("---:|---:|" if before else ""))
    for name in names():
        if options.workloads and not any(part in name for part in options.workloads):
            continue
        more = count(name, MANY) - count(name, FEW)
        each = counts[name] = round(more / (MANY - FEW) / found(name).count)
        line = f"| {name} | {each:,} |"
        if (known := before.get(name)) is not None:
            line += f" {known:,} | {each / known:.2f} |"
        print(line, flush=True)
    if options.output:
        options.output.write_text(json.dumps(counts, indent=2) + "\n")


if __name__ == "__main__":
    main()
