"""``python -m simulation --seeds 1000``: run many seeds on all cores. ``--replay SEED --kind KIND``: one again."""

from __future__ import annotations

import argparse
import gc
import logging
import multiprocessing
import os
import sys
import time
from functools import partial

from simulation.search import Violation, run, shrink
from simulation.weather import KINDS

NAMES = list(KINDS)

logging.getLogger("limpet").addHandler(logging.NullHandler())  # it says much about bad weather


def attempt(names: list[str], number: int) -> tuple[str, int, str] | None:
    """Run the seed ``number`` in the one of these kinds whose turn it is; a violation comes back reduced, as text."""
    kind, seed = names[number % len(names)], number // len(names)
    if number % 50 == 0:
        gc.collect()
    try:
        run(kind, seed)
    except Violation as violation:
        return kind, seed, f"{violation}\nReduced:\n{shrink(violation).story()}"
    return None


def quiet() -> None:
    """Before a process begins: what runs leave behind is collected now and then, not in their midst."""
    gc.freeze()
    gc.disable()


def main() -> int:
    """Return 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many schedules to run, over all kinds")
    parser.add_argument("--first", type=int, default=0, help="where to begin")
    parser.add_argument("--only", default="", metavar="PREFIX", help="the kinds that begin with this, such as cluster")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--replay", type=int, metavar="SEED", help="run one seed of one kind and print what happened")
    parser.add_argument("--kind", choices=NAMES, default="wild")
    options = parser.parse_args()
    if options.replay is not None:
        return replay(options.kind, options.replay)
    names = [name for name in NAMES if name.startswith(options.only)]
    if not names:
        parser.error(f"no kind begins with {options.only!r}: there are {', '.join(NAMES)}")
    began, shown, bad = time.monotonic(), 0.0, 0
    numbers = range(options.first, options.first + options.seeds)
    with multiprocessing.Pool(options.jobs, quiet) as pool:
        for done, failure in enumerate(pool.imap_unordered(partial(attempt, names), numbers, chunksize=16), 1):
            if failure is not None:
                bad += 1
                print(f"\nVIOLATION: kind {failure[0]}, seed {failure[1]}: {failure[2]}", flush=True)
            took = time.monotonic() - began
            if took - shown > 1 or done == options.seeds:
                shown = took
                end = "\n" if done == options.seeds or not sys.stdout.isatty() else "\r"
                print(f"{done}/{options.seeds} schedules, {done / took:.0f}/s, {bad} violations", end=end, flush=True)
            if bad >= 5:
                pool.terminate()
                break
    return 1 if bad else 0


def replay(kind: str, seed: int) -> int:
    try:
        print("\n".join(run(kind, seed).clock.trace))
    except Violation as violation:
        print(violation.story(last=10_000))
        print(f"\nReduced:\n{shrink(violation).story()}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
