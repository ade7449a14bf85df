"""What a connection costs that does nothing: memory, CPU, wake-ups."""

from __future__ import annotations

import statistics
import sys

import _harness as harness


def main() -> None:
    parser = harness.parser(__doc__, ["ours", "aio"], seconds=10.0, reps=3)
    parser.add_argument("--connections", type=int, default=300)
    options = parser.parse_args()
    if not sys.platform.startswith("linux"):
        sys.exit("skipped: idle.py reads /proc/self/smaps_rollup, which only Linux has")
    names = [name for name in harness.present(options.clients) if name != "js"]
    count = options.connections
    with harness.server() as port:
        results = harness.repeat(
            names,
            options.reps,
            lambda name: harness.measure(
                name, "idle", harness.url(port), 120 + options.seconds, count=count, seconds=options.seconds
            ),
        )
    print(f"\n{count} idle connections in one process, {options.seconds:g} s\n")
    print("| client | memory KiB/connection | spread | this / ours | CPU ms in all | wake-ups in all |")
    print("|---|---:|---:|---:|---:|---:|")
    base: float | None = None
    for name, runs in results.items():
        good = [run for run in runs if "failed" not in run]
        if not good:
            print(f"| {name} | failed: {runs[0]['failed']} |")
            continue
        memories = [run["memory"] / 1024 for run in good]
        memory = statistics.median(memories)
        base = base or memory
        cpu = statistics.median([1000 * run["cpu"] for run in good])
        wakeups = statistics.median([run["wakeups"] for run in good])
        print(
            f"| {name} | {memory:.1f} | {harness.spread(memories, '.1f')} | {memory / base:.2f} "
            f"| {cpu:.1f} | {wakeups:,.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
