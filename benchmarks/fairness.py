"""Does a flood on one connection starve the rest of the loop? How late a timer of 10 ms is beside it."""

from __future__ import annotations

import statistics

import _harness as harness


def main() -> None:
    parser = harness.parser(
        __doc__, ["ours", "ours-uvloop", "ours-trio", "ours-anyio", "ours-anyio-trio", "aio"], seconds=2.0, reps=3
    )
    parser.add_argument("--sizes", type=harness.sizes, default="32,4096", help="bytes of text")
    options = parser.parse_args()
    names = harness.present(options.clients)
    with harness.server() as port:
        for size in options.sizes:
            where = harness.url(port, size=size, text="ascii", warm=options.seconds / 4, seconds=options.seconds)
            results = harness.repeat(
                names,
                options.reps,
                lambda name, where=where: harness.measure(name, "fairness", where, 30 + 20 * options.seconds),
            )
            print(f"\nA timer of 10 ms beside a flood of {harness.size_name(size)} messages, late by ms\n")
            print("| client | messages/s | median | 99 of 100 | worst |")
            print("|---|---:|---:|---:|---:|")
            for name, runs in results.items():
                good = [run for run in runs if "failed" not in run and run["messages"] > 1]
                if not good:
                    print(f"| {name} | failed: {runs[0].get('failed', 'nothing was received')} |")
                    continue
                rate = statistics.median([run["messages"] / run["wall"] for run in good])
                late = [1000 * statistics.median([run[key] for run in good]) for key in KEYS]
                print(f"| {name} | {rate:,.0f} | {late[0]:.1f} | {late[1]:.1f} | {late[2]:.1f} |", flush=True)


KEYS = ("late_median", "late_99", "late_worst")


if __name__ == "__main__":
    main()
