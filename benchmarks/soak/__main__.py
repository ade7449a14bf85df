"""The same faults for every client: what is lost, doubled, stalled or left behind. ``python -m benchmarks.soak``."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys

from benchmarks._harness import CLIENTS, missing
from benchmarks.soak.arena import Row, soak
from benchmarks.soak.plan import Plan, faults
from benchmarks.soak.reconnects import leaks
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


async def reconnects(names: list[str], count: int) -> list[str]:
    """Reconnect each client so often, three at a time; print what is left behind and return who leaks."""
    if not names:
        return []
    print(f"\n{count:,} reconnects of each: what there is more of behind them\n")
    print("| client | bytes for each | tasks | threads | open files |\n|---|---:|---:|---:|---:|")
    turn = asyncio.Semaphore(3)
    bad: list[str] = []

    async def one(name: str) -> None:
        async with turn:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "benchmarks.soak.reconnects", name, str(count)), stdout=asyncio.subprocess.PIPE
            )
            out, _ = await process.communicate()
        try:
            growth = json.loads(out)
        except ValueError:
            bad.append(name)
            print(f"| {name} | failed |", flush=True)
            return
        if leaks(name, growth, count):
            bad.append(name)
        others = (str(growth[what]) for what in ("tasks", "threads", "open files"))
        print(f"| {name} | {growth['bytes'] / count:.0f} | {' | '.join(others)} |", flush=True)

    await asyncio.gather(*map(one, names))
    return bad


def split(names: str) -> list[str]:
    if unknown := set(names.split(",")) - set(ALL):
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(ALL)}")
    return names.split(",")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long there are faults")
    parser.add_argument("--seed", type=int, default=1, help="of the faults")
    parser.add_argument("--rate", type=float, default=50.0, help="messages a second, each way, for each client")
    parser.add_argument("--clients", type=split, default=",".join(ALL), help="who takes part")
    parser.add_argument("--hasty", action="store_true", help="faults in quick succession, for a short run of ours")
    parser.add_argument("--reconnects", type=int, default=1000, help="of each of our clients, afterwards; 0: none")
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
    if options.reconnects:
        bad += asyncio.run(reconnects([name for name in names if name in OURS], options.reconnects))
    if bad:
        print(f"FAILED: {', '.join(bad)}", file=sys.stderr)
    return 1 if bad or not rows else 0


if __name__ == "__main__":
    sys.exit(main())
