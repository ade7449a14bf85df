"""What a connection costs that does nothing: memory, CPU, wake-ups."""

from __future__ import annotations

import statistics
import sys

import _harness as harness


def idle(server: harness.Server, names: list[str], count: int, seconds: float, reps: int) -> harness.Results:
    """So many connections in one process."""
    arguments = {"count": count, "seconds": seconds}
    return harness.repeat(
        names, reps, lambda name: server.measure(name, "idle", limit=180 + seconds, query={}, **arguments)
    )


def table(results: harness.Results) -> str:
    lines = [
        "| client | memory KiB/connection | spread | this / ours | CPU ms/s in all | wake-ups/s in all |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    ours = next(iter(results))
    for name, runs in results.items():
        good = [run for run in runs if harness.good(run)]
        if not good:
            lines.append(f"| {harness.label(name)} | failed: {harness.why_not(runs)} | | | | |")
            continue
        sizes = [harness.memory(run) for run in good]
        more = harness.ratios(results, name, ours, harness.memory)
        cpu = statistics.median([1000 * run["cpu"] / run["wall"] for run in good])
        wakeups = statistics.median([run["wakeups"] / run["wall"] for run in good])
        lines.append(
            f"| {harness.label(name)} | {statistics.median(sizes):.1f} | {harness.spread(sizes, '.1f')} "
            f"| {statistics.median(more) if more else float('nan'):.2f} | {cpu:.2f} | {wakeups:,.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = harness.parser(__doc__, ["ours", "aio"], seconds=10.0, reps=3)
    parser.add_argument("--connections", type=int, default=300)
    options = parser.parse_args()
    if not sys.platform.startswith("linux"):
        sys.exit("skipped: idle.py reads /proc/self/smaps_rollup, which only Linux has")
    names = harness.present(options.clients)
    with harness.Server() as server:
        results = idle(server, names, options.connections, options.seconds, options.reps)
    print(f"\n{options.connections} idle connections in one process, {options.seconds:g} s\n\n{table(results)}")


if __name__ == "__main__":
    main()
