"""What it costs to receive: the same flood of group messages for each client, ours and the official ones."""

from __future__ import annotations

import argparse
import statistics
from typing import Any

import _harness as harness


def flood(options: argparse.Namespace, names: list[str], port: int) -> None:
    for size in options.sizes:
        where = harness.url(port, size=size, text=options.text, warm=options.seconds / 4, seconds=options.seconds)
        results = harness.repeat(
            names,
            options.reps,
            lambda name, where=where: harness.measure(name, "receive", where, 30 + 20 * options.seconds),
        )
        harness.table(f"Receive, {harness.size_name(size)} of text in each group message", "message", results)


def paced(options: argparse.Namespace, names: list[str], port: int) -> None:
    where = harness.url(
        port, size=options.sizes[0], text=options.text, rate=options.paced, cap=options.cap, seconds=options.seconds
    )
    cap = f"the connection ends at {options.cap} unacknowledged messages" if options.cap else "no cap"
    results = harness.repeat(
        names,
        options.reps,
        lambda name: harness.measure(name, "receive", where, 30 + 20 * options.seconds),
    )
    print(f"\nReceive, paced {options.paced:,.0f} messages/s for {options.seconds:g} s, {cap}\n")
    print("| client | survived | messages received (of) | CPU us/message | what ended it |")
    print("|---|---|---:|---:|---|")
    total = int(options.paced * options.seconds)
    for name, runs in results.items():
        print(paced_row(name, runs, total), flush=True)


def paced_row(name: str, runs: list[dict[str, Any]], total: int) -> str:
    good = [run for run in runs if "failed" not in run]
    if not good:
        return f"| {name} | failed: {runs[0]['failed']} |"
    survived = sum("lost" not in run for run in good)
    received = statistics.median([run["messages"] + ("lost" not in run) for run in good])
    cpu = statistics.median([1e6 * run["cpu"] / max(run["messages"], 1) for run in good])
    cause = next((run["lost"] for run in good if "lost" in run), "-")
    return f"| {name} | {survived} of {len(runs)} | {received:,.0f} ({total:,}) | {cpu:.2f} | {cause} |"


def main() -> None:
    parser = harness.parser(__doc__, ["ours", "ours-for", "ours-wsproto", "aio", "js"], seconds=1.0, reps=3)
    parser.add_argument("--sizes", type=harness.sizes, default="32,256,4096,65536", help="bytes of text")
    parser.add_argument("--text", choices=["ascii", "mixed"], default="ascii", help="mixed: with accents and escapes")
    parser.add_argument("--paced", type=float, metavar="RATE", help="messages/s instead of a flood")
    parser.add_argument("--cap", type=int, default=1000, help="with --paced: unacknowledged messages; 0: no cap")
    options = parser.parse_args()
    names = harness.present(options.clients)
    with harness.server() as port:
        (paced if options.paced else flood)(options, names, port)


if __name__ == "__main__":
    main()
