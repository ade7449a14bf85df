"""The same faults for every client: what is lost, doubled, stalled or left behind. ``python -m benchmarks.soak``."""

from __future__ import annotations

import argparse
import asyncio
import sys

from benchmarks._harness import CLIENTS, missing
from benchmarks.soak.arena import Row, soak
from benchmarks.soak.plan import Plan, faults
from benchmarks.soak.subjects import ASYNC, BLOCKING

OURS = [name for name in (*ASYNC, *BLOCKING) if name.startswith("ours")]
ALL = [*OURS, "js", "aio", "sync"]
HEAD = (
    "messages",
    "cuts",
    "lost",
    "duplicated",
    "executed twice",
    "out of order",
    "failed calls",
    "stalled calls",
    "leaked",
    "slowest call",
)


def table(rows: list[Row]) -> str:
    lines = [f"| client | {' | '.join(HEAD)} |", f"|---|{'---:|' * len(HEAD)}"]
    for row in rows:
        counts = (row.lost, row.duplicated, row.executed_twice, row.out_of_order, row.failed, row.stalled, row.leaked)
        cells = [f"{count:,}" for count in (row.messages, row.cuts, *counts)]
        lines.append(f"| {row.name} | {' | '.join(cells)} | {row.slowest:.1f} s |")
    lines += [f"{row.name}: {text}" for row in rows if (text := row.broken or row.details)]
    return "\n".join(lines)


def split(names: str) -> list[str]:
    if unknown := set(names.split(",")) - set(ALL):
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(ALL)}")
    return names.split(",")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--seconds", type=float, default=75.0, help="how long there are faults")
    parser.add_argument("--seed", type=int, default=1, help="of the faults")
    parser.add_argument("--rate", type=float, default=50.0, help="messages a second, each way, for each client")
    parser.add_argument("--clients", type=split, default=",".join(ALL), help="who takes part")
    parser.add_argument("--hasty", action="store_true", help="faults in quick succession, for a short run of ours")
    options = parser.parse_args()
    plan = Plan(options.seconds, options.seed, options.rate)
    if options.hasty:
        plan = Plan(options.seconds, options.seed, options.rate, pause=(0.02, 0.2), hasty=True)
    names = []
    for name in options.clients:
        if reason := missing(name):
            print(f"skipped: {name} ({CLIENTS[name]}): {reason}")
        else:
            names.append(name)
    print(
        f"{len(names)} clients at the same time, {plan.messages:,} messages each way in {plan.seconds:g} s, "
        f"{len(faults(plan))} faults (seed {plan.seed})",
        flush=True,
    )
    rows = asyncio.run(soak(names, plan))
    print(table(rows))
    bad = [row.name for row in rows if row.name in OURS and not row.clean]
    if bad:
        print(f"FAILED: {', '.join(bad)}", file=sys.stderr)
    return 1 if bad or not rows else 0


if __name__ == "__main__":
    sys.exit(main())
