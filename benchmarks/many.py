"""Many clients in one process, each with a message now and then, beside one client that gets as many in all."""

from __future__ import annotations

import statistics

import _harness as harness


def many(
    server: harness.Server, names: list[str], count: int, each: float, seconds: float, reps: int
) -> harness.Results:
    """So many clients with ``each`` messages a second, and one with all of them, by "NAME" and "NAME one"."""

    def once(name: str) -> harness.Run:
        name, _, one = name.partition(" ")
        clients, rate = (1, count * each) if one else (count, each)
        query: dict[str, object] = {"size": 32, "rate": rate, "cap": 0, "seconds": 60 + 4 * seconds}
        return server.measure(name, "many", limit=60 + 4 * seconds, query=query, count=clients, seconds=seconds)

    return harness.repeat([row for name in names for row in (name, f"{name} one")], reps, once)


def table(results: harness.Results) -> str:
    lines = [
        "| client | CPU us/message, many | spread | messages/s | CPU us/message, one | many / one | spread |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, runs in results.items():
        if name.endswith(" one"):
            continue
        more = harness.ratios(results, name, f"{name} one", harness.cpu)
        if not more:
            lines.append(f"| {harness.label(name)} | failed: {harness.why_not(runs)} | | | | | |")
            continue
        good = [run for run in runs if harness.good(run)]
        cpus = [harness.cpu(run) for run in good]
        one = [harness.cpu(run) for run in results[f"{name} one"] if harness.good(run)]
        lines.append(
            f"| {harness.label(name)} | {statistics.median(cpus):.1f} | {harness.spread(cpus, '.1f')} "
            f"| {statistics.median(map(harness.rate, good)):,.0f} | {statistics.median(one):.1f} "
            f"| **{statistics.median(more):.2f}** | {harness.spread(more, '.2f')} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = harness.parser(__doc__, ["ours", "ours-trio", "ours-anyio"], seconds=5.0, reps=3)
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--each", type=float, default=1.0, help="messages a second for each of them")
    options = parser.parse_args()
    names = harness.present(options.clients)
    with harness.Server() as server:
        results = many(server, names, options.connections, options.each, options.seconds, options.reps)
    print(f"\n{options.connections:,} clients in one process, each with {options.each:g} messages a second\n")
    print(table(results))


if __name__ == "__main__":
    main()
