"""Does a flood on one connection starve the rest of the loop? How late a timer of 10 ms is beside it."""

from __future__ import annotations

import statistics

import _harness as harness

CLIENTS = ["ours", "ours-uvloop", "ours-trio", "ours-anyio", "ours-anyio-trio", "aio"]
LATENESS = ("late_median", "late_99", "late_worst")


def beside_a_flood(server: harness.Server, names: list[str], size: int, seconds: float, reps: int) -> harness.Results:
    """A flood and a timer in one loop."""
    query: dict[str, object] = {"size": size, "text": "ascii", "warm": seconds / 4, "seconds": seconds}
    return harness.repeat(
        names, reps, lambda name: server.measure(name, "fairness", limit=30 + 20 * seconds, query=query)
    )


def table(results: harness.Results) -> str:
    lines = ["| client | messages/s | late by ms: median | 99 of 100 | worst |", "|---|---:|---:|---:|---:|"]
    for name, runs in results.items():
        good = [run for run in runs if harness.good(run)]
        if not good:
            lines.append(f"| {harness.label(name)} | failed: {harness.why_not(runs)} | | | |")
            continue
        rate = statistics.median(map(harness.rate, good))
        late = [f"{1000 * statistics.median([run[key] for run in good]):.1f}" for key in LATENESS]
        lines.append(f"| {harness.label(name)} | {rate:,.0f} | {' | '.join(late)} |")
    return "\n".join(lines)


def main() -> None:
    parser = harness.parser(__doc__, CLIENTS, seconds=2.0, reps=3)
    parser.add_argument("--sizes", type=harness.sizes, default="32,4096", help="bytes of text")
    options = parser.parse_args()
    names = harness.present(options.clients)
    with harness.Server() as server:
        for size in options.sizes:
            results = beside_a_flood(server, names, size, options.seconds, options.reps)
            print(f"\nA timer of 10 ms beside a flood of {harness.size_name(size)} messages\n\n{table(results)}")


if __name__ == "__main__":
    main()
